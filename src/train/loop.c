/*
 * loop.c - the training loop: set up, run steps, stop.
 *
 * Before each step all ranks take the maximum of their local conditions: an error, a
 * signal, the stop file, the clock.  They stop, save and fail together, so no rank leaves a
 * collective sequence alone.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <string.h>

const sim_comm *sim_train_comm(const sim_train_state *t)
{
    return t->comm;
}

const sim_job *sim_train_job(const sim_train_state *t)
{
    return t->job;
}

const sim_method *sim_train_method(const sim_train_state *t)
{
    return &t->method;
}

const sim_schedule_plan *sim_train_plan(const sim_train_state *t)
{
    return &t->plan;
}

const sim_dataset *sim_train_data(const sim_train_state *t)
{
    return t->data;
}

int64_t sim_train_step(const sim_train_state *t)
{
    return t->at.step;
}

bool sim_train_epoch_ended(const sim_train_state *t, int64_t *epochs)
{
    *epochs = t->at.epoch;
    return t->at.samples == 0;
}

void sim_train_defer_error(sim_train_state *t, sim_status st)
{
    if (st == SIM_OK || t->pending != SIM_OK)
        return;
    t->pending = st;
    (void)snprintf(t->pending_message, sizeof t->pending_message, "%s",
                   sim_error_message());
}

static sim_status agree_pending(sim_train_state *t)
{
    if (t->pending != SIM_OK)
        sim_error_set(t->pending_message);
    return sim_comm_agree(t->comm, t->pending);
}

/* ---- set-up ---- */

/* All ranks must run the same build: another build may round differently. */
static sim_status check_same_build(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    char theirs[512] = "", mine[512] = "";

    (void)snprintf(mine, sizeof mine, "%s", t->request->build);
    memcpy(theirs, mine, sizeof theirs);
    sim_comm_broadcast(t->comm, 0, theirs, sizeof theirs);
    SIM_CHECK(
        strcmp(mine, theirs) == 0, SIM_E_CONFIG,
        "this rank runs build \"%s\", but rank 0 runs \"%s\"; start the same program on "
        "all nodes (see simile --version)",
        mine, theirs);
done:
    return sim_comm_agree(t->comm, st);
}

/* All ranks must read the same data and compute with the same arithmetic. */
static sim_status check_same_data(sim_train_state *t)
{
    sim_status st = SIM_OK;
    char theirs[64] = "", mine[64] = "";

    (void)snprintf(mine, sizeof mine, "%s %s", sim_dataset_about(t->data)->fingerprint,
                   t->request->arithmetic);
    memcpy(theirs, mine, sizeof theirs);
    sim_comm_broadcast(t->comm, 0, theirs, sizeof theirs);
    SIM_CHECK(strcmp(mine, theirs) == 0, SIM_E_DATA,
              "%s: fingerprint and arithmetic are \"%s\" here but \"%s\" on rank 0; all "
              "ranks must read the same file and run the same kernels",
              t->job->train.train, mine, theirs);
done:
    return sim_comm_agree(t->comm, st);
}

/* Threads that share a core wait for each other in every loop and are many times slower. */
static sim_status check_threads(void)
{
    sim_status st = SIM_OK;
    int threads = sim_threads(), cores = sim_cores_allowed();
    SIM_CHECK(
        threads <= cores, SIM_E_CONFIG,
        "threads: %d, but this rank may run on %d core%s; set threads=%d (or "
        "OMP_NUM_THREADS=%d), or allocate more cores: srun --cpus-per-task=%d, mpirun "
        "--map-by slot:PE=%d or --bind-to none",
        threads, cores, cores == 1 ? "" : "s", cores, cores, threads, threads);
done:
    return st;
}

static sim_status open_data(sim_train_state *t)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &t->job->train;

    sim_threads_set((int)o->threads);
    SIM_TRY(check_threads());
    SIM_TRY(sim_dataset_open(o->train, &t->data));
    const sim_dataset_info *about = sim_dataset_about(t->data);
    SIM_TRY(sim_job_check(t->job, about, (size_t)t->comm->size, &t->plan));
    SIM_TRY(sim_augment_create(&t->job->augment, about, about->mean, about->std,
                               &t->augment));
done:
    return st;
}

static sim_status count_bytes(void *ctx, const char *group, const sim_tensor *tensor)
{
    sim_snapshot *s = ctx;
    (void)group;
    s->n += sim_tensor_count(tensor) * sim_type_bytes(tensor->type);
    return SIM_OK;
}

static sim_status create_method(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_parameter *list = NULL;
    size_t n = 0;
    sim_method_env env = sim_job_env(t->job, &t->plan, sim_comm_partition(t->comm));
    const sim_visitor count = {.visit = count_bytes, .ctx = &t->buffers};

    env.comm = t->comm;
    SIM_TRY(sim_method_create(t->job->method, &env, &t->job->method_options, &t->method));
    SIM_TRY(sim_method_parameters(&t->method, &list, &n));
    SIM_TRY(sim_optimizer_create(&t->job->optimizer, list, n, &t->optimizer));
    SIM_TRY(sim_method_visit_forward_state(&t->method, &count));
    SIM_TRY(sim_alloc(&t->buffers.bytes, t->buffers.n, "train/snapshot"));
    size_t capacity = sim_comm_sum_leaves_capacity(
        sim_comm_partition(t->comm), t->method.n_blocks, t->method.gradient_floats);
    SIM_TRY(sim_alloc(&t->grads, capacity, "train/gradients"));
done:
    sim_free(list);
    return st;
}

static sim_status create_feed(sim_train_state *t)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_feed_create(t));
    SIM_TRY(sim_loader_create(t->data, t->augment, (uint32_t)t->job->train.seed,
                              (int)t->job->train.loader_threads, t->feed.n_images,
                              &t->loader));
done:
    return st;
}

static sim_status write_config(sim_train_state *t)
{
    sim_status st = SIM_OK;
    char path[4096];
    const sim_piece piece = {t->request->texts->resolved,
                             strlen(t->request->texts->resolved)};

    if (t->comm->rank != 0)
        goto done;
    SIM_TRY(sim_run_path(&t->run, "config.yaml", path, sizeof path));
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    return st;
}

static sim_status begin_observers(sim_train_state *t)
{
    const sim_observed_run run = {
        .path = t->run.path, .abandoned = t->abandoned, .step = t->at.step};
    return sim_stream_begin(t->request->stream, &run);
}

/* Allocates the planned scratch memory here, so that a step allocates nothing. */
static sim_status reserve_scratch(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_plan_row rows[64];
    size_t n = 0, checkpoint = 0;

    SIM_TRY(sim_summary_rows(t, rows, &n, &checkpoint));
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].item, "scratch") == 0)
            sim_scratch_reserve(rows[i].bytes / (size_t)sim_threads());
done:
    return st;
}

static sim_status set_up(sim_train_state *t)
{
    sim_status st = SIM_OK;
    const sim_comm *c = t->comm;

    if (t->job->train.hang_seconds > 0) /* until the watchdog runs */
        sim_comm_deadline_begin(
            t->job->train.hang_seconds,
            "not all ranks opened the data set and the run directory");
    SIM_TRY(check_same_build(t));
    SIM_TRY(sim_comm_agree(c, open_data(t)));
    SIM_TRY(check_same_data(t));
    SIM_TRY(sim_run_open(c, t->job->train.run, &t->run));
    SIM_TRY(sim_hang_watch(t));
    sim_comm_deadline_end();
    SIM_TRY(sim_comm_agree(c, sim_record_open(t)));
    SIM_TRY(sim_comm_agree(c, create_method(t)));
    SIM_TRY(sim_comm_agree(c, sim_replica_create(c, &t->replica)));
    SIM_TRY(sim_comm_agree(c, create_feed(t)));
    SIM_TRY(sim_comm_agree(c, reserve_scratch(t)));
    SIM_TRY(sim_header_gather(t));
    SIM_TRY(sim_resume_start(t)); /* an error here leaves the run unchanged */
    SIM_TRY(sim_comm_agree(c, write_config(t)));
    SIM_TRY(sim_comm_agree(c, sim_record_mark_discarded(t)));
    SIM_TRY(sim_comm_agree(c, sim_header_print(t)));
    SIM_TRY(sim_comm_agree(c, sim_hash_trace_open(t)));
    SIM_TRY(sim_comm_agree(c, begin_observers(t)));
done:
    return st;
}

/* Removes the files that a failed start created in the run directory. */
static void remove_new_files(sim_train_state *t)
{
    char path[4200];

    if (t->log_is_new && sim_run_path(&t->run, "log.txt", path, sizeof path) == SIM_OK) {
        SIM_IGNORE(sim_log_file(NULL));
        SIM_IGNORE(sim_file_remove(path));
    }
    if (t->beats_are_new &&
        sim_run_path(&t->run, "heartbeat", path, sizeof path) == SIM_OK)
        SIM_IGNORE(sim_directory_remove(path));
    sim_run_drop(t->comm, &t->run);
}

static void tear_down(sim_train_state *t)
{
    sim_comm_deadline_end();
    sim_watchdog_stop(&t->watchdog);
    sim_replica_destroy(&t->replica);
    sim_loader_destroy(&t->loader);
    sim_feed_destroy(t);
    sim_optimizer_destroy(&t->optimizer);
    if (t->method.self)
        sim_method_destroy(&t->method);
    sim_augment_destroy(&t->augment);
    sim_dataset_close(&t->data);
    sim_free(t->grads);
    sim_free(t->buffers.bytes);
    sim_free(t->history);
    sim_free(t->places);
    sim_comm_barrier(
        t->comm); /* all heartbeats are removed before the lock is released */
    if (t->comm->rank == 0 && !t->started)
        remove_new_files(t);
    sim_run_close(t->comm, &t->run);
}

/* ---- conditions that all ranks agree on ---- */

/* True if another step and a checkpoint may not finish before the limit. */
static bool time_is_up(const sim_train_state *t)
{
    double limit = t->request->time_limit_s;
    double need =
        1.5 * t->slowest_checkpoint_s + t->slowest_observers_s + 2 * t->step_s + 1;
    return limit > 0 && sim_clock_s() - t->start_s + need > limit;
}

static bool save_is_due(const sim_train_state *t)
{
    const sim_checkpoint_options *o = &t->job->train.checkpoint;
    if (t->at.step == t->last_saved)
        return false;
    if (o->every_steps > 0 && t->at.step % o->every_steps == 0)
        return true;
    if (o->every_epochs > 0 && t->at.samples == 0 && t->at.epoch % o->every_epochs == 0)
        return true;
    return t->comm->rank == 0 && o->every_minutes > 0 &&
           sim_clock_s() - t->last_checkpoint_s > 60 * o->every_minutes;
}

/* Conditions of a step, in the order of the exchanged array. */
enum { DUE_FAILURE, DUE_SIGNAL, DUE_FILE, DUE_TIME, DUE_SAVE, DUES };

/* The only exchange of conditions per step; sets t->why if the run must stop. */
static sim_status agree_on_conditions(sim_train_state *t, bool *save)
{
    sim_status st = SIM_OK;
    int64_t due[DUES] = {[DUE_FAILURE] = t->pending != SIM_OK,
                         [DUE_SIGNAL] = sim_signals_pending(),
                         [DUE_TIME] = time_is_up(t),
                         [DUE_SAVE] = save_is_due(t)};
    due[DUE_FILE] = t->comm->rank == 0 && sim_run_stop_requested(&t->run);
    sim_comm_max_i64(t->comm, due, DUES);
    if (due[DUE_FAILURE])
        SIM_TRY(agree_pending(t));
    *save = due[DUE_SAVE] != 0;
    if (t->request->stop_after >= 0 && t->at.step >= t->request->stop_after)
        t->why = "--stop-after";
    else if (due[DUE_SIGNAL])
        t->why = sim_signals_name((int)due[DUE_SIGNAL]);
    else if (due[DUE_FILE])
        t->why = "simile stop";
    else if (due[DUE_TIME])
        t->why = "time limit";
done:
    return st;
}

/* ---- the loop ---- */

static void train_step(sim_train_state *t, int slot)
{
    double start = sim_clock_s();
    sim_position next = sim_position_next(t, &t->at);

    if (next.step < t->plan.total_steps)
        sim_feed_post(t, &next, slot ^ 1);
    sim_step_run(t, slot);
    next.skipped = t->at.skipped;
    next.bad_run = t->at.bad_run;
    t->at = next;
    t->step_s = sim_clock_s() - start;
    int64_t held = (int64_t)sim_memory_bytes();
    t->held_bytes = held > t->held_bytes ? held : t->held_bytes;
    sim_metrics_publish(t);
}

static sim_status run_steps(sim_train_state *t)
{
    sim_status st = SIM_OK;
    bool save = false;

    t->interval_start_s = t->last_checkpoint_s = sim_clock_s();
    t->interval_start_step = t->healthy_step = t->at.step;
    if (t->at.step < t->plan.total_steps)
        sim_feed_post(t, &t->at, 0);
    for (int slot = 0; t->at.step < t->plan.total_steps; slot ^= 1) {
        double start = sim_clock_s();
        sim_heartbeat_step(t->at.step + 1);
        sim_heartbeat_phase("waiting for data");
        sim_train_defer_error(t, sim_loader_wait(t->loader));
        t->phase_s[SIM_PHASE_DATA] += sim_clock_s() - start;
        sim_heartbeat_phase("start of step");
        SIM_TRY(agree_on_conditions(t, &save));
        if (t->why)
            goto done;
        if (save)
            SIM_TRY(sim_resume_save_due(t));
        train_step(t, slot);
        if (sim_replica_is_due(t))
            SIM_TRY(sim_replica_check(t));
    }
    SIM_TRY(agree_pending(t));
done:
    return st;
}

/* Path of the checkpoint that was saved or loaded last. */
static void format_checkpoint_path(const sim_train_state *t, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s/checkpoints/step-%09lld.h5", t->run.path,
                   (long long)t->last_saved);
}

/* Writes the last checkpoint and the summary, and reports what to do next. */
static sim_status finish_run(sim_train_state *t)
{
    sim_status st = SIM_OK;
    const char *why = t->why ? t->why : "completed";
    char path[4200];

    if (t->last_saved != t->at.step)
        SIM_TRY(sim_resume_save_last(t, why));
    sim_heartbeat_phase("end of the run");
    sim_train_defer_error(t, sim_stream_end(t->request->stream));
    SIM_TRY(agree_pending(t));
    SIM_TRY(sim_comm_agree(t->comm, sim_hash_trace_close(t)));
    SIM_TRY(sim_summary_print(t, why));
    sim_history_end(t, why);
    sim_run_stop_clear(&t->run);
    format_checkpoint_path(t, path, sizeof path);
    if (!t->why) {
        sim_log("completed: step %lld of %lld, the checkpoint is %s; to train longer, "
                "increase "
                "schedule.%s and add --accept",
                (long long)t->at.step, (long long)t->plan.total_steps, path,
                t->job->schedule.steps ? "steps" : "epochs");
        goto done;
    }
    SIM_FAIL(SIM_E_AGAIN,
             "stopped by %s after step %lld of %lld; the checkpoint is %s; run the same "
             "command to resume (exit code 75)",
             why, (long long)t->at.step, (long long)t->plan.total_steps, path);
done:
    return st;
}

static void log_last_checkpoint(const sim_train_state *t)
{
    char path[4200];

    if (t->last_saved < 0) {
        sim_log(
            "failed before the first checkpoint; after fixing the error below, the same "
            "command starts from scratch");
        return;
    }
    format_checkpoint_path(t, path, sizeof path);
    sim_log("failed after step %lld of %lld; the last good checkpoint is %s; after "
            "fixing the "
            "error below, the same command resumes from step %lld",
            (long long)t->at.step, (long long)t->plan.total_steps, path,
            (long long)t->last_saved);
}

/* Reports a failure during training: the last step and the checkpoint to resume from. */
static void log_failure(sim_train_state *t)
{
    char why[160];

    if (!t->started) /* set on rank 0 only */
        return;
    log_last_checkpoint(t);
    (void)snprintf(why, sizeof why, "failed: %.*s",
                   (int)strcspn(sim_error_message(), "\n"), sim_error_message());
    sim_history_end(t, why);
}

sim_status sim_train(const sim_comm *c, const sim_train_request *request)
{
    sim_status st = SIM_OK;
    sim_train_state *t = NULL;

    SIM_TRY(sim_comm_agree(c, sim_new(&t, "train/state")));
    t->comm = c;
    t->request = request;
    t->job = request->job;
    t->start_s = sim_clock_s();
    t->trace_fd = -1;
    t->last_saved = -1;
    sim_metrics_begin(&t->interval);
    SIM_TRY(set_up(t));
    SIM_TRY(run_steps(t));
    SIM_TRY(finish_run(t));
done:
    if (t && st != SIM_OK && st != SIM_E_AGAIN)
        log_failure(t);
    if (t)
        tear_down(t);
    sim_signals_unwatch();
    sim_free(t);
    return st;
}
