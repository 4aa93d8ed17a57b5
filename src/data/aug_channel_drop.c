/*
 * aug_channel_drop.c - sets whole channels to 0, as imgaug's Dropout2d with nb_keep_channels=1.
 *
 * Every channel is dropped with probability p, independently.  If that drops all, one of them,
 * with equal probabilities, is kept.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "0.1", NULL, "",
     "probability of each channel; one is always kept", SIM_IDENTITY, NULL, NULL},
};

static void channel_drop_apply(const void *options, view *v)
{
    const size_t n = v->h * v->w;
    const double p = ((const probability *)options)->p;
    const sim_random first = v->draw;
    size_t n_kept = 0;

    for (size_t c = 0; c < v->c; c++)
        n_kept += !view_happens(v, p);
    const size_t kept = n_kept ? v->c : sim_random_below(&v->draw, (uint32_t)v->c);
    v->draw = first;
    for (size_t c = 0; c < v->c; c++)
        if (view_happens(v, p) && c != kept)
            memset(v->pixels + c * n, 0, n * sizeof *v->pixels);
}

static void channel_drop_text(const void *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "channel_drop p %g",
                   ((const probability *)options)->p);
}

const augment_row sim_augment_channel_drop = {
    .name = "channel_drop",
    .id = 15,
    .table = {"channel_drop", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(probability, sim_option_item_storage)},
    .apply = channel_drop_apply,
    .text = channel_drop_text};
