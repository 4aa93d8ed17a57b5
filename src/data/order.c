/*
 * order.c - permutations of samples and slots: a sort by (random word of (epoch, i), i); the images
 * of an epoch of a union.
 */
#include "simile/data.h"

#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>
#include <stdlib.h>

static int by_key(const void *a, const void *b)
{
    const sim_order_key *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

/* Sorts 0 to n - 1 by the random word of `r` with sample i; the first n_kept are `order`.  keys [n] is
 * workspace. */
static void sort_by_draw(sim_random r, size_t n, size_t n_kept, sim_order_key *keys,
                         uint32_t *order)
{
    SIM_ASSERT(n <= UINT32_MAX);
    for (size_t i = 0; i < n; i++) {
        sim_random of_i = r;
        uint32_t w[4];
        of_i.sample = (uint32_t)i;
        sim_random_words(&of_i, w);
        keys[i] = (sim_order_key){(uint64_t)w[1] << 32 | w[0], (uint32_t)i};
    }
    qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 0; i < n_kept; i++)
        order[i] = keys[i].i;
}

void sim_order_epoch(uint32_t seed, uint32_t epoch, size_t n, sim_order_key *keys,
                     uint32_t *order)
{
    sort_by_draw((sim_random){.seed = seed, .purpose = SIM_RANDOM_ORDER, .epoch = epoch},
                 n, n, keys, order);
}

/* ---- unions with shares ---- */

size_t sim_mixture_drawn(const sim_mixture *m, size_t k)
{
    size_t n = 0;
    for (size_t j = 0; j < m->n_sets; j++)
        n += m->n_images[j];
    return m->weighted ? (size_t)llround(m->share[k] * (double)n) : m->n_images[k];
}

size_t sim_dataset_epoch_images(const sim_dataset_info *about)
{
    size_t n = 0;
    for (size_t k = 0; k < about->mixture.n_sets; k++)
        n += sim_mixture_drawn(&about->mixture, k);
    return about->mixture.n_sets ? n : about->n_images;
}

size_t sim_order_keys(const sim_dataset_info *about)
{
    size_t most = sim_dataset_epoch_images(about);
    for (size_t k = 0; k < about->mixture.n_sets; k++)
        if (about->mixture.n_images[k] > most)
            most = about->mixture.n_images[k];
    return most;
}

/* The images of set k in the order of their passes. */
static void fill_passes(uint32_t seed, uint32_t epoch, const sim_mixture *m, size_t k,
                        sim_order_key *keys, uint32_t *passes)
{
    const size_t n = m->n_images[k], n_drawn = sim_mixture_drawn(m, k);

    for (size_t at = 0, pass = 0; at < n_drawn; at += n, pass++) {
        const sim_random r = {.seed = seed,
                              .purpose = SIM_RANDOM_SETS,
                              .epoch = epoch,
                              .view_op = (uint32_t)(pass * m->n_sets + k)};
        sort_by_draw(r, n, n_drawn - at < n ? n_drawn - at : n, keys, passes + at);
    }
}

void sim_order_mixture(uint32_t seed, uint32_t epoch, const sim_mixture *m,
                       sim_order_key *keys, uint32_t *passes, uint32_t *order)
{
    size_t end[SIM_MAX_SETS] = {0}, next[SIM_MAX_SETS] = {0}, first[SIM_MAX_SETS] = {0};
    size_t n = 0, n_images = 0;

    for (size_t k = 0; k < m->n_sets; k++) {
        fill_passes(seed, epoch, m, k, keys, passes + n);
        first[k] = n_images;
        next[k] = n;
        n_images += m->n_images[k];
        end[k] = n += sim_mixture_drawn(m, k);
    }
    sim_order_epoch(seed, epoch, n, keys, order);
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k + 1 < m->n_sets && order[i] >= end[k])
            k++;
        order[i] = (uint32_t)(first[k] + passes[next[k]++]);
    }
}

void sim_order_shuffle(uint32_t seed, uint32_t epoch, uint64_t samples, size_t n,
                       uint32_t *order)
{
    const sim_random r = {.seed = seed,
                          .purpose = SIM_RANDOM_SHUFFLE,
                          .epoch = epoch,
                          .view_op = (uint32_t)samples};
    sort_by_draw(r, n, n, sim_scratch(n * sizeof(sim_order_key)), order);
}
