/*
 * cmd_runs.c - `simile runs DIR...`: a table of the runs below directories.
 *
 * It only reads, without MPI and without locks, so that it can be used while jobs write.
 */
#include "cli.h"
#include "run_columns.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

static const char sort_keys[] = "run|method|data|progress|state|best|speed";

/* ---- command line ---- */

typedef struct {
    char **directories; /* [n], borrowed from argv */
    size_t n;
    const run_column *sort;
    bool json;
} arguments;

enum { KEY_JSON = 256, KEY_SORT };

static const struct argp_option options[] = {
    {"json", KEY_JSON, NULL, 0, "print a list of objects with all values", 0},
    {"sort", KEY_SORT, "KEY", 0,
     "run (default), method, data, progress, state, best or speed; of numbers, the "
     "largest first",
     0},
    {0}};

static void parse_sort(arguments *a, const char *arg, const struct argp_state *state)
{
    char word[64];
    int i = sim_choices_find(sort_keys, arg);

    if (i < 0) {
        const int near = sim_choices_suggest(sort_keys, arg);
        const bool has = sim_choices_text(sort_keys, near, word, sizeof word);
        argp_error(
            state,
            "--sort accepts run, method, data, progress, state, best or speed, not "
            "\"%s\"%s%s%s",
            arg, has ? "; did you mean " : "", has ? word : "", has ? "?" : "");
    }
    a->sort = &sim_run_columns[i];
}

static error_t parse_runs_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_JSON:
        a->json = true;
        return 0;
    case KEY_SORT:
        parse_sort(a, arg, state);
        return 0;
    case ARGP_KEY_ARG:
        a->directories[a->n++] = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "the argument DIR (a directory of runs) is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- search ---- */

typedef struct {
    run_info *list;
    size_t n, capacity;
} run_list;

static sim_status add_run(run_list *runs, const char *path)
{
    sim_status st = SIM_OK;

    if (runs->n == runs->capacity) {
        const size_t capacity = runs->capacity ? 2 * runs->capacity : 64;
        SIM_TRY(sim_grow(&runs->list, capacity, "cli/runs"));
        runs->capacity = capacity;
    }
    run_info *r = &runs->list[runs->n];
    sim_run_info_read(path, r);
    SIM_TRY(sim_text_copy(path, "cli/runs", &r->path));
    runs->n++;
done:
    return st;
}

/* Directories of a run that contain no other runs. */
static bool is_own_directory(const char *name)
{
    return strcmp(name, "checkpoints") == 0 || strcmp(name, "results") == 0 ||
           strcmp(name, "heartbeat") == 0 || strcmp(name, "tensorboard") == 0 ||
           strncmp(name, "abandoned-", 10) == 0;
}

/* Adds the runs at and below a directory.  Symbolic links below it are not followed. */
static sim_status find_runs(run_list *runs, const char *path, int depth)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char *below = NULL;
    const size_t n = strlen(path);
    const bool is_run = sim_run_info_is_run(path);

    if (is_run)
        SIM_TRY(add_run(runs, path));
    if (depth == MAX_DEPTH)
        goto done;
    if (sim_directory_list_subdirectories(path, &names) != SIM_OK) {
        sim_log_warn("%s", sim_error_message());
        sim_error_clear();
    }
    for (size_t i = 0; i < names.n; i++) {
        if (is_run && is_own_directory(names.names[i]))
            continue;
        SIM_FREE(below);
        SIM_TRY(sim_text_format("cli/runs", &below, "%s%s%s", path,
                                n > 0 && path[n - 1] == '/' ? "" : "/", names.names[i]));
        if (strlen(below) < PATH_MAX - 300) /* the names of its files fit */
            SIM_TRY(find_runs(runs, below, depth + 1));
    }
done:
    sim_names_clear(&names);
    sim_free(below);
    return st;
}

static sim_status find_all(const arguments *a, run_list *runs)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < a->n; i++)
        SIM_CHECK(sim_path_is_directory(a->directories[i]), SIM_E_INPUT,
                  "%s is not a directory; expected a run or a directory of runs",
                  a->directories[i]);
    for (size_t i = 0; i < a->n; i++) {
        char *path = a->directories[i];
        for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';)
            path[--n] = '\0';
        SIM_TRY(find_runs(runs, path, 0));
    }
done:
    return st;
}

/* ---- order ---- */

static int compare_by_column(const void *a, const void *b, void *ctx)
{
    const run_column *c = ctx;
    const int order = c->compare(a, b);
    return order ? order : sim_run_columns[0].compare(a, b);
}

/* Sorts by path and drops those found twice, then sorts by the column. */
static void sort_runs(run_list *runs, const run_column *by)
{
    run_column first = sim_run_columns[0], chosen = *by;
    size_t n = 0;

    if (runs->n == 0)
        return;
    qsort_r(runs->list, runs->n, sizeof *runs->list, compare_by_column, &first);
    for (size_t i = 0; i < runs->n; i++) {
        if (n > 0 && strcmp(runs->list[n - 1].path, runs->list[i].path) == 0)
            sim_free(runs->list[i].path);
        else
            runs->list[n++] = runs->list[i];
    }
    runs->n = n;
    qsort_r(runs->list, runs->n, sizeof *runs->list, compare_by_column, &chosen);
}

/* ---- output ---- */

static sim_status copy_cell(const run_column *c, const run_info *r, char **out)
{
    char cell[RUN_CELL_BYTES] = "";

    c->print(r, cell);
    return sim_text_copy(cell[0] ? cell : "?", "cli/runs", out);
}

static sim_status print_table(const run_list *runs)
{
    sim_status st = SIM_OK;
    const size_t n = runs->n * RUN_COLUMNS;
    sim_report_column heads[RUN_COLUMNS];
    char **cells = NULL, *text = NULL;

    for (size_t c = 0; c < RUN_COLUMNS; c++)
        heads[c] =
            (sim_report_column){sim_run_columns[c].title, sim_run_columns[c].right};
    SIM_TRY(sim_alloc(&cells, n, "cli/runs"));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(copy_cell(&sim_run_columns[i % RUN_COLUMNS], &runs->list[i / RUN_COLUMNS],
                          &cells[i]));
    const sim_report_table table = {.n_columns = RUN_COLUMNS,
                                    .n_rows = runs->n,
                                    .columns = heads,
                                    .cells = (const char *const *)cells};
    SIM_TRY(sim_table_text(&table, &text));
    SIM_TRY(sim_cli_print(NULL, text));
done:
    for (size_t i = 0; cells && i < n; i++)
        sim_free(cells[i]);
    sim_free(cells);
    sim_free(text);
    return st;
}

/* Unknown values become null. */
static void put_text(sim_json *j, const char *key, const char *value)
{
    if (*value)
        sim_json_text(j, key, value);
    else
        sim_json_real(j, key, NAN);
}

static void put_int(sim_json *j, const char *key, int64_t value)
{
    if (value >= 0)
        sim_json_int(j, key, value);
    else
        sim_json_real(j, key, NAN);
}

static void put_real(sim_json *j, const char *key, double value)
{
    sim_json_real(j, key, value >= 0 ? value : NAN);
}

static void fill_run(const run_info *r, sim_json *j)
{
    sim_json_text(j, "run", r->path);
    put_text(j, "method", r->method);
    put_text(j, "data", r->data);
    put_int(j, "images", r->images);
    put_int(j, "batch", r->batch);
    put_int(j, "step", r->step);
    put_int(j, "steps", r->total_steps > 0 ? r->total_steps : -1);
    put_real(j, "epoch", r->epoch);
    put_int(j, "epochs", r->n_epochs > 0 ? r->n_epochs : -1);
    put_text(j, "state", sim_run_state_names[r->state]);
    put_text(j, "ended", r->ended);
    put_real(j, "best_top1", r->top1);
    put_text(j, "best_protocol", r->protocol);
    put_int(j, "best_step", r->top1_step);
    put_real(j, "images_per_s", r->images_per_s);
    sim_json_bool(j, "damaged", r->is_damaged);
}

static sim_status print_json(const run_list *runs)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    char *text = NULL;

    SIM_TRY(sim_cli_print(NULL, "["));
    for (size_t i = 0; i < runs->n; i++) {
        SIM_TRY(sim_json_create(&j));
        fill_run(&runs->list[i], j);
        SIM_TRY(sim_json_dump(j, 0, &text));
        SIM_TRY(sim_cli_print(NULL, i ? ",\n " : ""));
        SIM_TRY(sim_cli_print(NULL, text));
        SIM_FREE(text);
        sim_json_destroy(&j);
    }
    SIM_TRY(sim_cli_print(NULL, "]\n"));
done:
    sim_free(text);
    sim_json_destroy(&j);
    return st;
}

static sim_status print_none(const arguments *a)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_text_format("cli/runs", &text, "no runs in %s%s\n", a->directories[0],
                            a->n > 1 ? " and the other directories" : ""));
    SIM_TRY(sim_cli_print_line(text));
done:
    sim_free(text);
    return st;
}

static sim_status list_runs(const arguments *a)
{
    sim_status st = SIM_OK;
    run_list runs = {0};

    SIM_TRY(find_all(a, &runs));
    sort_runs(&runs, a->sort);
    if (a->json)
        SIM_TRY(print_json(&runs));
    else if (runs.n > 0)
        SIM_TRY(print_table(&runs));
    else
        SIM_TRY(print_none(a));
done:
    for (size_t i = 0; i < runs.n; i++)
        sim_free(runs.list[i].path);
    sim_free(runs.list);
    return st;
}

sim_status sim_command_runs(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_runs_option,
        .args_doc = "DIR...",
        .doc =
            "Lists the runs at and below each directory: method, data, epochs or steps "
            "done, state (running, stopped, completed, crashed), the best top-1 of kNN "
            "or linear evaluation, and the images/s of the last log interval.  It only "
            "reads, also while jobs are running.  A value that cannot be read is "
            "printed as ?, and there is a warning."};
    sim_status st = SIM_OK;
    arguments a = {.sort = &sim_run_columns[0]};

    st = sim_alloc(&a.directories, (size_t)argc, "cli/runs");
    if (st == SIM_OK)
        sim_cli_parse(&argp, argc, argv, &a);
    if (st == SIM_OK && sim_cli_is_first_rank())
        st = list_runs(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
    sim_free(a.directories);
    return st;
}
