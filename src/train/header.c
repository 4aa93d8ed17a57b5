/*
 * header.c - the header of the log at the start of a run.
 *
 * Prints the build, hosts, data, schedule, method, memory and the starting point.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Counts the ranks on the host of rank `first`, and the union of their cores. */
static void count_host(const sim_train_state *t, int first, int *ranks, int *cores)
{
    uint64_t all[SIM_CORE_WORDS] = {0};

    *ranks = *cores = 0;
    for (int r = first; r < t->env.comm->size; r++) {
        if (strcmp(t->segment.places[r].host, t->segment.places[first].host) != 0)
            continue;
        ++*ranks;
        for (size_t i = 0; i < SIM_CORE_WORDS; i++)
            all[i] |= t->segment.places[r].mask[i];
    }
    for (size_t i = 0; i < SIM_CORE_WORDS; i++)
        *cores += __builtin_popcountll(all[i]);
}

/* Threads that share a core are many times slower. */
static void warn_if_oversubscribed(const sim_train_state *t)
{
    int ranks = 0, cores = 0;

    for (int r = 0; r < t->env.comm->size; r++) {
        if (!t->segment.places[r].is_first)
            continue;
        count_host(t, r, &ranks, &cores);
        if (cores == 0 || ranks * sim_threads() <= cores)
            continue;
        sim_log_warn(
            "%d ranks x %d thread%s on %d core%s of %s: this is many times slower; %s",
            ranks, sim_threads(), sim_threads() == 1 ? "" : "s", cores,
            cores == 1 ? "" : "s", t->segment.places[r].host,
            sim_threads() == 1 ? "start fewer ranks or allocate more cores"
                               : "set OMP_NUM_THREADS or threads");
        return;
    }
}

/*
 * mpirun binds one or two ranks to a core each, and the other cores stay idle.  A number of threads
 * that the user chose is taken as intended: the ranks have at least as many cores.
 */
static void warn_if_bound_to_few(const sim_train_state *t)
{
    int ranks = 0, cores = 0;

    if (getenv("OMP_NUM_THREADS") || t->env.job->train.threads > 0)
        return;
    for (int r = 0; r < t->env.comm->size; r++) {
        const sim_place *p = &t->segment.places[r];
        if (!p->is_first)
            continue;
        count_host(t, r, &ranks, &cores);
        if (cores == 0 || cores >= p->offered)
            continue;
        int share = (int)p->offered / ranks;
        sim_log_warn(
            "%d of the %lld cores of %s are used: mpirun binds its %d rank%s to %d "
            "core%s; type mpirun --map-by slot:PE=%d, or --bind-to none with "
            "OMP_NUM_THREADS=%d; if this is intended, set OMP_NUM_THREADS=%d",
            cores, (long long)p->offered, p->host, ranks, ranks == 1 ? "" : "s", cores,
            cores == 1 ? "" : "s", share > 0 ? share : 1, share > 0 ? share : 1,
            sim_threads());
        return;
    }
}

/* What a union or a restriction to classes consists of. */
static sim_status print_parts(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    char *lines = NULL;

    SIM_TRY(sim_dataset_explain(d, &lines));
    for (const char *at = lines; *at; at += strcspn(at, "\n") + 1)
        sim_log("          %.*s", (int)strcspn(at, "\n"), at);
done:
    sim_free(lines);
    return st;
}

static sim_status print_data(const sim_train_state *t)
{
    const sim_dataset_info *d = sim_dataset_about(t->env.data);
    const sim_train_options *o = &t->env.job->train;
    char part[80] = "";

    if (o->fraction < 1)
        (void)snprintf(part, sizeof part, " (%g %% of %s)", 100 * o->fraction,
                       d->has_labels ? "each class" : "the images");
    if (d->encoded)
        sim_log("data      %s: %zu photos%s, fingerprint %s", o->train_name, d->n_images,
                part, d->fingerprint);
    else
        sim_log("data      %s: %zu images of %s%zu x %zu x %zu%s, fingerprint %s",
                o->train_name, d->n_images, d->varied ? "up to " : "", d->h, d->w, d->c,
                part, d->fingerprint);
    return print_parts(t->env.data);
}

static sim_status print_groups(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    const sim_job *job = t->env.job;
    char *text = NULL;

    if (!sim_job_uses_groups(job))
        goto done;
    SIM_TRY(sim_job_describe_groups(t->env.data, &text));
    sim_log("groups    %s%s", text,
            job->train.views_from == SIM_VIEWS_FROM_GROUP
                ? "; further views show other images of the group"
                : "");
done:
    sim_free(text);
    return st;
}

static sim_status print_views(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    char *one = NULL, *two = NULL, *small = NULL;
    const sim_small_views *s = &t->progress.plan.small;

    SIM_TRY(sim_augment_text(t->feed.augment, 0, &one));
    SIM_TRY(sim_augment_text(t->feed.augment, 1, &two));
    SIM_TRY(sim_augment_text(t->feed.augment, SIM_SMALL_VIEW, &small));
    sim_log("view 1    %s", one);
    if (t->progress.plan.views > 1)
        sim_log("view 2    %s", two);
    if (s->n > 0)
        sim_log("small     %zu views of %zu x %zu x %zu: %s", s->n, s->h, s->w,
                t->progress.plan.c, small);
done:
    sim_free(one);
    sim_free(two);
    sim_free(small);
    return st;
}

static void print_schedule(const sim_train_state *t)
{
    const sim_schedule_plan *p = &t->progress.plan;
    const sim_method_env env =
        sim_job_env(t->env.job, p, sim_comm_partition(t->env.comm));
    sim_log("batch     %lld images = %zu blocks of %lld, %zu view%s of %zu x %zu x %zu",
            (long long)t->env.job->train.batch, p->n_blocks,
            (long long)t->env.job->train.block, p->views, p->views == 1 ? "" : "s", p->h,
            p->w, p->c);
    if (sim_method_micro_blocks(&env) > 0)
        sim_log("passes    in micro-batches of %lld images per rank",
                (long long)t->env.job->train.micro_batch);
    sim_log("schedule  to step %lld, %zu steps per epoch (%zu images dropped per epoch), "
            "warm-up "
            "%g steps, peak learning rate %g",
            (long long)p->total_steps, p->steps_per_epoch, p->left_over, p->warmup_steps,
            p->learning_rate);
}

static sim_status print_method(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    char *about = NULL;
    SIM_TRY(t->learner.method.row->about(t->learner.method.self, &about));
    sim_log("method    %s: %s", t->learner.method.row->name, about);
    sim_log("optimizer %s, %zu weights", sim_optimizer_about(t->learner.optimizer),
            t->learner.method.gradient_floats);
    sim_job_advise(t->env.job, t->env.data, &t->progress.plan);
done:
    sim_free(about);
    return st;
}

/* ---- where it runs ---- */

static void print_run(const sim_train_state *t)
{
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    if (job)
        sim_log("run       %s, Slurm job %s, restart %s", t->env.run.path, job,
                restart ? restart : "0");
    else
        sim_log("run       %s", t->env.run.path);
}

static void print_limit(const sim_train_state *t)
{
    char text[32], left[32];
    double limit = t->env.request->time_limit_s, job = t->env.request->job_left_s;

    sim_clock_span(limit, text, sizeof text);
    sim_clock_span(job, left, sizeof left);
    if (limit > 0)
        sim_log("limit     stops with a checkpoint within %s (--time-limit %s)", text,
                t->env.request->time_limit_text);
    else if (job > 0)
        sim_log(
            "limit     Slurm ends the job in %s; with --time-limit auto the run stops "
            "with a checkpoint before that",
            left);
    if (job > 0 && limit == job && strcmp(t->env.request->time_limit_text, "auto") != 0)
        sim_log_warn(
            "--time-limit %s is after the end of the Slurm job, in %s; the run stops "
            "before that end",
            t->env.request->time_limit_text, left);
}

/* "node1 node2 node3 and 13 more". */
static void list_nodes(const sim_train_state *t, char *out, size_t out_bytes)
{
    size_t used = 0, shown = 0;

    out[0] = '\0';
    for (int r = 0; r < t->env.comm->size && shown < 4; r++) {
        if (!t->segment.places[r].is_first)
            continue;
        int n = snprintf(out + used, out_bytes - used, "%s%s", shown++ ? " " : "",
                         t->segment.places[r].host);
        used += n > 0 ? (size_t)n : 0;
    }
    if (t->segment.n_nodes > shown && used < out_bytes)
        (void)snprintf(out + used, out_bytes - used, " and %zu more",
                       t->segment.n_nodes - shown);
}

static void print_ranks(const sim_train_state *t)
{
    char nodes[400];
    list_nodes(t, nodes, sizeof nodes);
    sim_log("ranks     %d x %d thread%s + %lld loading, on %zu node%s (%s), kernels %s",
            t->env.comm->size, sim_threads(), sim_threads() == 1 ? "" : "s",
            (long long)t->env.job->train.loader_threads, t->segment.n_nodes,
            t->segment.n_nodes == 1 ? "" : "s", nodes, t->env.request->kernels);
}

static void print_binding(const sim_train_state *t)
{
    char cores[64];
    int64_t least = t->segment.places[0].cores, most = least;

    for (int r = 1; r < t->env.comm->size; r++) {
        least = t->segment.places[r].cores < least ? t->segment.places[r].cores : least;
        most = t->segment.places[r].cores > most ? t->segment.places[r].cores : most;
    }
    if (sim_cores_allowed() == sim_cores_present()) {
        sim_log("binding   none: rank 0 may run on all %d cores of %s",
                sim_cores_present(), t->env.comm->host);
        return;
    }
    sim_cores_text(cores, sizeof cores);
    if (least == most)
        sim_log("binding   rank 0 to cores %s of %d; every rank to %lld", cores,
                sim_cores_present(), (long long)most);
    else
        sim_log("binding   rank 0 to cores %s of %d; ranks have %lld to %lld", cores,
                sim_cores_present(), (long long)least, (long long)most);
}

/* Memory plan of the rank that needs most. */
static void print_memory(const sim_train_state *t)
{
    int fullest = 0;
    for (int r = 1; r < t->env.comm->size; r++)
        if (t->segment.places[r].planned > t->segment.places[fullest].planned)
            fullest = r;
    const sim_place *p = &t->segment.places[fullest];
    sim_log("memory    %.1f MB planned per rank, plus %.1f MB transient at checkpoints",
            (double)p->planned / 1e6, (double)p->transient / 1e6);
}

/* A cosine that was almost at its end starts again in the middle of a longer one. */
static void warn_of_higher_rate(const sim_train_state *t)
{
    const double rise = 1.1;
    const sim_changes *c = &t->segment.changes;
    const int64_t step = t->progress.at.step;

    if (step == 0 || step >= t->progress.plan.total_steps || isnan(c->last.rate) ||
        c->next.rate <= rise * c->last.rate || c->next.rate <= rise * c->unchanged.rate)
        return;
    sim_log_warn("the accepted change raises the learning rate from %.3g at step %lld to "
                 "%.3g at step %lld, which undoes part of the training before; a smaller "
                 "optimizer.lr (--accept optimizer.lr) keeps it low",
                 c->last.rate, (long long)step, c->next.rate, (long long)step + 1);
}

static void print_start(const sim_train_state *t)
{
    if (!t->segment.resumed[0]) {
        sim_log("start     %s",
                t->env.request->init ? "weights from a file, step 0" : "fresh, step 0");
        return;
    }
    sim_log("resumed from %s: step %lld of %lld, epoch %lld, %lld images of it",
            t->segment.resumed, (long long)t->progress.at.step,
            (long long)t->progress.plan.total_steps, (long long)t->progress.at.epoch,
            (long long)t->progress.at.samples);
    if (t->segment.abandoned[0])
        sim_log("branch    checkpoints after step %lld moved to %s; --resume with one of "
                "them "
                "returns to it",
                (long long)t->progress.at.step, t->segment.abandoned);
    else if (t->env.request->last_logged > t->progress.at.step)
        sim_log("steps %lld to %lld were not saved and are recomputed",
                (long long)t->progress.at.step + 1,
                (long long)t->env.request->last_logged);
    if (t->segment.changes.any) {
        sim_log("accepted  %s", t->segment.changes.text);
        warn_of_higher_rate(t);
    }
}

static void print_queue(const sim_train_state *t)
{
    const sim_queue *q = sim_method_queue(&t->learner.method);
    if (q)
        sim_log("queue     %lld of %zu slots filled", (long long)sim_queue_filled(q),
                sim_queue_slots(q));
}

sim_status sim_header_gather(sim_train_state *t)
{
    sim_status st = SIM_OK;
    size_t ranks = (size_t)t->env.comm->size;
    sim_place own = {.cores = sim_cores_allowed(), .offered = sim_cores_of_launcher()};

    (void)snprintf(own.host, sizeof own.host, "%.63s", t->env.comm->host);
    sim_cores_mask(own.mask);
    st = sim_summary_planned(t, &own.planned, &own.transient);
    if (st == SIM_OK && t->env.comm->rank == 0)
        st = sim_alloc(&t->segment.places, ranks, "train/places");
    SIM_TRY(sim_comm_agree(t->env.comm, st));
    sim_comm_collect_rows(t->env.comm, 0, ranks, 1, ranks, sizeof own, &own,
                          t->segment.places);
    for (size_t r = 0; t->segment.places && r < ranks; r++) {
        size_t i = 0;
        while (i < r && strcmp(t->segment.places[i].host, t->segment.places[r].host) != 0)
            i++;
        t->segment.places[r].is_first = i == r;
        t->segment.n_nodes += i == r;
    }
done:
    return st;
}

sim_status sim_header_print(sim_train_state *t)
{
    sim_status st = SIM_OK;

    if (t->env.comm->rank != 0)
        goto done;
    sim_log("%s", t->env.request->build);
    print_run(t);
    print_ranks(t);
    print_binding(t);
    warn_if_oversubscribed(t);
    warn_if_bound_to_few(t);
    print_limit(t);
    SIM_TRY(print_data(t));
    SIM_TRY(print_groups(t));
    SIM_TRY(print_views(t));
    print_schedule(t);
    SIM_TRY(print_method(t));
    print_memory(t);
    print_start(t);
    print_queue(t);
done:
    return st;
}
