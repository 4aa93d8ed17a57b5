/*
 * summary.c - time and memory of a segment: time by phase, imbalance over ranks, planned and
 * measured memory.
 *
 * Called by the loop at the end of a segment, on every rank.
 * Out: a table in the log for a person, RUN/results/pretrain.json for a program.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/json.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

static const struct {
    const char *key, *label;
} phases[SIM_PHASES] = {
    [SIM_PHASE_DATA] = {"data", "waiting for data"},
    [SIM_PHASE_FORWARD] = {"forward", "forward"},
    [SIM_PHASE_LOSS] = {"loss", "loss"},
    [SIM_PHASE_BACKWARD] = {"backward", "backward"},
    [SIM_PHASE_SUM] = {"gradient_sum", "gradient sum"},
    [SIM_PHASE_UPDATE] = {"update", "update"},
    [SIM_PHASE_CHECKPOINT] = {"checkpoints", "checkpoints"},
    [SIM_PHASE_OBSERVERS] = {"log_and_knn", "log and evaluation"},
    [SIM_PHASE_OTHER] = {"other", "other"},
};

/* Measurements of one rank. */
typedef struct {
    double phase_s[SIM_PHASES];
    int64_t planned, transient; /* bytes held from step to step; transient */
    int64_t held, ledger,
        process; /* of the ledger after a step and at its peak; resident */
} cost;

typedef struct {
    const sim_train_state *t;
    const char *why;
    double elapsed_s;
    cost *of; /* [ranks], on rank 0 */
} summary;

sim_status sim_summary_rows(const sim_train_state *t, sim_plan_row rows[64], size_t *n,
                            size_t *checkpoint)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_job_memory(t->env.job, sim_dataset_about(t->env.data), &t->progress.plan,
                           (size_t)t->env.comm->size, (size_t)t->env.comm->rank, rows, n,
                           checkpoint));
    sim_plan_raise(rows, *n, &t->env.request->callback_workspace);
done:
    return st;
}

sim_status sim_summary_planned(const sim_train_state *t, int64_t *planned,
                               int64_t *transient)
{
    sim_status st = SIM_OK;
    sim_plan_row rows[64];
    size_t n = 0, checkpoint = 0;

    SIM_TRY(sim_summary_rows(t, rows, &n, &checkpoint));
    *planned = (int64_t)t->env.request->callback_bytes;
    for (size_t i = 0; i < n; i++)
        *planned += (int64_t)rows[i].bytes;
    *transient = (int64_t)(checkpoint < t->env.request->callback_peak_bytes
                               ? t->env.request->callback_peak_bytes
                               : checkpoint);
done:
    return st;
}

static sim_status cost_here(const sim_train_state *t, double elapsed_s, cost *out)
{
    double known = 0;

    memcpy(out->phase_s, t->costs.phase_s, sizeof out->phase_s);
    for (int i = 0; i < SIM_PHASE_OTHER; i++)
        known += t->costs.phase_s[i];
    out->phase_s[SIM_PHASE_OTHER] = elapsed_s > known ? elapsed_s - known : 0;
    out->held = t->costs.held_bytes;
    out->ledger = (int64_t)sim_memory_peak_bytes();
    out->process = (int64_t)sim_memory_process_peak();
    return sim_summary_planned(t, &out->planned, &out->transient);
}

/* Minimum and maximum of a phase over the ranks. */
static void find_range(const summary *s, int phase, double *least, double *most)
{
    *least = *most = s->of[0].phase_s[phase];
    for (int r = 1; r < s->t->env.comm->size; r++) {
        double x = s->of[r].phase_s[phase];
        *least = x < *least ? x : *least;
        *most = x > *most ? x : *most;
    }
}

static double imbalance(const summary *s)
{
    double most = 0, sum = 0;
    for (int r = 0; r < s->t->env.comm->size; r++) {
        double passes =
            s->of[r].phase_s[SIM_PHASE_FORWARD] + s->of[r].phase_s[SIM_PHASE_BACKWARD];
        most = passes > most ? passes : most;
        sum += passes;
    }
    return sum > 0 ? most * s->t->env.comm->size / sum : 1;
}

/* The rank with the largest resident set. */
static const cost *find_largest(const summary *s)
{
    const cost *most = &s->of[0];
    for (int r = 1; r < s->t->env.comm->size; r++)
        if (s->of[r].process > most->process)
            most = &s->of[r];
    return most;
}

static void log_table(const summary *s)
{
    double least = 0, most = 0;

    sim_log("time by phase, s        rank 0       min       max   of all");
    for (int i = 0; i < SIM_PHASES; i++) {
        find_range(s, i, &least, &most);
        double here = s->of[0].phase_s[i];
        sim_log("  %-18s %9.2f %9.2f %9.2f  %5.1f %%", phases[i].label, here, least, most,
                s->elapsed_s > 0 ? 100 * here / s->elapsed_s : 0);
    }
    sim_log("imbalance %.2f (forward and backward time: slowest rank / mean)",
            imbalance(s));
    const cost *m = find_largest(s);
    sim_log("memory    of rank %d: planned %.1f MB plus %.1f MB transient, held %.1f MB, "
            "peak "
            "resident %.1f MB",
            (int)(m - s->of), (double)m->planned / 1e6, (double)m->transient / 1e6,
            (double)m->held / 1e6, (double)m->process / 1e6);
}

static void fill_time(const summary *s, sim_json *j)
{
    double least = 0, most = 0;
    sim_json *times = sim_json_object(j, "time_s");
    for (int i = 0; i < SIM_PHASES; i++) {
        sim_json *p = sim_json_object(times, phases[i].key);
        find_range(s, i, &least, &most);
        sim_json_real(p, "rank_0", s->of[0].phase_s[i]);
        sim_json_real(p, "least", least);
        sim_json_real(p, "most", most);
    }
    sim_json_real(j, "imbalance", imbalance(s));
}

static void fill_tag(void *ctx, const sim_memory_row *row)
{
    sim_json *j = sim_json_object(ctx, row->tag);
    sim_json_int(j, "bytes", (int64_t)row->bytes);
    sim_json_int(j, "peak_bytes", (int64_t)row->peak_bytes);
}

static void fill_memory(const summary *s, sim_json *j)
{
    sim_json *memory = sim_json_array(j, "memory");
    for (int r = 0; r < s->t->env.comm->size; r++) {
        sim_json *m = sim_json_object(memory, NULL);
        sim_json_int(m, "rank", r);
        sim_json_int(m, "planned_bytes", s->of[r].planned);
        sim_json_int(m, "planned_transient_bytes", s->of[r].transient);
        sim_json_int(m, "held_bytes", s->of[r].held);
        sim_json_int(m, "ledger_peak_bytes", s->of[r].ledger);
        sim_json_int(m, "process_bytes", s->of[r].process);
    }
    sim_memory_report(fill_tag, sim_json_object(j, "ledger_of_rank_0"));
}

/* Whether a file is a summary of an earlier segment. */
static bool is_summary(const char *path)
{
    sim_json *j = NULL;
    char *text = NULL;
    const char *ended = NULL;
    size_t n = 0;
    int64_t step = 0;

    bool is =
        sim_path_is_file(path) && sim_file_load(path, 1 << 24, &text, &n) == SIM_OK &&
        sim_json_parse(text, n, &j) == SIM_OK && sim_json_get_int(j, "to_step", &step) &&
        sim_json_get_text(j, "ended", &ended);
    sim_error_clear();
    sim_json_destroy(&j);
    sim_free(text);
    return is;
}

static sim_status write_json(const summary *s)
{
    sim_status st = SIM_OK;
    const sim_train_state *t = s->t;
    sim_json *j = NULL;
    char path[4096], *text = NULL;
    double images = (double)(t->progress.at.step - t->progress.start_step) *
                    (double)t->env.job->train.batch;

    SIM_TRY(sim_json_create(&j));
    sim_json_int(j, "from_step", t->progress.start_step);
    sim_json_int(j, "to_step", t->progress.at.step);
    sim_json_text(j, "ended", s->why);
    sim_json_int(j, "ranks", t->env.comm->size);
    sim_json_int(j, "threads", sim_threads());
    sim_json_real(j, "elapsed_s", s->elapsed_s);
    sim_json_real(j, "images_per_s", s->elapsed_s > 0 ? images / s->elapsed_s : 0);
    fill_time(s, j);
    fill_memory(s, j);
    SIM_TRY(sim_json_dump(j, 2, &text));
    SIM_TRY(sim_run_path(&t->env.run, "results/pretrain.json", path, sizeof path));
    if (sim_path_is_taken(path) && !is_summary(path))
        SIM_TRY(sim_run_set_aside(path, "not a summary of simile", NULL));
    const sim_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    SIM_TRY(sim_file_replace(path, pieces, 2));
done:
    sim_json_destroy(&j);
    sim_free(text);
    return st;
}

sim_status sim_summary_print(sim_train_state *t, const char *why)
{
    sim_status st = SIM_OK;
    summary s = {.t = t, .why = why, .elapsed_s = sim_clock_s() - t->segment.start_s};
    size_t ranks = (size_t)t->env.comm->size;
    cost own = {0};

    st = cost_here(t, s.elapsed_s, &own);
    if (st == SIM_OK)
        st = sim_alloc(&s.of, ranks, "train/summary");
    SIM_TRY(sim_comm_agree(t->env.comm, st));
    SIM_ASSERT(s.of);
    sim_comm_collect_rows(t->env.comm, 0, ranks, 1, ranks, sizeof own, &own, s.of);
    if (t->env.comm->rank == 0) {
        log_table(&s);
        st = write_json(&s);
    }
    SIM_TRY(sim_comm_agree(t->env.comm, st));
done:
    sim_free(s.of);
    return st;
}
