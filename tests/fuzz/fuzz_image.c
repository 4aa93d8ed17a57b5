/*
 * fuzz_image.c - libFuzzer target of the decoders of image files: an image is decoded or refused.
 */
#include "simile/data.h"
#include "simile/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Reads every byte, for AddressSanitizer; returns whether the file has further pages. */
static bool decode(const uint8_t *bytes, size_t n, sim_image_pages pages)
{
    sim_image image = {0};
    sim_decode_notes notes;
    const sim_image_target target = {.as_stored = true, .pages = pages};
    uint32_t sum = 0;

    if (sim_image_decode("fuzz", bytes, n, &target, &image, &notes) == SIM_OK)
        for (size_t i = 0; i < image.h * image.w * image.c * sim_type_bytes(image.type);
             i++)
            sum += ((const uint8_t *)image.pixels)[i];
    SIM_ASSERT(image.pixels || sum == 0);
    sim_free(image.pixels);
    return notes.has_more;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (decode(bytes, n, SIM_PAGES_FIRST))
        (void)decode(bytes, n, SIM_PAGES_CHANNELS);
    return 0;
}
