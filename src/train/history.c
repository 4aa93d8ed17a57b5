/*
 * history.c - the segments of a run: time, hosts, ranks, steps, and why each ended.
 *
 * A JSON array, stored in each checkpoint and in RUN/segments.json.  The latter is written when
 * a segment starts and when it ends, so it also contains segments that were killed before their
 * first checkpoint.  `simile inspect RUN` prints both as a table.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/json.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- this segment ---- */

static void add_place(const sim_train_state *t, sim_json *j)
{
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");

    if (job)
        sim_json_text(j, "job", job);
    if (job)
        sim_json_int(j, "restart", restart ? strtoll(restart, NULL, 10) : 0);
    sim_json_int(j, "nodes", (int64_t)t->segment.n_nodes);
    sim_json *hosts = sim_json_array(j, "hosts");
    for (int r = 0; t->segment.places && r < t->env.comm->size; r++)
        if (t->segment.places[r].is_first)
            sim_json_text(hosts, NULL, t->segment.places[r].host);
    sim_json_int(j, "ranks", t->env.comm->size);
    sim_json_int(j, "threads", sim_threads());
    sim_json_text(j, "kernels", t->env.request->kernels);
    sim_json_text(j, "build", t->env.request->build);
}

static sim_status describe_segment(const sim_train_state *t, const char *why, char **out)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    char start[21], end[21];
    double elapsed = sim_clock_s() - t->segment.start_s;
    double now = sim_clock_wall_s();

    SIM_TRY(sim_json_create(&j));
    sim_clock_iso(now - elapsed, start);
    sim_clock_iso(now, end);
    sim_json_text(j, "id", t->segment.id);
    sim_json_text(j, "start", start);
    sim_json_text(j, "end", end);
    add_place(t, j);
    sim_json_int(j, "batch", t->env.job->train.batch);
    sim_json_int(j, "images", (int64_t)t->progress.plan.n_images);
    sim_json_int(j, "from_step", t->progress.start_step);
    sim_json_int(j, "to_step", t->progress.at.step);
    double images = (double)(t->progress.at.step - t->progress.start_step) *
                    (double)t->env.job->train.batch;
    sim_json_real(j, "elapsed_s", elapsed);
    sim_json_real(j, "images_per_s", elapsed > 0 ? images / elapsed : 0);
    sim_json_real(j, "slowest_checkpoint_s", t->costs.slowest_checkpoint_s);
    if (t->segment.changes.any)
        sim_json_text(j, "changed", t->segment.changes.text);
    sim_json_text(j, "ended", why);
    SIM_TRY(sim_json_dump(j, 0, out));
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_history_text(const sim_train_state *t, const char *why, char **json)
{
    sim_status st = SIM_OK;
    char *own = NULL;
    size_t n = t->segment.history ? strlen(t->segment.history) : 0;

    SIM_TRY(describe_segment(t, why, &own));
    if (n > 2) /* not empty: append to the array */
        SIM_TRY(sim_text_format("train/history", json, "%.*s,%s]", (int)(n - 1),
                                t->segment.history, own));
    else
        SIM_TRY(sim_text_format("train/history", json, "[%s]", own));
done:
    sim_free(own);
    return st;
}

/* ---- earlier segments ---- */

static const char *text_of(const sim_json *s, const char *key)
{
    const char *text = "";
    (void)sim_json_get_text(s, key, &text);
    return text;
}

static int64_t int_of(const sim_json *s, const char *key)
{
    int64_t n = 0;
    (void)sim_json_get_int(s, key, &n);
    return n;
}

/* True if the record was written before the segment ended. */
static bool is_open(const sim_json *s)
{
    const char *ended = text_of(s, "ended");
    return strcmp(ended, "running") == 0 || strcmp(ended, "started") == 0;
}

static const sim_json *find_segment(const sim_json *list, const char *id)
{
    for (size_t i = 0; *id && i < sim_json_size(list); i++)
        if (strcmp(text_of(sim_json_at(list, i), "id"), id) == 0)
            return sim_json_at(list, i);
    return NULL;
}

/* Sets how a segment ended: as segments.json states (`recorded`, may be NULL), or `unknown`. */
static void set_end(sim_json *s, const sim_json *recorded, int64_t last_step,
                    const char *unknown)
{
    if (!is_open(s))
        return;
    if (recorded && !is_open(recorded)) {
        sim_json_text(s, "ended", text_of(recorded, "ended"));
        sim_json_text(s, "end", text_of(recorded, "end"));
        last_step = int_of(recorded, "to_step");
    } else {
        sim_json_text(s, "ended", unknown);
    }
    if (last_step > int_of(s, "to_step"))
        sim_json_int(s, "last_step", last_step);
}

sim_status sim_history_merge(const char *of_checkpoint, const char *of_run,
                             int64_t last_step, bool is_held, sim_json *out)
{
    sim_status st = SIM_OK;
    sim_json *saved = NULL, *recorded = NULL, *newest = NULL;
    const char *unknown = is_held ? "running" : "killed or lost";

    SIM_TRY(sim_json_parse(of_checkpoint, strlen(of_checkpoint), &saved));
    SIM_TRY(sim_json_parse(of_run, strlen(of_run), &recorded));
    for (size_t i = 0; i < sim_json_size(recorded); i++)
        newest = sim_json_at(recorded, i);
    const char *last = newest ? text_of(newest, "id") : "";
    for (size_t i = 0; i < sim_json_size(saved); i++) {
        sim_json *s = sim_json_at(saved, i);
        bool is_last = !newest || strcmp(text_of(s, "id"), last) == 0;
        set_end(s, find_segment(recorded, text_of(s, "id")), is_last ? last_step : -1,
                is_last ? unknown : "killed or lost");
        sim_json_put(out, NULL, s);
    }
    for (size_t i = 0; i < sim_json_size(recorded); i++) {
        sim_json *s = sim_json_at(recorded, i);
        if (find_segment(saved, text_of(s, "id")))
            continue;
        set_end(s, NULL, s == newest ? last_step : -1,
                s == newest ? unknown : "killed or lost");
        sim_json_bool(s, "discarded", true); /* the run does not continue from it */
        sim_json_put(out, NULL, s);
    }
done:
    sim_json_destroy(&saved);
    sim_json_destroy(&recorded);
    return st;
}

/* Ranges of the numbers of a segment, wherever they are read. */
static const int64_t max_step = (int64_t)SIM_MAX_COUNT, max_batch = 1 << 24;
static const double max_seconds = 1e12;

static bool has_texts(const sim_json *s)
{
    static const char *const keys[] = {"id", "start", "end", "ended"};
    const char *text = NULL;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!sim_json_get_text(s, keys[i], &text))
            return false;
    return true;
}

static bool has_integers(const sim_json *s)
{
    const struct {
        const char *key;
        int64_t least, most;
        bool optional;
    } keys[] = {{"nodes", 0, INT32_MAX, false},    {"ranks", 1, INT32_MAX, false},
                {"threads", 1, INT32_MAX, false},  {"batch", 1, max_batch, false},
                {"from_step", 0, max_step, false}, {"to_step", 0, max_step, false},
                {"images", 0, UINT32_MAX, true},   {"last_step", 0, max_step, true},
                {"off_course", 0, 1, true}};
    int64_t n = 0;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (keys[i].optional && !sim_json_has(s, keys[i].key))
            continue;
        if (!sim_json_get_int(s, keys[i].key, &n) || n < keys[i].least ||
            n > keys[i].most)
            return false;
    }
    return int_of(s, "from_step") <= int_of(s, "to_step");
}

static bool has_reals(const sim_json *s)
{
    const struct {
        const char *key;
        double most;
        bool optional;
    } keys[] = {{"images_per_s", DBL_MAX, false},
                {"elapsed_s", max_seconds, true},
                {"slowest_checkpoint_s", max_seconds, true}};
    double x = 0;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (keys[i].optional && !sim_json_has(s, keys[i].key))
            continue;
        if (!sim_json_get_real(s, keys[i].key, &x) || x < 0 || x > keys[i].most)
            return false;
    }
    return true;
}

/* Whether a value is a segment: every key that is read has its type and range. */
static bool is_segment(const sim_json *s)
{
    return has_texts(s) && has_integers(s) && has_reals(s);
}

/* Checks the text of segments.json; *problem is "" if it is valid. */
static void check_segments(const char *text, size_t n_bytes, char *problem,
                           size_t problem_bytes)
{
    sim_json *list = NULL;
    size_t bad = 0;

    problem[0] = '\0';
    if (sim_json_parse(text, n_bytes, &list) != SIM_OK) {
        (void)snprintf(problem, problem_bytes, "%s", sim_error_message());
        sim_error_clear();
        return;
    }
    while (bad < sim_json_size(list) && is_segment(sim_json_at(list, bad)))
        bad++;
    if (!sim_json_is_array(list))
        (void)snprintf(problem, problem_bytes, "not a list of segments of simile");
    else if (bad < sim_json_size(list))
        (void)snprintf(problem, problem_bytes, "entry %zu is not a segment of simile",
                       bad + 1);
    sim_json_destroy(&list);
}

/* Reads the segments, "[]" if there is no file or it is not valid. */
static sim_status load_segments(const char *path, char **json, char *problem,
                                size_t problem_bytes)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    problem[0] = '\0';
    if (!sim_path_exists(path)) {
        SIM_TRY(sim_text_copy("[]", "train/history", json));
        goto done;
    }
    st = sim_file_load(path, (size_t)1 << 28, json, &n);
    if (st == SIM_E_DATA) {
        (void)snprintf(problem, problem_bytes, "too large for a list of segments");
        sim_error_clear();
        st = SIM_OK;
    } else {
        SIM_TRY(st);
        check_segments(*json, n, problem, problem_bytes);
    }
    if (problem[0]) {
        SIM_FREE(*json);
        SIM_TRY(sim_text_copy("[]", "train/history", json));
    }
done:
    return st;
}

sim_status sim_history_of_run(const char *run_path, char **json)
{
    sim_status st = SIM_OK;
    char path[4200], problem[256];

    (void)snprintf(path, sizeof path, "%s/segments.json", run_path);
    SIM_TRY(load_segments(path, json, problem, sizeof problem));
    if (problem[0])
        sim_log_warn(
            "%s: %s; segments that are not in the checkpoint are missing from the "
            "history",
            path, problem);
done:
    return st;
}

/* The same at a start, which then writes the file. */
static sim_status take_segments(const char *run_path, char **json)
{
    sim_status st = SIM_OK;
    char path[4200], problem[256];

    (void)snprintf(path, sizeof path, "%s/segments.json", run_path);
    SIM_TRY(load_segments(path, json, problem, sizeof problem));
    if (problem[0])
        SIM_TRY(sim_run_set_aside(path, problem, NULL));
done:
    return st;
}

/* ---- samples and time used so far ---- */

/* Versions before 0.2.0 named it "off_course", an integer. */
static bool is_discarded(const sim_json *s)
{
    bool discarded = false;
    (void)sim_json_get_bool(s, "discarded", &discarded);
    return discarded || int_of(s, "off_course") != 0;
}

/* Versions before 0.2.0 recorded no time, but a rate. */
static double seconds_of(const sim_json *s)
{
    double elapsed_s = 0, images_per_s = 0;

    if (sim_json_get_real(s, "elapsed_s", &elapsed_s))
        return elapsed_s;
    (void)sim_json_get_real(s, "images_per_s", &images_per_s);
    double images = (double)(int_of(s, "to_step") - int_of(s, "from_step")) *
                    (double)int_of(s, "batch");
    return images_per_s > 0 ? images / images_per_s : 0;
}

static double sum_seconds(const sim_json *list)
{
    double sum = 0;
    for (size_t i = 0; i < sim_json_size(list); i++)
        if (!is_discarded(sim_json_at(list, i)))
            sum += seconds_of(sim_json_at(list, i));
    return sum;
}

/* Adds the samples of n steps of a batch.  False if they are more than can be counted. */
static bool add_samples(int64_t n, int64_t batch, int64_t *sum)
{
    int64_t samples = 0;
    return !__builtin_mul_overflow(n, batch, &samples) &&
           !__builtin_add_overflow(*sum, samples, sum);
}

/* Counts the samples that the updates up to the current step used, segment by segment from the
 * end: steps that were recomputed after an older checkpoint count once.  False on overflow. */
static bool count_samples(sim_progress *p, const sim_json *list)
{
    int64_t limit = p->at.step, batch = p->job->train.batch;

    p->first_batch = batch;
    p->seen = 0;
    for (size_t i = sim_json_size(list); i-- > 0;) {
        const sim_json *s = sim_json_at(list, i);
        if (is_discarded(s))
            continue;
        int64_t from = int_of(s, "from_step"), to = int_of(s, "to_step");
        batch = int_of(s, "batch");
        to = to < limit ? to : limit;
        from = from < to ? from : to;
        if (!add_samples(to - from, batch, &p->seen))
            return false;
        limit = from < limit ? from : limit;
        p->first_batch = batch;
    }
    return add_samples(limit, p->first_batch, &p->seen);
}

/* ---- the history of a checkpoint ---- */

/* The segments that were not discarded lead from step 0 to `step` without a gap. */
static bool leads_to_step(const sim_json *list, int64_t step)
{
    int64_t reached = 0;

    for (size_t i = 0; i < sim_json_size(list); i++) {
        const sim_json *s = sim_json_at(list, i);
        if (is_discarded(s))
            continue;
        if (int_of(s, "from_step") > reached)
            return false;
        reached = int_of(s, "to_step");
    }
    return reached == step;
}

/* Whether batch and images of a segment are those of the one before it, or an accepted change is recorded.
 * Versions before 0.2.0 recorded no images. */
static bool continues(const sim_json *s, const sim_json *before)
{
    return sim_json_has(s, "changed") ||
           (int_of(s, "batch") == int_of(before, "batch") &&
            (!sim_json_has(s, "images") || !sim_json_has(before, "images") ||
             int_of(s, "images") == int_of(before, "images")));
}

static bool changes_are_recorded(const sim_json *list)
{
    const sim_json *before = NULL;

    for (size_t i = 0; i < sim_json_size(list); i++) {
        const sim_json *s = sim_json_at(list, i);
        if (is_discarded(s))
            continue;
        if (before && !continues(s, before))
            return false;
        before = s;
    }
    return true;
}

/* All segments that led to the checkpoint had the batch and the number of images of the last one,
 * which is recorded, and no change was accepted. */
static bool is_uniform(const sim_json *list)
{
    const sim_json *last = sim_json_at(list, sim_json_size(list) - 1);

    for (size_t i = 0; i < sim_json_size(list); i++) {
        const sim_json *s = sim_json_at(list, i);
        if (!is_discarded(s) &&
            (sim_json_has(s, "changed") || !sim_json_has(s, "images") ||
             int_of(s, "images") != int_of(last, "images") ||
             int_of(s, "batch") != int_of(last, "batch")))
            return false;
    }
    return true;
}

/* Takes the segments that led to the checkpoint, the last of which wrote it. */
static sim_status take_history(const sim_json *list, const char *path, int64_t step,
                               sim_segment *s)
{
    sim_status st = SIM_OK;
    const size_t n = sim_json_size(list);
    size_t bad = 0;

    SIM_CHECK(sim_json_is_array(list) && n > 0, SIM_E_DATA,
              "%s: /history is not a list of segments", path);
    while (bad < n && is_segment(sim_json_at(list, bad)))
        bad++;
    SIM_CHECK(bad == n, SIM_E_DATA, "%s: /history: entry %zu is not a segment", path,
              bad + 1);
    const sim_json *last = sim_json_at(list, n - 1);
    SIM_CHECK(!is_discarded(last) && leads_to_step(list, step), SIM_E_DATA,
              "%s: /history: its segments do not lead from step 0 to step %lld, /step",
              path, (long long)step);
    SIM_CHECK(changes_are_recorded(list), SIM_E_DATA,
              "%s: /history: batch or images differ between segments without an accepted "
              "change",
              path);
    s->n_earlier = n;
    s->is_uniform = is_uniform(list);
    s->saved_batch = int_of(last, "batch");
    s->saved_images = int_of(last, "images");
    s->earlier_s = sum_seconds(list);
done:
    return st;
}

static sim_status parse_history(const char *text, const char *path, sim_json **list)
{
    sim_status st = sim_json_parse(text, strlen(text), list);
    if (st != SIM_OK)
        sim_error_prefix("%s: /history: ", path);
    return st;
}

sim_status sim_history_load(const sim_checkpoint_head *head, const char *path,
                            sim_segment *s, sim_progress *p)
{
    sim_status st = SIM_OK;
    sim_json *list = NULL;
    char start[21];
    double now = sim_clock_wall_s();

    sim_clock_iso(now, start);
    (void)snprintf(s->id, sizeof s->id, "%s-%03d-%ld", start,
                   (int)(1000 * (now - (double)(int64_t)now)), sim_process_id());
    SIM_TRY(sim_text_copy(head ? head->history : "[]", "train/history", &s->history));
    if (head) {
        SIM_TRY(parse_history(head->history, path, &list));
        SIM_TRY(take_history(list, path, head->step, s));
    }
    SIM_CHECK(count_samples(p, list), SIM_E_DATA,
              "%s: /history: more samples than can be counted", path);
done:
    sim_json_destroy(&list);
    return st;
}

sim_status sim_history_requeued(const char *run_path, int64_t *from_step)
{
    sim_status st = SIM_OK;
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    char *text = NULL;
    sim_json *list = NULL;

    *from_step = -1;
    if (!job || !restart)
        goto done;
    SIM_TRY(sim_history_of_run(run_path, &text));
    SIM_TRY(sim_json_parse(text, strlen(text), &list));
    if (sim_json_size(list) == 0)
        goto done;
    const sim_json *last = sim_json_at(list, sim_json_size(list) - 1);
    if (strcmp(text_of(last, "job"), job) == 0 &&
        int_of(last, "restart") < strtoll(restart, NULL, 10))
        *from_step = int_of(last, "from_step");
done:
    sim_json_destroy(&list);
    sim_free(text);
    return st;
}

/* Takes the slowest checkpoint of the last segment.  The time to load one, possibly from the
 * page cache, does not predict the time to save one. */
static void take_checkpoint_time(sim_costs *c, const sim_json *list)
{
    size_t n = sim_json_size(list);
    double slowest_s = 0;
    if (n > 0 &&
        sim_json_get_real(sim_json_at(list, n - 1), "slowest_checkpoint_s", &slowest_s) &&
        slowest_s > c->slowest_checkpoint_s)
        c->slowest_checkpoint_s = slowest_s;
}

/* ---- RUN/segments.json ---- */

static sim_status write_segments(const sim_train_state *t, const char *why)
{
    sim_status st = SIM_OK;
    char path[4200], *text = NULL;

    SIM_TRY(sim_run_check(&t->env.run));
    SIM_TRY(sim_history_text(t, why, &text));
    SIM_TRY(sim_run_path(&t->env.run, "segments.json", path, sizeof path));
    const sim_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    SIM_TRY(sim_file_replace(path, pieces, 2));
done:
    sim_free(text);
    return st;
}

sim_status sim_history_begin(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_json *all = NULL;
    char *of_run = NULL, *text = NULL;

    if (t->env.comm->rank != 0)
        goto done;
    SIM_TRY(take_segments(t->env.run.path, &of_run));
    SIM_TRY(sim_json_create(&all));
    sim_json *list = sim_json_array(all, "segments");
    SIM_TRY(sim_history_merge(t->segment.history, of_run, t->env.request->last_logged,
                              false, list));
    take_checkpoint_time(&t->costs, list);
    SIM_TRY(sim_json_dump(list, 0, &text));
    sim_free(t->segment.history);
    t->segment.history = text;
    SIM_TRY(write_segments(t, "running"));
    t->segment.is_recorded = true;
done:
    sim_json_destroy(&all);
    sim_free(of_run);
    return st;
}

void sim_history_end(sim_train_state *t, const char *why)
{
    char message[4096];

    if (!t->segment.is_recorded)
        return;
    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (write_segments(t, why) != SIM_OK)
        sim_log_warn("%s; the history will list this segment as killed or lost",
                     sim_error_message());
    sim_error_set(message);
}
