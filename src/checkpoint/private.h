/*
 * private.h - declarations shared by the files of the checkpoint module.
 */
#ifndef SIMILE_CHECKPOINT_PRIVATE_H
#define SIMILE_CHECKPOINT_PRIVATE_H

#include "simile/checkpoint.h"

#define CHECKPOINT_FORMAT "simile-checkpoint"

/* Upper bound for the size of a file that is loaded. */
#define CHECKPOINT_LIMIT_BYTES ((size_t)1 << 40)

/* A tensor that is stored in part files: an entry of /parts. */
typedef struct {
    const char *name; /* path, without a leading slash */
    int n_dims;       /* at least 1 */
    size_t dims[SIM_MAX_DIMS];
    size_t rows_per_part;
    const sim_json *files; /* array of {"name", "digest"} */
    size_t n_files;
} parted_tensor;

/* A verified checkpoint in memory: the whole file, and HDF5 on its image. */
struct sim_checkpoint {
    char path[4096];
    char *bytes;
    size_t n_bytes; /* of the file, trailer included */
    sim_h5 *file;
    sim_checkpoint_head head;
    char *config, *identity, *history, *preprocessing;
    sim_json *parts;       /* content of /parts; NULL if there are no part files */
    parted_tensor *parted; /* [n_parted]; texts and files are in `parts` */
    size_t n_parted;
};

/* Atomically replaces `path` with the image and its trailer. */
SIM_MUST_USE sim_status sim_checkpoint_seal(const char *path, const void *image, size_t n,
                                            sim_hash *digest);
/* The same in memory.  *bytes is the caller's. */
SIM_MUST_USE sim_status sim_checkpoint_seal_copy(const void *image, size_t n,
                                                 char **bytes, size_t *n_bytes);
/* True if the bytes end in a trailer, whether or not its digest matches. */
bool sim_checkpoint_is_sealed(const void *bytes, size_t n);
/* Checks trailer, length and digest, and returns length and digest of the image.
 * Errors: SIM_E_DATA. */
SIM_MUST_USE sim_status sim_checkpoint_verify(const char *path, const void *bytes,
                                              size_t n, size_t *image_bytes,
                                              sim_hash *digest);

/* Writes the root attributes `format` and `format_version` of a file. */
SIM_MUST_USE sim_status sim_checkpoint_write_format(sim_h5 *f, const char *format);
/*
 * Checks the root attributes of a file.  A missing format_version is 1.
 * Errors: SIM_E_DATA; SIM_E_INSTALL if the version is newer than this program, so that the
 * search for the newest good checkpoint does not skip the file as corrupted.
 */
SIM_MUST_USE sim_status sim_checkpoint_check_format(const sim_h5 *f, const char *path,
                                                    const char *format);
/* Compares the dims of a stored tensor with the expected ones.
 * Errors: SIM_E_DATA naming file, tensor and both shapes. */
SIM_MUST_USE sim_status sim_checkpoint_check_dims(const char *path, const char *name,
                                                  int n_dims, const size_t *dims,
                                                  const sim_tensor *expected);

/* Filters of the first convolution `to` [o][c][h][w] from those for n_from channels, [o][n_from][h][w]. */
void sim_checkpoint_adapt_channels(const float *from, size_t n_from,
                                   const sim_tensor *to);

/* Parses "step-NNNNNNNNN", as this program writes it, at least 9 digits; returns what follows, NULL
 * if the name begins otherwise.  A copy that the user names "step-7.h5" is thus neither sorted
 * among the checkpoints nor deleted with them. */
const char *sim_checkpoint_parse_step(const char *name, int64_t *step);
/* Parses "step-NNNNNNNNN.h5"; false for other names. */
bool sim_checkpoint_step_of(const char *name, int64_t *step);
/* Parses "step-NNNNNNNNN.part-MMMM.h5"; false for other names. */
bool sim_checkpoint_part_step_of(const char *name, int64_t *step);

/* True if the program did not write what is stored at `path`, as far as its kind shows it.  An
 * empty file is not foreign.  Local. */
bool sim_checkpoint_is_foreign(const char *path);

/* Opens a copy of an image, which has no trailer, as the checkpoint `path`.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_open_image(const char *path, const void *image,
                                                  size_t n, sim_checkpoint **out);
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
/* Reads and checks /parts of an open main file.  Errors: SIM_E_DATA. */
SIM_MUST_USE sim_status sim_checkpoint_parts_load(sim_checkpoint *k);
/* The entry of the tensor with this name; NULL if it is not stored in part files. */
const parted_tensor *sim_checkpoint_find_parted(const sim_checkpoint *k,
                                                const char *name);
/* Checks that part files number rank, rank + size, ... exist and match their digests.
 * Local. */
SIM_MUST_USE sim_status sim_checkpoint_parts_verify(const sim_checkpoint *k, size_t rank,
                                                    size_t size);
/* Reads rows [row_lo, row_hi) of t, or all rows of a tensor that is not sharded, from the
 * part files that contain them, each verified.  At most one is in memory at a time.  Local.
 * Errors: SIM_E_DATA if dims differ from those in the files. */
SIM_MUST_USE sim_status sim_checkpoint_parts_read(const sim_checkpoint *k,
                                                  const parted_tensor *parted,
                                                  const sim_tensor *t);
/* The type of the values, as stored in the first part file.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_parts_type(const sim_checkpoint *k,
                                                  const parted_tensor *parted,
                                                  sim_type *out);
/* Removes part files without a main file. */
SIM_MUST_USE sim_status sim_checkpoint_drop_orphans(const char *directory);

/* Whether `latest` or `best` is something else than the name of a checkpoint.  A file that cannot be
 * read is not. */
bool sim_checkpoint_hint_is_foreign(const char *path);

/* Deletes checkpoints that `options` do not retain; `newest` is the step just written. */
SIM_MUST_USE sim_status sim_checkpoint_retire(const char *directory,
                                              const sim_checkpoint_options *options,
                                              int64_t newest);

#endif
