/*
 * order.c - the permutation of an epoch: a sort by (random word of (epoch, i), i).
 */
#include "simile/data.h"

#include "simile/memory.h"
#include "simile/random.h"

#include <stdlib.h>

typedef struct {
    uint64_t key;
    uint32_t i;
} pair;

static int by_key(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

sim_status sim_order_epoch(uint32_t seed, uint32_t epoch, size_t n, uint32_t *order)
{
    sim_status st = SIM_OK;
    pair *pairs = NULL;

    SIM_ASSERT(n <= UINT32_MAX);
    SIM_TRY(sim_alloc(&pairs, n, "data/order"));
    for (size_t i = 0; i < n; i++) {
        sim_random r = {.seed = seed,
                        .purpose = SIM_RANDOM_ORDER,
                        .sample = (uint32_t)i,
                        .epoch = epoch};
        uint32_t w[4];
        sim_random_words(&r, w);
        pairs[i] = (pair){(uint64_t)w[1] << 32 | w[0], (uint32_t)i};
    }
    qsort(pairs, n, sizeof *pairs, by_key);
    for (size_t i = 0; i < n; i++)
        order[i] = pairs[i].i;
done:
    sim_free(pairs);
    return st;
}
