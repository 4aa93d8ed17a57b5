/*
 * aug_flip.c - horizontal flip.
 */
#include "private.h"

#include <stdio.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "0.5", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
};

static void flip_apply(const void *options, view *v)
{
    if (!view_happens(v, ((const probability *)options)->p))
        return;
    for (size_t y = 0; y < v->h; y++)
        for (size_t x = 0; x < v->w / 2; x++)
            for (size_t c = 0; c < v->c; c++) {
                float *a = v->pixels + (y * v->w + x) * v->c + c;
                float *b = v->pixels + (y * v->w + v->w - 1 - x) * v->c + c;
                float swap = *a;
                *a = *b;
                *b = swap;
            }
}

static void flip_text(const void *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "flip p %g", ((const probability *)options)->p);
}

const augment_row sim_augment_flip = {
    .name = "flip",
    .id = 2,
    .table = {"flip", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(probability, sim_option_item_storage)},
    .apply = flip_apply,
    .text = flip_text};
