/*
 * order.c - permutations of samples and slots: a sort by (random word of (epoch, i), i).
 */
#include "simile/data.h"

#include "simile/random.h"
#include "simile/thread.h"

#include <stdlib.h>

static int by_key(const void *a, const void *b)
{
    const sim_order_key *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

/* Sorts 0 to n - 1 by the random word of `r` with sample i; keys [n] is workspace. */
static void sort_by_draw(sim_random r, size_t n, sim_order_key *keys, uint32_t *order)
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
    for (size_t i = 0; i < n; i++)
        order[i] = keys[i].i;
}

void sim_order_epoch(uint32_t seed, uint32_t epoch, size_t n, sim_order_key *keys,
                     uint32_t *order)
{
    sort_by_draw((sim_random){.seed = seed, .purpose = SIM_RANDOM_ORDER, .epoch = epoch},
                 n, keys, order);
}

void sim_order_shuffle(uint32_t seed, uint32_t epoch, uint64_t samples, size_t n,
                       uint32_t *order)
{
    const sim_random r = {.seed = seed,
                          .purpose = SIM_RANDOM_SHUFFLE,
                          .epoch = epoch,
                          .view_op = (uint32_t)samples};
    sort_by_draw(r, n, sim_scratch(n * sizeof(sim_order_key)), order);
}
