/*
 * decode.c - decodes an image file to upright samples of the type and channels that are required.
 *
 * A format is a row of image_formats.def and a file decode_<format>.c, which returns the samples as
 * they are in the file.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- formats ---- */

enum { MAX_SIGNATURES = 4 };

/* First bytes of a file; '?' is any byte. */
typedef struct {
    const char *bytes;
    size_t n;
} signature;

typedef struct {
    const char *extensions; /* separated by spaces */
    bool (*may_be_deep)(const uint8_t *bytes, size_t n);
    image_decoder *decode, *decode_pages;
    signature signatures[MAX_SIGNATURES];
} image_format;

static bool never_deep(const uint8_t *bytes, size_t n)
{
    (void)bytes, (void)n;
    return false;
}

static bool always_deep(const uint8_t *bytes, size_t n)
{
    (void)bytes, (void)n;
    return true;
}

static bool is_deep_png(const uint8_t *bytes, size_t n)
{
    enum { BIT_DEPTH_AT = 24 };
    return n >= SIM_IMAGE_HEAD && memcmp(bytes + 12, "IHDR", 4) == 0 &&
           bytes[BIT_DEPTH_AT] == 16;
}

#define SIGNATURE(s)                                                                     \
    {                                                                                    \
        s, sizeof(s) - 1                                                                 \
    }
#define SIM_IMAGE_FORMAT(name, title, extensions, deep, pages, ...)                      \
    {extensions, deep, sim_decode_##name, pages, {__VA_ARGS__}},
static const image_format formats[] = {
#include "image_formats.def"
};
#undef SIM_IMAGE_FORMAT
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

const char *sim_image_formats(void)
{
#define SIM_IMAGE_FORMAT(name, title, ...) ", " title
    static const char titles[] =
#include "image_formats.def"
        ;
#undef SIM_IMAGE_FORMAT
    return titles + 2;
}
#undef SIGNATURE

static bool matches(const signature *s, const uint8_t *bytes, size_t n)
{
    if (s->n == 0 || n < s->n)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (s->bytes[i] != '?' && (uint8_t)s->bytes[i] != bytes[i])
            return false;
    return true;
}

/* NULL if the content has no known signature. */
static const image_format *detect_format(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        for (size_t k = 0; k < MAX_SIGNATURES; k++)
            if (matches(&formats[i].signatures[k], bytes, n))
                return &formats[i];
    return NULL;
}

bool sim_image_has_signature(const uint8_t *bytes, size_t n)
{
    return detect_format(bytes, n) != NULL;
}

bool sim_image_may_be_deep(const uint8_t *bytes, size_t n)
{
    const image_format *f = detect_format(bytes, n);
    return f && f->may_be_deep(bytes, n);
}

/* Whether the end of a name is one of the extensions, which are separated by spaces. */
static bool ends_with_any(const char *name, const char *extensions)
{
    const size_t length = strlen(name);

    for (const char *at = extensions; *at; at += *at == ' ') {
        const size_t n = strcspn(at, " ");
        if (length > n && strncasecmp(name + length - n, at, n) == 0)
            return true;
        at += n;
    }
    return false;
}

bool sim_image_has_extension(const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (ends_with_any(name, formats[i].extensions))
            return true;
    return false;
}

/* ---- for the decoders ---- */

sim_status sim_image_check_size(const char *name, size_t h, size_t w, size_t c,
                                sim_type type)
{
    sim_status st = SIM_OK;

    SIM_CHECK(w > 0 && h > 0 && w <= SIM_MAX_PIXELS / h, SIM_E_DATA,
              "%s: the image has %zu x %zu pixels, expected 1 to %d", name, w, h,
              SIM_MAX_PIXELS);
    SIM_CHECK(c > 0 && c <= SIM_MAX_CHANNELS, SIM_E_DATA,
              "%s: the image has %zu channels, expected 1 to %d", name, c,
              SIM_MAX_CHANNELS);
    SIM_CHECK(
        h * w * c * sim_type_bytes(type) <= SIM_MAX_IMAGE_BYTES, SIM_E_DATA,
        "%s: the image has %zu x %zu pixels of %zu channels of %s, expected at most "
        "%d bytes",
        name, w, h, c, sim_type_name(type), SIM_MAX_IMAGE_BYTES);
done:
    return st;
}

void sim_notes_warn(sim_decode_notes *notes, const char *text)
{
    if (notes->warnings++ == 0)
        (void)snprintf(notes->first, sizeof notes->first, "%s", text);
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
    SIM_CHECK(format, SIM_E_DATA, "%s is not an image of a known format (%s)", name,
              sim_image_formats());
    const bool pages = as && as->pages == SIM_PAGES_CHANNELS && format->decode_pages;
    SIM_TRY((pages ? format->decode_pages : format->decode)(name, bytes, n, out, notes));
    notes->type = out->type;
    if (as && !as->as_stored)
        SIM_TRY(apply_target(name, as, out));
done:
    return st;
}
