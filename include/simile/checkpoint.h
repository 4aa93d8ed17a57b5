/*
 * checkpoint.h - saves and loads named tensors; the run directory and its lock.
 *
 * Module: checkpoint
 * A checkpoint file is an HDF5 image built in memory and a 64-byte trailer with its
 * XXH3-128 digest.  It is written to a temporary file, synced, and renamed.  HDF5 parses
 * nothing before the digest is verified.  State is reached only through visitors
 * (sim_state_source).
 * Functions are collective unless marked local; only rank 0 accesses the disk, except for
 * part files.
 */
#ifndef SIMILE_CHECKPOINT_H
#define SIMILE_CHECKPOINT_H

#include "simile/comm.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/json.h"
#include "simile/tensor.h"

#include <limits.h>

/* Metadata of a checkpoint. */
typedef struct {
    int64_t step;              /* updates done */
    int64_t epoch;             /* of the next step */
    int64_t samples;           /* samples of this epoch already used */
    const char *config;        /* resolved job (YAML) */
    const char *identity;      /* lines "key: value" that define the run */
    const char *history;       /* JSON array of segments */
    const char *preprocessing; /* sim_preprocessing_text; NULL: written before 0.2.0 */
    char fingerprint[33];      /* of the training set */
} sim_checkpoint_head;

/*
 * A source of state: visits its tensors in a fixed order, equal on all ranks, for saving
 * and loading.  It returns only the visitor's status and has no failures of its own: a
 * rank that returned early would leave the others waiting in a collective call.
 */
typedef struct {
    sim_status (*visit)(void *object, const sim_visitor *v);
    void *object;
} sim_state_source;

typedef struct {
    int64_t every_steps, every_epochs, keep, keep_every;
    int64_t max_failures; /* tolerated consecutive failed saves; used by the caller */
    /* Set by the caller for each save; 0: none.  The checkpoint of best_step is kept, and the newest
     * one up to healthy_step. */
    int64_t best_step, healthy_step;
    double every_minutes;
} sim_checkpoint_options;

/* ---- the run directory ---- */

typedef struct sim_run {
    char path[4096];
    bool locked; /* on rank 0: by run.lock with this token */
    char token[SIM_LOCK_TOKEN_BYTES];
    /* Created by sim_run_open: the directory; checkpoints/ and results/ in it. */
    bool is_new, subdirectory_is_new[2];
} sim_run;

/*
 * Creates the directory with checkpoints/ and results/, and acquires run.lock (file.h:
 * sim_lock_acquire).  The lock of a process on this machine that has ended, or of a Slurm
 * job that has ended, is taken over with a log line.  Removes stale temporary files: all of
 * them in checkpoints/; in RUN those of processes on this host that have ended.
 * Errors: SIM_E_CREATE naming the holder of the lock.
 */
SIM_MUST_USE sim_status sim_run_open(const sim_comm *c, const char *path, sim_run *run);
void sim_run_close(const sim_comm *c, sim_run *run);
/* Closes a run that failed to start: also removes the empty directories that open created. */
void sim_run_drop(const sim_comm *c, sim_run *run);
/*
 * Checks that run.lock is still that of sim_run_open: the run may have been renamed or its lock deleted,
 * and another job may have started at its path.  To be called on rank 0 before files of the run are
 * written, replaced or deleted; elsewhere it does nothing.  Reads one small file.  Local.
 * Errors: SIM_E_CREATE, and only this one.
 */
SIM_MUST_USE sim_status sim_run_check(const sim_run *run);
/* True if sim_run_check fails; keeps the error message. */
bool sim_run_is_lost(const sim_run *run);
/* True if the run's lock has a holder that may still be running.  Local. */
bool sim_run_is_locked(const char *path);
/* Writes "RUN/name" to out.  Local. */
SIM_MUST_USE sim_status sim_run_path(const sim_run *run, const char *name, char *out,
                                     size_t out_bytes);
/* Keeps a file of the run directory that the program did not write, or that is damaged, before
 * the program writes a file of this name: renames it and logs a warning.
 *   problem  what is wrong with it, for the warning
 *   aside    its new path; may be NULL
 * Local. */
SIM_MUST_USE sim_status sim_run_set_aside(const char *path, const char *problem,
                                          char aside[PATH_MAX]);
/* A stop request is the file RUN/stop, empty or of the word "stop", created by `simile stop` and
 * polled by the job that holds the lock; any other file of this name is ignored and kept.
 * sim_run_open removes the request of an earlier job.  Local. */
SIM_MUST_USE sim_status sim_run_request_stop(const char *path);
bool sim_run_stop_requested(const sim_run *run);
void sim_run_stop_clear(const sim_run *run);

/*
 * Moves the checkpoints of steps >= `first`, and results that are named by these steps, to a new
 * directory RUN/abandoned-N.  On rank 0
 * its path is written to `directory`, "" if there was nothing to move.
 */
SIM_MUST_USE sim_status sim_run_abandon(const sim_comm *c, const sim_run *run,
                                        int64_t first, char *directory,
                                        size_t directory_bytes);

/* Step of the newest file in RUN/checkpoints according to the names, good or not; -1 if there is
 * none.  Local. */
int64_t sim_run_last_step(const char *run_path);

/* ---- writing ---- */

/* Upper bound for the bytes of the image of these sources, without part files.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_bytes(const sim_state_source *sources,
                                             size_t n_sources, size_t *n_bytes);

/*
 * Writes checkpoints/step-NNNNNNNNN.h5, `latest` and, if there is a best step, `best`, then deletes old
 * checkpoints by
 * `options` (never step 0, the newest, the only good one, or a file that is no checkpoint).  The status is equal on all
 * ranks.  An existing good file of the same step, identity, position and weights is kept
 * as it is; a corrupted file and one of another state of this run are replaced; anything else
 * at its path is kept under another name (sim_run_set_aside), a checkpoint of another run
 * together with its part files.
 * A sharded tensor above 256 MiB is stored in part files of 64 MiB, written before the
 * main file and listed in it.  All ranks write part files, so the run directory must be on
 * a file system shared by all of them.
 * Errors: SIM_E_IO, SIM_E_ACCESS, SIM_E_CREATE; older checkpoints are then intact, and no
 * temporary or part file is left.  A failure to update `latest` or to delete old
 * checkpoints is only a warning.
 */
SIM_MUST_USE sim_status sim_checkpoint_write(const sim_comm *c, const sim_run *run,
                                             const sim_checkpoint_options *options,
                                             const sim_checkpoint_head *head,
                                             const sim_state_source *sources,
                                             size_t n_sources);

/* ---- reading ---- */

typedef struct sim_checkpoint sim_checkpoint; /* a verified file in memory */

/*
 * Opens the newest good checkpoint of a run directory; the ranks verify its part files
 * together.  Every corrupted one is logged with the reason and skipped.  *out is NULL if
 * the run has no checkpoints.
 * Errors: SIM_E_DATA if files exist but none is good.  A file that cannot be read
 * (SIM_E_IO, SIM_E_ACCESS, no memory) or needs a newer simile (SIM_E_INSTALL) may be good,
 * so its error ends the search.
 */
SIM_MUST_USE sim_status sim_checkpoint_newest(const sim_comm *c, const char *run_path,
                                              sim_checkpoint **out);
/* Opens a checkpoint file, or the newest of a run directory.
 * Errors: SIM_E_INPUT, SIM_E_DATA; SIM_E_INSTALL if the file needs a newer simile. */
SIM_MUST_USE sim_status sim_checkpoint_open(const sim_comm *c, const char *path,
                                            sim_checkpoint **out);
void sim_checkpoint_close(sim_checkpoint **k);

/* Builds a checkpoint in memory, as if it had been read from `path`, from a source without sharded
 * tensors.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_build(const char *path,
                                             const sim_checkpoint_head *head,
                                             const sim_state_source *source,
                                             sim_checkpoint **out);
/* Sends a checkpoint that rank 0 has built to the other ranks, where *k is NULL.  Collective. */
SIM_MUST_USE sim_status sim_checkpoint_share(const sim_comm *c, sim_checkpoint **k);

/* How a checkpoint is related to a run. */
typedef enum {
    SIM_LINEAGE_OTHER,   /* no segment of its history is one of the run */
    SIM_LINEAGE_RELATED, /* both have a segment in common, but the run may lack the step */
    SIM_LINEAGE_STEP /* the run has the segment that wrote it, at least up to its step */
} sim_lineage;
/* of_run: JSON array of the segments of the run, also of those that it left.  Local. */
sim_lineage sim_checkpoint_lineage(const sim_checkpoint_head *head, const char *of_run);

const sim_checkpoint_head *sim_checkpoint_head_of(const sim_checkpoint *k); /* borrowed */
const char *sim_checkpoint_path(const sim_checkpoint *k);

/*
 * Loads the sources' tensors.  Name, type and dims must match, float32 values must be finite,
 * and values must be in the range of their tensor (sim_tensor.bounded).  An optional tensor may be absent.  Of a sharded tensor, this rank's rows are
 * loaded.  Local.
 * Errors: SIM_E_DATA naming file and tensor.
 */
SIM_MUST_USE sim_status sim_checkpoint_load(const sim_checkpoint *k,
                                            const sim_state_source *sources,
                                            size_t n_sources);

/*
 * Loads weights from any HDF5 file with matching tensor names (`--init`), with the checks of
 * sim_checkpoint_load.  A file with a trailer is a checkpoint and is verified as such.
 * The first convolution may be for images of another number of channels: see src/checkpoint/channels.c.
 * Tensors under /weights/encoder are required, others are optional; *n_missing is the number
 * of optional tensors that the file does not have; *preprocessing its text, which the caller
 * owns, or NULL.  Local.
 */
SIM_MUST_USE sim_status sim_weights_load(const char *path,
                                         const sim_state_source *sources,
                                         size_t n_sources, size_t *n_missing,
                                         char **preprocessing);

/* The same from an open checkpoint.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_load_weights(const sim_checkpoint *k,
                                                    const sim_state_source *sources,
                                                    size_t n_sources, size_t *n_missing);

/* XXH3-128 over name, dims and float32 bytes of all tensors below /weights, sorted by name;
 * sharded tensors are skipped.  Local. */
SIM_MUST_USE sim_status sim_weights_hash(const sim_state_source *sources,
                                         size_t n_sources, sim_hash *out);

/* ---- contents without the objects that wrote them ---- */

/* A tensor of an open checkpoint. */
typedef struct {
    const char
        *name; /* path, as "weights/encoder/conv1.weight"; borrowed during the visit */
    sim_type type;
    int n_dims;
    size_t dims[SIM_MAX_DIMS]; /* outermost first */
    char hash[33];             /* as recorded by the writer; "" if it has none */
    size_t n_parts;            /* part files; 0: it is stored in the main file */
} sim_stored_tensor;

/*
 * Calls `see` for every tensor: those in the main file in byte order of their names, then
 * those in part files.  Ends early with the status of `see` if it fails.  Reads no values,
 * except for the first part file of a tensor that has part files.  Local.
 * Errors: SIM_E_DATA naming file and tensor.
 */
SIM_MUST_USE sim_status
sim_checkpoint_visit(const sim_checkpoint *k,
                     sim_status (*see)(void *ctx, const sim_stored_tensor *t), void *ctx);

size_t sim_stored_tensor_rows(const sim_stored_tensor *t); /* dims[0]; 1 for a scalar */
size_t sim_stored_tensor_row_bytes(const sim_stored_tensor *t);

/*
 * Reads rows [row, row + n_rows) of a visited tensor, in its stored type and C order, to the
 * first n_rows * row_bytes bytes of `data`, which has data_bytes.  At most one part file is
 * in memory at a time.  Local.
 * Errors: SIM_E_DATA naming file and tensor, also if the rows exceed the tensor or `data`.
 */
SIM_MUST_USE sim_status sim_checkpoint_read(const sim_checkpoint *k,
                                            const sim_stored_tensor *t, size_t row,
                                            size_t n_rows, void *data, size_t data_bytes);

/* Adds step, epoch, samples, identity, fingerprint, weights_hash, preprocessing and tensors (name,
 * type, dims, hash, parts).  Local. */
SIM_MUST_USE sim_status sim_checkpoint_describe(const sim_checkpoint *k, sim_json *out);

/* For tests: sets the size in bytes above which a sharded tensor is stored in part files,
 * and the size of a part.  0 restores the default. */
void sim_checkpoint_part_bytes(size_t limit, size_t part);

#endif
