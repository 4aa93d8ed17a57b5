/*
 * hash.h - XXH3-128, for integrity checks, fingerprints and hash traces.
 *
 * Module: core
 */
#ifndef SIMILE_HASH_H
#define SIMILE_HASH_H

#include "simile/status.h"

#include <stdint.h>

typedef struct {
    uint64_t low, high;
} sim_hash;

typedef struct sim_hasher sim_hasher;

sim_hash sim_hash_bytes(const void *data, size_t n_bytes);
bool sim_hash_equal(sim_hash a, sim_hash b);

/* Formats 32 lower-case hexadecimal digits, high half first, and a terminating zero. */
void sim_hash_hex(sim_hash h, char out[33]);

/*
 * Incremental hash. Its value equals sim_hash_bytes of the concatenation of all bytes added
 * since creation or the last reset.
 * Errors: SIM_E_IO if memory is exhausted.
 */
SIM_MUST_USE sim_status sim_hasher_create(sim_hasher **out);
void sim_hasher_reset(sim_hasher *h);
void sim_hasher_add(sim_hasher *h, const void *data, size_t n_bytes);
sim_hash sim_hasher_value(const sim_hasher *h);
void sim_hasher_destroy(sim_hasher **h);

#endif
