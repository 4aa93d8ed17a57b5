/*
 * state.h - private to train: the state of a run and the functions of its files.
 */
#ifndef SIMILE_TRAIN_STATE_H
#define SIMILE_TRAIN_STATE_H

#include "watchdog.h"

#include "simile/hash.h"
#include "simile/thread.h"
#include "simile/train.h"

#include <limits.h>
#include <stdatomic.h>

/* Position of the run in the data; saved in checkpoints. */
typedef struct {
    int64_t step;             /* steps done */
    int64_t epoch;            /* completed epochs: the index of the current one */
    int64_t samples;          /* images of this epoch that are done */
    int64_t skipped;          /* steps skipped because loss or gradient was not finite */
    int64_t skipped_in_a_row; /* the last ones; "bad_run" in checkpoints */
} sim_position;

/* What a step reports to the metrics. */
typedef struct {
    sim_loss_report report;
    double gradient_norm, lr;
    int64_t skipped; /* steps of the run so far */
    bool updated;    /* the step updated the weights */
} sim_step_values;

typedef enum {
    SIM_PHASE_DATA,
    SIM_PHASE_FORWARD,
    SIM_PHASE_LOSS,
    SIM_PHASE_BACKWARD,
    SIM_PHASE_SUM,
    SIM_PHASE_UPDATE,
    SIM_PHASE_CHECKPOINT,
    SIM_PHASE_OBSERVERS,
    SIM_PHASE_OTHER,
    SIM_PHASES
} sim_phase;

/* What a run is given: the request, the job, the data, the run directory. */
typedef struct {
    const sim_comm *comm;
    const sim_train_request *request;
    const sim_job *job;
    sim_run run;
    sim_dataset *data;
    sim_preprocessing preprocessing; /* of the model */
} sim_train_env;

/* The position and the schedule, in samples divided by the current batch. */
typedef struct {
    const sim_job *job;
    sim_schedule_plan plan;
    sim_position at;
    int64_t start_step;  /* of this segment */
    int64_t first_batch; /* batch that the run began with */
    int64_t seen;        /* samples used before this segment */
    double total;        /* length of the run, in steps of the current batch */
} sim_progress;

/* State that a forward pass changes, saved before a step to undo a skipped one. */
typedef struct {
    char *bytes;
    size_t n_bytes;
    size_t at; /* offset of the next tensor while they are copied */
} sim_snapshot;

/* What is trained. */
typedef struct {
    sim_method method;
    sim_optimizer *optimizer;
    float *grads; /* maximal nodes of this rank, then the sum */
    sim_snapshot snapshot;
} sim_learner;

/* Views of two steps: one being computed, one being loaded. */
typedef struct {
    const sim_job *job;
    const sim_method *method;
    const sim_dataset *data;
    sim_augment *augment;
    sim_loader *loader;
    float *x[2];               /* the parts, each [block][view][slot][h][w][c] */
    uint32_t *shuffle[2];      /* [batch] if a part is shuffled */
    int32_t *labels[2];        /* [batch] if the method needs them: sim_job_labels */
    sim_groups groups;         /* zeros unless views are of images of a group */
    sim_view_request *request; /* of one step */
    uint32_t *order;           /* permutation of `order_epoch` */
    sim_order_key *keys;       /* workspace of the sort */
    uint32_t *passes;          /* workspace of sim_order_mixture, if there are shares */
    int64_t order_epoch;       /* -1: none yet */
    size_t epoch_images;       /* of the plan */
    size_t n_images;           /* on this rank, all views */
} sim_feed;

/* The log interval in progress. */
typedef struct {
    sim_interval metrics;
    double start_s;
    double data_s, sum_s; /* phases of sim_costs at the start */
    int64_t start_step;
    int64_t
        published; /* last step of the last published interval, of any segment; -1: unknown */
    double checked_s; /* when the lock of the run was read */
    bool is_lost;     /* the run has another holder now: nothing is written any more */
} sim_log_interval;

/* Measured time and memory. */
typedef struct {
    double phase_s[SIM_PHASES];
    double step_s; /* of the last step */
    double slowest_checkpoint_s, slowest_observers_s;
    int64_t held_bytes; /* maximum over steps of sim_memory_bytes after the step */
} sim_costs;

typedef struct {
    int64_t last_step; /* of the last checkpoint saved or loaded; -1: none yet */
    int64_t n_failed;  /* failures in a row of due checkpoints */
    int64_t best_step; /* of the largest score so far, best_score; 0: none yet */
    double best_score;
    double last_s;
} sim_saves;

/* What the schedule sets for a step. */
typedef struct {
    double rate;     /* learning rate */
    double momentum; /* of the momentum encoder; 0: not scheduled */
} sim_scheduled;

/* Differences from the checkpoint that --accept permitted. */
typedef struct {
    bool any, data;
    int64_t batch, epochs, steps; /* of the checkpoint */
    double lr;                    /* its optimizer.lr */
    int64_t images;               /* of its training set; 0: unknown */
    sim_position before;          /* its position, before it is rounded to the batch */
    /* The last step, the step that the checkpoint's schedule would continue with, and the next
     * step.  Set if there is a last step; the first two are NaN if `images` is needed but
     * unknown. */
    sim_scheduled last, unchanged, next;
    char text[1024]; /* "batch 256 -> 512, ..."; for the history with its consequences */
} sim_changes;

/* Host, cores and planned memory of a rank, for header and history. */
typedef struct {
    char host[64];
    bool is_first;   /* of its host */
    int64_t cores;   /* it may run on */
    int64_t offered; /* sim_cores_of_launcher */
    uint64_t mask[SIM_CORE_WORDS];
    int64_t planned, transient; /* bytes held from step to step; transient */
} sim_place;

/* The current segment, and what is known of earlier ones. */
typedef struct {
    char id[48];
    double start_s;
    double earlier_s;     /* duration of earlier segments, up to their last checkpoints */
    int64_t saved_batch;  /* before this segment */
    int64_t saved_images; /* of the training set before this segment; 0: unknown */
    size_t n_earlier;     /* segments that led to the checkpoint */
    bool is_uniform;      /* all of them had the batch and the images of the last */
    char *history;        /* JSON array of earlier segments */
    bool is_recorded;     /* in segments.json */
    bool is_foreign;      /* continues a checkpoint in another directory */
    /* Hash of the job in the checkpoint that it resumes from; or zero. */
    sim_hash saved_config;
    sim_place *places; /* [ranks], on rank 0 */
    size_t n_nodes;    /* different hosts among them */
    sim_changes changes;
    char resumed[4200];   /* checkpoint that it resumes from; or "" */
    char abandoned[4200]; /* directory of the checkpoints of the branch it left; or "" */
} sim_segment;

/* The first local failure since the last agreement. */
typedef struct {
    sim_status status;
    char message[1024];
} sim_deferred;

/* Guard against collapsed embeddings. */
typedef struct {
    int64_t is_collapsed; /* 1 if the last interval was, otherwise 0 */
    int64_t healthy_step; /* end of the last interval that was not */
} sim_collapse_guard;

/* Guard against hangs; the watchdog calls it in its threads. */
typedef struct {
    const sim_run *run;
    double limit_s;        /* guard.hang_seconds */
    bool directory_is_new; /* heartbeat/ was created by this start */
    atomic_bool is_logged; /* the reason for the end of the job */
    sim_watchdog *watchdog;
} sim_hang_guard;

/* trace-hash.txt; nothing is written unless it is enabled. */
typedef struct {
    const sim_comm *comm;
    const sim_learner *learner;
    bool is_enabled;
    int fd; /* on rank 0 */
    char path[4096];
} sim_hash_trace;

typedef struct sim_replica sim_replica; /* replica.c */

/* log.txt of the run; set on rank 0. */
typedef struct {
    bool is_new; /* created by this start */
    char renamed
        [PATH_MAX]; /* new path of a file of another program that had its name; or "" */
} sim_run_log;

struct sim_train_state {
    sim_train_env env;
    sim_progress progress;
    sim_learner learner;
    sim_feed feed;
    sim_log_interval interval;
    sim_costs costs;
    sim_saves saves;
    sim_segment segment;
    sim_deferred deferred;
    sim_collapse_guard collapse;
    sim_hang_guard hang;
    sim_replica *replica;
    sim_hash_trace trace;
    bool is_complete; /* the checkpoint is that of the last step: nothing to do */
    sim_run_log log;
    const char *stop_reason; /* NULL: not stopped */
};

/* deferred.c: keeps a local failure for the next agreement, so that all ranks execute
 * the same sequence of collective calls. */
void sim_defer_error(sim_deferred *d, sim_status st);
/* Collective; the error of the lowest rank that has one. */
SIM_MUST_USE sim_status sim_deferred_agree(const sim_deferred *d, const sim_comm *c);

/* feed.c: the samples of a step */
SIM_MUST_USE sim_status sim_feed_augment(const sim_train_env *env, sim_feed *f);
SIM_MUST_USE sim_status sim_feed_create(const sim_train_env *env,
                                        const sim_schedule_plan *plan,
                                        const sim_method *method, sim_feed *f);
void sim_feed_destroy(sim_feed *f);
/* Posts the step at (epoch, samples) into x[buffer]. */
void sim_feed_post(sim_feed *f, const sim_position *at, int buffer);

/* step.c: one step.  Failures are deferred: too many skipped steps (SIM_E_BUG, on all ranks
 * alike), and those of the hash trace. */
void sim_step_run(sim_train_state *t, int buffer);

/* metrics.c: the metrics of steps */
void sim_metrics_begin(sim_interval *interval);
void sim_metrics_add(sim_interval *interval, const sim_step_values *s);
/* Visits the interval, by name (sim_interval_visit). */
SIM_MUST_USE sim_status sim_metrics_visit(void *interval, const sim_visitor *v);
/* Loads the interval of a checkpoint of version 0.1.0, which stored an array. */
SIM_MUST_USE sim_status sim_metrics_visit_array(void *interval, const sim_visitor *v);
/* Publishes the step, runs the callbacks, and ends the log interval if it is due. */
void sim_metrics_publish(sim_train_state *t);

/* resume.c: what state there is to start from, and saving it.  `start` sets t->is_complete. */
SIM_MUST_USE sim_status sim_resume_start(sim_train_state *t);
SIM_MUST_USE sim_status sim_resume_save(sim_train_state *t, const char *why);
/* One that is due: it may fail checkpoint.max_failures times in a row, with a warning. */
SIM_MUST_USE sim_status sim_resume_save_due(sim_train_state *t);
SIM_MUST_USE sim_status sim_resume_save_last(sim_train_state *t, const char *why);
size_t sim_resume_sources(sim_train_state *t, sim_state_source out[4]);

/* schedule.c: the schedule in samples.  `begin` runs once the position is known and sets the
 * last step (plan.total_steps).  `resplit` rounds the position after an accepted change down
 * to the current batch. */
double sim_schedule_steps_done(const sim_progress *p); /* steps of the current batch */
double sim_schedule_rate(const sim_progress *p); /* learning rate of the next step */
/* What the schedule sets for the step that is `ahead` steps after the next one. */
sim_scheduled sim_schedule_at(const sim_progress *p, int ahead);
/* Sets `last`, `unchanged` and `next` of the changes, by the schedules of checkpoint and job. */
SIM_MUST_USE sim_status sim_schedule_compare(const sim_progress *p, sim_changes *c);
void sim_schedule_begin(sim_progress *p);
/* After `begin`: an accepted length of the run must not be below the position.
 * Errors: SIM_E_CONFIG. */
SIM_MUST_USE sim_status sim_schedule_check_length(const sim_progress *p,
                                                  const sim_changes *c);
void sim_schedule_resplit(sim_progress *p, bool data_changed);
/* The position one step later. */
sim_position sim_schedule_next(const sim_progress *p);

/* identity.c: the identity of the job with arithmetic and fingerprint; the caller's. */
SIM_MUST_USE sim_status sim_identity_text(const sim_train_env *env, char **out);
typedef struct {
    const char *ours;      /* sim_identity_text */
    const char *before;    /* sim_job_texts.identity_before */
    const char *accept;    /* keys that may differ, separated by commas; or "" */
    const char *data_path; /* data.train, for messages */
} sim_identity;
/*
 * Compares the identity of the job with that of the checkpoint `path`.  The caller
 * initializes `out` with the job's batch, length and lr; accepted differences are added.
 * Errors: SIM_E_DATA if only the data differ, else SIM_E_CONFIG.
 */
SIM_MUST_USE sim_status sim_identity_compare(const sim_identity *job, const char *saved,
                                             const char *path, sim_changes *out);

/* hash_trace.c: hashes by step and stage */
/* Removes the lines after `step`. */
SIM_MUST_USE sim_status sim_hash_trace_open(const sim_train_env *env,
                                            const sim_learner *learner, int64_t step,
                                            sim_hash_trace *out);
SIM_MUST_USE sim_status sim_hash_trace_close(sim_hash_trace *h);
/* x: the views of this rank */
SIM_MUST_USE sim_status sim_hash_trace_input(const sim_hash_trace *h, int64_t step,
                                             const float *x);
SIM_MUST_USE sim_status sim_hash_trace_loss(const sim_hash_trace *h, int64_t step,
                                            double loss);
SIM_MUST_USE sim_status sim_hash_trace_update(const sim_hash_trace *h, int64_t step);

/* replica.c: do all ranks hold the same state?  `check` is collective; nothing is done twice
 * at a step.  Errors: SIM_E_BUG on all ranks alike, naming the ranks that differ. */
/* `t` is borrowed until the end. */
SIM_MUST_USE sim_status sim_replica_create(const sim_train_state *t, sim_replica **out);
void sim_replica_destroy(sim_replica **out);
SIM_MUST_USE sim_status sim_replica_check(sim_replica *r, int64_t step);

/* collapse.c: checks the embedding standard deviation of an interval.  Errors: SIM_E_BUG, on all
 * ranks alike. */
SIM_MUST_USE sim_status sim_collapse_check(sim_collapse_guard *g, const sim_progress *p,
                                           const sim_embeddings *z, double embedding_std);

/* hang.c: watches for a hang from now on, until g->watchdog is stopped.  Collective. */
SIM_MUST_USE sim_status sim_hang_watch(const sim_train_env *env, sim_hang_guard *g);

/* signals.c: requests to stop, after sim_train_watch_signals was called */
void sim_signals_unwatch(void);
/* Blocks or unblocks the signals in the calling thread and those that it starts. */
void sim_signals_hold(bool held);
/* Whether a second TERM ends the process, if it made no progress since the first: on rank 0, which
 * writes the checkpoints.  Other ranks may wait for it. */
void sim_signals_end_at_second_term(bool ends);
int sim_signals_pending(void); /* the signal's number, or 0 */
const char *sim_signals_name(int number);

/* config_file.c: the resolved job, to RUN/config.yaml unless that is a file of the user */
SIM_MUST_USE sim_status sim_config_file_write(const sim_train_state *t);

/*
 * branch.c: `--resume FILE`.
 * Checks that the run has no checkpoints, or that the given one is a step of it or of a branch that
 * it left.  Collective.  Errors: SIM_E_CREATE.
 */
SIM_MUST_USE sim_status sim_branch_check(const sim_train_env *env,
                                         const sim_checkpoint *k);
/*
 * Makes the given checkpoint the newest of this run: later checkpoints move to RUN/abandoned-N.
 * *foreign is set if it is stored in another directory; the caller then saves it here at once, so
 * that the next `auto` continues this branch.  Collective.
 */
SIM_MUST_USE sim_status sim_branch_start(sim_train_state *t, const sim_checkpoint *k,
                                         bool *foreign);

/*
 * resume_check.c: whether the scalars of a checkpoint agree with each other, the job and the data.
 * A digest only shows that a file is as it was written.  Local.  Errors: SIM_E_DATA naming the
 * file `path`, the scalar, its value and what was expected.
 */
/* The position, before state is loaded; s: its history and the accepted changes. */
SIM_MUST_USE sim_status sim_resume_check_position(const sim_progress *p,
                                                  const sim_segment *s, const char *path);
/* The loaded state: counters against the position, the queue, trained scalars. */
SIM_MUST_USE sim_status sim_resume_check_state(const sim_train_state *t,
                                               const char *path);

/* history.c: the segments of a run, in checkpoints and in RUN/segments.json */
/*
 * Takes the history of a checkpoint (NULL for a fresh run), and counts the samples used.
 * Errors: SIM_E_DATA naming the file `path` if it is not a history that leads to the step.
 */
SIM_MUST_USE sim_status sim_history_load(const sim_checkpoint_head *head,
                                         const char *path, sim_segment *s,
                                         sim_progress *p);
/* The first step of an earlier start of this Slurm job in this run; -1: there was none. */
SIM_MUST_USE sim_status sim_history_requeued(const char *run_path, int64_t *from_step);
/* Adds the segments that only RUN/segments.json has, and records the start of this one. */
SIM_MUST_USE sim_status sim_history_begin(sim_train_state *t);
/* Records how this one ended; a failure is only logged. */
void sim_history_end(sim_train_state *t, const char *why);
SIM_MUST_USE sim_status sim_history_text(const sim_train_state *t, const char *why,
                                         char **json);

/* run_log.c: log.txt of the run.  `open` appends to it; `remove` undoes `open` after a start that
 * failed; `mark_discarded` marks the lines of steps after `step`, which are recomputed. */
SIM_MUST_USE sim_status sim_run_log_open(const sim_train_env *env, sim_run_log *out);
void sim_run_log_remove(const sim_train_env *env, const sim_run_log *log);
SIM_MUST_USE sim_status sim_run_log_mark_discarded(const sim_train_env *env,
                                                   int64_t step);

/* header.c: the header of the log.  `gather` is collective, and comes first. */
SIM_MUST_USE sim_status sim_header_gather(sim_train_state *t);
SIM_MUST_USE sim_status sim_header_print(sim_train_state *t);

/* summary.c: what the segment cost; to the log and to results/pretrain.json.  Collective. */
SIM_MUST_USE sim_status sim_summary_print(sim_train_state *t, const char *why);
/* The plan of this rank by item, from sim_job_memory. */
SIM_MUST_USE sim_status sim_summary_rows(const sim_train_state *t, sim_plan_row rows[64],
                                         size_t *n, size_t *checkpoint);
/* Bytes planned on this rank: held from step to step, and transient. */
SIM_MUST_USE sim_status sim_summary_planned(const sim_train_state *t, int64_t *planned,
                                            int64_t *transient);

#endif
