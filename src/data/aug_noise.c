/*
 * aug_noise.c - additive Gaussian noise, as torchvision's v2.GaussianNoise with clip=True.
 *
 * The standard deviation is uniform and one for the view; every value has its own deviate.
 */
#include "private.h"

#include <stdio.h>

typedef struct {
    double p, sigma_min, sigma_max;
} noise_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(noise_options, p), 0, 1, "1", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
    {"sigma_min", SIM_OPTION_REAL, offsetof(noise_options, sigma_min), 0, 1, "0.1", NULL,
     "", "smallest standard deviation, on the scale 0 to 1", SIM_IDENTITY, NULL, NULL},
    {"sigma_max", SIM_OPTION_REAL, offsetof(noise_options, sigma_max), 0, 1, "0.1", NULL,
     "", "largest standard deviation, on the scale 0 to 1", SIM_IDENTITY, NULL, NULL},
};

static void noise_apply(const void *options, view *v)
{
    const noise_options *o = options;
    const size_t n = v->h * v->w * v->c;

    if (!view_happens(v, o->p))
        return;
    const float sigma =
        sim_random_between(&v->draw, (float)o->sigma_min, (float)o->sigma_max);
    sim_random_normals(&v->draw, n, v->spare);
    for (size_t i = 0; i < n; i++)
        v->pixels[i] = view_clamp(v->pixels[i] + sigma * v->spare[i]);
}

static void noise_text(const void *options, char *out, size_t out_bytes)
{
    const noise_options *o = options;
    (void)snprintf(out, out_bytes, "noise %g-%g p %g", o->sigma_min, o->sigma_max, o->p);
}

const augment_row sim_augment_noise = {
    .name = "noise",
    .id = 11,
    .table = {"noise", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(noise_options, sim_option_item_storage)},
    .apply = noise_apply,
    .text = noise_text};
