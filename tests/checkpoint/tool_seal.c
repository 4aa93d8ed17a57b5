/*
 * tool_seal.c - replaces an HDF5 file by the same bytes with a valid trailer, and prints its
 * digest: for tests that edit a checkpoint with h5py.
 *
 * tool_seal FILE: a file without a trailer.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>

static sim_status seal_file(const char *path, sim_hash *digest)
{
    sim_status st = SIM_OK;
    char *bytes = NULL;
    size_t n = 0;

    SIM_TRY(sim_file_load(path, (size_t)1 << 30, &bytes, &n));
    SIM_TRY(sim_checkpoint_seal(path, bytes, n, digest));
done:
    sim_free(bytes);
    return st;
}

int main(int argc, char **argv)
{
    sim_hash digest;
    char hex[33];

    if (argc != 2)
        return SIM_E_USAGE;
    sim_status st = seal_file(argv[1], &digest);
    if (st == SIM_OK) {
        sim_hash_hex(digest, hex);
        printf("%s\n", hex);
    } else {
        sim_log_failure(st);
    }
    return (int)st;
}
