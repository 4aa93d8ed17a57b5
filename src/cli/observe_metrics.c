/*
 * observe_metrics.c - RUN/metrics.jsonl: one JSON object per log interval or evaluation.
 *
 * A resumed run removes the lines after its checkpoint and appends, so that every step occurs
 * once.  Lines that cannot be written stay in memory until the next write.  They are durable before a
 * checkpoint is written, which stores the step that they reach: a start reports missing ones.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum { READ_BYTES = 1 << 20 }; /* per read; longer than any line of metrics */

typedef struct {
    char path[4096];
    int fd;
    uint64_t end;  /* of the complete lines of the file */
    char *pending; /* lines that are not yet in the file */
    size_t n_pending;
    bool warned; /* about pending lines */
    bool sync_failed;
} metrics_state;

/* Returns the step of a line, or -1 if it is not a line of this program; reads its images per
 * second if it has the key. */
static int64_t read_line(const char *line, size_t n, double *images_per_s)
{
    sim_json *j = NULL;
    int64_t step = -1;
    double value = 0;
    if (sim_json_parse(line, n, &j) == SIM_OK && !sim_json_is_array(j) &&
        sim_json_get_real(j, "epoch", &value) && sim_json_get_int(j, "step", &step))
        (void)sim_json_get_real(j, "images_per_s", images_per_s);
    sim_error_clear();
    sim_json_destroy(&j);
    return step < 0 ? -1 : step;
}

static int64_t step_of(const char *line, size_t n)
{
    double unused = 0;
    return read_line(line, n, &unused);
}

enum { BAD_LISTED = 8 };

/* What copy_earlier has read so far. */
typedef struct {
    int64_t step;           /* lines of later steps are not copied */
    int64_t last;           /* step of the last line that was copied */
    uint64_t kept_bytes;    /* copied */
    size_t n_lines;         /* complete lines */
    size_t n_bad;           /* lines that are not of this program */
    size_t bad[BAD_LISTED]; /* their numbers, from 1 */
} line_copy;

static void note_bad(line_copy *c, size_t line)
{
    if (c->n_bad < BAD_LISTED)
        c->bad[c->n_bad] = line;
    c->n_bad++;
}

/* "line 3 is", "lines 3, 7 are", "lines 3, 7, ... and 12 more are" */
static void list_bad(const line_copy *c, char *out, size_t out_bytes)
{
    size_t used = 0;

    for (size_t i = 0; i < c->n_bad && i < BAD_LISTED; i++) {
        const char *before = i > 0 ? ", " : c->n_bad == 1 ? "line " : "lines ";
        used +=
            (size_t)snprintf(out + used, out_bytes - used, "%s%zu", before, c->bad[i]);
    }
    if (c->n_bad > BAD_LISTED)
        used += (size_t)snprintf(out + used, out_bytes - used, " and %zu more",
                                 c->n_bad - BAD_LISTED);
    (void)snprintf(out + used, out_bytes - used, c->n_bad == 1 ? " is" : " are");
}

/* Copies a line of n bytes, without its line break, if it belongs to a step up to c->step. */
static sim_status copy_line(line_copy *c, const char *line, size_t n, sim_replacement *r)
{
    sim_status st = SIM_OK;
    int64_t at = step_of(line, n);

    c->n_lines++;
    if (at < 0)
        note_bad(c, c->n_lines);
    if (at >= 0 && at <= c->step) {
        SIM_TRY(sim_file_replace_add(r, line, n));
        SIM_TRY(sim_file_replace_add(r, "\n", 1));
        c->kept_bytes += n + 1;
        c->last = at;
    }
done:
    return st;
}

/* Copies the lines of a text that end in a line break; *used is their length. */
static sim_status copy_lines(line_copy *c, const char *text, size_t n_bytes,
                             sim_replacement *r, size_t *used)
{
    sim_status st = SIM_OK;
    const char *line = text, *end = NULL;

    while ((end = memchr(line, '\n', n_bytes - (size_t)(line - text))) != NULL) {
        SIM_TRY(copy_line(c, line, (size_t)(end - line), r));
        line = end + 1;
    }
    *used = (size_t)(line - text);
done:
    return st;
}

/* Advances *at to the start of the next line, or to the end of the file; text: workspace. */
static sim_status find_next_line(int fd, const char *path, uint64_t n_bytes, char *text,
                                 uint64_t *at)
{
    sim_status st = SIM_OK;
    const char *end = NULL;

    while (*at < n_bytes && !end) {
        const size_t n =
            n_bytes - *at < READ_BYTES ? (size_t)(n_bytes - *at) : READ_BYTES;
        SIM_TRY(sim_file_read_at(fd, path, *at, text, n));
        end = memchr(text, '\n', n);
        *at += end ? (size_t)(end + 1 - text) : n;
    }
done:
    return st;
}

/* Copies the lines of steps up to `step`, without a truncated last line.  A last line that lacks
 * only its line break is complete. */
static sim_status copy_earlier(const char *path, sim_replacement *r, line_copy *c)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    uint64_t n_bytes = 0, at = 0;
    size_t n = 0, used = 0;
    int fd = -1;

    SIM_TRY(sim_alloc(&text, READ_BYTES, "cli/metrics"));
    if (sim_path_exists(path))
        SIM_TRY(sim_file_open_read(path, &fd, &n_bytes));
    while (at < n_bytes) {
        n = n_bytes - at < READ_BYTES ? (size_t)(n_bytes - at) : READ_BYTES;
        SIM_TRY(sim_file_read_at(fd, path, at, text, n));
        SIM_TRY(copy_lines(c, text, n, r, &used));
        at += used;
        if (used == 0 && n < READ_BYTES)
            break;
        if (used == 0) { /* longer than any line of metrics */
            note_bad(c, ++c->n_lines);
            SIM_TRY(find_next_line(fd, path, n_bytes, text, &at));
        }
    }
    /* Text without a line break: a truncated line begins like a complete one. */
    if (at < n_bytes && step_of(text, n) >= 0)
        SIM_TRY(copy_line(c, text, n, r));
    else if (at < n_bytes && text[0] != '{')
        note_bad(c, c->n_lines + 1);
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(text);
    return st;
}

static bool has_lines(const char *path)
{
    uint64_t n_bytes = 0;
    int fd = -1;
    bool has = sim_file_open_read(path, &fd, &n_bytes) == SIM_OK && n_bytes > 0;

    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return has;
}

/* Removes the lines of steps after `step`.  A file of a run whose checkpoints were removed, and one
 * that has other lines than those of this program, are kept under another name. */
static sim_status remove_later(const char *path, const sim_observed_run *run,
                               uint64_t *keep_bytes)
{
    sim_status st = SIM_OK;
    sim_replacement r = {.created = false};
    line_copy c = {.step = run->step};
    bool existed = sim_path_exists(path);
    char lines[BAD_LISTED * 24 + 32], problem[sizeof lines + 64];

    if (run->is_fresh && existed && has_lines(path)) {
        SIM_TRY(sim_run_set_aside(
            path, "the run has no checkpoint, so it starts from step 0", NULL));
        existed = false;
    }
    SIM_TRY(sim_file_replace_begin(path, &r));
    SIM_TRY(copy_earlier(path, &r, &c));
    if (c.n_bad) {
        list_bad(&c, lines, sizeof lines);
        (void)snprintf(problem, sizeof problem,
                       "%s not metrics; the other lines are copied", lines);
        SIM_TRY(sim_run_set_aside(path, problem, NULL));
    }
    SIM_TRY(sim_file_replace_end(&r));
    *keep_bytes = c.kept_bytes;
    if ((existed || !run->is_foreign) && c.last < run->published)
        sim_log_warn(
            "%s: lines of steps %lld to %lld are missing: the file was truncated or "
            "edited, or the lines were lost with the disk",
            path, (long long)c.last + 1, (long long)run->published);
done:
    sim_file_replace_cancel(&r);
    return st;
}

int64_t sim_metrics_last_step(const char *run_path, double *images_per_s)
{
    char path[4200], *text = NULL;
    size_t n = 0;
    int64_t last = -1;

    *images_per_s = 0;
    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", run_path);
    if (!sim_path_exists(path) ||
        sim_file_load_end(path, READ_BYTES, &text, &n) != SIM_OK)
        goto done;
    while (n > 0 && (last < 0 || *images_per_s == 0)) { /* line by line from the end */
        size_t end = text[n - 1] == '\n' ? n - 1 : n;
        for (n = end; n > 0 && text[n - 1] != '\n';)
            n--;
        int64_t step = read_line(text + n, end - n, images_per_s);
        last = last < 0 ? step : last; /* the line of an evaluation has no rate */
    }
done:
    sim_error_clear();
    sim_free(text);
    return last;
}

/* Copies the lines of the abandoned branch to the directory of its checkpoints. */
static sim_status copy_to_abandoned(const char *path, const char *directory)
{
    sim_status st = SIM_OK;
    char copy[4300];
    sim_replacement r = {.created = false};
    line_copy c = {.step = INT64_MAX};

    if (!directory[0])
        goto done;
    (void)snprintf(copy, sizeof copy, "%s/metrics.jsonl", directory);
    SIM_TRY(sim_file_replace_begin(copy, &r));
    SIM_TRY(copy_earlier(path, &r, &c));
    SIM_TRY(sim_file_replace_end(&r));
done:
    sim_file_replace_cancel(&r);
    return st;
}

/* A pipe or device of this name, the write to which could block. */
static sim_status keep_other_kinds(const char *path)
{
    sim_status st = SIM_OK;
    uint64_t unused = 0;
    int fd = -1;

    if (sim_path_exists(path) && sim_file_open_read(path, &fd, &unused) == SIM_E_INPUT)
        SIM_TRY(sim_run_set_aside(path, "not a regular file", NULL));
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    return st;
}

static sim_status metrics_begin(void *state, const sim_observed_run *run)
{
    sim_status st = SIM_OK;
    metrics_state *s = state;
    char path[sizeof s->path];

    int n = snprintf(path, sizeof path, "%s/metrics.jsonl", run->path);
    SIM_CHECK(n > 0 && (size_t)n < sizeof path, SIM_E_CONFIG, "%s: the path is too long",
              run->path);
    SIM_TRY(keep_other_kinds(path));
    SIM_TRY(copy_to_abandoned(path, run->abandoned));
    SIM_TRY(remove_later(path, run, &s->end));
    SIM_TRY(sim_file_open_update(path, &s->fd));
    memcpy(s->path, path, sizeof s->path);
done:
    return st;
}

/* Written at a fixed offset, so that a truncated line is overwritten. */
static sim_status write_pending(metrics_state *s)
{
    sim_status st = SIM_OK;
    if (s->n_pending == 0)
        goto done;
    SIM_TRY(sim_file_write_at(s->fd, s->path, s->end, s->pending, s->n_pending));
    s->end += s->n_pending;
    s->n_pending = 0;
    s->warned = false;
    SIM_FREE(s->pending);
done:
    return st;
}

static void warn_of_pending(metrics_state *s)
{
    if (!s->warned)
        sim_log_warn("%s; its lines stay in memory until the next write",
                     sim_error_message());
    s->warned = true;
    sim_error_clear();
}

/* A failed write is only a warning: checkpoints may still succeed. */
static sim_status append_line(metrics_state *s, const sim_json *j)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_json_dump(j, 0, &text));
    const size_t n = strlen(text);
    SIM_TRY(sim_grow(&s->pending, s->n_pending + n + 1, "cli/metrics"));
    memcpy(s->pending + s->n_pending, text, n);
    s->pending[s->n_pending + n] = '\n';
    s->n_pending += n + 1;
    if (write_pending(s) != SIM_OK)
        warn_of_pending(s);
done:
    sim_free(text);
    return st;
}

static void add_histogram(sim_json *j, const sim_histogram *h)
{
    sim_json *counts = sim_json_array(j, h->name);
    for (size_t b = 0; b < h->n_bins; b++)
        sim_json_int(counts, NULL, h->counts[b]);
}

static void fill_object(sim_json *j, const sim_record *r)
{
    char now[21];

    sim_clock_iso(sim_clock_wall_s(), now);
    sim_json_text(j, "kind", r->kind == SIM_RECORD_EVALUATION ? "evaluation" : "train");
    if (r->protocol)
        sim_json_text(j, "protocol", r->protocol);
    if (r->test)
        sim_json_text(j, "test", r->test);
    sim_json_int(j, "step", r->step);
    for (size_t i = 0; i < r->n_scalars; i++) {
        const sim_scalar *s = &r->scalars[i];
        if (s->about.log_only)
            continue;
        if (s->about.format == SIM_FORMAT_INT)
            sim_json_int(j, s->about.name, (int64_t)s->value);
        else
            sim_json_real(j, s->about.name, s->value);
    }
    for (size_t i = 0; i < r->n_histograms; i++)
        add_histogram(j, &r->histograms[i]);
    sim_json_text(j, "time", now);
}

static sim_status metrics_publish(void *state, const sim_record *r)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    if (r->kind == SIM_RECORD_PROGRESS || r->kind == SIM_RECORD_PICTURE)
        goto done;
    SIM_TRY(sim_json_create(&j));
    fill_object(j, r);
    SIM_TRY(append_line(state, j));
done:
    sim_json_destroy(&j);
    return st;
}

/* A failure is only a warning, as in append_line. */
static sim_status metrics_sync(void *state)
{
    metrics_state *s = state;

    if (s->fd < 0 || !s->path[0]) /* the first checkpoint precedes `begin` */
        return SIM_OK;
    if (write_pending(s) != SIM_OK)
        warn_of_pending(s);
    const bool failed = sim_file_sync(s->fd, s->path) != SIM_OK;
    if (failed && !s->sync_failed)
        sim_log_warn("%s; its last lines may be lost if the machine fails",
                     sim_error_message());
    if (failed)
        sim_error_clear();
    s->sync_failed = failed;
    return SIM_OK;
}

/* Lines that still cannot be written at the end of the run only cause a warning. */
static void close_file(metrics_state *s)
{
    char message[4096];

    if (!s->path[0]) /* not open */
        return;
    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (write_pending(s) != SIM_OK)
        sim_log_warn("%s; its last lines are lost", sim_error_message());
    if (sim_file_close(&s->fd, s->path) != SIM_OK)
        sim_log_warn("%s; its last lines may be lost", sim_error_message());
    sim_error_set(message); /* of a failure that ends the run */
    s->path[0] = '\0';
}

static sim_status metrics_end(void *state)
{
    close_file(state);
    return SIM_OK;
}

static void metrics_clear(void *state)
{
    metrics_state *s = state;
    close_file(s); /* after a failure `end` is not called */
    SIM_FREE(s->pending);
}

const sim_observer sim_observe_metrics = {.name = "metrics",
                                          .state_bytes = sizeof(metrics_state),
                                          .begin = metrics_begin,
                                          .publish = metrics_publish,
                                          .sync = metrics_sync,
                                          .end = metrics_end,
                                          .clear = metrics_clear};
