/*
 * private.h - what the files of this room share.
 */
#ifndef SIMILE_CHECKPOINT_PRIVATE_H
#define SIMILE_CHECKPOINT_PRIVATE_H

#include "simile/checkpoint.h"

/* More than any file here has. */
#define CHECKPOINT_LIMIT_BYTES ((size_t)1 << 40)

/* A verified checkpoint in memory: the whole file, and HDF5 on its image. */
struct sim_checkpoint {
    char path[4096];
    char *bytes;
    size_t n_bytes; /* of the file, its end mark included */
    sim_h5 *file;
    sim_checkpoint_head head;
    char *config, *identity, *history;
    sim_json *parts; /* {"tensors": [...]}: those kept in part files; NULL: none */
};

/* Stores an image with its end mark in place of `path`; an old file stays until then. */
SIM_MUST_USE sim_status sim_checkpoint_seal(const char *path, const void *image, size_t n,
                                            sim_hash *digest);
/* Has it an end mark, right or wrong? */
bool sim_checkpoint_is_sealed(const void *bytes, size_t n);
/* Is this a sealed image?  Tells its length and digest.  Fails: SIM_E_DATA. */
SIM_MUST_USE sim_status sim_checkpoint_verify(const char *path, const void *bytes,
                                              size_t n, size_t *image_bytes,
                                              sim_hash *digest);

/* "step-NNNNNNNNN.h5" -> its step; false for other names. */
bool sim_checkpoint_step_of(const char *name, int64_t *step);
/* The same of "step-NNNNNNNNN.part-MMMM.h5". */
bool sim_checkpoint_part_step_of(const char *name, int64_t *step);

/* Loads and verifies a file on this rank alone. */
SIM_MUST_USE sim_status sim_checkpoint_load_file(const char *path, sim_checkpoint **out);

/*
 * Collective.  A sharded tensor of name t->name into rank 0's image as `path`; `hash`, on
 * rank 0, is that of the whole one.  All ranks learn the outcome.
 */
SIM_MUST_USE sim_status sim_checkpoint_shard_to_image(const sim_comm *c,
                                                      const sim_tensor *t, sim_h5 *file,
                                                      const char *path, sim_hash *hash);

/* Is it one for part files?  Bytes of a part. */
bool sim_checkpoint_is_parted(const sim_tensor *t);
size_t sim_checkpoint_part_size(void);
void sim_checkpoint_part_name(int64_t step, size_t index, char out[64]);

/* Collective.  The same into part files `*index` and on, which their ranks write; adds them
 * to the table, and `hash`, on rank 0, is over name, dims and the parts' digests. */
typedef struct {
    const char *folder;
    int64_t step;
    size_t index;    /* of the next part */
    sim_json *table; /* on rank 0 */
} checkpoint_parts;
SIM_MUST_USE sim_status sim_checkpoint_shard_to_parts(const sim_comm *c,
                                                      const sim_tensor *t,
                                                      checkpoint_parts *parts,
                                                      sim_hash *hash);

/* Local.  One part: the rows [row_lo, row_lo + dims[0]) that `rows` holds. */
SIM_MUST_USE sim_status sim_checkpoint_part_write(const char *folder, int64_t step,
                                                  size_t index, const sim_tensor *rows,
                                                  sim_hash *digest);
void sim_checkpoint_part_table(sim_json *table, int64_t step, const sim_tensor *t,
                               size_t rows_per_part, size_t first,
                               const sim_hash *digests);
/* The i-th tensor in parts, and the one of this name; NULL when there is none. */
const sim_json *sim_checkpoint_parted_tensor(const sim_checkpoint *k, size_t i);
const sim_json *sim_checkpoint_find_parted(const sim_checkpoint *k, const char *name);
/* Local.  Are the parts there and whole?  Looks at every size-th of them. */
SIM_MUST_USE sim_status sim_checkpoint_parts_verify(const sim_checkpoint *k, size_t rank,
                                                    size_t size);
/* Local.  This rank's rows, from the parts that hold them, each verified. */
SIM_MUST_USE sim_status sim_checkpoint_parts_read(const sim_checkpoint *k,
                                                  const sim_json *parted,
                                                  const sim_tensor *t);
/* Removes parts that no main file stands for. */
SIM_MUST_USE sim_status sim_checkpoint_drop_orphans(const char *folder);

/* Deletes what `options` do not keep; `newest` is the step just written. */
SIM_MUST_USE sim_status sim_checkpoint_retire(const char *folder,
                                              const sim_checkpoint_options *options,
                                              int64_t newest);

#endif
