/*
 * decode.c - decodes an image file to upright 8-bit RGB; the format is detected by content.
 *
 * A format is a row of image_formats.def and a file decode_<format>.c.
 */
#include "private.h"

#include <string.h>

typedef struct {
    const char *signature; /* first bytes of a file */
    size_t signature_bytes;
    image_decoder *decode;
} image_format;

#define SIM_IMAGE_FORMAT(name, signature)                                                \
    {signature, sizeof(signature) - 1, sim_decode_##name},
static const image_format formats[] = {
#include "image_formats.def"
};
#undef SIM_IMAGE_FORMAT

/* NULL if the content has no known signature. */
static const image_format *detect_format(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (n >= formats[i].signature_bytes &&
            memcmp(bytes, formats[i].signature, formats[i].signature_bytes) == 0)
            return &formats[i];
    return NULL;
}

sim_status sim_image_decode(const char *name, const uint8_t *bytes, size_t n,
                            const sim_value_range *range, sim_image *out,
                            sim_decode_notes *notes)
{
    sim_status st = SIM_OK;

    memset(notes, 0, sizeof *notes);
    SIM_CHECK(n > 0, SIM_E_DATA, "%s is empty", name);
    const image_format *format = detect_format(bytes, n);
    SIM_CHECK(format, SIM_E_DATA, "%s is neither JPEG nor PNG", name);
    SIM_TRY(format->decode(name, bytes, n, range, out, notes));
done:
    return st;
}

bool sim_png_is_deep(const uint8_t *bytes, size_t n)
{
    enum { BIT_DEPTH_AT = 24 };
    return n >= SIM_PNG_HEAD && memcmp(bytes + 1, "PNG", 3) == 0 &&
           memcmp(bytes + 12, "IHDR", 4) == 0 && bytes[BIT_DEPTH_AT] == 16;
}
