/*
 * aug_gray.c - conversion to gray with three equal channels.  One channel is unchanged.
 */
#include "private.h"

#include "simile/kernel.h"

#include <stdio.h>
#include <string.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "0.2", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
};

static void gray_apply(const void *options, view *v)
{
    if (!view_happens(v, ((const probability *)options)->p) || v->c != 3)
        return;
    const size_t n = v->h * v->w;
    sim_pixels_gray(n, v->pixels, v->spare);
    memcpy(v->spare + n, v->spare, n * sizeof *v->spare);
    memcpy(v->spare + 2 * n, v->spare, n * sizeof *v->spare);
    view_swap(v);
}

static void gray_text(const void *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "gray p %g", ((const probability *)options)->p);
}

const augment_row sim_augment_gray = {
    .name = "gray",
    .id = 4,
    .table = {"gray", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(probability, sim_option_item_storage)},
    .instead = "channel_drop",
    .apply = gray_apply,
    .text = gray_text};
