/*
 * fuzz_image.c - libFuzzer target of the JPEG and PNG decoders: an image is decoded or refused.
 */
#include "simile/data.h"
#include "simile/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    sim_image image = {0};
    sim_decode_notes notes;
    uint32_t sum = 0;

    if (sim_image_decode("fuzz", bytes, n, NULL, &image, &notes) == SIM_OK)
        for (size_t i = 0;
             i < image.h * image.w * image.c * sim_type_bytes(image.type); i++)
            sum += ((const uint8_t *)
                        image.pixels)[i]; /* reads every pixel, for AddressSanitizer */
    SIM_ASSERT(image.pixels || sum == 0);
    sim_free(image.pixels);
    return 0;
}
