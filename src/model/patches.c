/*
 * patches.c - cuts images into a grid of patches that overlap by half.
 *
 * In: images.  Out: the patches of each, row by row; the mean of features over patches.
 * Called by method/cpc.c and by eval.
 * Source: van den Oord et al. 2018, arXiv 1807.03748, section 3.2 (7 x 7 patches of 64 pixels of
 * an image of 256).
 */
#include "simile/model.h"

#include "simile/thread.h"

#include <string.h>

enum { SMALLEST_STEP = 2 }; /* pixels; a patch is two steps wide */

sim_status sim_patches_of(size_t grid, size_t h, size_t w, size_t c, sim_patches *out)
{
    sim_status st = SIM_OK;
    size_t shorter = h < w ? h : w, max_steps = shorter / SMALLEST_STEP;

    *out = (sim_patches){.h = h, .w = w, .c = c, .patch_h = h, .patch_w = w};
    if (grid == 0)
        goto done;
    SIM_CHECK(
        max_steps >= 3, SIM_E_CONFIG,
        "method.grid: images of %zu x %zu are too small for patches, which require at "
        "least %d pixels per side",
        h, w, 3 * SMALLEST_STEP);
    SIM_CHECK(grid < max_steps, SIM_E_CONFIG,
              "method.grid: %zu patches per side do not fit images of %zu x %zu (half a "
              "patch is at least %d pixels); nearest: %zu",
              grid, h, w, SMALLEST_STEP, max_steps - 1);
    out->grid = grid;
    out->step_h = h / (grid + 1);
    out->step_w = w / (grid + 1);
    out->patch_h = 2 * out->step_h;
    out->patch_w = 2 * out->step_w;
    out->top = (h - out->step_h * (grid + 1)) / 2;
    out->left = (w - out->step_w * (grid + 1)) / 2;
done:
    return st;
}

size_t sim_patches_floats(const sim_patches *p)
{
    return p->grid * p->grid * p->patch_h * p->patch_w * p->c;
}

typedef struct {
    const sim_patches *cut;
    const float *x;
    float *out;
} cut_call;

static void cut_patch(const sim_patches *p, const float *image, size_t y, size_t x,
                      float *out)
{
    size_t row = p->patch_w * p->c;
    const float *from =
        image + ((p->top + y * p->step_h) * p->w + p->left + x * p->step_w) * p->c;
    for (size_t i = 0; i < p->patch_h; i++)
        memcpy(out + i * row, from + i * p->w * p->c, row * sizeof *out);
}

static void cut_image(size_t i, void *ctx)
{
    const cut_call *q = ctx;
    const sim_patches *p = q->cut;
    const float *image = q->x + i * p->h * p->w * p->c;
    float *out = q->out + i * sim_patches_floats(p);

    for (size_t y = 0; y < p->grid; y++)
        for (size_t x = 0; x < p->grid; x++)
            cut_patch(p, image, y, x,
                      out + (y * p->grid + x) * p->patch_h * p->patch_w * p->c);
}

void sim_patches_cut(const sim_patches *p, size_t n_images, const float *x, float *out)
{
    cut_call q = {p, x, out};
    SIM_ASSERT(p->grid > 0);
    sim_for(n_images, cut_image, &q);
}

typedef struct {
    size_t patches, d;
    const float *x;
    float *out;
} mean_call;

static void mean_image(size_t i, void *ctx)
{
    const mean_call *q = ctx;
    const float *x = q->x + i * q->patches * q->d;
    for (size_t k = 0; k < q->d; k++) {
        double sum = 0;
        for (size_t p = 0; p < q->patches; p++)
            sum += (double)x[p * q->d + k];
        q->out[i * q->d + k] = (float)(sum / (double)q->patches);
    }
}

void sim_patches_mean(const sim_patches *p, size_t n_images, size_t d, const float *x,
                      float *out)
{
    mean_call q = {p->grid * p->grid, d, x, out};
    SIM_ASSERT(p->grid > 0);
    sim_for(n_images, mean_image, &q);
}
