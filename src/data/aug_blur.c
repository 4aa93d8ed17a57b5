/*
 * aug_blur.c - Gaussian blur, as torchvision's gaussian_blur with reflected edges.
 *
 * sigma is uniform.  The kernel has 2 (side / 10 / 2) + 1 taps (23 at 224), at least 3.
 */
#include "private.h"

#include "simile/kernel.h"

#include <stdio.h>

typedef struct {
    double p, sigma_min, sigma_max;
} blur_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(blur_options, p), 0, 1, "0.5", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"sigma_min", SIM_OPTION_REAL, offsetof(blur_options, sigma_min), 0.01, 20, "0.1",
     NULL, "pixels", "smallest standard deviation", SIM_IDENTITY, NULL, NULL},
    {"sigma_max", SIM_OPTION_REAL, offsetof(blur_options, sigma_max), 0.01, 20, "2", NULL,
     "pixels", "largest standard deviation", SIM_IDENTITY, NULL, NULL},
};

enum { MAX_TAPS = 511 };

static size_t reflect_index(ptrdiff_t i, size_t n)
{
    ptrdiff_t last = (ptrdiff_t)n - 1;
    if (last == 0)
        return 0;
    i = i < 0 ? -i : i;
    i %= 2 * last;
    return (size_t)(i > last ? 2 * last - i : i);
}

static void compute_weights(float *w, size_t taps, double sigma)
{
    double sum = 0;
    ptrdiff_t half = (ptrdiff_t)taps / 2;
    for (size_t i = 0; i < taps; i++) {
        double x = (double)((ptrdiff_t)i - half) / sigma;
        w[i] = (float)sim_exp_double(-0.5 * x * x);
        sum += (double)w[i];
    }
    for (size_t i = 0; i < taps; i++)
        w[i] = (float)((double)w[i] / sum);
}

/* Convolves along rows or columns. */
static void convolve(const view *v, const float *in, float *out, const float *w,
                     size_t taps, bool vertical)
{
    ptrdiff_t half = (ptrdiff_t)taps / 2;
    for (size_t y = 0; y < v->h; y++)
        for (size_t x = 0; x < v->w; x++) {
            float sum[3] = {0};
            for (size_t t = 0; t < taps; t++) {
                ptrdiff_t d = (ptrdiff_t)t - half;
                size_t yy = vertical ? reflect_index((ptrdiff_t)y + d, v->h) : y;
                size_t xx = vertical ? x : reflect_index((ptrdiff_t)x + d, v->w);
                for (size_t c = 0; c < v->c; c++)
                    sum[c] += w[t] * in[(yy * v->w + xx) * v->c + c];
            }
            for (size_t c = 0; c < v->c; c++)
                out[(y * v->w + x) * v->c + c] = sum[c];
        }
}

static void blur_apply(const void *options, view *v)
{
    const blur_options *o = options;
    float w[MAX_TAPS];
    size_t side = v->h < v->w ? v->h : v->w, taps = 2 * (side / 10 / 2) + 1;

    if (!view_happens(v, o->p))
        return;
    float sigma = sim_random_between(&v->draw, (float)o->sigma_min, (float)o->sigma_max);
    taps = taps < 3 ? 3 : taps > MAX_TAPS ? MAX_TAPS : taps;
    compute_weights(w, taps, (double)sigma);
    convolve(v, v->pixels, v->spare, w, taps, false);
    convolve(v, v->spare, v->pixels, w, taps, true);
}

static void blur_text(const void *options, char *out, size_t out_bytes)
{
    const blur_options *o = options;
    (void)snprintf(out, out_bytes, "blur %g-%g p %g", o->sigma_min, o->sigma_max, o->p);
}

const augment_row sim_augment_blur = {
    .name = "blur",
    .id = 5,
    .table = {"blur", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(blur_options, sim_option_item_storage)},
    .apply = blur_apply,
    .text = blur_text};
