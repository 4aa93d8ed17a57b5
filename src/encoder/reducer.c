/*
 * reducer.c - the reducer of one process that owns every block.
 */
#include "simile/encoder.h"

#include <string.h>

/* Reduces `n` leaves into the first in the order of tree.h, without allocating. */
static void reduce_span(double *leaves, size_t n, size_t width, sim_merge_fn *merge)
{
    if (n < 2)
        return;
    size_t half = n / 2;
    double *right = leaves + half * width;
    reduce_span(leaves, half, width, merge);
    reduce_span(right, n - half, width, merge);
    merge(width, leaves, half, right, n - half);
}

static void reduce_local(void *ctx, size_t n_units, size_t leaves_per_unit,
                         size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                         double *leaves, double *out)
{
    size_t n = n_units * leaves_per_unit;
    size_t per_group = leaves_per_group ? leaves_per_group : n;
    (void)ctx;

    for (size_t g = 0; g * per_group < n; g++) {
        double *first = leaves + g * per_group * width;
        reduce_span(first, per_group, width, merge);
        memcpy(out + g * width, first, width * sizeof *out);
    }
}

const sim_reducer sim_reducer_local = {.reduce = reduce_local};
