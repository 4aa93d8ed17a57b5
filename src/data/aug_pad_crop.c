/*
 * aug_pad_crop.c - zero padding, then a random crop of the view's size, as torchvision's
 * RandomCrop(size, padding).
 *
 * A padded image smaller than the view is kept whole that way; the view's own fit scales it.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    double p;
    int64_t padding;
} pad_crop_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(pad_crop_options, p), 0, 1, "1", NULL, "", "chance",
     SIM_IDENTITY, NULL},
    {"padding", SIM_OPTION_INT, offsetof(pad_crop_options, padding), 0, 1024, "4", NULL,
     "pixels", "zeros on each side, before the crop", SIM_IDENTITY, NULL},
};

/* Columns (or rows) [lo, hi) of a crop of `size` from `at` of the padded image that show
 * the image's n; the others show padding. */
static void inside(size_t at, size_t size, size_t pad, size_t n, size_t *lo, size_t *hi)
{
    *lo = at < pad ? pad - at : 0;
    *hi = pad + n > at ? pad + n - at : 0;
    *lo = *lo < size ? *lo : size;
    *hi = *hi < size ? *hi : size;
}

static void apply(const void *options, view *v)
{
    const pad_crop_options *o = options;
    size_t pad = (size_t)o->padding, tall = v->h + 2 * pad, wide = v->w + 2 * pad;
    size_t h = v->out ? v->out : v->h, w = v->out ? v->out : v->w;
    size_t top, bottom, left, right;

    if (!view_happens(v, o->p))
        return;
    h = h < tall ? h : tall;
    w = w < wide ? w : wide;
    size_t y = sim_random_below(&v->draw, (uint32_t)(tall - h + 1));
    size_t x = sim_random_below(&v->draw, (uint32_t)(wide - w + 1));
    inside(y, h, pad, v->h, &top, &bottom);
    inside(x, w, pad, v->w, &left, &right);
    memset(v->spare, 0, h * w * v->c * sizeof *v->spare);
    for (size_t r = top; r < bottom && left < right; r++)
        memcpy(v->spare + (r * w + left) * v->c,
               v->pixels + ((y + r - pad) * v->w + x + left - pad) * v->c,
               (right - left) * v->c * sizeof *v->spare);
    float *swap = v->pixels;
    v->pixels = v->spare;
    v->spare = swap;
    v->h = h;
    v->w = w;
}

static void text(const void *options, char *out, size_t out_bytes)
{
    const pad_crop_options *o = options;
    (void)snprintf(out, out_bytes, "pad %d and crop p %g", (int)o->padding, o->p);
}

const augment_row sim_augment_pad_crop = {
    .name = "pad_crop",
    .id = 7,
    .table = {"pad_crop", rows, sizeof rows / sizeof rows[0], sizeof(pad_crop_options)},
    .apply = apply,
    .text = text};
