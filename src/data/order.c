/*
 * order.c - the permutation of an epoch: a sort by (random word of (epoch, i), i).
 */
#include "simile/data.h"

#include "simile/random.h"

#include <stdlib.h>

static int by_key(const void *a, const void *b)
{
    const sim_order_key *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

void sim_order_epoch(uint32_t seed, uint32_t epoch, size_t n, sim_order_key *keys,
                     uint32_t *order)
{
    SIM_ASSERT(n <= UINT32_MAX);
    for (size_t i = 0; i < n; i++) {
        sim_random r = {.seed = seed,
                        .purpose = SIM_RANDOM_ORDER,
                        .sample = (uint32_t)i,
                        .epoch = epoch};
        uint32_t w[4];
        sim_random_words(&r, w);
        keys[i] = (sim_order_key){(uint64_t)w[1] << 32 | w[0], (uint32_t)i};
    }
    qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 0; i < n; i++)
        order[i] = keys[i].i;
}
