/*
 * decode.c - decodes an image file to upright samples of the type and channels that are required.
 *
 * A format is a row of image_formats.def and a file decode_<format>.c, which returns the samples as
 * they are in the file.
 */
#include "private.h"

#include "simile/memory.h"

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

/* ---- conversion ---- */

/* Black and white of a conversion to 8 bits; all values of 16 bits if none are given. */
static sim_value_range scaled_range(const sim_value_range *given)
{
    return given->lo < given->hi ? *given : (sim_value_range){0, UINT16_MAX};
}

static void convert_sample(const sim_image *from, size_t i, const sim_value_range *range,
                           size_t at, sim_image *to)
{
    const double v = sim_image_sample(from, i);

    if (to->type == SIM_F32)
        ((float *)to->pixels)[at] = (float)v;
    else if (to->type == SIM_U16)
        ((uint16_t *)to->pixels)[at] = (uint16_t)v;
    else {
        const double x = (v - range->lo) * (255 / (range->hi - range->lo)) + 0.5;
        ((uint8_t *)to->pixels)[at] = (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
    }
}

/* Gray bytes [n] as [n][3]. */
static void copy_gray(size_t n, const uint8_t *restrict gray, uint8_t *restrict rgb)
{
    for (size_t i = 0; i < n; i++)
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = gray[i];
}

/* Replaces an image by one of another type, or of three channels instead of one. */
static sim_status convert_image(const sim_image_target *as, sim_image *image)
{
    sim_status st = SIM_OK;
    const sim_value_range range = scaled_range(&as->range);
    const size_t c = as->c ? as->c : image->c, n = image->h * image->w * c;
    sim_image to = {0};

    SIM_TRY(sim_image_shape(&to, image->h, image->w, c, as->type));
    if (image->type == SIM_U8 && to.type == SIM_U8)
        copy_gray(image->h * image->w, image->pixels, to.pixels);
    else
        for (size_t i = 0; i < n; i++)
            convert_sample(image, image->c == c ? i : i / c, &range, i, &to);
    sim_free(image->pixels);
    *image = to;
done:
    return st;
}

static sim_status check_target(const char *name, const sim_image *image,
                               const sim_image_target *as)
{
    sim_status st = SIM_OK;

    SIM_CHECK(as->c == 0 || image->c == as->c || (image->c == 1 && as->c == 3),
              SIM_E_DATA, "%s has %zu channel%s, expected %zu", name, image->c,
              image->c == 1 ? "" : "s", as->c);
    SIM_CHECK(!(image->type == SIM_F32 && as->type == SIM_U16), SIM_E_DATA,
              "%s has samples of type float32, expected uint16", name);
done:
    return st;
}

static sim_status apply_target(const char *name, const sim_image_target *as,
                               sim_image *image)
{
    sim_status st = SIM_OK;

    SIM_TRY(check_target(name, image, as));
    if (image->type != as->type || (as->c && image->c != as->c))
        SIM_TRY(convert_image(as, image));
done:
    return st;
}

sim_status sim_image_decode(const char *name, const uint8_t *bytes, size_t n,
                            const sim_image_target *as, sim_image *out,
                            sim_decode_notes *notes)
{
    sim_status st = SIM_OK;

    memset(notes, 0, sizeof *notes);
    SIM_CHECK(n > 0, SIM_E_DATA, "%s is empty", name);
    const image_format *format = detect_format(bytes, n);
    SIM_CHECK(format, SIM_E_DATA, "%s is neither JPEG nor PNG", name);
    SIM_TRY(format->decode(name, bytes, n, out, notes));
    notes->type = out->type;
    if (as)
        SIM_TRY(apply_target(name, as, out));
done:
    return st;
}

bool sim_image_may_be_deep(const uint8_t *bytes, size_t n)
{
    enum { BIT_DEPTH_AT = 24 };
    return n >= SIM_IMAGE_HEAD && memcmp(bytes + 1, "PNG", 3) == 0 &&
           memcmp(bytes + 12, "IHDR", 4) == 0 && bytes[BIT_DEPTH_AT] == 16;
}
