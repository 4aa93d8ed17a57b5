/*
 * loop.c - the training loop: set up, run steps, stop.
 *
 * Before each step all ranks take the maximum of their local conditions: an error, a signal, the
 * stop file, the time limit, a due checkpoint. They stop, save and fail together, so that all
 * ranks execute the same sequence of collective calls.
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
    return t->env.comm;
}

const sim_job *sim_train_job(const sim_train_state *t)
{
    return t->env.job;
}

const sim_method *sim_train_method(const sim_train_state *t)
{
    return &t->learner.method;
}

const sim_preprocessing *sim_train_preprocessing(const sim_train_state *t)
{
    return &t->env.preprocessing;
}

const sim_schedule_plan *sim_train_plan(const sim_train_state *t)
{
    return &t->progress.plan;
}

const sim_dataset *sim_train_data(const sim_train_state *t)
{
    return t->env.data;
}

int64_t sim_train_step(const sim_train_state *t)
{
    return t->progress.at.step;
}

bool sim_train_epoch_ended(const sim_train_state *t, int64_t *epochs)
{
    *epochs = t->progress.at.epoch;
    return t->progress.at.samples == 0;
}

/* ---- set-up ---- */

/* Refuses more threads than cores: threads that share a core wait for each other in every loop
 * and are many times slower. */
static sim_status set_threads(int64_t n)
{
    sim_status st = SIM_OK;

    sim_threads_set((int)n);
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

/* Checks the job against its threads and data, and creates the augmentation. */
static sim_status open_data(sim_train_state *t)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &t->env.job->train;

    SIM_TRY(set_threads(o->threads));
    SIM_TRY(sim_job_open_train(t->env.job, &t->env.data));
    const sim_dataset_info *about = sim_dataset_about(t->env.data);
    SIM_TRY(
        sim_job_check(t->env.job, about, (size_t)t->env.comm->size, &t->progress.plan));
    t->env.preprocessing = sim_preprocessing_of((size_t)t->env.job->augment.size, about);
    SIM_TRY(sim_feed_augment(&t->env, &t->feed));
done:
    return st;
}

static sim_status count_bytes(void *ctx, const char *group, const sim_tensor *tensor)
{
    sim_snapshot *s = ctx;
    (void)group;
    s->n_bytes += sim_tensor_count(tensor) * sim_type_bytes(tensor->type);
    return SIM_OK;
}

static sim_status create_learner(const sim_train_env *env, const sim_schedule_plan *plan,
                                 sim_learner *l)
{
    sim_status st = SIM_OK;
    sim_parameter *list = NULL;
    size_t n = 0;
    sim_method_env method_env =
        sim_job_env(env->job, plan, sim_comm_partition(env->comm));
    const sim_visitor count = {.visit = count_bytes, .ctx = &l->snapshot};

    method_env.comm = env->comm;
    SIM_TRY(sim_method_create(env->job->method, &method_env, &env->job->method_options,
                              &l->method));
    SIM_TRY(sim_method_parameters(&l->method, &list, &n));
    SIM_TRY(sim_optimizer_create(&env->job->optimizer, list, n, &l->optimizer));
    SIM_TRY(sim_method_visit_forward_state(&l->method, &count));
    SIM_TRY(sim_alloc(&l->snapshot.bytes, l->snapshot.n_bytes, "train/snapshot"));
    SIM_TRY(
        sim_alloc(&l->grads,
                  sim_method_gradient_capacity(&l->method, sim_comm_partition(env->comm)),
                  "train/gradients"));
done:
    sim_free(list);
    return st;
}

/* The last step of the last published interval, or a lower bound for a checkpoint that does not store
 * it.  The interval in progress counts its updates only: steps that were skipped, or that only filled the
 * queue, are in neither count. */
static int64_t last_published(const sim_train_state *t)
{
    if (t->interval.published >= 0)
        return t->interval.published;
    const int64_t step = t->progress.at.step, every = t->env.job->train.log_every_steps,
                  counted =
                      step - (int64_t)t->interval.metrics.steps - t->progress.at.skipped,
                  regular = step / every * every;
    return counted < regular ? counted : regular;
}

static sim_status begin_observers(sim_train_state *t)
{
    t->interval.published = last_published(t);
    const sim_observed_run run = {.path = t->env.run.path,
                                  .abandoned = t->segment.abandoned,
                                  .is_fresh = t->segment.resumed[0] == '\0',
                                  .is_foreign = t->segment.is_foreign,
                                  .step = t->progress.at.step,
                                  .published = t->interval.published};
    return sim_stream_begin(t->env.request->stream, &run);
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
    const sim_comm *c = t->env.comm;

    /* Until the watchdog runs. */
    sim_comm_deadline_begin(
        t->env.job->train.hang_seconds,
        "the start hangs: not all ranks opened the data set and the run directory");
    SIM_TRY(sim_comm_agree(c, open_data(t)));
    SIM_TRY(sim_job_compare_data(c, t->env.data));
    SIM_TRY(sim_run_open(c, t->env.job->train.run, &t->env.run));
    SIM_TRY(sim_hang_watch(&t->env, &t->hang));
    sim_comm_deadline_end();
    SIM_TRY(sim_comm_agree(c, sim_run_log_open(&t->env, &t->log)));
    SIM_TRY(sim_comm_agree(c, create_learner(&t->env, &t->progress.plan, &t->learner)));
    SIM_TRY(sim_comm_agree(c, sim_replica_create(t, &t->replica)));
    SIM_TRY(sim_comm_agree(
        c, sim_feed_create(&t->env, &t->progress.plan, &t->learner.method, &t->feed)));
    SIM_TRY(sim_comm_agree(c, reserve_scratch(t)));
    SIM_TRY(sim_header_gather(t));
    SIM_TRY(sim_comm_agree(c, sim_run_check(&t->env.run)));
    SIM_TRY(sim_resume_start(t)); /* the first call that changes the run directory */
    if (t->is_complete)
        goto done;
    SIM_TRY(sim_comm_agree(c, sim_run_check(&t->env.run)));
    SIM_TRY(sim_comm_agree(c, sim_config_file_write(t)));
    SIM_TRY(sim_comm_agree(c, sim_run_log_mark_discarded(&t->env, t->progress.at.step)));
    SIM_TRY(sim_comm_agree(c, sim_header_print(t)));
    SIM_TRY(sim_comm_agree(
        c, sim_hash_trace_open(&t->env, &t->learner, t->progress.at.step, &t->trace)));
    SIM_TRY(sim_comm_agree(c, begin_observers(t)));
done:
    return st;
}

/* Removes the files that a failed start created in the run directory. */
static void remove_new_files(sim_train_state *t)
{
    char path[4200], message[4096];

    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    sim_run_log_remove(&t->env, &t->log);
    if (t->hang.directory_is_new &&
        sim_run_path(&t->env.run, "heartbeat", path, sizeof path) == SIM_OK)
        SIM_IGNORE(sim_directory_remove(path));
    sim_error_set(message);
    sim_run_drop(t->env.comm, &t->env.run);
}

static void tear_down(sim_train_state *t)
{
    /* After the watchdog. */
    sim_comm_deadline_begin(t->env.job->train.hang_seconds,
                            "the end of the run hangs: the run directory is not closed");
    sim_watchdog_stop(&t->hang.watchdog);
    sim_replica_destroy(&t->replica);
    sim_feed_destroy(&t->feed);
    sim_optimizer_destroy(&t->learner.optimizer);
    if (t->learner.method.self)
        sim_method_destroy(&t->learner.method);
    sim_dataset_close(&t->env.data);
    sim_free(t->learner.grads);
    sim_free(t->learner.snapshot.bytes);
    sim_free(t->segment.history);
    sim_free(t->segment.places);
    sim_comm_barrier(
        t->env.comm); /* all heartbeats are removed before the lock is released */
    if (t->env.comm->rank == 0 && !t->segment.is_recorded &&
        !sim_run_is_lost(&t->env.run))
        remove_new_files(t);
    sim_run_close(t->env.comm, &t->env.run);
    sim_comm_deadline_end();
}

/* ---- conditions that all ranks agree on ---- */

/* True if another step and a checkpoint might not finish before the limit, with a margin for a
 * checkpoint and a step slower than those measured. */
static bool time_is_up(const sim_train_state *t)
{
    double limit = t->env.request->time_limit_s;
    double needed_s = 1.5 * t->costs.slowest_checkpoint_s + t->costs.slowest_observers_s +
                      2 * t->costs.step_s + 1;
    return limit > 0 && sim_clock_s() - t->segment.start_s + needed_s > limit;
}

/* `every_minutes` is measured by the clock of rank 0. */
static bool save_is_due(const sim_train_state *t)
{
    const sim_checkpoint_options *o = &t->env.job->train.checkpoint;
    if (t->progress.at.step == t->saves.last_step)
        return false;
    if (t->progress.at.step == t->saves.best_step)
        return true;
    if (o->every_steps > 0 && t->progress.at.step % o->every_steps == 0)
        return true;
    if (o->every_epochs > 0 && t->progress.at.samples == 0 &&
        t->progress.at.epoch % o->every_epochs == 0)
        return true;
    return t->env.comm->rank == 0 && o->every_minutes > 0 &&
           sim_clock_s() - t->saves.last_s > 60 * o->every_minutes;
}

enum {
    CONDITION_FAILURE,
    CONDITION_SIGNAL, /* the number of the signal */
    CONDITION_STOP_FILE,
    CONDITION_TIME_LIMIT,
    CONDITION_SAVE,
    N_CONDITIONS
};

/* One exchange per step; sets t->stop_reason if the run must stop. */
static sim_status agree_on_conditions(sim_train_state *t, bool *save)
{
    sim_status st = SIM_OK;
    int64_t conditions[N_CONDITIONS] = {[CONDITION_FAILURE] =
                                            t->deferred.status != SIM_OK,
                                        [CONDITION_SIGNAL] = sim_signals_pending(),
                                        [CONDITION_TIME_LIMIT] = time_is_up(t),
                                        [CONDITION_SAVE] = save_is_due(t)};
    conditions[CONDITION_STOP_FILE] =
        t->env.comm->rank == 0 && sim_run_stop_requested(&t->env.run);
    sim_comm_max_i64(t->env.comm, conditions, N_CONDITIONS);
    if (conditions[CONDITION_FAILURE])
        SIM_TRY(sim_deferred_agree(&t->deferred, t->env.comm));
    *save = conditions[CONDITION_SAVE] != 0;
    if (t->env.request->stop_after >= 0 &&
        t->progress.at.step >= t->env.request->stop_after)
        t->stop_reason = "--stop-after";
    else if (conditions[CONDITION_SIGNAL])
        t->stop_reason = sim_signals_name((int)conditions[CONDITION_SIGNAL]);
    else if (conditions[CONDITION_STOP_FILE])
        t->stop_reason = "simile stop";
    else if (conditions[CONDITION_TIME_LIMIT])
        t->stop_reason = "time limit";
done:
    return st;
}

/* ---- the loop ---- */

/* Posts the views of the next step, then executes this one on the views in `buffer`. */
static void train_step(sim_train_state *t, int buffer)
{
    double start = sim_clock_s();
    sim_position next = sim_schedule_next(&t->progress);

    if (next.step < t->progress.plan.total_steps)
        sim_feed_post(&t->feed, &next, buffer ^ 1);
    sim_step_run(t, buffer);
    next.skipped = t->progress.at.skipped; /* counted by the step */
    next.skipped_in_a_row = t->progress.at.skipped_in_a_row;
    t->progress.at = next;
    t->costs.step_s = sim_clock_s() - start;
    int64_t held = (int64_t)sim_memory_bytes();
    t->costs.held_bytes = held > t->costs.held_bytes ? held : t->costs.held_bytes;
    sim_metrics_publish(t);
}

static sim_status run_steps(sim_train_state *t)
{
    sim_status st = SIM_OK;
    bool save = false;
    int64_t check_steps = t->env.job->train.check_steps;

    t->interval.start_s = t->saves.last_s = sim_clock_s();
    t->interval.start_step = t->progress.at.step;
    if (!t->collapse.is_collapsed)
        t->collapse.healthy_step = t->progress.at.step;
    if (t->progress.at.step < t->progress.plan.total_steps)
        sim_feed_post(&t->feed, &t->progress.at, 0);
    for (int buffer = 0; t->progress.at.step < t->progress.plan.total_steps;
         buffer ^= 1) {
        double start = sim_clock_s();
        sim_heartbeat_step(t->progress.at.step + 1);
        sim_heartbeat_phase("waiting for data");
        sim_defer_error(&t->deferred, sim_loader_wait(t->feed.loader));
        t->costs.phase_s[SIM_PHASE_DATA] += sim_clock_s() - start;
        sim_heartbeat_phase("start of step");
        SIM_TRY(agree_on_conditions(t, &save));
        if (t->stop_reason)
            goto done;
        if (save)
            SIM_TRY(sim_resume_save_due(t));
        train_step(t, buffer);
        if (check_steps > 0 && t->progress.at.step % check_steps == 0)
            SIM_TRY(sim_replica_check(t->replica, t->progress.at.step));
    }
    SIM_TRY(sim_deferred_agree(&t->deferred, t->env.comm));
done:
    return st;
}

/* Path of the checkpoint that was saved or loaded last. */
static void format_last_checkpoint(const sim_train_state *t, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s/checkpoints/step-%09lld.h5", t->env.run.path,
                   (long long)t->saves.last_step);
}

static void log_completion(const sim_train_state *t, const char *what)
{
    char path[4200];

    format_last_checkpoint(t, path, sizeof path);
    sim_log("%s: step %lld of %lld, the checkpoint is %s; to train longer, increase "
            "schedule.%s and add --accept",
            what, (long long)t->progress.at.step, (long long)t->progress.plan.total_steps,
            path, t->env.job->schedule.steps ? "steps" : "epochs");
}

/* A start that has nothing to train. */
static void log_earlier_completion(const sim_train_state *t)
{
    if (t->segment.changes.any)
        sim_log("accepted %s; no step is left, and the change is not recorded",
                t->segment.changes.text);
    log_completion(t, t->segment.changes.any ? "completed" : "already completed");
}

/* Writes the last checkpoint and the summary, and reports what to do next. */
static sim_status finish_run(sim_train_state *t)
{
    sim_status st = SIM_OK;
    const char *why = t->stop_reason ? t->stop_reason : "completed";
    char path[4200];

    if (t->saves.last_step != t->progress.at.step)
        SIM_TRY(sim_resume_save_last(t, why));
    sim_heartbeat_phase("end of the run");
    SIM_TRY(sim_comm_agree(t->env.comm, sim_run_check(&t->env.run)));
    sim_defer_error(&t->deferred, sim_stream_end(t->env.request->stream));
    SIM_TRY(sim_deferred_agree(&t->deferred, t->env.comm));
    SIM_TRY(sim_comm_agree(t->env.comm, sim_hash_trace_close(&t->trace)));
    SIM_TRY(sim_summary_print(t, why));
    sim_history_end(t, why);
    sim_run_stop_clear(&t->env.run);
    format_last_checkpoint(t, path, sizeof path);
    if (!t->stop_reason) {
        log_completion(t, "completed");
        goto done;
    }
    SIM_FAIL(SIM_E_AGAIN,
             "stopped by %s after step %lld of %lld; the checkpoint is %s; run the same "
             "command to resume (exit code 75)",
             why, (long long)t->progress.at.step, (long long)t->progress.plan.total_steps,
             path);
done:
    return st;
}

static void log_last_checkpoint(const sim_train_state *t)
{
    char path[4200];

    if (t->saves.last_step < 0) {
        sim_log("failed before the first checkpoint; after fixing the error below, the "
                "same command starts from scratch");
        return;
    }
    format_last_checkpoint(t, path, sizeof path);
    sim_log("failed after step %lld of %lld; the last good checkpoint is %s; after "
            "fixing the error below, the same command resumes from step %lld",
            (long long)t->progress.at.step, (long long)t->progress.plan.total_steps, path,
            (long long)t->saves.last_step);
}

/* Reports a failure during training: the last step and the checkpoint to resume from. */
static void log_failure(sim_train_state *t)
{
    char why[160];

    if (sim_run_is_lost(
            &t->env.run)) { /* the log and the checkpoints are of another job */
        SIM_IGNORE(sim_log_file(NULL));
        return;
    }
    if (!t->segment.is_recorded) /* set on rank 0 only */
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
    t->env.comm = c;
    t->env.request = request;
    t->env.job = request->job;
    t->segment.start_s = sim_clock_s();
    t->trace.fd = -1;
    t->progress.job = request->job;
    t->saves.last_step = -1;
    t->interval.published = -1;
    sim_metrics_begin(&t->interval.metrics);
    SIM_TRY(set_up(t));
    if (t->is_complete) {
        log_earlier_completion(t);
        goto done;
    }
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
