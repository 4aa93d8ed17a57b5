/*
 * aug_blur.c - Gaussian blur, as torchvision's gaussian_blur with reflected edges.
 *
 * sigma is uniform.  The kernel has 2 (side / 10 / 2) + 1 taps (23 at 224), at least 3.
 */
#include "private.h"

#include "simile/kernel.h"

#include <stdio.h>
#include <string.h>

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

static size_t count_taps(size_t h, size_t w)
{
    size_t side = h < w ? h : w, taps = 2 * (side / 10 / 2) + 1;
    return taps < 3 ? 3 : taps > MAX_TAPS ? MAX_TAPS : taps;
}

/* A plane with reflected borders above and below, and a row with borders left and right. */
size_t sim_blur_work_bytes(size_t h, size_t w)
{
    const size_t border = count_taps(h, w) - 1;
    return ((h + border) * w + w + border) * sizeof(float);
}

/* Filters the rows of a plane [h][w] to `out`. */
static void blur_rows(const view *v, const float *in, const float *weights, size_t taps,
                      float *row, float *out)
{
    const size_t w = v->w, half = taps / 2;

    for (size_t y = 0; y < v->h; y++) {
        memcpy(row + half, in + y * w, w * sizeof *row);
        for (size_t i = 1; i <= half; i++) {
            row[half - i] = in[y * w + reflect_index(-(ptrdiff_t)i, w)];
            row[half + w - 1 + i] = in[y * w + reflect_index((ptrdiff_t)(w - 1 + i), w)];
        }
        sim_pixels_sum(w, taps, weights, row, 1, out + y * w);
    }
}

/* Fills `half` rows above and below a plane [h][w]. */
static void reflect_rows(const view *v, size_t half, float *plane)
{
    const size_t h = v->h, w = v->w;

    for (size_t i = 1; i <= half; i++) {
        const size_t above = reflect_index(-(ptrdiff_t)i, h),
                     below = reflect_index((ptrdiff_t)(h - 1 + i), h);
        memcpy(plane - i * w, plane + above * w, w * sizeof *plane);
        memcpy(plane + (h - 1 + i) * w, plane + below * w, w * sizeof *plane);
    }
}

static void blur_apply(const void *options, view *v)
{
    const blur_options *o = options;
    const size_t n = v->h * v->w, taps = count_taps(v->h, v->w), half = taps / 2;
    float weights[MAX_TAPS], *padded = v->work, *row = padded + n + 2 * half * v->w;

    if (!view_happens(v, o->p))
        return;
    float sigma = sim_random_between(&v->draw, (float)o->sigma_min, (float)o->sigma_max);
    compute_weights(weights, taps, (double)sigma);
    for (size_t c = 0; c < v->c; c++) {
        float *plane = padded + half * v->w;
        blur_rows(v, v->pixels + c * n, weights, taps, row, plane);
        reflect_rows(v, half, plane);
        sim_pixels_sum(n, taps, weights, padded, v->w, v->pixels + c * n);
    }
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
