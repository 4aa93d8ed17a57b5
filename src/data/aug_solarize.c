/*
 * aug_solarize.c - inverts values that are not below a threshold, as PIL and torchvision.
 */
#include "private.h"

#include <stdio.h>

typedef struct {
    double p, threshold;
} solarize_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(solarize_options, p), 0, 1, "0.2", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"threshold", SIM_OPTION_REAL, offsetof(solarize_options, threshold), 0, 255, "128",
     NULL, "", "smallest value that is inverted, on the scale 0 to 255", SIM_IDENTITY,
     NULL, NULL},
};

static void solarize_apply(const void *options, view *v)
{
    const solarize_options *o = options;
    /* The conversion of pixels, so that a byte equal to the threshold compares equal. */
    const float threshold = (float)o->threshold * (1.0f / 255);

    if (!view_happens(v, o->p))
        return;
    for (size_t i = 0; i < v->h * v->w * v->c; i++) {
        const float x = v->pixels[i],
                    inverse = 1 - x; /* both, so that it is vectorized */
        v->pixels[i] = x < threshold ? x : inverse;
    }
}

static void solarize_text(const void *options, char *out, size_t out_bytes)
{
    const solarize_options *o = options;
    (void)snprintf(out, out_bytes, "solarize %g p %g", o->threshold, o->p);
}

const augment_row sim_augment_solarize = {
    .name = "solarize",
    .id = 6,
    .table = {"solarize", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(solarize_options, sim_option_item_storage)},
    .apply = solarize_apply,
    .text = solarize_text};
