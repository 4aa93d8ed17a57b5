/*
 * image.c - the pixels of an image: allocation, extremes and EXIF orientation.
 */
#include "private.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

static size_t image_bytes(const sim_image *image)
{
    return image->h * image->w * image->c * sim_type_bytes(image->type);
}

sim_status sim_image_shape(sim_image *image, size_t h, size_t w, size_t c, sim_type type)
{
    sim_status st = SIM_OK;
    const size_t have = image->pixels ? image_bytes(image) : 0;
    const size_t need = h * w * c * sim_type_bytes(type);

    if (need > have || !image->pixels) {
        void *pixels = NULL;
        SIM_TRY(sim_alloc_bytes(need, 1, "data/image", &pixels));
        sim_free(image->pixels);
        image->pixels = pixels;
    }
    image->h = h;
    image->w = w;
    image->c = c;
    image->type = type;
done:
    return st;
}

/* How well a length suits the channels: 1 or 3 best, then 4, then fewer than both sides. */
static int suits_channels(size_t length, size_t side, size_t other_side)
{
    if (length == 1 || length == 3)
        return 3;
    if (length == 4)
        return 2;
    return length > 0 && length <= SIM_MAX_CHANNELS && length < side &&
           length < other_side;
}

sim_layout sim_image_layout(const size_t dims[3])
{
    const int of_last = suits_channels(dims[2], dims[0], dims[1]),
              of_first = suits_channels(dims[0], dims[1], dims[2]);

    return of_last > of_first   ? SIM_LAYOUT_HWC
           : of_first > of_last ? SIM_LAYOUT_CHW
                                : SIM_LAYOUT_AMBIGUOUS;
}

/* ---- values ---- */

bool sim_sample_type_find(const char *name, sim_type *out)
{
    static const sim_type types[] = {SIM_U8, SIM_U16, SIM_F32};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(name, sim_type_name(types[i])) == 0) {
            *out = types[i];
            return true;
        }
    return false;
}

double sim_image_sample(const sim_image *image, size_t i)
{
    switch (image->type) {
    case SIM_U8:
        return ((const uint8_t *)image->pixels)[i];
    case SIM_U16:
        return ((const uint16_t *)image->pixels)[i];
    default:
        return (double)((const float *)image->pixels)[i];
    }
}

bool sim_value_range_is_usable(const sim_value_range *r)
{
    return fabs(r->lo) <= 2 * SIM_MAX_SAMPLE && fabs(r->hi) <= 2 * SIM_MAX_SAMPLE &&
           r->hi - r->lo >= 1 / SIM_MAX_SAMPLE;
}

void sim_image_extremes(const sim_image *image, double *lo, double *hi)
{
    *lo = *hi = sim_image_sample(image, 0);
    for (size_t i = 1; i < image->h * image->w * image->c; i++) {
        const double v = sim_image_sample(image, i);
        *lo = v < *lo ? v : *lo;
        *hi = v > *hi ? v : *hi;
    }
}

size_t sim_image_find_unusable(const sim_image *image)
{
    const size_t n = image->h * image->w * image->c;
    const float *values = image->pixels;
    size_t i = 0;

    if (image->type != SIM_F32)
        return n;
    while (i < n && fabsf(values[i]) <= (float)SIM_MAX_SAMPLE) /* NaN is not */
        i++;
    return i;
}

void sim_image_to_floats(const sim_image *image, const sample_scale *scale, size_t at,
                         size_t n, float *out)
{
    const size_t c = image->c;

    if (image->type == SIM_U8) {
        sim_pixels_from_bytes(n * c, (const uint8_t *)image->pixels + at * c, out);
        return;
    }
    const uint16_t *integers = (const uint16_t *)image->pixels + at * c;
    const float *reals = (const float *)image->pixels + at * c;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < c; k++) {
            const size_t j = i * c + k;
            const float v = image->type == SIM_U16 ? (float)integers[j] : reals[j];
            out[j] = (v - scale->low[k]) * scale->inverse[k];
        }
}

/* ---- orientation ---- */

/* Index in the stored image of pixel (y, x) of the upright one, by EXIF orientation. */
static size_t stored_pixel(int orientation, size_t h, size_t w, size_t y, size_t x)
{
    switch (orientation) {
    case 2:
        return y * w + (w - 1 - x);
    case 3:
        return (h - 1 - y) * w + (w - 1 - x);
    case 4:
        return (h - 1 - y) * w + x;
    case 5:
        return x * w + y;
    case 6:
        return (h - 1 - x) * w + y;
    case 7:
        return (h - 1 - x) * w + (w - 1 - y);
    case 8:
        return x * w + (w - 1 - y);
    default:
        return y * w + x;
    }
}

sim_status sim_image_upright(sim_image *image, int orientation)
{
    sim_status st = SIM_OK;
    sim_image upright = {0};
    bool swapped = orientation >= 5;
    size_t h = swapped ? image->w : image->h, w = swapped ? image->h : image->w;
    const size_t pixel = image->c * sim_type_bytes(image->type);

    if (orientation <= 1 || orientation > 8)
        goto done;
    SIM_TRY(sim_image_shape(&upright, h, w, image->c, image->type));
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            memcpy((char *)upright.pixels + (y * w + x) * pixel,
                   (const char *)image->pixels +
                       stored_pixel(orientation, image->h, image->w, y, x) * pixel,
                   pixel);
    sim_free(image->pixels);
    *image = upright;
done:
    return st;
}
