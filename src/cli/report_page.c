/*
 * report_page.c - the page of `simile report`: its sections and their order.
 */
#include "report.h"
#include "run_columns.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_PARTS = 32, MOST_CLASSES = 40, RESULT_BYTES = 1 << 28 };

/* A table that owns its cells. */
typedef struct {
    sim_report_column *columns;
    char **cells;
    sim_report_table table;
} owned_table;

typedef struct {
    sim_page_part parts[MOST_PARTS];
    size_t n;
    char *texts[MOST_PARTS]; /* of each part; owned */
    owned_table tables[MOST_PARTS];
    sim_picture pictures[MOST_PARTS];
    uint8_t *png[MOST_PARTS];
    report_images images;
} page;

/* ---- parts ---- */

static void clear_page(page *p)
{
    for (size_t i = 0; i < MOST_PARTS; i++) {
        owned_table *t = &p->tables[i];
        for (size_t c = 0; t->cells && c < t->table.n_rows * t->table.n_columns; c++)
            sim_free(t->cells[c]);
        sim_free(t->cells);
        sim_free(t->columns);
        sim_free(p->texts[i]);
        sim_free(p->png[i]);
    }
    sim_report_images_clear(&p->images);
}

/* Takes the text; a section without text is left out. */
static void add_text(page *p, sim_page_kind kind, const char *heading, char *text)
{
    if (!text)
        return;
    SIM_ASSERT(p->n < MOST_PARTS);
    p->texts[p->n] = text;
    p->parts[p->n++] = (sim_page_part){.kind = kind, .heading = heading, .text = text};
}

/* Adds a table of empty cells, filled by set_cell. */
static sim_status add_table(page *p, const char *heading,
                            const sim_report_column *columns, size_t n_columns,
                            size_t n_rows, owned_table **out)
{
    sim_status st = SIM_OK;
    owned_table *t = &p->tables[p->n];

    SIM_ASSERT(p->n < MOST_PARTS);
    SIM_TRY(sim_alloc(&t->columns, n_columns, "cli/report"));
    memcpy(t->columns, columns, n_columns * sizeof *columns);
    SIM_TRY(sim_alloc(&t->cells, n_columns * n_rows, "cli/report"));
    t->table =
        (sim_report_table){n_columns, n_rows, t->columns, (const char *const *)t->cells};
    for (size_t i = 0; i < n_columns * n_rows; i++)
        SIM_TRY(sim_text_copy("", "cli/report", &t->cells[i]));
    p->parts[p->n++] =
        (sim_page_part){.kind = SIM_PAGE_TABLE, .heading = heading, .table = &t->table};
    *out = t;
done:
    return st;
}

static sim_status set_cell(owned_table *t, size_t row, size_t column, const char *fmt,
                           ...) SIM_PRINTF(4, 5);
static sim_status set_cell(owned_table *t, size_t row, size_t column, const char *fmt,
                           ...)
{
    sim_status st = SIM_OK;
    char text[RUN_CELL_BYTES], **cell = &t->cells[row * t->table.n_columns + column];
    va_list list;

    va_start(list, fmt);
    (void)vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    SIM_FREE(*cell);
    SIM_TRY(sim_text_copy(text, "cli/report", cell));
done:
    return st;
}

/* ---- runs ---- */

static void print_cell(const report_run *r, size_t column, char out[RUN_CELL_BYTES])
{
    run_info info = r->info;

    info.path = r->path;
    out[0] = '\0';
    sim_run_columns[column].print(&info, out);
}

/* The columns of `simile runs`: a row per column for one run, a row per run for several. */
static sim_status add_run(page *p, const report_run *r)
{
    static const sim_report_column columns[] = {{"", false}, {"", false}};
    sim_status st = SIM_OK;
    owned_table *t = NULL;
    char cell[RUN_CELL_BYTES];

    SIM_TRY(add_table(p, NULL, columns, 2, RUN_COLUMNS, &t));
    for (size_t c = 0; c < RUN_COLUMNS; c++) {
        print_cell(r, c, cell);
        SIM_TRY(set_cell(t, c, 0, "%s", sim_run_columns[c].title));
        SIM_TRY(set_cell(t, c, 1, "%s", cell));
    }
done:
    return st;
}

static sim_status add_runs(page *p, const report_run *runs, size_t n)
{
    sim_status st = SIM_OK;
    sim_report_column columns[RUN_COLUMNS];
    owned_table *t = NULL;
    char cell[RUN_CELL_BYTES];

    for (size_t c = 0; c < RUN_COLUMNS; c++)
        columns[c] =
            (sim_report_column){sim_run_columns[c].title, sim_run_columns[c].right};
    SIM_TRY(add_table(p, NULL, columns, RUN_COLUMNS, n, &t));
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < RUN_COLUMNS; c++) {
            print_cell(&runs[r], c, cell);
            SIM_TRY(set_cell(t, r, c, "%s", cell));
        }
done:
    return st;
}

static const sim_json *segments_of(const report_run *r)
{
    sim_json *list = NULL;
    (void)sim_json_get_object(r->segments, "segments", &list);
    return list;
}

/* Where the run was computed, and how it ended. */
static sim_status add_state(page *p, const report_run *r)
{
    sim_status st = SIM_OK;
    const sim_json *list = segments_of(r);
    const size_t n = sim_json_size(list);
    char *text = NULL, span[32] = "", end[200] = "is running";
    const char *build = "";
    double elapsed_s = 0;

    if (n == 0)
        goto done;
    const run_segment first = sim_segment_read(sim_json_at(list, 0)),
                      last = sim_segment_read(sim_json_at(list, n - 1));
    (void)sim_json_get_text(sim_json_at(list, n - 1), "build", &build);
    if (r->cost && sim_json_get_real(r->cost, "elapsed_s", &elapsed_s))
        sim_clock_span(elapsed_s, span, sizeof span);
    if (r->info.state != RUN_RUNNING)
        (void)snprintf(end, sizeof end, "ended%s%s: %.140s", *span ? " after " : "", span,
                       last.ended);
    SIM_TRY(sim_text_format(
        "cli/report", &text,
        "Started %s, %zu segment%s. The last one, on %s with %lld rank%s x "
        "%lld thread%s, %s. %s.",
        first.start, n, n == 1 ? "" : "s", last.host, (long long)last.ranks,
        last.ranks == 1 ? "" : "s", (long long)last.threads, last.threads == 1 ? "" : "s",
        end, build));
    add_text(p, SIM_PAGE_TEXT, NULL, text);
done:
    return st;
}

/* ---- segments ---- */

static sim_status add_segments(page *p, const report_run *r)
{
    static const sim_report_column columns[] = {
        {"#", true},        {"started", false},
        {"on", false},      {"ranks x threads", true},
        {"batch", true},    {"steps", true},
        {"images/s", true}, {"ended by", false}};
    sim_status st = SIM_OK;
    const sim_json *list = segments_of(r);
    const size_t n = sim_json_size(list);
    owned_table *t = NULL;

    if (n == 0)
        goto done;
    SIM_TRY(add_table(p, "Segments", columns, sizeof columns / sizeof *columns, n, &t));
    for (size_t i = 0; i < n; i++) {
        const run_segment s = sim_segment_read(sim_json_at(list, i));
        SIM_TRY(set_cell(t, i, 0, "%zu", i + 1));
        SIM_TRY(set_cell(t, i, 1, "%s", s.start));
        SIM_TRY(set_cell(t, i, 2, "%s", s.host));
        if (s.nodes > 1)
            SIM_TRY(set_cell(t, i, 2, "%s +%lld", s.host, (long long)s.nodes - 1));
        SIM_TRY(
            set_cell(t, i, 3, "%lld x %lld", (long long)s.ranks, (long long)s.threads));
        SIM_TRY(set_cell(t, i, 4, "%lld", (long long)s.batch));
        SIM_TRY(set_cell(t, i, 5, "%lld to %lld", (long long)s.from,
                         (long long)(s.to > s.from     ? s.to
                                     : s.last > s.from ? s.last
                                                       : s.from)));
        if (s.images_per_s > 0)
            SIM_TRY(set_cell(t, i, 6, "%.0f", s.images_per_s));
        SIM_TRY(set_cell(t, i, 7, "%s%s%s", s.ended, *s.changed ? "; accepted: " : "",
                         s.changed));
    }
done:
    return st;
}

/* ---- time by phase ---- */

typedef struct {
    owned_table *table;
    const sim_json *times;
    double total_s;
    size_t row;
} phase_rows;

static sim_status add_phase(void *ctx, const char *key, const sim_json *value)
{
    sim_status st = SIM_OK;
    phase_rows *p = ctx;
    double here = 0, least = 0, most = 0;
    char name[64];

    if (!value || p->row == p->table->table.n_rows)
        goto done;
    (void)sim_json_get_real(value, "rank_0", &here);
    (void)sim_json_get_real(value, "least", &least);
    (void)sim_json_get_real(value, "most", &most);
    (void)snprintf(name, sizeof name, "%s", key);
    for (char *c = name; *c; c++)
        *c = *c == '_' ? ' ' : *c;
    SIM_TRY(set_cell(p->table, p->row, 0, "%s", name));
    SIM_TRY(set_cell(p->table, p->row, 1, "%.2f", here));
    SIM_TRY(set_cell(p->table, p->row, 2, "%.2f", least));
    SIM_TRY(set_cell(p->table, p->row, 3, "%.2f", most));
    if (p->total_s > 0)
        SIM_TRY(set_cell(p->table, p->row, 4, "%.1f", 100 * here / p->total_s));
    p->row++;
done:
    return st;
}

static sim_status count_member(void *ctx, const char *key, const sim_json *value)
{
    (void)key;
    *(size_t *)ctx += value != NULL;
    return SIM_OK;
}

static sim_status add_cost(page *p, const report_run *r)
{
    static const sim_report_column columns[] = {{"phase", false},
                                                {"rank 0, s", true},
                                                {"fastest rank, s", true},
                                                {"slowest rank, s", true},
                                                {"% of the time", true}};
    sim_status st = SIM_OK;
    phase_rows rows = {.row = 0};
    sim_json *times = NULL;
    size_t n = 0;
    double imbalance = 0;
    char *text = NULL;

    if (!r->cost || !sim_json_get_object(r->cost, "time_s", &times) ||
        sim_json_is_array(times))
        goto done;
    SIM_TRY(sim_json_each(times, count_member, &n));
    if (n == 0)
        goto done;
    SIM_TRY(add_table(p, "Time of the last segment", columns,
                      sizeof columns / sizeof *columns, n, &rows.table));
    (void)sim_json_get_real(r->cost, "elapsed_s", &rows.total_s);
    SIM_TRY(sim_json_each(times, add_phase, &rows));
    if (sim_json_get_real(r->cost, "imbalance", &imbalance)) {
        SIM_TRY(sim_text_format(
            "cli/report", &text,
            "Imbalance %.2f: forward and backward time of the slowest rank, "
            "divided by the mean.",
            imbalance));
        add_text(p, SIM_PAGE_TEXT, NULL, text);
    }
done:
    return st;
}

/* ---- classes ---- */

/* The newest result of an evaluation that has a confusion matrix; NULL: there is none. */
static sim_json *find_confusion(const report_run *r, int64_t *newest)
{
    char directory[PATH_MAX], path[PATH_MAX], *text = NULL;
    sim_names names = {0};
    sim_json *found = NULL, *matrix = NULL;
    size_t n = 0;

    *newest = -1;
    (void)snprintf(directory, sizeof directory, "%.3800s/results", r->path);
    if (!sim_path_exists(directory) || sim_directory_list(directory, &names) != SIM_OK)
        goto done;
    for (size_t i = 0; i < names.n; i++) {
        sim_json *j = NULL;
        int64_t step = -1;
        (void)snprintf(path, sizeof path, "%.3810s/%.255s", directory, names.names[i]);
        if (sim_file_load(path, RESULT_BYTES, &text, &n) == SIM_OK &&
            sim_json_parse(text, n, &j) == SIM_OK && !sim_json_is_array(j) &&
            sim_json_get_object(j, "confusion", &matrix) &&
            sim_json_get_int(j, "step", &step) && step > *newest) {
            sim_json *older = found;
            found = j;
            j = older;
            *newest = step;
        }
        sim_json_destroy(&j);
        SIM_FREE(text);
    }
done:
    sim_error_clear();
    sim_names_clear(&names);
    return found;
}

static sim_status draw_confusion(const sim_json *matrix, const char *const *names,
                                 size_t n, char **out)
{
    sim_status st = SIM_OK;
    double *values = NULL;

    SIM_TRY(sim_alloc(&values, n * n, "cli/report"));
    for (size_t i = 0; i < n; i++) {
        const sim_json *row = sim_json_at(matrix, i);
        double sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += fmax(sim_json_real_at(row, k), 0);
        for (size_t k = 0; k < n; k++)
            values[i * n + k] = sum > 0 ? fmax(sim_json_real_at(row, k), 0) / sum : 0;
    }
    const sim_heatmap map = {.title = "confusion matrix",
                             .x_title = "predicted class",
                             .y_title = "class",
                             .n_x = n,
                             .n_y = n,
                             .values = values,
                             .x = names,
                             .y = names,
                             .value_title = "of the class"};
    SIM_TRY(sim_heatmap_svg(&map, out));
done:
    sim_free(values);
    return st;
}

static sim_status add_class_table(page *p, const sim_json *classes, size_t n)
{
    static const sim_report_column columns[] = {
        {"class", false}, {"test images", true}, {"correct", true}, {"top-1, %", true}};
    sim_status st = SIM_OK;
    owned_table *t = NULL;

    SIM_TRY(add_table(p, NULL, columns, sizeof columns / sizeof *columns, n, &t));
    for (size_t i = 0; i < n; i++) {
        const sim_json *c = sim_json_at(classes, i);
        const char *name = "?";
        int64_t images = 0, correct = 0;
        (void)sim_json_get_text(c, "class", &name);
        (void)sim_json_get_int(c, "n_test", &images);
        (void)sim_json_get_int(c, "n_correct", &correct);
        SIM_TRY(set_cell(t, i, 0, "%s", name));
        SIM_TRY(set_cell(t, i, 1, "%lld", (long long)images));
        SIM_TRY(set_cell(t, i, 2, "%lld", (long long)correct));
        if (images > 0)
            SIM_TRY(set_cell(t, i, 3, "%.2f", 100 * (double)correct / (double)images));
    }
done:
    return st;
}

static sim_status add_classes(page *p, const report_run *r)
{
    sim_status st = SIM_OK;
    int64_t step = -1;
    sim_json *result = find_confusion(r, &step), *matrix = NULL, *classes = NULL;
    const char *protocol = "?", **names = NULL;
    char *text = NULL, *svg = NULL;
    double top1 = 0;

    if (!result || !sim_json_get_object(result, "confusion", &matrix) ||
        !sim_json_get_object(result, "per_class", &classes))
        goto done;
    const size_t n = sim_json_size(classes);
    (void)sim_json_get_text(result, "protocol", &protocol);
    (void)sim_json_get_real(result, "top1", &top1);
    SIM_TRY(sim_text_format("cli/report", &text,
                            "Evaluation %s at step %lld: top-1 %.2f %%.", protocol,
                            (long long)step, 100 * top1));
    add_text(p, SIM_PAGE_TEXT, "Classes", text);
    SIM_TRY(sim_alloc(&names, n, "cli/report"));
    for (size_t i = 0; i < n; i++) {
        names[i] = "?";
        (void)sim_json_get_text(sim_json_at(classes, i), "class", &names[i]);
    }
    if (n > 0 && n <= MOST_CLASSES && sim_json_size(matrix) == n) {
        SIM_TRY(draw_confusion(matrix, names, n, &svg));
        add_text(p, SIM_PAGE_CHARTS, NULL, svg);
    }
    SIM_TRY(add_class_table(p, classes, n));
done:
    sim_free(names);
    sim_json_destroy(&result);
    return st;
}

/* ---- views ---- */

static sim_status open_job(const report_run *r, sim_job *job, sim_dataset **data)
{
    sim_status st = SIM_OK;
    sim_evaluate_options unused;

    SIM_CHECK(r->job, SIM_E_INPUT, "%s has no resolved job", r->path);
    SIM_TRY(sim_cli_job_of_checkpoint(r->job, r->path, job, &unused));
    SIM_TRY(sim_job_open_train(job, data));
done:
    return st;
}

/* Without the training set, which may be on another machine, the page has no views. */
static sim_status add_views(page *p, const report_run *r)
{
    sim_status st = SIM_OK;
    sim_job *job = NULL;
    sim_dataset *data = NULL;
    char *text = NULL;

    SIM_TRY(sim_new(&job, "cli/report"));
    SIM_ASSERT(p->n < MOST_PARTS);
    if (open_job(r, job, &data) != SIM_OK ||
        sim_cli_draw_views(job, data, &p->png[p->n], &p->pictures[p->n]) != SIM_OK) {
        sim_log("no augmented views: %s", sim_error_message());
        sim_error_clear();
        goto done;
    }
    SIM_TRY(
        sim_text_copy("One row per image: the original, then two views in two epochs.",
                      "cli/report", &text));
    add_text(p, SIM_PAGE_PICTURE, "Augmented views", text);
    p->parts[p->n - 1].picture = &p->pictures[p->n - 1];
done:
    sim_dataset_close(&data);
    sim_free(job);
    return st;
}

/* ---- neighbours and map ---- */

static sim_status add_images(page *p, const report_run *r, const report_options *options)
{
    sim_status st = SIM_OK;
    char *text = NULL, *plot = NULL;

    sim_report_images(r, options->n_images, &p->images);
    if (!p->images.map)
        goto done;
    SIM_TRY(sim_text_format(
        "cli/report", &text,
        "Left: an image; then its nearest neighbours by the cosine of the "
        "features, among %s.",
        p->images.about));
    add_text(p, SIM_PAGE_PICTURE, "Nearest neighbours", text);
    p->parts[p->n - 1].picture = &p->images.neighbours;
    SIM_TRY(sim_text_copy(p->images.map, "cli/report", &plot));
    add_text(p, SIM_PAGE_SCATTER, "Map of the images", plot);
    p->parts[p->n - 1].jpeg = p->images.jpeg;
    p->parts[p->n - 1].n_jpeg = p->images.n_jpeg;
done:
    return st;
}

/* ---- the page ---- */

static sim_status add_curves(page *p, const report_run *runs, size_t n)
{
    sim_status st = SIM_OK;
    char *evaluations = NULL, *training = NULL, *note = NULL;

    SIM_TRY(sim_report_charts(runs, n, true, &evaluations));
    SIM_TRY(sim_report_charts(runs, n, false, &training));
    if (!training && !evaluations)
        SIM_TRY(sim_text_copy(
            "There are no metrics yet: the first line is written at the end of "
            "the first log interval.",
            "cli/report", &note));
    add_text(p, SIM_PAGE_CHARTS, "Evaluations", evaluations);
    add_text(p, SIM_PAGE_CHARTS, "Training", training);
    add_text(p, SIM_PAGE_TEXT, NULL, note);
done:
    return st;
}

static sim_status add_run_details(page *p, const report_run *r,
                                  const report_options *options)
{
    sim_status st = SIM_OK;
    char *histograms = NULL, *job = NULL;

    SIM_TRY(sim_report_histograms(r, &histograms));
    add_text(p, SIM_PAGE_CHARTS, "Similarities", histograms);
    SIM_TRY(add_classes(p, r));
    SIM_TRY(add_images(p, r, options));
    SIM_TRY(add_views(p, r));
    SIM_TRY(add_cost(p, r));
    SIM_TRY(add_segments(p, r));
    if (r->job)
        SIM_TRY(sim_text_copy(r->job, "cli/report", &job));
    add_text(p, SIM_PAGE_CODE, "Job", job);
done:
    return st;
}

sim_status sim_report_page(const report_run *runs, size_t n,
                           const report_options *options, char **out)
{
    sim_status st = SIM_OK;
    page *p = NULL;

    SIM_TRY(sim_new(&p, "cli/report"));
    SIM_TRY(n == 1 ? add_run(p, runs) : add_runs(p, runs, n));
    if (n == 1)
        SIM_TRY(add_state(p, runs));
    SIM_TRY(add_curves(p, runs, n));
    if (n == 1)
        SIM_TRY(add_run_details(p, runs, options));
    SIM_TRY(sim_page_html(n == 1 ? runs->path : "Runs", p->parts, p->n,
                          options->refresh_s, out));
done:
    if (p)
        clear_page(p);
    sim_free(p);
    return st;
}

bool sim_report_is_page(const char *path)
{
    return sim_file_begins_with(path, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n");
}

sim_status sim_report_write(char *const *paths, size_t n, const report_options *options,
                            const char *target)
{
    sim_status st = SIM_OK;
    report_run *runs = NULL;
    char *html = NULL;
    size_t n_read = 0;

    SIM_TRY(sim_alloc(&runs, n, "cli/report"));
    for (; n_read < n; n_read++)
        SIM_TRY(sim_report_read(paths[n_read], n > 1, &runs[n_read]));
    SIM_TRY(sim_report_page(runs, n, options, &html));
    const sim_piece piece = {html, strlen(html)};
    SIM_TRY(sim_file_replace(target, &piece, 1));
done:
    for (size_t i = 0; runs && i < n; i++)
        sim_report_clear(&runs[i]);
    sim_free(runs);
    sim_free(html);
    return st;
}

sim_status sim_report_write_own(const char *run)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], target[PATH_MAX], copy[PATH_MAX];
    char *paths[] = {copy};

    (void)snprintf(copy, sizeof copy, "%.4000s", run);
    (void)snprintf(path, sizeof path, "%.4000s/report.html", run);
    const sim_output out = {.path = path,
                            .option = "report",
                            .kind = "a page of simile report",
                            .is_own = sim_report_is_page(path)};
    SIM_TRY(sim_output_check(&out, target));
    SIM_TRY(
        sim_report_write(paths, 1, &(report_options){.n_images = REPORT_IMAGES}, target));
done:
    return st;
}
