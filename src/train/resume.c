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
#include "simile/import.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static sim_status visit_method(void *object, const sim_visitor *v)
{
    sim_learner *l = object;
    return l->method.row->visit(l->method.self, v);
}

static sim_status visit_optimizer(void *object, const sim_visitor *v)
{
    sim_learner *l = object;
    return sim_optimizer_visit(l->optimizer, v);
}

/* A scalar of /train that earlier versions did not store. */
static sim_status visit_optional(const sim_visitor *v, const char *name, sim_type type,
                                 double least, double most, void *value)
{
    const sim_tensor t = {.name = name,
                          .type = type,
                          .data = value,
                          .optional = true,
                          .bounded = true,
                          .least = least,
                          .most = most};
    return sim_visit(v, "train", &t);
}

/* Counters of the guards and metrics of the current log interval.  Loading requires that the
 * position is already that of the checkpoint. */
static sim_status visit_counters(void *object, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    sim_train_state *t = object;
    sim_position *at = &t->progress.at;
    const double step = (double)at->step;

    SIM_TRY(sim_visit_count(v, "train", "skipped", step, &at->skipped));
    SIM_TRY(sim_visit_count(v, "train", "bad_run", (double)at->skipped,
                            &at->skipped_in_a_row));
    SIM_TRY(visit_optional(v, "best_step", SIM_I64, 0, step, &t->saves.best_step));
    SIM_TRY(visit_optional(v, "best_score", SIM_F64, -DBL_MAX, DBL_MAX,
                           &t->saves.best_score));
    SIM_TRY(visit_optional(v, "collapsed", SIM_I64, 0, 1, &t->collapse.is_collapsed));
    SIM_TRY(
        visit_optional(v, "healthy_step", SIM_I64, 0, step, &t->collapse.healthy_step));
    SIM_TRY(visit_optional(v, "published", SIM_I64, -1, step, &t->interval.published));
    SIM_TRY(sim_metrics_visit(&t->interval.metrics, v));
done:
    return st;
}

size_t sim_resume_sources(sim_train_state *t, sim_state_source out[4])
{
    out[0] = (sim_state_source){visit_method, &t->learner};
    out[1] = (sim_state_source){visit_optimizer, &t->learner};
    out[2] = (sim_state_source){visit_counters, t};
    return 3;
}

static void add_text(sim_changes *c, const char *fmt, ...) SIM_PRINTF(2, 3);
static void add_text(sim_changes *c, const char *fmt, ...)
{
    size_t used = strlen(c->text);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(c->text + used, sizeof c->text - used, fmt, args);
    va_end(args);
}

/* Learning rate and momentum of the last step and of the next. */
static void add_scheduled(sim_changes *c, int64_t step)
{
    if (isnan(c->last.rate)) {
        add_text(c, "; learning rate %.3g at step %lld", c->next.rate,
                 (long long)step + 1);
        return;
    }
    add_text(c, "; learning rate %.3g at step %lld, %.3g at step %lld", c->last.rate,
             (long long)step, c->next.rate, (long long)step + 1);
    if (c->last.momentum != c->next.momentum)
        add_text(c, "; momentum of the encoder of the keys %.6g, then %.6g",
                 c->last.momentum, c->next.momentum);
}

/* Appends step, learning rates and position to the text of accepted changes. */
static sim_status describe_changes(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_changes *c = &t->segment.changes;
    const sim_position *before = &c->before, *at = &t->progress.at;
    sim_optimizer_options old = t->env.job->optimizer;

    if (!c->any)
        goto done;
    c->images = c->data ? t->segment.saved_images : (int64_t)t->progress.plan.n_images;
    SIM_TRY(sim_schedule_compare(&t->progress, c));
    old.lr = c->lr;
    double peak = sim_learning_rate(&old, (size_t)c->batch);
    add_text(c, " at step %lld, peak learning rate %g", (long long)at->step, peak);
    if (peak != t->progress.plan.learning_rate)
        add_text(c, " -> %g", t->progress.plan.learning_rate);
    if (at->step > 0 && at->step < t->progress.plan.total_steps)
        add_scheduled(c, at->step);
    if (before->epoch != at->epoch || before->samples != at->samples)
        add_text(c, "; position epoch %lld image %lld -> epoch %lld image %lld",
                 (long long)before->epoch, (long long)before->samples,
                 (long long)at->epoch, (long long)at->samples);
done:
    return st;
}

static void set_position(sim_progress *p, const sim_checkpoint_head *head)
{
    p->at.step = p->start_step = head->step;
    p->at.epoch = head->epoch;
    p->at.samples = head->samples;
}

/*
 * A model keeps the size of its views unless augment.size specifies another one: that is the input of
 * the network.  A resumed run has the augment.size of its checkpoint.
 */
static sim_status check_view_size(const sim_train_env *env, const char *text,
                                  const char *path, bool is_resumed)
{
    sim_status st = SIM_OK;
    const sim_preprocessing *own = &env->preprocessing;
    sim_preprocessing p;
    char keep[64] = "";

    if (!text || env->job->augment.size > 0)
        goto done;
    SIM_TRY(sim_preprocessing_parse(text, path, &p));
    if (p.h == own->h && p.w == own->w)
        goto done;
    if (p.h == p.w)
        (void)snprintf(keep, sizeof keep, " augment.size=%zu keeps that size;", p.h);
    SIM_CHECK(
        !is_resumed, SIM_E_DATA,
        "%s: with augment.size: 0, views of these images are %zu x %zu, but those of "
        "%s are %zu x %zu; use images of that size (simile prepare --size), or start "
        "another run from its weights with --init and augment.size",
        sim_dataset_path(env->data), own->h, own->w, path, p.h, p.w);
    SIM_FAIL(SIM_E_CONFIG,
             "augment.size: 0 means views of %zu x %zu for %s, but those of %s are %zu x "
             "%zu;%s augment.size=N trains on views of N x N instead",
             own->h, own->w, sim_dataset_path(env->data), path, p.h, p.w, keep);
done:
    return st;
}

static bool has_other_values(const sim_preprocessing *a, const sim_preprocessing *b)
{
    for (size_t c = 0; c < a->c; c++)
        if (a->mean[c] < b->mean[c] || a->mean[c] > b->mean[c] || a->std[c] < b->std[c] ||
            a->std[c] > b->std[c])
            return true;
    return false;
}

/*
 * The normalization of a model does not change when it is trained further, on whatever data:
 * takes mean, std and value range from the preprocessing of a checkpoint.  With --init, images of other
 * channels or another type keep their own.
 */
static sim_status adopt_normalization(sim_train_state *t, const char *text,
                                      const char *path, bool is_other_data, bool is_init)
{
    sim_status st = SIM_OK;
    sim_preprocessing *own = &t->env.preprocessing, p;

    if (!text && is_other_data)
        sim_log_warn("%s does not store the mean and std that its images were normalized "
                     "by; from now on they are those of %s",
                     path, sim_dataset_path(t->env.data));
    if (!text)
        goto done;
    SIM_TRY(sim_preprocessing_parse(text, path, &p));
    if (is_init && (p.c != own->c || p.type != own->type)) {
        sim_log(
            "%s was trained on images of %zu channels of %s; those of %s, %zu of %s, are "
            "normalized by their own mean and std",
            path, p.c, sim_type_name(p.type), sim_dataset_path(t->env.data), own->c,
            sim_type_name(own->type));
        goto done;
    }
    SIM_TRY(sim_preprocessing_check(&p, t->env.data));
    if (has_other_values(&p, own))
        sim_log("images are normalized by mean and std of %s, not by those of %s", path,
                sim_dataset_path(t->env.data));
    if (p.h != own->h || p.w != own->w)
        sim_log_warn(
            "augment.size: the views are %zu x %zu from now on; those of %s were "
            "%zu x %zu",
            own->h, own->w, path, p.h, p.w);
    memcpy(own->mean, p.mean, sizeof own->mean);
    memcpy(own->std, p.std, sizeof own->std);
    memcpy(own->scale, p.scale, sizeof own->scale);
    own->range = p.range;
    sim_augment_normalize(t->feed.augment, own);
done:
    return st;
}

static sim_status compare_identity(sim_train_state *t, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    const sim_train_request *r = t->env.request;
    char *ours = NULL;

    SIM_TRY(sim_identity_text(&t->env, &ours));
    const sim_identity job = {.ours = ours,
                              .before = r->texts->identity_before,
                              .accept = r->accept ? r->accept : "",
                              .data_path = t->env.job->train.train_name};
    t->segment.changes = (sim_changes){.batch = t->env.job->train.batch,
                                       .epochs = t->env.job->schedule.epochs,
                                       .steps = t->env.job->schedule.steps,
                                       .lr = t->env.job->optimizer.lr};
    SIM_TRY(sim_identity_compare(&job, sim_checkpoint_head_of(k)->identity,
                                 sim_checkpoint_path(k), &t->segment.changes));
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

    sources[n++] = (sim_state_source){sim_metrics_visit_array, &t->interval.metrics};
    SIM_TRY(compare_identity(t, k));
    set_position(&t->progress, head);
    SIM_TRY(sim_history_load(head, sim_checkpoint_path(k), &t->segment, &t->progress));
    SIM_TRY(sim_resume_check_position(&t->progress, &t->segment, sim_checkpoint_path(k)));
    SIM_TRY(sim_checkpoint_load(k, sources, n));
    SIM_TRY(sim_resume_check_state(t, sim_checkpoint_path(k)));
    SIM_TRY(check_view_size(&t->env, head->preprocessing, sim_checkpoint_path(k), true));
    SIM_TRY(adopt_normalization(t, head->preprocessing, sim_checkpoint_path(k),
                                t->segment.changes.data, false));
    t->segment.changes.before = t->progress.at;
    if (t->segment.changes.any)
        sim_schedule_resplit(&t->progress, t->segment.changes.data);
    t->segment.saved_config = sim_hash_bytes(head->config, strlen(head->config));
    (void)snprintf(t->segment.resumed, sizeof t->segment.resumed, "%s",
                   sim_checkpoint_path(k));
done:
    return st;
}

/* The newest checkpoint of the run directory of --init, or its safetensors file.  *out stays NULL for
 * another file. */
static sim_status open_init(const sim_train_env *env, sim_checkpoint **out)
{
    sim_status st = SIM_OK;
    const char *path = env->request->init;
    int64_t is_directory = env->comm->rank == 0 && sim_path_is_directory(path);

    sim_comm_max_i64(env->comm, &is_directory, 1);
    if (is_directory)
        SIM_TRY(sim_checkpoint_open(env->comm, path, out));
    else
        SIM_TRY(sim_import_open_weights(env->comm, path, out));
    if (!*out) /* every rank reads the file */
        SIM_TRY(sim_comm_compare_file(env->comm, path));
done:
    return st;
}

/* Loads the weights of --init; *preprocessing is the caller's, or NULL. */
static sim_status load_weights(sim_train_state *t, const sim_checkpoint *k,
                               size_t *n_missing, char **preprocessing)
{
    sim_status st = SIM_OK;
    sim_state_source source = {visit_method, &t->learner};

    if (!k) {
        SIM_TRY(
            sim_weights_load(t->env.request->init, &source, 1, n_missing, preprocessing));
        goto done;
    }
    SIM_TRY(sim_checkpoint_load_weights(k, &source, 1, n_missing));
    if (sim_checkpoint_head_of(k)->preprocessing)
        SIM_TRY(sim_text_copy(sim_checkpoint_head_of(k)->preprocessing, "train/init",
                              preprocessing));
done:
    return st;
}

/* Without a checkpoint: fresh weights, or those of --init. */
static sim_status load_init(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_checkpoint *k = NULL;
    size_t missing = 0;
    char *preprocessing = NULL;

    if (t->env.request->init) /* first, because it is collective */
        SIM_TRY(open_init(&t->env, &k));
    SIM_TRY(sim_history_load(NULL, NULL, &t->segment, &t->progress));
    SIM_CHECK(
        t->env.request->init || !t->env.job->encoder.freeze, SIM_E_CONFIG,
        "encoder.freeze: the initial encoder has random weights; give a trained one "
        "by --init RUN, or set encoder.freeze=false");
    if (!t->env.request->init)
        goto done;
    const char *path = k ? sim_checkpoint_path(k) : t->env.request->init;
    SIM_TRY(load_weights(t, k, &missing, &preprocessing));
    SIM_TRY(sim_method_check_scalars(&t->learner.method, path));
    sim_log("initial weights from %s", path);
    SIM_TRY(check_view_size(&t->env, preprocessing, path, false));
    SIM_TRY(adopt_normalization(t, preprocessing, path, true, true));
    if (missing)
        sim_log("%zu tensors other than the encoder are not in it and keep their random "
                "values",
                missing);
done:
    sim_free(preprocessing);
    sim_checkpoint_close(&k);
    return st;
}

/* A requeued Slurm job whose earlier start already applied --resume resumes as `auto`.
 * *k stays NULL if that start saved nothing. */
static sim_status find_requeued(sim_train_state *t, sim_checkpoint **k)
{
    sim_status st = SIM_OK;
    int64_t from = -1;

    st = t->env.comm->rank == 0 ? sim_history_requeued(t->env.run.path, &from) : SIM_OK;
    SIM_TRY(sim_comm_agree(t->env.comm, st));
    sim_comm_max_i64(t->env.comm, &from, 1);
    if (from < 0)
        goto done;
    SIM_TRY(sim_checkpoint_newest(t->env.comm, t->env.run.path, k));
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

    if (t->env.request->resume != SIM_RESUME_AUTO)
        SIM_TRY(find_requeued(t, k));
    if (*k)
        goto done;
    if (t->env.request->resume == SIM_RESUME_FILE) {
        SIM_TRY(sim_checkpoint_open(t->env.comm, t->env.request->resume_file, k));
        SIM_TRY(sim_branch_check(&t->env, *k));
        *is_branch = true;
        goto done;
    }
    SIM_TRY(sim_checkpoint_newest(t->env.comm, t->env.run.path, k));
    SIM_CHECK(
        !*k || t->env.request->resume == SIM_RESUME_AUTO, SIM_E_CREATE,
        "%s already contains %s, but --resume never was given; use another run directory",
        t->env.run.path, sim_checkpoint_path(*k));
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
    SIM_TRY(sim_comm_agree(t->env.comm, st));
    if (k && t->env.request->init)
        sim_log(
            "--init %s is ignored: the run resumes from %s; to start from --init, use "
            "another run directory",
            t->env.request->init, sim_checkpoint_path(k));
    unsaved = !k;
    sim_schedule_begin(&t->progress);
    if (k)
        SIM_TRY(sim_comm_agree(
            t->env.comm, sim_schedule_check_length(&t->progress, &t->segment.changes)));
    if (is_branch)
        SIM_TRY(sim_branch_start(t, k, &unsaved));
    t->segment.is_foreign = is_branch && unsaved;
    if (k) {
        t->saves.last_step = t->progress.at.step;
        t->costs.slowest_checkpoint_s = sim_clock_s() - start; /* until one is written */
    }
    if (!k && t->learner.method.row->started)
        t->learner.method.row->started(t->learner.method.self);
    sim_method_updated(&t->learner.method);
    SIM_TRY(sim_comm_agree(t->env.comm, describe_changes(t)));
    t->is_complete =
        k && !is_branch && t->progress.at.step >= t->progress.plan.total_steps;
    if (t->is_complete)
        goto done;
    SIM_TRY(sim_comm_agree(t->env.comm, sim_history_begin(t)));
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
    sim_checkpoint_options options = t->env.job->train.checkpoint;
    char *identity = NULL, *history = NULL, *preprocessing = NULL;
    sim_checkpoint_head head = {.step = t->progress.at.step,
                                .epoch = t->progress.at.epoch,
                                .samples = t->progress.at.samples,
                                .config = t->env.request->texts->resolved};
    double start = sim_clock_s();

    SIM_TRY(sim_replica_check(t->replica, t->progress.at.step));
    sim_heartbeat_phase("checkpoint");
    st = sim_stream_sync(t->env.request->stream);
    if (st == SIM_OK)
        st = sim_identity_text(&t->env, &identity);
    if (st == SIM_OK)
        st = sim_history_text(t, why, &history);
    if (st == SIM_OK)
        st = sim_preprocessing_text(&t->env.preprocessing, &preprocessing);
    SIM_TRY(sim_comm_agree(t->env.comm, st));
    head.identity = identity;
    head.history = history;
    head.preprocessing = preprocessing;
    memcpy(head.fingerprint, sim_dataset_about(t->env.data)->fingerprint,
           sizeof head.fingerprint);
    size_t n = sim_resume_sources(t, sources);
    options.best_step = t->saves.best_step;
    options.healthy_step = t->collapse.healthy_step;
    SIM_TRY(sim_checkpoint_write(t->env.comm, &t->env.run, &options, &head, sources, n));
    t->saves.last_step = t->progress.at.step;
done:
    sim_free(identity);
    sim_free(history);
    sim_free(preprocessing);
    t->saves.last_s = sim_clock_s();
    double took = t->saves.last_s - start;
    t->costs.phase_s[SIM_PHASE_CHECKPOINT] += took;
    if (took > t->costs.slowest_checkpoint_s)
        t->costs.slowest_checkpoint_s = took;
    return st;
}

sim_status sim_resume_save_due(sim_train_state *t)
{
    const int64_t most = t->env.job->train.checkpoint.max_failures;
    sim_status st = sim_comm_agree(t->env.comm, sim_run_check(&t->env.run));

    if (st != SIM_OK) /* the run has another holder */
        return st;
    st = sim_resume_save(t, "running");
    if (st == SIM_OK) {
        t->saves.n_failed = 0;
        return st;
    }
    if (st == SIM_E_BUG) /* the state is wrong, not the disk */
        return st;
    if (++t->saves.n_failed > most) {
        sim_error_prefix("step %lld: %lld consecutive checkpoints failed; older ones are "
                         "intact: ",
                         (long long)t->progress.at.step, (long long)t->saves.n_failed);
        return st;
    }
    sim_log_warn(
        "step %lld: no checkpoint: %s; training continues, older checkpoints are "
        "intact (failure %lld in a row, %lld allowed)",
        (long long)t->progress.at.step, sim_error_message(), (long long)t->saves.n_failed,
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
                         (long long)t->progress.at.step);
    return st;
}
