/*
 * seal.c - the 64-byte trailer of a checkpoint file: magic, image length, XXH3-128, zeros.
 *
 * Called by write.c and part.c to store a file, and by read.c and part.c to verify one
 * before HDF5 parses it.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <string.h>

enum { TRAILER_BYTES = 64 };
#define TRAILER_MAGIC "SIMILE-CKPT-1\0\0\0" /* 16 bytes */

static void put_le64(unsigned char *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get_le64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void make_trailer(const void *image, size_t n, sim_hash *digest,
                         unsigned char trailer[TRAILER_BYTES])
{
    *digest = sim_hash_bytes(image, n);
    memset(trailer, 0, TRAILER_BYTES);
    memcpy(trailer, TRAILER_MAGIC, 16);
    put_le64(trailer + 16, n);
    put_le64(trailer + 24, digest->low);
    put_le64(trailer + 32, digest->high);
}

sim_status sim_checkpoint_seal(const char *path, const void *image, size_t n,
                               sim_hash *digest)
{
    unsigned char trailer[TRAILER_BYTES];
    const sim_piece pieces[] = {{image, n}, {trailer, sizeof trailer}};

    make_trailer(image, n, digest, trailer);
    return sim_file_replace(path, pieces, 2);
}

sim_status sim_checkpoint_seal_copy(const void *image, size_t n, char **bytes,
                                    size_t *n_bytes)
{
    sim_status st = SIM_OK;
    sim_hash digest;

    SIM_TRY(sim_alloc(bytes, n + TRAILER_BYTES, "checkpoint/file"));
    memcpy(*bytes, image, n);
    make_trailer(image, n, &digest, (unsigned char *)*bytes + n);
    *n_bytes = n + TRAILER_BYTES;
done:
    return st;
}

bool sim_checkpoint_is_sealed(const void *bytes, size_t n)
{
    return n > TRAILER_BYTES && memcmp((const unsigned char *)bytes + n - TRAILER_BYTES,
                                       TRAILER_MAGIC, 16) == 0;
}

sim_status sim_checkpoint_verify(const char *path, const void *bytes, size_t n,
                                 size_t *image_bytes, sim_hash *digest)
{
    sim_status st = SIM_OK;
    static const unsigned char zeros[TRAILER_BYTES] = {0};

    SIM_CHECK(n > TRAILER_BYTES, SIM_E_DATA,
              "%s has %zu bytes and is no checkpoint: expected more than 64", path, n);
    const unsigned char *t = (const unsigned char *)bytes + n - TRAILER_BYTES;
    SIM_CHECK(sim_checkpoint_is_sealed(bytes, n), SIM_E_DATA,
              "%s has no checkpoint trailer: it is truncated or no checkpoint", path);
    SIM_CHECK(get_le64(t + 16) == n - TRAILER_BYTES, SIM_E_DATA,
              "%s: the image has %zu bytes, its trailer specifies %llu: the file is "
              "truncated or extended",
              path, n - TRAILER_BYTES, (unsigned long long)get_le64(t + 16));
    SIM_CHECK(memcmp(t + 40, zeros, TRAILER_BYTES - 40) == 0, SIM_E_DATA,
              "%s: its trailer is corrupted", path);
    const sim_hash h = sim_hash_bytes(bytes, n - TRAILER_BYTES);
    SIM_CHECK(h.low == get_le64(t + 24) && h.high == get_le64(t + 32), SIM_E_DATA,
              "%s: its digest does not match: the file is corrupted", path);
    *image_bytes = n - TRAILER_BYTES;
    *digest = h;
done:
    return st;
}
