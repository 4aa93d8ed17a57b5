/*
 * report_charts.c - the charts of `simile report`.
 *
 * A table selects the metrics that share a chart, their titles and their order; every other metric has a
 * chart of its own, so that a new metric needs no change here.
 */
#include "report.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_SERIES = 24, MOST_NAMES = 5 };

/* Metrics of one chart: names of curves; "*_top1" are those of all evaluations. */
typedef struct {
    const char *title;
    const char *names[MOST_NAMES];
    double scale;      /* of the values in the chart; 0: no chart */
    bool only_nonzero; /* no chart if all values are 0 */
} chart_row;

static const chart_row training[] = {
    {"loss", {"loss"}, 1, false},
    {"learning rate", {"lr"}, 1, false},
    {"contrastive accuracy, %", {"accuracy"}, 100, false},
    {"mean similarity in the loss", {"positive", "negative"}, 1, false},
    {"standard deviation of the embeddings", {"embedding_std"}, 1, false},
    {"gradient norm", {"gradient_norm"}, 1, false},
    {"images/s", {"images_per_s"}, 1, false},
    {"skipped steps", {"skipped"}, 1, true},
    {"anchors without a positive", {"anchors_without_positive"}, 1, true},
    {"waiting for data, % of the time", {"data_percent"}, 1, true},
    {"sum of gradients over ranks, % of the time", {"gradient_sum_percent"}, 1, true},
    {"positions", {"epoch", "elapsed_s"}, 0, false},
};
static const chart_row evaluated[] = {
    {"top-1 accuracy, %", {"*_top1"}, 100, false},
    {"top-5 accuracy, %", {"*_top5"}, 100, false},
    {"RankMe (effective rank)", {"rankme"}, 1, false},
    {"uniformity", {"uniformity"}, 1, false},
    {"alignment", {"alignment"}, 1, false},
    {"mean similarity of positives and negatives",
     {"positive_similarity", "negative_similarity"},
     1,
     false},
    {"positions and options", {"epoch", "elapsed_s", "knn_k", "linear_l2"}, 0, false},
};

typedef struct {
    const report_run *runs;
    size_t n_runs;
    bool evaluations;
    FILE *file;
    size_t n_drawn;
} chart_list;

static bool is_name(const char *pattern, const char *name)
{
    const size_t n = strlen(name), m = strlen(pattern);
    if (pattern[0] == '*')
        return n >= m - 1 && strcmp(name + n - (m - 1), pattern + 1) == 0;
    return strcmp(pattern, name) == 0;
}

static bool has_name(const chart_row *row, const char *name)
{
    for (size_t i = 0; i < MOST_NAMES && row->names[i]; i++)
        if (is_name(row->names[i], name))
            return true;
    return false;
}

static bool is_of_list(const chart_list *l, const report_curve *c)
{
    return (strcmp(c->group, "train") != 0) == l->evaluations;
}

/* ---- series ---- */

typedef struct {
    sim_chart_series series[MOST_SERIES];
    char names[MOST_SERIES][160];
    size_t n;
    sim_chart_point *scaled[MOST_SERIES]; /* owned */
} series_list;

static bool is_zero(const report_curve *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(c->points[i].y) && fabs(c->points[i].y) > 0)
            return false;
    return true;
}

/* The path below the directory that all runs are in; of a long one the end. */
static void shorten_path(const chart_list *l, const char *path, char out[160])
{
    enum { MOST = 46 }; /* characters of a legend */
    size_t same = 0, common = 0;

    for (bool equal = true; equal && path[same]; same += equal) {
        for (size_t r = 0; r < l->n_runs; r++)
            equal = equal && l->runs[r].path[same] == path[same];
        if (equal && path[same] == '/')
            common = same + 1;
    }
    const char *end = path + common;
    const size_t n = strlen(end);
    (void)snprintf(out, 160, "%s%.*s", n > MOST ? "\u2026" : "", MOST,
                   end + (n > MOST ? n - MOST : 0));
}

/* The name of a curve: of several runs the path of the run; of one that of the metric, or of the
 * evaluation where the curves of a chart are the same metric of several. */
static void name_series(const chart_list *l, const report_run *r, const report_curve *c,
                        const chart_row *row, char out[160])
{
    const bool by_group = row->names[0][0] == '*';

    if (l->n_runs > 1)
        shorten_path(l, r->path, out);
    else
        (void)snprintf(out, 160, "%.150s", by_group ? c->group : c->name);
    for (char *p = out; l->n_runs == 1 && *p; p++)
        *p = *p == '_' ? ' ' : *p;
}

static sim_status add_series(const chart_list *l, const report_run *r,
                             const report_curve *c, const chart_row *row,
                             series_list *out)
{
    sim_status st = SIM_OK;
    sim_chart_point **scaled = &out->scaled[out->n];

    if (out->n == MOST_SERIES || c->n == 0)
        goto done;
    SIM_TRY(sim_alloc(scaled, c->n, "cli/report"));
    for (size_t i = 0; i < c->n; i++)
        (*scaled)[i] = (sim_chart_point){c->points[i].x, row->scale * c->points[i].y};
    name_series(l, r, c, row, out->names[out->n]);
    out->series[out->n] = (sim_chart_series){out->names[out->n], *scaled, c->n};
    out->n++;
done:
    return st;
}

static void clear_series(series_list *s)
{
    for (size_t i = 0; i < s->n; i++)
        sim_free(s->scaled[i]);
}

/* ---- marks ---- */

enum { MOST_MARKS = 4096 };

typedef struct {
    sim_chart_mark *marks;
    char (*labels)[96];
    size_t n;
} mark_list;

/* Of one run: where its segments begin, and where the batch changes. */
static sim_status list_marks(const chart_list *l, mark_list *out)
{
    sim_status st = SIM_OK;
    sim_json *list = NULL;
    int64_t batch = 0;

    if (l->n_runs != 1 || l->runs->by_epoch ||
        !sim_json_get_object(l->runs->segments, "segments", &list))
        goto done;
    const size_t n = sim_json_size(list);
    SIM_TRY(sim_alloc(&out->marks, n, "cli/report"));
    SIM_TRY(sim_alloc(&out->labels, n, "cli/report"));
    for (size_t i = 0; i < n; i++) {
        const run_segment s = sim_segment_read(sim_json_at(list, i));
        char *label = out->labels[out->n];
        if (i > 0) {
            const int used = snprintf(label, 96, "segment %zu from step %lld", i + 1,
                                      (long long)s.from);
            if (s.batch != batch)
                (void)snprintf(label + used, 96 - (size_t)used,
                               ", batch %lld instead of %lld", (long long)s.batch,
                               (long long)batch);
            out->marks[out->n++] = (sim_chart_mark){(double)s.from, label};
        }
        batch = s.batch;
    }
done:
    return st;
}

/* ---- charts ---- */

static sim_status draw_chart(chart_list *l, const char *title, const series_list *s)
{
    sim_status st = SIM_OK;
    mark_list marks = {0};
    char *svg = NULL;

    if (s->n == 0)
        goto done;
    SIM_TRY(list_marks(l, &marks));
    const sim_chart chart = {.title = title,
                             .x_title = l->runs->by_epoch ? "epoch" : "step",
                             .series = s->series,
                             .n_series = s->n,
                             .marks = marks.marks,
                             .n_marks = marks.n};
    SIM_TRY(sim_chart_svg(&chart, &svg));
    (void)fputs(svg, l->file);
    l->n_drawn++;
done:
    sim_free(marks.marks);
    sim_free(marks.labels);
    sim_free(svg);
    return st;
}

/* One chart of all curves of a row that have this name; NULL: all names. */
static sim_status draw_curves(chart_list *l, const chart_row *row, const char *title,
                              const char *name)
{
    sim_status st = SIM_OK;
    series_list s = {.n = 0};

    for (size_t r = 0; r < l->n_runs; r++)
        for (size_t i = 0; i < l->runs[r].n_curves; i++) {
            const report_curve *c = &l->runs[r].curves[i];
            if (!is_of_list(l, c) || !has_name(row, c->name) ||
                (name && strcmp(name, c->name) != 0) || (row->only_nonzero && is_zero(c)))
                continue;
            SIM_TRY(add_series(l, &l->runs[r], c, row, &s));
        }
    SIM_TRY(draw_chart(l, title, &s));
done:
    clear_series(&s);
    return st;
}

/* Whether an earlier run, or this run before curve i, has a curve of this name. */
static bool is_known(const chart_list *l, size_t run, size_t i)
{
    const report_curve *c = &l->runs[run].curves[i];

    for (size_t r = 0; r < run; r++)
        if (sim_report_curve(&l->runs[r], c->group, c->name))
            return true;
    return false;
}

/* Of several runs a chart per metric, of one a chart for all metrics of the row. */
static sim_status draw_row(chart_list *l, const chart_row *row)
{
    sim_status st = SIM_OK;
    char title[160];

    if (!(row->scale > 0))
        goto done;
    if (l->n_runs == 1 || (!row->names[1] && row->names[0][0] != '*')) {
        SIM_TRY(draw_curves(l, row, row->title, NULL));
        goto done;
    }
    for (size_t r = 0; r < l->n_runs; r++)
        for (size_t i = 0; i < l->runs[r].n_curves; i++) {
            const report_curve *c = &l->runs[r].curves[i];
            if (!is_of_list(l, c) || !has_name(row, c->name) || is_known(l, r, i))
                continue;
            (void)snprintf(title, sizeof title, "%s: %s", row->title, c->name);
            SIM_TRY(draw_curves(l, row, title, c->name));
        }
done:
    return st;
}

static bool is_in_table(const chart_row *rows, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (has_name(&rows[i], name))
            return true;
    return false;
}

/* Metrics that no row of the table has. */
static sim_status draw_others(chart_list *l, const chart_row *rows, size_t n)
{
    sim_status st = SIM_OK;

    for (size_t r = 0; r < l->n_runs; r++)
        for (size_t i = 0; i < l->runs[r].n_curves; i++) {
            const report_curve *c = &l->runs[r].curves[i];
            const chart_row own = {.names = {c->name}, .scale = 1};
            if (is_of_list(l, c) && !is_in_table(rows, n, c->name) && !is_known(l, r, i))
                SIM_TRY(draw_curves(l, &own, c->name, NULL));
        }
done:
    return st;
}

sim_status sim_report_charts(const report_run *runs, size_t n, bool evaluations,
                             char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    chart_list l = {.runs = runs, .n_runs = n, .evaluations = evaluations};
    const chart_row *rows = evaluations ? evaluated : training;
    const size_t n_rows = evaluations ? sizeof evaluated / sizeof *evaluated
                                      : sizeof training / sizeof *training;

    *out = NULL;
    SIM_TRY(sim_text_open(&text));
    l.file = text.file;
    for (size_t i = 0; i < n_rows; i++)
        SIM_TRY(draw_row(&l, &rows[i]));
    SIM_TRY(draw_others(&l, rows, n_rows));
    if (l.n_drawn > 0)
        SIM_TRY(sim_text_finish(&text, "cli/report", out));
done:
    sim_text_close(&text);
    return st;
}

/* ---- histograms ---- */

enum { MOST_COLUMNS = 60 };

/* The i-th of at most MOST_COLUMNS steps, evenly spaced, with the last. */
static size_t column_of(const report_histogram *h, size_t i, size_t n)
{
    return n < 2 ? h->n - 1 : i * (h->n - 1) / (n - 1);
}

typedef struct {
    char (*text)[32];
    const char **list;
} label_list;

static sim_status create_labels(size_t n, label_list *out)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_alloc(&out->text, n, "cli/report"));
    SIM_TRY(sim_alloc(&out->list, n, "cli/report"));
    for (size_t i = 0; i < n; i++)
        out->list[i] = out->text[i];
done:
    return st;
}

static void destroy_labels(label_list *l)
{
    sim_free(l->text);
    sim_free(l->list);
}

/* Columns are steps, rows are bins of [-1, 1] from the highest; values are parts of the column. */
static sim_status draw_histogram(const report_histogram *h, FILE *file)
{
    sim_status st = SIM_OK;
    const size_t n = h->n < MOST_COLUMNS ? h->n : MOST_COLUMNS;
    label_list x = {0}, y = {0};
    double *values = NULL;
    char *svg = NULL, title[96];

    SIM_TRY(create_labels(n, &x));
    SIM_TRY(create_labels(h->n_bins, &y));
    SIM_TRY(sim_alloc(&values, n * h->n_bins, "cli/report"));
    for (size_t b = 0; b < h->n_bins; b++) {
        const double width = 2 / (double)h->n_bins, low = 1 - width * (double)(b + 1);
        (void)snprintf(y.text[b], sizeof y.text[b], "%.2f to %.2f", low, low + width);
    }
    for (size_t i = 0; i < n; i++) {
        const double *counts = h->counts + column_of(h, i, n) * h->n_bins;
        double sum = 0;
        for (size_t b = 0; b < h->n_bins; b++)
            sum += counts[b];
        for (size_t b = 0; b < h->n_bins; b++)
            values[b * n + i] = sum > 0 ? counts[h->n_bins - 1 - b] / sum : 0;
        (void)snprintf(x.text[i], sizeof x.text[i], "%lld",
                       (long long)h->steps[column_of(h, i, n)]);
    }
    (void)snprintf(title, sizeof title, "similarities of %s",
                   strncmp(h->name, "positive", 8) == 0
                       ? "positives: two views of an image"
                   : strncmp(h->name, "negative", 8) == 0 ? "negatives: two images"
                                                          : h->name);
    const sim_heatmap map = {.title = title,
                             .x_title = "step",
                             .y_title = "cosine similarity",
                             .n_x = n,
                             .n_y = h->n_bins,
                             .values = values,
                             .x = x.list,
                             .y = y.list,
                             .value_title = "of the pairs"};
    SIM_TRY(sim_heatmap_svg(&map, &svg));
    (void)fputs(svg, file);
done:
    destroy_labels(&x);
    destroy_labels(&y);
    sim_free(values);
    sim_free(svg);
    return st;
}

sim_status sim_report_histograms(const report_run *r, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};

    *out = NULL;
    SIM_TRY(sim_text_open(&text));
    for (size_t i = 0; i < r->n_histograms; i++)
        SIM_TRY(draw_histogram(&r->histograms[i], text.file));
    if (r->n_histograms > 0)
        SIM_TRY(sim_text_finish(&text, "cli/report", out));
done:
    sim_text_close(&text);
    return st;
}
