/*
 * aug_pad_crop.c - zero padding followed by a random crop of the view's size, as
 * torchvision's RandomCrop(size, padding).
 *
 * A side of the padded image that is shorter than the view is not cropped; the view is
 * resized at the end.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    double p;
    int64_t padding;
} pad_crop_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(pad_crop_options, p), 0, 1, "1", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"padding", SIM_OPTION_INT, offsetof(pad_crop_options, padding), 0, 1024, "4", NULL,
     "pixels", "zero padding on each side before the crop", SIM_IDENTITY, NULL, NULL},
};

/* Rows or columns [lo, hi) of the crop that show the image; the others show padding.  The
 * crop is [at, at + size) of an image of n with `pad` on each side. */
static void find_inside(size_t at, size_t size, size_t pad, size_t n, size_t *lo,
                        size_t *hi)
{
    *lo = at < pad ? pad - at : 0;
    *hi = pad + n > at ? pad + n - at : 0;
    *lo = *lo < size ? *lo : size;
    *hi = *hi < size ? *hi : size;
}

static void pad_crop_apply(const void *options, view *v)
{
    const pad_crop_options *o = options;
    size_t pad = (size_t)o->padding, padded_h = v->h + 2 * pad, padded_w = v->w + 2 * pad;
    size_t h = v->out_h, w = v->out_w;
    size_t top, bottom, left, right;

    if (!view_happens(v, o->p))
        return;
    h = h < padded_h ? h : padded_h;
    w = w < padded_w ? w : padded_w;
    size_t y = sim_random_below(&v->draw, (uint32_t)(padded_h - h + 1));
    size_t x = sim_random_below(&v->draw, (uint32_t)(padded_w - w + 1));
    find_inside(y, h, pad, v->h, &top, &bottom);
    find_inside(x, w, pad, v->w, &left, &right);
    memset(v->spare, 0, h * w * v->c * sizeof *v->spare);
    for (size_t p = 0; p < v->c; p++)
        for (size_t r = top; r < bottom && left < right; r++)
            memcpy(v->spare + (p * h + r) * w + left,
                   v->pixels + (p * v->h + y + r - pad) * v->w + x + left - pad,
                   (right - left) * sizeof *v->spare);
    view_swap(v);
    v->h = h;
    v->w = w;
}

static void pad_crop_text(const void *options, char *out, size_t out_bytes)
{
    const pad_crop_options *o = options;
    (void)snprintf(out, out_bytes, "pad %d and crop p %g", (int)o->padding, o->p);
}

const augment_row sim_augment_pad_crop = {
    .name = "pad_crop",
    .id = 7,
    .table = {"pad_crop", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(pad_crop_options, sim_option_item_storage)},
    .apply = pad_crop_apply,
    .text = pad_crop_text};
