/*
 * compare_output.c - writes DIR/compare.json, .txt, .csv, .html and the plots, and prints the table.
 */
#include "compare_cells.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4800, JSON_BYTES = 1 << 28 };

/* Everything that is written. */
typedef struct {
    const comparison *comparison;
    compare_differences differences;
    compare_cells configurations, runs, differing, failures;
    char *summary, *data, *commands;
    char *plots[COMPARE_MAX_KEYS]; /* NULL: none of this key */
    sim_json *json;
} outputs;

/* ---- files ---- */

static void path_of(const comparison *c, const char *suffix, char out[PATH_BYTES])
{
    (void)snprintf(out, PATH_BYTES, "%.4096s/compare%.200s", c->directory, suffix);
}

static sim_status write_file(const comparison *c, const char *suffix, const char *text)
{
    char path[PATH_BYTES];
    const sim_piece piece = {text, strlen(text)};

    path_of(c, suffix, path);
    return sim_file_replace(path, &piece, 1);
}

/* Whether DIR/compare.json is one of a comparison, so that the other files are its outputs. */
static bool is_own_directory(const comparison *c)
{
    char path[PATH_BYTES], *text = NULL;
    const char *directory = NULL;
    sim_json *j = NULL;
    size_t n = 0;

    path_of(c, ".json", path);
    const bool is = sim_path_is_file(path) &&
                    sim_file_load(path, JSON_BYTES, &text, &n) == SIM_OK &&
                    sim_json_parse(text, n, &j) == SIM_OK &&
                    sim_json_get_text(j, "comparison", &directory);
    sim_error_clear();
    sim_json_destroy(&j);
    sim_free(text);
    return is;
}

/* Files that the runs read: the job files, the data sets and the weights. */
enum { MAX_INPUTS = COMPARE_MAX_JOBS + SIM_OPTION_MAX_TEXTS + 2 };
static size_t list_inputs(const comparison *c, const char *out[MAX_INPUTS])
{
    const compare_arguments *a = c->arguments;
    size_t n = 0;

    for (size_t i = 0; i < a->n_jobs; i++)
        out[n++] = a->jobs[i];
    for (size_t i = 0; i < c->train_files.n; i++)
        out[n++] = c->train_files.text[i];
    out[n++] = c->test.path;
    out[n++] = a->init;
    return n;
}

sim_status sim_compare_check_outputs(const comparison *c)
{
    static const char *const suffixes[] = {".json", ".txt", ".csv", ".html"};
    sim_status st = SIM_OK;
    const char *inputs[MAX_INPUTS];
    char path[PATH_BYTES], suffix[200], target[PATH_MAX];
    sim_output out = {.path = path,
                      .option = "--out",
                      .kind = "a table of simile compare",
                      .is_own = is_own_directory(c),
                      .force = c->arguments->force,
                      .inputs = inputs,
                      .n_inputs = list_inputs(c, inputs)};

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        path_of(c, suffixes[i], path);
        SIM_TRY(sim_output_check(&out, target));
    }
    out.kind = "a plot of simile compare";
    for (size_t k = 0; k < c->arguments->n_keys; k++) {
        (void)snprintf(suffix, sizeof suffix, "-%.150s.svg", c->arguments->keys[k].key);
        path_of(c, suffix, path);
        SIM_TRY(sim_output_check(&out, target));
    }
done:
    return st;
}

/* ---- contents ---- */

static sim_status format_summary(outputs *o)
{
    sim_status st = SIM_OK;
    const comparison *c = o->comparison;
    const compare_counts n = sim_compare_count(c);
    char failed[40] = "", missing[40] = "";

    if (n.failed)
        (void)snprintf(failed, sizeof failed, ", %zu failed", n.failed);
    if (n.missing)
        (void)snprintf(missing, sizeof missing, ", %zu missing", n.missing);
    SIM_TRY(sim_text_format(
        "cli/compare", &o->summary,
        "%zu configuration%s, %zu run%s: %zu complete%s%s. Means ± standard deviations "
        "over n seeds.",
        c->n_configurations, c->n_configurations == 1 ? "" : "s", c->n_runs,
        c->n_runs == 1 ? "" : "s", n.complete, failed, missing));
    SIM_TRY(sim_text_format(
        "cli/compare", &o->data, "Data: %s (fingerprint %.8s)%s%s%s%.8s%s. %s.",
        c->train.path, c->train.fingerprint, *c->test.path ? ", test set " : "",
        c->test.path, *c->test.path ? " (fingerprint " : "", c->test.fingerprint,
        *c->test.path ? ")" : "", sim_cli_build()));
done:
    return st;
}

/* The commands of all runs, from the JSON object. */
static sim_status format_commands(outputs *o)
{
    sim_status st = SIM_OK;
    sim_json *runs = NULL, *list = NULL;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    const bool has = sim_json_get_object(o->json, "runs", &runs);
    for (size_t i = 0; has && i < sim_json_size(runs); i++)
        if (sim_json_get_object(sim_json_at(runs, i), "commands", &list))
            for (size_t k = 0; k < sim_json_size(list); k++)
                (void)fprintf(text.file, "%s\n", sim_json_text_at(list, k));
    SIM_TRY(sim_text_finish(&text, "cli/compare", &o->commands));
done:
    sim_text_close(&text);
    return st;
}

static sim_status collect(outputs *o)
{
    sim_status st = SIM_OK;
    const comparison *c = o->comparison;

    SIM_TRY(sim_compare_differences(c, &o->differences));
    SIM_TRY(sim_compare_json(c, &o->differences, &o->json));
    SIM_TRY(sim_compare_cells_of_configurations(c, &o->configurations));
    SIM_TRY(sim_compare_cells_of_runs(c, &o->runs));
    SIM_TRY(sim_compare_cells_of_differences(&o->differences, &o->differing));
    SIM_TRY(sim_compare_cells_of_failures(c, &o->failures));
    SIM_TRY(format_summary(o));
    SIM_TRY(format_commands(o));
    for (size_t k = 0; k < c->arguments->n_keys; k++)
        SIM_TRY(sim_compare_plot(c, k, &o->plots[k]));
done:
    return st;
}

static void clear_outputs(outputs *o)
{
    sim_compare_cells_clear(&o->configurations);
    sim_compare_cells_clear(&o->runs);
    sim_compare_cells_clear(&o->differing);
    sim_compare_cells_clear(&o->failures);
    for (size_t i = 0; i < COMPARE_MAX_KEYS; i++)
        sim_free(o->plots[i]);
    sim_free(o->summary);
    sim_free(o->data);
    sim_free(o->commands);
    sim_compare_differences_clear(&o->differences);
    sim_json_destroy(&o->json);
}

/* ---- text ---- */

static sim_status put_table(FILE *f, const char *heading, const compare_cells *cells)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    const sim_report_table table = sim_compare_table_of(cells);

    if (table.n_rows == 0)
        goto done;
    SIM_TRY(sim_table_text(&table, &text));
    (void)fprintf(f, "\n%s%s", heading, text);
done:
    sim_free(text);
    return st;
}

static sim_status format_text(const outputs *o, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    (void)fprintf(text.file, "%s\n%s\n", o->summary, o->data);
    SIM_TRY(put_table(text.file, "", &o->configurations));
    SIM_TRY(put_table(text.file, "Other keys that differ:\n", &o->differing));
    SIM_TRY(put_table(text.file, "", &o->failures));
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}

/* ---- HTML ---- */

enum { MAX_PARTS = COMPARE_MAX_KEYS + 8 };

static sim_status format_page(const outputs *o, char **out)
{
    const comparison *c = o->comparison;
    const sim_report_table configurations = sim_compare_table_of(&o->configurations),
                           differing = sim_compare_table_of(&o->differing),
                           failures = sim_compare_table_of(&o->failures);
    sim_page_part parts[MAX_PARTS];
    size_t n = 0;

    parts[n++] = (sim_page_part){.kind = SIM_PAGE_TEXT, .text = o->summary};
    parts[n++] = (sim_page_part){.kind = SIM_PAGE_TEXT, .text = o->data};
    parts[n++] = (sim_page_part){.kind = SIM_PAGE_TABLE, .table = &configurations};
    if (failures.n_rows > 0)
        parts[n++] = (sim_page_part){
            .kind = SIM_PAGE_TABLE, .heading = "Failed runs", .table = &failures};
    for (size_t k = 0; k < c->arguments->n_keys; k++)
        if (o->plots[k])
            parts[n++] = (sim_page_part){.kind = SIM_PAGE_SVG,
                                         .heading = c->arguments->keys[k].key,
                                         .text = o->plots[k]};
    if (differing.n_rows > 0)
        parts[n++] = (sim_page_part){.kind = SIM_PAGE_TABLE,
                                     .heading = "Other keys that differ",
                                     .table = &differing};
    parts[n++] = (sim_page_part){
        .kind = SIM_PAGE_CODE, .heading = "Commands", .text = o->commands};
    return sim_page_html(c->directory, parts, n, 0, out);
}

/* ---- all ---- */

static sim_status write_plots(const outputs *o)
{
    sim_status st = SIM_OK;
    const comparison *c = o->comparison;
    char suffix[200];

    for (size_t k = 0; k < c->arguments->n_keys; k++) {
        (void)snprintf(suffix, sizeof suffix, "-%.150s.svg", c->arguments->keys[k].key);
        if (o->plots[k])
            SIM_TRY(write_file(c, suffix, o->plots[k]));
    }
done:
    return st;
}

/* compare.json comes first, because it identifies the others as outputs. */
static sim_status write_tables(const outputs *o, char **text)
{
    sim_status st = SIM_OK;
    const comparison *c = o->comparison;
    const sim_report_table runs = sim_compare_table_of(&o->runs);
    char *json = NULL, *csv = NULL, *page = NULL;

    SIM_TRY(sim_json_dump(o->json, 2, &json));
    SIM_TRY(sim_table_csv(&runs, &csv));
    SIM_TRY(format_text(o, text));
    SIM_TRY(format_page(o, &page));
    SIM_TRY(write_file(c, ".json", json));
    SIM_TRY(write_file(c, ".txt", *text));
    SIM_TRY(write_file(c, ".csv", csv));
    SIM_TRY(write_file(c, ".html", page));
    SIM_TRY(write_plots(o));
done:
    sim_free(json);
    sim_free(csv);
    sim_free(page);
    return st;
}

sim_status sim_compare_report(const comparison *c, bool print)
{
    sim_status st = SIM_OK;
    outputs *o = NULL;
    char *text = NULL;

    SIM_TRY(sim_new(&o, "cli/compare"));
    o->comparison = c;
    SIM_TRY(collect(o));
    SIM_TRY(write_tables(o, &text));
    if (print && c->arguments->json)
        SIM_TRY(sim_cli_print_json(NULL, o->json, true));
    else if (print)
        SIM_TRY(sim_cli_print(NULL, text));
done:
    if (o)
        clear_outputs(o);
    sim_free(o);
    sim_free(text);
    return st;
}
