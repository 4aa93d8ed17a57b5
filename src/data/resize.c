/*
 * resize.c - antialiased resizing with the separable filters of PIL.
 *
 * Each output sample is a weighted mean of the inputs around its centre.  The weights are a
 * triangle of support 1 (bilinear) or Keys' cubic with a = -0.5 of support 2 (bicubic).
 * When the image shrinks, the support is multiplied by the ratio.  The result is that of
 * torchvision with antialias=True.
 */
#include "private.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

static double weight_at(resize_filter filter, double x)
{
    x = fabs(x);
    if (filter == RESIZE_BILINEAR)
        return x < 1 ? 1 - x : 0;
    const double a = -0.5;
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static size_t max_taps(size_t in, size_t out, resize_filter filter)
{
    double scale = (double)in / (double)out, stretch = scale > 1 ? scale : 1;
    return (size_t)ceil((filter == RESIZE_BICUBIC ? 2 : 1) * stretch) * 2 + 1;
}

/* Computes the weights of the inputs [*first, *first + n) of output o; returns n. */
static size_t compute_weights(size_t in, size_t out, size_t o, resize_filter filter,
                              size_t *first, float *weights)
{
    double scale = (double)in / (double)out, stretch = scale > 1 ? scale : 1;
    double support = (filter == RESIZE_BICUBIC ? 2 : 1) * stretch;
    double centre = ((double)o + 0.5) * scale, sum = 0;
    double lo = floor(centre - support + 0.5), hi = floor(centre + support + 0.5);
    size_t a = lo < 0 ? 0 : (size_t)lo, b = hi > (double)in ? in : (size_t)hi;

    for (size_t i = a; i < b; i++)
        sum += weight_at(filter, ((double)i - centre + 0.5) / stretch);
    for (size_t i = a; i < b; i++)
        weights[i - a] =
            (float)(weight_at(filter, ((double)i - centre + 0.5) / stretch) / sum);
    *first = a;
    return b - a;
}

size_t sim_resize_work_floats(size_t box_h, size_t dh, size_t dw, size_t box_w, size_t c)
{
    size_t taps_w = max_taps(box_w, dw, RESIZE_BICUBIC),
           taps_h = max_taps(box_h, dh, RESIZE_BICUBIC);
    return box_h * dw * c + (taps_w > taps_h ? taps_w : taps_h);
}

/* Weighted sum of n pixels. */
static void sum_pixels(const float *in, size_t c, const float *weights, size_t n,
                       float *out)
{
    for (size_t k = 0; k < c; k++)
        out[k] = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < c; k++)
            out[k] += weights[i] * in[i * c + k];
}

void sim_resize_box(const resize *r)
{
    const size_t h = r->part.h, c = r->c, dw = r->window.w;
    float *narrow = r->work, *weights = r->work + h * dw * c; /* [h][dw][c] */
    size_t first = 0;

    for (size_t o = 0; o < dw; o++) {
        size_t n = compute_weights(r->part.w, r->rw, r->window.x + o, r->filter, &first,
                                   weights);
        for (size_t y = 0; y < h; y++)
            sum_pixels(r->src + ((r->part.y + y) * r->sw + r->part.x + first) * c, c,
                       weights, n, narrow + (y * dw + o) * c);
    }
    for (size_t o = 0; o < r->window.h; o++) {
        size_t n = compute_weights(h, r->rh, r->window.y + o, r->filter, &first, weights);
        float *out = r->dst + o * dw * c;
        memset(out, 0, dw * c * sizeof *out);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < dw * c; k++)
                out[k] += weights[i] * narrow[(first + i) * dw * c + k];
    }
}

void sim_resize_cover(size_t h, size_t w, size_t out_h, size_t out_w, size_t *rh,
                      size_t *rw)
{
    *rh = out_h;
    *rw = out_w;
    if (h * out_w <= w * out_h)
        *rw = (size_t)((double)out_h * (double)w / (double)h);
    else
        *rh = (size_t)((double)out_w * (double)h / (double)w);
}

size_t sim_centred(size_t whole, size_t part)
{
    size_t rest = whole - part;
    return rest / 2 + (rest & rest / 2 & 1);
}

static uint8_t to_byte(float x)
{
    float v = x * 255 + 0.5f;
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

sim_status sim_image_resize_short(const sim_image *image, size_t side, sim_image *out)
{
    sim_status st = SIM_OK;
    size_t h = image->h, w = image->w, c = image->c, dh = 0, dw = 0;
    float *src = NULL, *dst = NULL, *work = NULL;

    sim_resize_cover(h, w, side, side, &dh, &dw);
    SIM_CHECK(dh <= SIM_MAX_PIXELS / dw, SIM_E_DATA,
              "resizing %zu x %zu to %zu x %zu: more than %d pixels", w, h, dw, dh,
              SIM_MAX_PIXELS);
    SIM_TRY(sim_alloc(&src, h * w * c, "data/resize"));
    SIM_TRY(sim_alloc(&dst, dh * dw * c, "data/resize"));
    SIM_TRY(sim_alloc(&work, sim_resize_work_floats(h, dh, dw, w, c), "data/resize"));
    for (size_t i = 0; i < h * w * c; i++)
        src[i] = (float)image->pixels[i] / 255;
    sim_resize_box(&(resize){.src = src,
                             .sw = w,
                             .c = c,
                             .part = {0, 0, h, w},
                             .rh = dh,
                             .rw = dw,
                             .window = {0, 0, dh, dw},
                             .dst = dst,
                             .filter = RESIZE_BILINEAR,
                             .work = work});
    SIM_TRY(sim_image_shape(out, dh, dw, c));
    for (size_t i = 0; i < dh * dw * c; i++)
        out->pixels[i] = to_byte(dst[i]);
done:
    sim_free(src);
    sim_free(dst);
    sim_free(work);
    return st;
}

sim_status sim_image_crop_centre(const sim_image *image, size_t side, sim_image *out)
{
    sim_status st = SIM_OK;
    SIM_CHECK(image->h >= side && image->w >= side, SIM_E_DATA,
              "an image of %zu x %zu is too small for a crop of %zu x %zu", image->w,
              image->h, side, side);
    size_t y = sim_centred(image->h, side), x = sim_centred(image->w, side);
    SIM_TRY(sim_image_shape(out, side, side, image->c));
    for (size_t r = 0; r < side; r++)
        memcpy(out->pixels + r * side * image->c,
               image->pixels + ((y + r) * image->w + x) * image->c, side * image->c);
done:
    return st;
}
