/*
 * run_columns.c - the columns of a table of runs.
 */
#include "run_columns.h"

#include <stdio.h>
#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void print_run(const run_info *r, char out[RUN_CELL_BYTES])
{
    (void)snprintf(out, RUN_CELL_BYTES, "%s", r->path);
}

static void print_method(const run_info *r, char out[RUN_CELL_BYTES])
{
    (void)snprintf(out, RUN_CELL_BYTES, "%s", r->method);
}

static void print_data(const run_info *r, char out[RUN_CELL_BYTES])
{
    if (*r->data && r->images >= 0)
        (void)snprintf(out, RUN_CELL_BYTES, "%s (%lld)", base_name(r->data),
                       (long long)r->images);
    else
        (void)snprintf(out, RUN_CELL_BYTES, "%s", base_name(r->data));
}

static void print_progress(const run_info *r, char out[RUN_CELL_BYTES])
{
    char done[32] = "?", length[32] = "?";
    const bool by_epochs = r->n_epochs > 0;

    if (by_epochs && r->epoch >= 0)
        (void)snprintf(done, sizeof done, "%.4g", r->epoch);
    if (!by_epochs && r->step >= 0)
        (void)snprintf(done, sizeof done, "%lld", (long long)r->step);
    if (by_epochs || r->total_steps > 0)
        (void)snprintf(length, sizeof length, "%lld",
                       (long long)(by_epochs ? r->n_epochs : r->total_steps));
    if (done[0] != '?' || length[0] != '?')
        (void)snprintf(out, RUN_CELL_BYTES, "%s/%s %s", done, length,
                       by_epochs ? "epochs" : "steps");
}

const char *const sim_run_state_names[] = {[RUN_UNKNOWN] = "",
                                           [RUN_RUNNING] = "running",
                                           [RUN_STOPPED] = "stopped",
                                           [RUN_COMPLETED] = "completed",
                                           [RUN_CRASHED] = "crashed"};

static void print_state(const run_info *r, char out[RUN_CELL_BYTES])
{
    (void)snprintf(out, RUN_CELL_BYTES, "%s", sim_run_state_names[r->state]);
}

/* Absence is known if every file could be read. */
static void print_best(const run_info *r, char out[RUN_CELL_BYTES])
{
    if (r->top1 >= 0)
        (void)snprintf(out, RUN_CELL_BYTES, "%.2f %% %s, step %lld", 100 * r->top1,
                       r->protocol, (long long)r->top1_step);
    else if (!r->is_damaged)
        (void)snprintf(out, RUN_CELL_BYTES, "-");
}

static void print_rate(const run_info *r, char out[RUN_CELL_BYTES])
{
    if (r->images_per_s >= 0)
        (void)snprintf(out, RUN_CELL_BYTES, "%.*f", r->images_per_s < 10 ? 2 : 0,
                       r->images_per_s);
    else if (!r->is_damaged)
        (void)snprintf(out, RUN_CELL_BYTES, "-");
}

static int compare_run(const run_info *a, const run_info *b)
{
    return strverscmp(a->path, b->path); /* run-9 before run-10 */
}

static int compare_method(const run_info *a, const run_info *b)
{
    return strcmp(a->method, b->method);
}

static int compare_data(const run_info *a, const run_info *b)
{
    return strcmp(base_name(a->data), base_name(b->data));
}

/* Numbers: the largest first. */
static int compare_numbers(double a, double b)
{
    return (a < b) - (a > b);
}

/* By the fraction done of the length in epochs or steps. */
static double progress_of(const run_info *r)
{
    if (r->n_epochs > 0 && r->epoch >= 0)
        return r->epoch / (double)r->n_epochs;
    return r->total_steps > 0 && r->step >= 0 ? (double)r->step / (double)r->total_steps
                                              : -1;
}

static int compare_progress(const run_info *a, const run_info *b)
{
    return compare_numbers(progress_of(a), progress_of(b));
}

static int compare_state(const run_info *a, const run_info *b)
{
    return strcmp(sim_run_state_names[a->state], sim_run_state_names[b->state]);
}

static int compare_best(const run_info *a, const run_info *b)
{
    return compare_numbers(a->top1, b->top1);
}

static int compare_rate(const run_info *a, const run_info *b)
{
    return compare_numbers(a->images_per_s, b->images_per_s);
}

const run_column sim_run_columns[RUN_COLUMNS] = {
    {"run", "run", false, print_run, compare_run},
    {"method", "method", false, print_method, compare_method},
    {"data", "data (images)", false, print_data, compare_data},
    {"progress", "progress", true, print_progress, compare_progress},
    {"state", "state", false, print_state, compare_state},
    {"best", "best top-1", true, print_best, compare_best},
    {"speed", "images/s", true, print_rate, compare_rate},
};
