/*
 * hash.c - XXH3-128 by libxxhash.
 */
#include "simile/hash.h"

#include "simile/memory.h"

#include <stdio.h>

#define XXH_STATIC_LINKING_ONLY /* for the definition of XXH3_state_t */
#include <xxhash.h>

struct sim_hasher {
    XXH3_state_t state; /* needs 64-byte alignment, which sim_new provides */
};

static sim_hash from_xxh(XXH128_hash_t h)
{
    return (sim_hash){.low = h.low64, .high = h.high64};
}

sim_hash sim_hash_bytes(const void *data, size_t n_bytes)
{
    return from_xxh(XXH3_128bits(data, n_bytes));
}

bool sim_hash_equal(sim_hash a, sim_hash b)
{
    return a.low == b.low && a.high == b.high;
}

void sim_hash_hex(sim_hash h, char out[33])
{
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.high,
                   (unsigned long long)h.low);
}

sim_status sim_hasher_create(sim_hasher **out)
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;

    SIM_TRY(sim_new(&h, "core/hash"));
    XXH3_INITSTATE(&h->state);
    sim_hasher_reset(h);
    *out = h;
    h = NULL;
done:
    sim_hasher_destroy(&h);
    return st;
}

void sim_hasher_reset(sim_hasher *h)
{
    (void)XXH3_128bits_reset(&h->state);
}

void sim_hasher_add(sim_hasher *h, const void *data, size_t n_bytes)
{
    if (n_bytes)
        (void)XXH3_128bits_update(&h->state, data, n_bytes);
}

sim_hash sim_hasher_value(const sim_hasher *h)
{
    return from_xxh(XXH3_128bits_digest(&h->state));
}

void sim_hasher_destroy(sim_hasher **h)
{
    SIM_FREE(*h);
}
