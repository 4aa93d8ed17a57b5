/*
 * checkpoint.h - named state to disk and back; the run directory and its lock.
 *
 * Module: checkpoint
 * A checkpoint is an HDF5 image built in memory, a 64-byte trailer with its XXH3-128, and
 * our own exclusive create, write, fsync, rename (DESIGN.md section 5).  Nothing is
 * parsed before the digest is verified.  It knows nobody's state: sources are visitors.
 * Functions are collective unless they say local; rank 0 touches the disk.
 */
#ifndef SIMILE_CHECKPOINT_H
#define SIMILE_CHECKPOINT_H

#include "simile/comm.h"
#include "simile/h5.h"
#include "simile/json.h"
#include "simile/tensor.h"

/* What everybody needs to know of a checkpoint before its tensors. */
typedef struct {
    int64_t step, epoch,
        samples;          /* updates done; epoch, and samples of this epoch done */
    const char *config;   /* resolved job (YAML) */
    const char *identity; /* sim_config_identity lines, and more */
    const char *history;  /* JSON array of segments */
    char fingerprint[33]; /* of the training set */
} sim_checkpoint_head;

/*
 * A source of state: visits its tensors in a fixed order, the same on all ranks, for
 * saving and loading.  It fails only where the visitor does, with the visitor's code: a
 * rank that left alone would leave the others in the middle of a shard.
 */
typedef struct {
    sim_status (*visit)(void *object, const sim_visitor *v);
    void *object;
} sim_state_source;

typedef struct {
    int64_t every_steps, every_epochs, keep, keep_every;
    int64_t max_failures; /* saves in a row that may fail; the caller's business */
    double every_minutes;
} sim_checkpoint_options;

/* ---- the run directory ---- */

typedef struct sim_run {
    char path[4096];
    bool locked;
    bool is_new, folder_is_new[2]; /* made by this start: it, checkpoints/, results/ */
} sim_run;

/*
 * Creates the directory (with checkpoints/, results/) and takes run.lock (host, pid, job
 * id, start).  A lock of a dead process on this host, or of a Slurm job that is gone, is
 * taken over with a line in the log; else SIM_E_CREATE naming the holder.  Cleans stale
 * temporaries: of the checkpoints all, of RUN those of dead processes of this host.
 */
SIM_MUST_USE sim_status sim_run_open(const sim_comm *c, const char *path, sim_run *run);
void sim_run_close(const sim_comm *c, sim_run *run);
/* Closes a run that came to nothing: of the folders that open made, the empty ones go. */
void sim_run_drop(const sim_comm *c, sim_run *run);
/* Does somebody hold the run who is not known to be gone?  Local. */
bool sim_run_is_locked(const char *path);
/* "RUN/name" into out. Local. */
SIM_MUST_USE sim_status sim_run_path(const sim_run *run, const char *name, char *out,
                                     size_t out_bytes);
/* `simile stop`: leaves the file that asks a running job to stop, from the moment it holds the
 * run; is it there?  Who takes a run clears what an earlier one left.  Local. */
SIM_MUST_USE sim_status sim_run_request_stop(const char *path);
bool sim_run_stop_requested(const sim_run *run);
void sim_run_stop_clear(const sim_run *run);

/*
 * Moves the checkpoints of steps from `first` on to RUN/abandoned-N, a new folder, whose path
 * rank 0 gets ("" when there was nothing to move); the newest is an older one then.
 */
SIM_MUST_USE sim_status sim_run_abandon(const sim_comm *c, const sim_run *run,
                                        int64_t first, char *folder, size_t folder_bytes);

/* ---- writing ---- */

/* Bytes of the image that the sources fill; part files are not in it.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_bytes(const sim_state_source *sources,
                                             size_t n_sources, size_t *n_bytes);

/*
 * Writes checkpoints/step-NNNNNNNNN.h5, then `latest`, then retires old ones by
 * `options` (never step 0, the newest, or the only good one).  All ranks learn the
 * outcome.  An existing good file of the same step, identity, position and weights is left
 * as it is; another one of that step is replaced.
 * A sharded tensor above 256 MiB goes to part files of 64 MiB, before the main file and
 * named in it: all ranks write, so all must see the run directory.
 * Fails: SIM_E_IO, SIM_E_ACCESS, SIM_E_CREATE, with everything older intact, and neither a
 * temporary nor a part left.  `latest` or retiring that fails is a warning only.
 */
SIM_MUST_USE sim_status sim_checkpoint_write(const sim_comm *c, const sim_run *run,
                                             const sim_checkpoint_options *options,
                                             const sim_checkpoint_head *head,
                                             const sim_state_source *sources,
                                             size_t n_sources);

/* ---- reading ---- */

typedef struct sim_checkpoint sim_checkpoint; /* verified, in memory */

/*
 * The newest good checkpoint of a run directory, its part files verified by all ranks
 * (every refused one is logged with the reason); *out is NULL when there is none at all.
 * Fails: SIM_E_DATA when files exist but none is good; what cannot be read (SIM_E_IO,
 * SIM_E_ACCESS, no memory) may be good, and ends the search.
 */
SIM_MUST_USE sim_status sim_checkpoint_newest(const sim_comm *c, const char *run_path,
                                              sim_checkpoint **out);
/* RUN directory (newest), or a checkpoint file.  Fails: SIM_E_INPUT, SIM_E_DATA. */
SIM_MUST_USE sim_status sim_checkpoint_open(const sim_comm *c, const char *path,
                                            sim_checkpoint **out);
void sim_checkpoint_close(sim_checkpoint **k);
const sim_checkpoint_head *sim_checkpoint_head_of(const sim_checkpoint *k); /* borrowed */
const char *sim_checkpoint_path(const sim_checkpoint *k);

/*
 * Fills the sources' tensors: name, type and dims must be equal, all floats finite, no
 * running variance negative.
 * A sharded tensor gets this rank's rows, from the file or from the parts that hold them.
 * Local.
 * Fails: SIM_E_DATA naming file and tensor.
 */
SIM_MUST_USE sim_status sim_checkpoint_load(const sim_checkpoint *k,
                                            const sim_state_source *sources,
                                            size_t n_sources);

/*
 * Fills from any HDF5 file with our names (`--init`), checked as sim_checkpoint_load does,
 * and verified by its digest where it has a checkpoint's trailer: tensors under
 * /weights/encoder are required, others are filled when present.  *n_missing counts the
 * others that were not.  Local.
 */
SIM_MUST_USE sim_status sim_weights_load(const char *path,
                                         const sim_state_source *sources,
                                         size_t n_sources, size_t *n_missing);

/* step, epoch, samples, identity, fingerprint, weights_hash, tensors.  Local. */
SIM_MUST_USE sim_status sim_checkpoint_describe(const sim_checkpoint *k, sim_json *out);
/* XXH3-128 over name, dims and float32 bytes of all /weights, sorted by name.  Local: what is
 * sharded is no weight, and is passed by. */
SIM_MUST_USE sim_status sim_weights_hash(const sim_state_source *sources,
                                         size_t n_sources, sim_hash *out);

/* Tests: bytes above which a sharded tensor goes to parts, and of a part; 0 restores. */
void sim_checkpoint_part_bytes(size_t limit, size_t part);

#endif
