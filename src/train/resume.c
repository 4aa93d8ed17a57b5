/*
 * resume.c - loads the state that a run starts from, and saves checkpoints.
 *
 * A run starts from fresh weights, from a weights file, or from the newest good checkpoint
 * whose identity equals the job's or differs only in accepted keys (identity.c).
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static sim_status visit_method(void *object, const sim_visitor *v)
{
    sim_train_state *t = object;
    return t->method.row->visit(t->method.self, v);
}

static sim_status visit_optimizer(void *object, const sim_visitor *v)
{
    sim_train_state *t = object;
    return sim_optimizer_visit(t->optimizer, v);
}

/* Counters of the guard and metrics of the current log interval. */
static sim_status visit_counters(void *object, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    sim_train_state *t = object;

    SIM_TRY(sim_visit_i64(v, "train", "skipped", &t->at.skipped));
    SIM_TRY(sim_visit_i64(v, "train", "bad_run", &t->at.bad_run));
    SIM_TRY(sim_metrics_visit(&t->interval, v));
done:
    return st;
}

size_t sim_resume_sources(sim_train_state *t, sim_state_source out[4])
{
    out[0] = (sim_state_source){visit_method, t};
    out[1] = (sim_state_source){visit_optimizer, t};
    out[2] = (sim_state_source){visit_counters, t};
    return 3;
}

/* Appends step, learning rate and position to the text of accepted changes. */
static void describe_changes(sim_train_state *t, const sim_position *before)
{
    sim_changes *c = &t->changes;
    sim_optimizer_options old = t->job->optimizer;
    size_t used = strlen(c->text);

    old.lr = c->lr;
    double from = sim_learning_rate(&old, (size_t)c->batch);
    int n = snprintf(c->text + used, sizeof c->text - used,
                     " at step %lld, learning rate %g", (long long)t->at.step, from);
    used += n > 0 ? (size_t)n : 0;
    if (used < sizeof c->text && from != t->plan.learning_rate) {
        n = snprintf(c->text + used, sizeof c->text - used, " -> %g",
                     t->plan.learning_rate);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < sizeof c->text &&
        (before->epoch != t->at.epoch || before->samples != t->at.samples))
        (void)snprintf(c->text + used, sizeof c->text - used,
                       ", position epoch %lld image %lld -> epoch %lld image %lld",
                       (long long)before->epoch, (long long)before->samples,
                       (long long)t->at.epoch, (long long)t->at.samples);
}

static void set_position(sim_train_state *t, const sim_checkpoint_head *head)
{
    t->at.step = t->start_step = head->step;
    t->at.epoch = head->epoch;
    t->at.samples = head->samples;
    const sim_position before = t->at;
    if (!t->changes.any)
        return;
    sim_schedule_resplit(t);
    describe_changes(t, &before);
}

static sim_status compare_identity(sim_train_state *t, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    const sim_train_request *r = t->request;
    char *ours = NULL;

    SIM_TRY(sim_identity_text(t, &ours));
    const sim_identity job = {.ours = ours,
                              .before = r->texts->identity_before,
                              .accept = r->accept ? r->accept : "",
                              .data_path = t->job->train.train};
    t->changes = (sim_changes){.batch = t->job->train.batch, .lr = t->job->optimizer.lr};
    SIM_TRY(sim_identity_compare(&job, sim_checkpoint_head_of(k)->identity,
                                 sim_checkpoint_path(k), &t->changes));
done:
    sim_free(ours);
    return st;
}

static sim_status load_checkpoint(sim_train_state *t, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    sim_state_source sources[4];
    const sim_checkpoint_head *head = sim_checkpoint_head_of(k);
    size_t n = sim_resume_sources(t, sources);

    sources[n++] = (sim_state_source){sim_metrics_visit_array, &t->interval};
    SIM_TRY(compare_identity(t, k));
    SIM_TRY(sim_checkpoint_load(k, sources, n));
    set_position(t, head);
    SIM_TRY(sim_history_load(t, head->history));
    (void)snprintf(t->resumed, sizeof t->resumed, "%s", sim_checkpoint_path(k));
done:
    return st;
}

/* The file of --init; for a run directory, its newest checkpoint. */
static sim_status find_init(const sim_train_state *t, char *path, size_t path_bytes)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    int64_t is_directory = t->comm->rank == 0 && sim_path_is_directory(t->request->init);

    sim_comm_max_i64(t->comm, &is_directory, 1);
    if (is_directory)
        SIM_TRY(sim_checkpoint_open(t->comm, t->request->init, &k));
    (void)snprintf(path, path_bytes, "%s", k ? sim_checkpoint_path(k) : t->request->init);
done:
    sim_checkpoint_close(&k);
    return st;
}

/* Without a checkpoint: fresh weights, or those of --init. */
static sim_status load_init(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_state_source source = {visit_method, t};
    size_t missing = 0;
    char path[4200];

    if (t->request->init) /* first, because it is collective */
        SIM_TRY(find_init(t, path, sizeof path));
    SIM_TRY(sim_history_load(t, ""));
    if (!t->request->init)
        goto done;
    SIM_TRY(sim_weights_load(path, &source, 1, &missing));
    sim_log("initial weights from %s", path);
    if (missing)
        sim_log("%zu tensors other than the encoder are not in it and keep their random "
                "values",
                missing);
done:
    return st;
}

/* A requeued Slurm job whose earlier start already applied --resume resumes as `auto`.
 * *k stays NULL if that start saved nothing. */
static sim_status find_requeued(sim_train_state *t, sim_checkpoint **k)
{
    sim_status st = SIM_OK;
    int64_t from = -1;

    st = t->comm->rank == 0 ? sim_history_requeued(t, &from) : SIM_OK;
    SIM_TRY(sim_comm_agree(t->comm, st));
    sim_comm_max_i64(t->comm, &from, 1);
    if (from < 0)
        goto done;
    SIM_TRY(sim_checkpoint_newest(t->comm, t->run.path, k));
    if (*k && sim_checkpoint_head_of(*k)->step >= from)
        sim_log("requeued: this job already applied --resume, so it resumes as auto");
    else
        sim_checkpoint_close(k);
done:
    return st;
}

static sim_status find_checkpoint(sim_train_state *t, sim_checkpoint **k, bool *is_branch)
{
    sim_status st = SIM_OK;

    if (t->request->resume != SIM_RESUME_AUTO)
        SIM_TRY(find_requeued(t, k));
    if (*k)
        goto done;
    if (t->request->resume == SIM_RESUME_FILE) {
        SIM_TRY(sim_checkpoint_open(t->comm, t->request->resume_file, k));
        *is_branch = true;
        goto done;
    }
    SIM_TRY(sim_checkpoint_newest(t->comm, t->run.path, k));
    SIM_CHECK(
        !*k || t->request->resume == SIM_RESUME_AUTO, SIM_E_CREATE,
        "%s already contains %s, but --resume never was given; use another run directory",
        t->run.path, sim_checkpoint_path(*k));
done:
    return st;
}

/*
 * Makes the given checkpoint the newest of this run: later checkpoints move to
 * RUN/abandoned-N.  *foreign is set if it is stored in another directory; the caller then
 * saves it here at once, so that the next `auto` continues this branch.
 */
static sim_status start_branch(sim_train_state *t, const sim_checkpoint *k, bool *foreign)
{
    sim_status st = SIM_OK;
    char name[64], path[4200];
    int64_t other = 0;

    (void)snprintf(name, sizeof name, "checkpoints/step-%09lld.h5",
                   (long long)t->at.step);
    SIM_TRY(sim_run_path(&t->run, name, path, sizeof path));
    other = t->comm->rank == 0 && !sim_path_is_same(path, sim_checkpoint_path(k));
    sim_comm_max_i64(t->comm, &other, 1);
    *foreign = other != 0;
    SIM_TRY(sim_run_abandon(t->comm, &t->run, t->at.step + !other, t->abandoned,
                            sizeof t->abandoned));
done:
    return st;
}

sim_status sim_resume_start(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    bool is_branch = false, unsaved = false;
    double start = sim_clock_s();

    SIM_TRY(find_checkpoint(t, &k, &is_branch));
    st = k ? load_checkpoint(t, k) : load_init(t);
    SIM_TRY(sim_comm_agree(t->comm, st));
    unsaved = !k;
    if (is_branch)
        SIM_TRY(start_branch(t, k, &unsaved));
    if (k) {
        t->last_saved = t->at.step;
        t->slowest_checkpoint_s = sim_clock_s() - start; /* until one is written */
    }
    if (!k && t->method.row->started)
        t->method.row->started(t->method.self);
    t->method.row->updated(t->method.self);
    sim_schedule_begin(t);
    SIM_TRY(sim_comm_agree(t->comm, sim_history_begin(t)));
    if (unsaved)
        SIM_TRY(sim_resume_save(t, "started"));
done:
    sim_checkpoint_close(&k);
    return st;
}

sim_status sim_resume_save(sim_train_state *t, const char *why)
{
    sim_status st = SIM_OK;
    sim_state_source sources[4];
    char *identity = NULL, *history = NULL;
    sim_checkpoint_head head = {.step = t->at.step,
                                .epoch = t->at.epoch,
                                .samples = t->at.samples,
                                .config = t->request->texts->resolved};
    double start = sim_clock_s();

    SIM_TRY(sim_replica_check(t));
    sim_heartbeat_phase("checkpoint");
    st = sim_identity_text(t, &identity);
    if (st == SIM_OK)
        st = sim_history_text(t, why, &history);
    SIM_TRY(sim_comm_agree(t->comm, st));
    head.identity = identity;
    head.history = history;
    memcpy(head.fingerprint, sim_dataset_about(t->data)->fingerprint,
           sizeof head.fingerprint);
    size_t n = sim_resume_sources(t, sources);
    SIM_TRY(sim_checkpoint_write(t->comm, &t->run, &t->job->train.checkpoint, &head,
                                 sources, n));
    t->last_saved = t->at.step;
done:
    sim_free(identity);
    sim_free(history);
    t->last_checkpoint_s = sim_clock_s();
    double took = t->last_checkpoint_s - start;
    t->phase_s[SIM_PHASE_CHECKPOINT] += took;
    if (took > t->slowest_checkpoint_s)
        t->slowest_checkpoint_s = took;
    return st;
}

sim_status sim_resume_save_due(sim_train_state *t)
{
    const int64_t most = t->job->train.checkpoint.max_failures;
    sim_status st = sim_resume_save(t, "running");

    if (st == SIM_OK) {
        t->failed_saves = 0;
        return st;
    }
    if (st == SIM_E_BUG) /* the state is wrong, not the disk */
        return st;
    if (++t->failed_saves > most) {
        sim_error_prefix("step %lld: %lld consecutive checkpoints failed; older ones are "
                         "intact: ",
                         (long long)t->at.step, (long long)t->failed_saves);
        return st;
    }
    sim_log_warn(
        "step %lld: no checkpoint: %s; training continues, older checkpoints are "
        "intact (failure %lld in a row, %lld allowed)",
        (long long)t->at.step, sim_error_message(), (long long)t->failed_saves,
        (long long)most);
    sim_error_clear();
    return SIM_OK;
}

sim_status sim_resume_save_last(sim_train_state *t, const char *why)
{
    sim_status st = sim_resume_save(t, why);
    if (st != SIM_OK && st != SIM_E_BUG)
        sim_error_prefix("step %lld: the last checkpoint failed; a new start resumes "
                         "from an older one: ",
                         (long long)t->at.step);
    return st;
}
