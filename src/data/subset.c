/*
 * subset.c - a random fraction of the images of every class.
 *
 * Images are taken in a random order that depends on the seed alone, so a smaller fraction is part of
 * a larger one, and the order does not depend on the labels.
 */
#include "simile/data.h"

#include "simile/memory.h"

#include <math.h>

/* Images of a class that remain: at least one of a class with images. */
static size_t share_of(size_t n, double fraction)
{
    const size_t share = (size_t)llround(fraction * (double)n);
    return share > 0 || n == 0 ? share : 1;
}

/* Counts the images of each class; without labels all are of class 0. */
static void count_classes(const int32_t *labels, size_t n, size_t *count)
{
    for (size_t i = 0; i < n; i++)
        count[labels ? labels[i] : 0]++;
}

/* Marks the images that remain, in the order of the permutation; returns their number. */
static size_t mark_images(const int32_t *labels, size_t n, const uint32_t *order,
                          size_t *remaining, bool *is_kept)
{
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t *left = &remaining[labels ? labels[order[i]] : 0];
        is_kept[order[i]] = *left > 0;
        n_kept += *left > 0;
        *left -= *left > 0;
    }
    return n_kept;
}

sim_status sim_dataset_keep_fraction(sim_dataset *d, double fraction, uint32_t seed)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(d);
    const int32_t *labels = sim_dataset_labels(d);
    const size_t n = about->n_images, n_classes = labels ? about->n_classes : 1;
    uint32_t *order = NULL;
    sim_order_key *keys = NULL;
    size_t *count = NULL, n_kept = 0;
    bool *is_kept = NULL;

    SIM_TRY(sim_alloc(&order, n, "data/subset"));
    SIM_TRY(sim_alloc(&keys, n, "data/subset"));
    SIM_TRY(sim_alloc(&count, n_classes, "data/subset"));
    SIM_TRY(sim_alloc(&is_kept, n, "data/subset"));
    count_classes(labels, n, count);
    for (size_t k = 0; k < n_classes; k++)
        count[k] = share_of(count[k], fraction);
    sim_order_epoch(seed, SIM_SUBSET_EPOCH, n, keys, order);
    n_kept = mark_images(labels, n, order, count, is_kept);
    for (size_t i = 0, at = 0; i < n; i++)
        if (is_kept[i])
            order[at++] = (uint32_t)i; /* ascending */
    SIM_TRY(sim_dataset_select(d, n_kept, order));
done:
    sim_free(order);
    sim_free(keys);
    sim_free(count);
    sim_free(is_kept);
    return st;
}
