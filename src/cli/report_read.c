/*
 * report_read.c - reads the files of a run for `simile report`.
 */
#include "report.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    METRICS_BYTES = 1 << 30, /* from the end of the file */
    RESULT_BYTES = 1 << 24,
    CONFIG_BYTES = 1 << 22,
    MAX_CURVES = 256,
    MAX_HISTOGRAMS = 16,
    MAX_BINS = 1024
};

/* ---- curves ---- */

const report_curve *sim_report_curve(const report_run *r, const char *group,
                                     const char *name)
{
    for (size_t i = 0; i < r->n_curves; i++)
        if (strcmp(r->curves[i].group, group) == 0 &&
            strcmp(r->curves[i].name, name) == 0)
            return &r->curves[i];
    return NULL;
}

/* The curve, which is added if it is new; *out is NULL if there are too many. */
static sim_status find_curve(report_run *r, const char *group, const char *name,
                             report_curve **out)
{
    sim_status st = SIM_OK;
    const report_curve *known = sim_report_curve(r, group, name);

    *out = known ? &r->curves[known - r->curves] : NULL;
    if (known || r->n_curves == MAX_CURVES)
        goto done;
    SIM_TRY(sim_grow(&r->curves, r->n_curves + 1, "cli/report"));
    *out = &r->curves[r->n_curves++];
    **out = (report_curve){.points = NULL};
    (void)snprintf((*out)->group, sizeof(*out)->group, "%s", group);
    (void)snprintf((*out)->name, sizeof(*out)->name, "%s", name);
done:
    return st;
}

static sim_status add_point(report_curve *c, double x, double y)
{
    sim_status st = SIM_OK;

    if (c->n > 0 && !(x >= c->points[c->n - 1].x)) /* of an edited file */
        goto done;
    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 64;
        SIM_TRY(sim_grow(&c->points, capacity, "cli/report"));
        c->capacity = capacity;
    }
    c->points[c->n++] = (sim_chart_point){x, y};
done:
    return st;
}

/* ---- histograms ---- */

static sim_status find_histogram(report_run *r, const char *name, size_t n_bins,
                                 report_histogram **out)
{
    sim_status st = SIM_OK;

    *out = NULL;
    for (size_t i = 0; i < r->n_histograms; i++)
        if (strcmp(r->histograms[i].name, name) == 0) {
            *out = r->histograms[i].n_bins == n_bins ? &r->histograms[i] : NULL;
            goto done;
        }
    if (r->n_histograms == MAX_HISTOGRAMS || n_bins < 1 || n_bins > MAX_BINS)
        goto done;
    SIM_TRY(sim_grow(&r->histograms, r->n_histograms + 1, "cli/report"));
    *out = &r->histograms[r->n_histograms++];
    **out = (report_histogram){.n_bins = n_bins};
    (void)snprintf((*out)->name, sizeof(*out)->name, "%s", name);
done:
    return st;
}

static sim_status add_counts(report_histogram *h, int64_t step, const sim_json *counts)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_grow(&h->counts, (h->n + 1) * h->n_bins, "cli/report"));
    SIM_TRY(sim_grow(&h->steps, h->n + 1, "cli/report"));
    for (size_t b = 0; b < h->n_bins; b++)
        h->counts[h->n * h->n_bins + b] = sim_json_real_at(counts, b);
    h->steps[h->n++] = step;
done:
    return st;
}

/* ---- lines ---- */

typedef struct {
    report_run *run;
    const sim_json *line;
    const char *group;
    int64_t step;
    double x;
} line_reader;

static sim_status read_member(void *ctx, const char *key, const sim_json *value)
{
    sim_status st = SIM_OK;
    const line_reader *l = ctx;
    report_curve *curve = NULL;
    report_histogram *histogram = NULL;
    double y = (double)NAN;
    int64_t integer = 0;
    const char *text = NULL;
    const size_t n = strlen(key);

    if (strcmp(key, "step") == 0 || sim_json_get_text(l->line, key, &text))
        goto done;
    if (value) {
        if (n > 10 && strcmp(key + n - 10, "_histogram") == 0 && sim_json_is_array(value))
            SIM_TRY(find_histogram(l->run, key, sim_json_size(value), &histogram));
        if (histogram)
            SIM_TRY(add_counts(histogram, l->step, value));
        goto done;
    }
    if (!sim_json_get_real(l->line, key, &y) && sim_json_get_int(l->line, key, &integer))
        y = (double)integer;
    SIM_TRY(find_curve(l->run, l->group, key, &curve));
    if (curve)
        SIM_TRY(add_point(curve, l->x, y));
done:
    return st;
}

static sim_status read_line(report_run *r, const char *line, size_t n)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    line_reader l = {.run = r, .group = "train"};
    double epoch = 0;

    r->n_lines++;
    if (sim_json_parse(line, n, &j) != SIM_OK || sim_json_is_array(j) ||
        !sim_json_get_int(j, "step", &l.step) || !sim_json_get_real(j, "epoch", &epoch)) {
        sim_error_clear();
        r->n_bad++;
        goto done;
    }
    l.line = j;
    l.x = r->by_epoch ? epoch : (double)l.step;
    (void)sim_json_get_text(j, "protocol", &l.group);
    SIM_TRY(sim_json_each(j, read_member, &l));
done:
    sim_json_destroy(&j);
    return st;
}

/* A last line without a line break is being written, or truncated. */
static sim_status read_metrics(report_run *r)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], *text = NULL;
    size_t n = 0;

    (void)snprintf(path, sizeof path, "%.4000s/metrics.jsonl", r->path);
    if (!sim_path_exists(path))
        goto done;
    SIM_TRY(sim_file_load_end(path, METRICS_BYTES, &text, &n));
    for (const char *line = text, *end = NULL;
         (end = memchr(line, '\n', n - (size_t)(line - text))) != NULL; line = end + 1)
        SIM_TRY(read_line(r, line, (size_t)(end - line)));
    if (r->n_bad > 0)
        sim_log_warn("%s: %zu of %zu lines are not metrics", path, r->n_bad, r->n_lines);
done:
    sim_free(text);
    return st;
}

/* ---- other files ---- */

/* The object or array in a file; NULL if there is none. */
static sim_json *load_json(const char *path)
{
    char *text = NULL;
    sim_json *j = NULL;
    size_t n = 0;

    if (sim_path_exists(path) &&
        (sim_file_load(path, RESULT_BYTES, &text, &n) != SIM_OK ||
         sim_json_parse(text, n, &j) != SIM_OK))
        sim_log_warn("%s", sim_error_message());
    sim_error_clear();
    sim_free(text);
    return j;
}

static sim_status read_segments(report_run *r)
{
    sim_status st = SIM_OK;
    char *of_run = NULL;
    double unused = 0;

    SIM_TRY(sim_json_create(&r->segments));
    sim_json *list = sim_json_array(r->segments, "segments");
    if (sim_history_of_run(r->path, &of_run) != SIM_OK ||
        sim_history_merge("[]", of_run, sim_metrics_last_step(r->path, &unused),
                          r->info.state == RUN_RUNNING, list) != SIM_OK) {
        sim_log_warn("%s", sim_error_message());
        sim_error_clear();
    }
done:
    sim_free(of_run);
    return st;
}

static void read_job(report_run *r)
{
    static const char *const names[] = {"config.yaml", "config.resolved.yaml"};
    char path[PATH_MAX];
    size_t n = 0;

    for (size_t i = 0; i < 2 && !r->job; i++) {
        (void)snprintf(path, sizeof path, "%.4000s/%s", r->path, names[i]);
        if (sim_path_exists(path) &&
            sim_file_load(path, CONFIG_BYTES, &r->job, &n) != SIM_OK) {
            sim_log_warn("%s", sim_error_message());
            sim_error_clear();
        }
    }
}

sim_status sim_report_check(const char *path)
{
    sim_status st = SIM_OK;
    SIM_CHECK(sim_path_is_directory(path), SIM_E_INPUT,
              "%s is not a directory; expected a run", path);
    SIM_CHECK(sim_run_info_is_run(path), SIM_E_INPUT, "%s is not the directory of a run",
              path);
done:
    return st;
}

sim_status sim_report_read(const char *path, bool by_epoch, report_run *out)
{
    sim_status st = SIM_OK;
    char file[PATH_MAX];

    *out = (report_run){.by_epoch = by_epoch};
    SIM_TRY(sim_report_check(path));
    SIM_TRY(sim_text_copy(path, "cli/report", &out->path));
    sim_run_info_read(path, &out->info);
    SIM_TRY(read_metrics(out));
    SIM_TRY(read_segments(out));
    (void)snprintf(file, sizeof file, "%.4000s/results/pretrain.json", path);
    out->cost = load_json(file);
    read_job(out);
done:
    return st;
}

void sim_report_clear(report_run *r)
{
    for (size_t i = 0; i < r->n_curves; i++)
        sim_free(r->curves[i].points);
    for (size_t i = 0; i < r->n_histograms; i++) {
        sim_free(r->histograms[i].counts);
        sim_free(r->histograms[i].steps);
    }
    sim_free(r->curves);
    sim_free(r->histograms);
    sim_json_destroy(&r->segments);
    sim_json_destroy(&r->cost);
    sim_free(r->job);
    sim_free(r->path);
    *r = (report_run){.path = NULL};
}
