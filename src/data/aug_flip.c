/*
 * aug_flip.c - horizontal flip.
 */
#include "private.h"

#include <stdio.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "0.5", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
};

static void reverse(size_t n, const float *restrict in, float *restrict out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = in[n - 1 - i];
}

static void flip_apply(const void *options, view *v)
{
    if (!view_happens(v, ((const probability *)options)->p))
        return;
    for (size_t row = 0; row < v->c * v->h; row++)
        reverse(v->w, v->pixels + row * v->w, v->spare + row * v->w);
    view_swap(v);
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
