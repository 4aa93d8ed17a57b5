/*
 * private.h - what the files of this room share.
 */
#ifndef SIMILE_CHECKPOINT_PRIVATE_H
#define SIMILE_CHECKPOINT_PRIVATE_H

#include "simile/checkpoint.h"

enum { TRAILER_BYTES = 64 };
#define TRAILER_MAGIC "SIMILE-CKPT-1\0\0\0" /* 16 bytes */

/* A verified checkpoint in memory: the whole file, and HDF5 on its image. */
struct sim_checkpoint {
    char path[4096];
    char *bytes;
    size_t image_bytes;
    sim_h5 *file;
    sim_checkpoint_head head;
    char *config, *identity, *history;
};

/* "step-NNNNNNNNN.h5" -> its step; false for other names. */
bool checkpoint_step_of(const char *name, int64_t *step);

/* Loads and verifies a file on this rank alone. */
SIM_MUST_USE sim_status checkpoint_load_file(const char *path, sim_checkpoint **out);

/*
 * Collective.  A sharded tensor of name t->name into rank 0's image as `path`; `hash`, on
 * rank 0, is that of the whole one.  All ranks learn the outcome.
 */
SIM_MUST_USE sim_status checkpoint_shard_to_image(const sim_comm *c, const sim_tensor *t,
                                                  sim_h5 *file, const char *path,
                                                  sim_hash *hash);

/* Deletes what `options` do not keep; `newest` is the step just written. */
SIM_MUST_USE sim_status checkpoint_retire(const char *folder,
                                          const sim_checkpoint_options *options,
                                          int64_t newest);

#endif
