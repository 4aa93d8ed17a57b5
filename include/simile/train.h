/*
 * train.h - the training step and loop: limits, signals, guards.
 *
 * Module: train
 * Publishes metrics to a stream (observe.h) and does not depend on its observers.
 */
#ifndef SIMILE_TRAIN_H
#define SIMILE_TRAIN_H

#include "simile/job.h"
#include "simile/json.h"
#include "simile/observe.h"

#include <stdint.h>

/* ---- callbacks ---- */

typedef struct sim_train_state sim_train_state; /* read-only for callbacks */

/*
 * Evaluates the networks in training and publishes results.  `after_step` is called on every
 * rank after every step, and may be collective.  A failure ends the run.
 */
typedef struct {
    void *ctx;
    sim_status (*after_step)(void *ctx, const sim_train_state *t, sim_stream *stream);
    /* The value that after_step computed by which checkpoints are compared, the same on all ranks; NaN
     * if it computed none.  May be NULL. */
    double (*score)(const void *ctx);
} sim_train_callback;

/* For callbacks: what is being trained. */
const sim_comm *sim_train_comm(const sim_train_state *t);
const sim_job *sim_train_job(const sim_train_state *t);
const sim_method *sim_train_method(const sim_train_state *t);
const sim_schedule_plan *sim_train_plan(const sim_train_state *t);
const sim_dataset *sim_train_data(const sim_train_state *t);
const sim_preprocessing *sim_train_preprocessing(const sim_train_state *t);
int64_t sim_train_step(const sim_train_state *t); /* updates done */
/* Duration of the run: of this segment, and of the earlier ones up to the checkpoint that each
 * was continued from. */
double sim_train_elapsed_s(const sim_train_state *t);
/* True if the last step ended an epoch.  epochs: completed. */
bool sim_train_epoch_ended(const sim_train_state *t, int64_t *epochs);

/* ---- the run ---- */

typedef enum { SIM_RESUME_AUTO, SIM_RESUME_NEVER, SIM_RESUME_FILE } sim_resume;

typedef struct {
    const sim_job *job;
    const sim_job_texts *texts; /* of sim_job_load */
    const char *job_path;       /* the job file, which the run never replaces; or NULL */
    const char *build;          /* text of --version, for the header and history */
    const char *kernels,
        *arithmetic; /* names of the kernels, already selected and checked */
    sim_resume resume;
    const char *resume_file, *init; /* or NULL */
    const char *accept;          /* keys of sim_accept_keys, separated by commas; or "" */
    double time_limit_s;         /* the run stops before it; 0: none */
    const char *time_limit_text; /* as given, for messages */
    double job_left_s;           /* until Slurm ends the job; 0: unknown */
    int64_t last_logged;         /* step of the run's last metrics; -1: none */
    int64_t stop_after;          /* -1: none */
    bool trace_hash;
    sim_stream *stream; /* receives the metrics */
    const sim_train_callback *callbacks;
    size_t n_callbacks;
    /* For the memory plan: bytes that callbacks hold, and their transient peak in addition. */
    size_t callback_bytes, callback_peak_bytes;
    sim_workspace_size callback_workspace; /* of the kernels, shared with training */
} sim_train_request;

/*
 * Makes USR1, TERM and INT requests to stop, which sim_train reads.  To be called first in a
 * program: a signal that arrives while MPI starts would otherwise end the process.  When
 * sim_train returns, these signals are ignored.
 */
void sim_train_watch_signals(void);

/*
 * Trains until the schedule ends (SIM_OK), or stops with a checkpoint (SIM_E_AGAIN), or
 * fails; all ranks return the same code.  Collective.
 */
SIM_MUST_USE sim_status sim_train(const sim_comm *c, const sim_train_request *request);

/* ---- accepted changes and the history of a run ---- */

/* Identity keys that `accept` may name: "batch|..." */
extern const char sim_accept_keys[];

/* Reads RUN/segments.json, the segments that were started, as a JSON array; "[]" if there is no
 * such file.  The caller frees *json.  Local. */
SIM_MUST_USE sim_status sim_history_of_run(const char *run_path, char **json);
/*
 * Merges the segments of a checkpoint with those that only segments.json contains.  A segment
 * without a recorded end is "killed or lost", or "running" if it is the newest and the lock of
 * the run is held (is_held).  The newest gets the key `last_step` if that is beyond its to_step.
 *   out  an array; segments are appended as objects
 * Local.
 */
SIM_MUST_USE sim_status sim_history_merge(const char *of_checkpoint, const char *of_run,
                                          int64_t last_step, bool is_held, sim_json *out);

/* ---- speed of a step, for bench ---- */

/* Seconds of a step by part, which follow each other. */
typedef struct {
    double encoder; /* forward and backward */
    double forward; /* the forward pass alone, with its all-gathers */
    double loss;
    double
        gather; /* all-gathers within both, waiting and merging included; 0 with one rank */
    double sum; /* of the gradient over ranks */
    double update;
} sim_step_parts;

typedef struct {
    double best_s, median_s, worst_s;
    size_t images;        /* per step, global */
    size_t views;         /* per image */
    double multiply_adds; /* of a forward pass of one view through the trained networks */
    sim_step_parts parts; /* on this rank; of each part, the least of all steps */
    size_t gradient_floats;
    sim_comm_traffic traffic; /* of this rank, per step */
} sim_step_speed;
/* Times `steps` steps of the job on generated views of h x w x channels.  The multiply-adds are
 * those of a method whose networks all process views, one row per view; `views` and `multiply_adds` leave
 * out small views, which may be NULL.  Collective. */
SIM_MUST_USE sim_status sim_train_measure(const sim_comm *c, const sim_job *job, size_t h,
                                          size_t w, size_t channels,
                                          const sim_small_views *small, int steps,
                                          sim_step_speed *out);

#endif
