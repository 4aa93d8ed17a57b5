/*
 * aug_vflip.c - vertical flip, as torchvision's RandomVerticalFlip.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "0.5", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
};

static void vflip_apply(const void *options, view *v)
{
    const size_t n = v->h * v->w;

    if (!view_happens(v, ((const probability *)options)->p))
        return;
    for (size_t c = 0; c < v->c; c++)
        for (size_t y = 0; y < v->h; y++)
            memcpy(v->spare + c * n + y * v->w, v->pixels + c * n + (v->h - 1 - y) * v->w,
                   v->w * sizeof *v->spare);
    view_swap(v);
}

static void vflip_text(const void *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "vflip p %g", ((const probability *)options)->p);
}

const augment_row sim_augment_vflip = {
    .name = "vflip",
    .id = 8,
    .table = {"vflip", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(probability, sim_option_item_storage)},
    .apply = vflip_apply,
    .text = vflip_text};
