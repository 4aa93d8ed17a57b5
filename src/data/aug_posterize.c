/*
 * aug_posterize.c - keeps the highest bits of values of 8 bits, as PIL and torchvision.
 */
#include "private.h"

#include <stdio.h>

typedef struct {
    double p;
    int64_t bits;
} posterize_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(posterize_options, p), 0, 1, "0.5", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"bits", SIM_OPTION_INT, offsetof(posterize_options, bits), 1, 8, "4", NULL, "bits",
     "highest bits of a value that are kept, of 8", SIM_IDENTITY, NULL, NULL},
};

static void posterize_apply(const void *options, view *v)
{
    const posterize_options *o = options;
    const unsigned mask = 0xffu << (8 - o->bits);

    if (!view_happens(v, o->p))
        return;
    for (size_t i = 0; i < v->h * v->w * v->c; i++)
        v->pixels[i] = view_from_byte(view_byte(v->pixels[i]) & mask);
}

static void posterize_text(const void *options, char *out, size_t out_bytes)
{
    const posterize_options *o = options;
    (void)snprintf(out, out_bytes, "posterize %d bits p %g", (int)o->bits, o->p);
}

const augment_row sim_augment_posterize = {
    .name = "posterize",
    .id = 13,
    .table = {"posterize", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(posterize_options, sim_option_item_storage)},
    .apply = posterize_apply,
    .text = posterize_text};
