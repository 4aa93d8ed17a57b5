/*
 * private.h - declarations shared by the files of the checkpoint module.
 */
#ifndef SIMILE_CHECKPOINT_PRIVATE_H
#define SIMILE_CHECKPOINT_PRIVATE_H

#include "simile/checkpoint.h"

/* Upper bound for the size of a file that is loaded. */
#define CHECKPOINT_LIMIT_BYTES ((size_t)1 << 40)

/* A verified checkpoint in memory: the whole file, and HDF5 on its image. */
struct sim_checkpoint {
    char path[4096];
    char *bytes;
    size_t n_bytes; /* of the file, trailer included */
    sim_h5 *file;
    sim_checkpoint_head head;
    char *config, *identity, *history;
    sim_json *parts; /* {"tensors": [...]}: tensors in part files; NULL if none */
};

/* Atomically replaces `path` with the image and its trailer. */
SIM_MUST_USE sim_status sim_checkpoint_seal(const char *path, const void *image, size_t n,
                                            sim_hash *digest);
/* True if the bytes end in a trailer, whether or not its digest matches. */
bool sim_checkpoint_is_sealed(const void *bytes, size_t n);
/* Checks trailer, length and digest, and returns length and digest of the image.
 * Errors: SIM_E_DATA. */
SIM_MUST_USE sim_status sim_checkpoint_verify(const char *path, const void *bytes,
                                              size_t n, size_t *image_bytes,
                                              sim_hash *digest);

/* Parses "step-NNNNNNNNN.h5"; false for other names. */
bool sim_checkpoint_step_of(const char *name, int64_t *step);
/* Parses "step-NNNNNNNNN.part-MMMM.h5"; false for other names. */
bool sim_checkpoint_part_step_of(const char *name, int64_t *step);

/* Loads and verifies a main file.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_load_file(const char *path, sim_checkpoint **out);

/*
 * Writes a sharded tensor into rank 0's image as `path`; `hash`, set on rank 0, is that of
 * the whole tensor under the name t->name.  Collective; the status is equal on all ranks.
 */
SIM_MUST_USE sim_status sim_checkpoint_shard_to_image(const sim_comm *c,
                                                      const sim_tensor *t, sim_h5 *file,
                                                      const char *path, sim_hash *hash);

/* True if the tensor is stored in part files; the number of bytes per part. */
bool sim_checkpoint_is_parted(const sim_tensor *t);
size_t sim_checkpoint_part_size(void);
void sim_checkpoint_part_name(int64_t step, size_t index, char out[64]);

/*
 * Writes a sharded tensor to part files, numbered from parts->index, and adds them to the
 * table.  The rank that holds a part's first row writes the part.  `hash`, set on rank 0,
 * is over name, dims and the digests of the parts.  Collective; the status is equal on all
 * ranks.
 */
typedef struct {
    const char *directory;
    int64_t step;
    size_t index;    /* number of the next part */
    sim_json *table; /* on rank 0 */
} checkpoint_parts;
SIM_MUST_USE sim_status sim_checkpoint_shard_to_parts(const sim_comm *c,
                                                      const sim_tensor *t,
                                                      checkpoint_parts *parts,
                                                      sim_hash *hash);

/* Writes one part file: rows [row_lo, row_lo + dims[0]) of the tensor.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_part_write(const char *directory, int64_t step,
                                                  size_t index, const sim_tensor *rows,
                                                  sim_hash *digest);
void sim_checkpoint_part_table(sim_json *table, int64_t step, const sim_tensor *t,
                               size_t rows_per_part, size_t first,
                               const sim_hash *digests);
/* The /parts entry of the i-th tensor, or of the tensor with this name; NULL if none. */
const sim_json *sim_checkpoint_parted_tensor(const sim_checkpoint *k, size_t i);
const sim_json *sim_checkpoint_find_parted(const sim_checkpoint *k, const char *name);
/* Checks that part files number rank, rank + size, ... exist and match their digests.
 * Local. */
SIM_MUST_USE sim_status sim_checkpoint_parts_verify(const sim_checkpoint *k, size_t rank,
                                                    size_t size);
/* Reads this rank's rows from the part files that contain them, each verified.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_parts_read(const sim_checkpoint *k,
                                                  const sim_json *parted,
                                                  const sim_tensor *t);
/* Removes part files without a main file. */
SIM_MUST_USE sim_status sim_checkpoint_drop_orphans(const char *directory);

/* Deletes checkpoints that `options` do not retain; `newest` is the step just written. */
SIM_MUST_USE sim_status sim_checkpoint_retire(const char *directory,
                                              const sim_checkpoint_options *options,
                                              int64_t newest);

#endif
