/*
 * aug_equalize.c - histogram equalization of every channel in 8 bits, as PIL and torchvision.
 *
 * A channel whose pixels, without those of its largest value, are fewer than 255 is unchanged.
 */
#include "private.h"

#include <stdio.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "0.5", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
};

enum { N_LEVELS = 256 };

static void equalize_plane(size_t n, float *plane)
{
    size_t count[N_LEVELS] = {0}, last = N_LEVELS - 1, n_below = 0;
    float level[N_LEVELS];

    for (size_t i = 0; i < n; i++)
        count[view_byte(plane[i])]++;
    while (count[last] == 0)
        last--;
    const size_t step = (n - count[last]) / (N_LEVELS - 1);
    if (step == 0)
        return;
    for (size_t k = 0; k < N_LEVELS; k++) {
        const size_t value = (n_below + step / 2) / step;
        level[k] = view_from_byte(value < N_LEVELS ? (unsigned)value : N_LEVELS - 1);
        n_below += count[k];
    }
    for (size_t i = 0; i < n; i++)
        plane[i] = level[view_byte(plane[i])];
}

static void equalize_apply(const void *options, view *v)
{
    const size_t n = v->h * v->w;

    if (!view_happens(v, ((const probability *)options)->p))
        return;
    for (size_t c = 0; c < v->c; c++)
        equalize_plane(n, v->pixels + c * n);
}

static void equalize_text(const void *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "equalize p %g", ((const probability *)options)->p);
}

const augment_row sim_augment_equalize = {
    .name = "equalize",
    .id = 14,
    .table = {"equalize", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(probability, sim_option_item_storage)},
    .apply = equalize_apply,
    .text = equalize_text};
