/*
 * aug_turn.c - a turn by 0, 90, 180 or 270 degrees with equal probabilities, as numpy.rot90.
 *
 * A view that is not square keeps its shape: it is turned by 0 or 180 degrees.
 */
#include "private.h"

#include <stdio.h>

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(probability, p), 0, 1, "1", NULL, "",
     "probability of a turn by 0, 90, 180 or 270 degrees, if not square by 0 or 180",
     SIM_IDENTITY, NULL, NULL},
};

/* Turns a plane [h][w] by a number of counterclockwise quarters. */
static void turn_plane(const view *v, uint32_t quarters, const float *in, float *out)
{
    const size_t h = v->h, w = v->w;

    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            const size_t up = h - 1 - y, left = w - 1 - x;
            const size_t from = quarters == 1   ? x * w + up
                                : quarters == 2 ? up * w + left
                                                : left * w + y;
            out[y * w + x] = in[from];
        }
}

static void turn_apply(const void *options, view *v)
{
    const size_t n = v->h * v->w;

    if (!view_happens(v, ((const probability *)options)->p))
        return;
    const uint32_t quarters =
        v->h == v->w ? sim_random_below(&v->draw, 4) : 2 * sim_random_below(&v->draw, 2);
    if (quarters == 0)
        return;
    for (size_t c = 0; c < v->c; c++)
        turn_plane(v, quarters, v->pixels + c * n, v->spare + c * n);
    view_swap(v);
}

static void turn_text(const void *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "turn p %g", ((const probability *)options)->p);
}

const augment_row sim_augment_turn = {
    .name = "turn",
    .id = 9,
    .table = {"turn", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(probability, sim_option_item_storage)},
    .apply = turn_apply,
    .text = turn_text};
