/*
 * cmd_report.c - `simile report RUN...`: one HTML page of a run, or of several side by side.
 *
 * It only reads the runs, without MPI and without locks, so that it can be used while jobs write.
 */
#include "report.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char **runs; /* [n], borrowed from argv */
    size_t n;
    const char *out;
    const char *csv; /* NULL: not given */
    bool force;
    int watch_s; /* 0: write once */
    size_t n_images;
} arguments;

enum {
    KEY_OUT = 256,
    KEY_FORCE,
    KEY_WATCH,
    KEY_IMAGES,
    KEY_CSV,
    MOST_IMAGES = 5000,
    WATCH_S = 30,
    MOST_WATCH_S = 86400
};

static const struct argp_option options[] = {
    {"out", KEY_OUT, "FILE.html", 0,
     "the page (default: RUN/report.html; required for several runs)", 0},
    {"images", KEY_IMAGES, "N", 0,
     "images of the map and the nearest neighbours, from data.test of the job, or else "
     "data.train; 0: none (default 500)",
     0},
    {"csv", KEY_CSV, "FILE.csv", 0,
     "instead of a page: the metrics of one run, a line per step and a column per metric",
     0},
    {"force", KEY_FORCE, NULL, 0, "replace the file --out whatever it is", 0},
    {"watch", KEY_WATCH, "SECONDS", OPTION_ARG_OPTIONAL,
     "write the page every so many seconds (default 30) until no run is running; "
     "browsers "
     "that show it reload it",
     0},
    {0}};

static void parse_watch(arguments *a, const char *arg, const struct argp_state *state)
{
    char *end = NULL;
    const long seconds = arg ? strtol(arg, &end, 10) : WATCH_S;

    if ((arg && (end == arg || *end)) || seconds < 1 || seconds > MOST_WATCH_S)
        argp_error(state, "--watch requires 1 to %d seconds, not \"%s\"", MOST_WATCH_S,
                   arg);
    a->watch_s = (int)seconds;
}

static void parse_images(arguments *a, const char *arg, const struct argp_state *state)
{
    char *end = NULL;
    const long n = strtol(arg, &end, 10);

    if (end == arg || *end || n < 0 || n > MOST_IMAGES)
        argp_error(state, "--images requires 0 to %d, not \"%s\"", MOST_IMAGES, arg);
    a->n_images = (size_t)n;
}

static error_t parse_report_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case KEY_CSV:
        a->csv = arg;
        return 0;
    case KEY_IMAGES:
        parse_images(a, arg, state);
        return 0;
    case KEY_WATCH:
        parse_watch(a, arg, state);
        return 0;
    case ARGP_KEY_ARG:
        a->runs[a->n++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->n == 0)
            argp_error(state, "the argument RUN (a run directory) is missing");
        if (a->csv && (a->n > 1 || a->out || a->watch_s))
            argp_error(state, "--csv is for one run, without --out and --watch");
        if (a->n > 1 && !a->out)
            argp_error(state, "several runs require --out");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* RUN/report.html belongs to the run; a page elsewhere replaces no file of the runs. */
static sim_status check_output(arguments *a, char path[PATH_MAX], char target[PATH_MAX])
{
    sim_status st = SIM_OK;
    sim_output out = {.path = path,
                      .option = "--out",
                      .kind = "a page of simile report",
                      .force = a->force,
                      .inputs = (const char *const *)a->runs,
                      .n_inputs = a->n};

    if (a->out)
        (void)snprintf(path, PATH_MAX, "%.4000s", a->out);
    else {
        (void)snprintf(path, PATH_MAX, "%.4000s/report.html", a->runs[0]);
        out.n_inputs = 0; /* it may replace a file of the run */
    }
    out.is_own = sim_report_is_page(path);
    SIM_TRY(sim_output_check(&out, target));
done:
    return st;
}

static sim_status write_csv(const arguments *a)
{
    sim_status st = SIM_OK;
    char target[PATH_MAX];
    const sim_output out = {.path = a->csv,
                            .option = "--csv",
                            .kind = "a table of metrics",
                            .is_own = sim_report_is_csv(a->csv),
                            .force = a->force,
                            .inputs = (const char *const *)a->runs,
                            .n_inputs = a->n};

    SIM_TRY(sim_output_check(&out, target));
    SIM_TRY(sim_report_write_csv(a->runs[0], target));
    sim_log("%s", a->csv);
done:
    return st;
}

static bool is_any_running(const arguments *a)
{
    run_info r;

    for (size_t i = 0; i < a->n; i++) {
        sim_run_info_read(a->runs[i], &r);
        if (r.state == RUN_RUNNING)
            return true;
    }
    return false;
}

static sim_status write_report(arguments *a)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], target[PATH_MAX];
    bool is_running = false;

    for (size_t i = 0; i < a->n; i++)
        for (size_t n = strlen(a->runs[i]); n > 1 && a->runs[i][n - 1] == '/';)
            a->runs[i][--n] = '\0';
    for (size_t i = 0; i < a->n; i++)
        SIM_TRY(sim_report_check(a->runs[i]));
    if (a->csv) {
        SIM_TRY(write_csv(a));
        goto done;
    }
    SIM_TRY(check_output(a, path, target));
    do {
        is_running = a->watch_s > 0 && is_any_running(a);
        const report_options how = {.refresh_s = is_running ? a->watch_s : 0,
                                    .n_images = a->n_images};
        SIM_TRY(sim_report_write(a->runs, a->n, &how, target));
        if (is_running)
            sim_clock_sleep(a->watch_s);
    } while (is_running);
    sim_log("%s", path);
done:
    return st;
}

sim_status sim_command_report(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_report_option,
        .args_doc = "RUN...",
        .doc =
            "Writes one HTML page without references to other files: curves of training "
            "and evaluations, similarities, classes, augmented views, time by phase, "
            "segments and the job of a run; of several runs, their curves over each "
            "other.  It only reads the runs, also while jobs are running.\v"
            "Examples:\n"
            "  simile report runs/first\n"
            "  simile report runs/methods/* --out methods.html\n"
            "  simile report runs/first --watch"};
    sim_status st = SIM_OK;
    arguments a = {.n_images = REPORT_IMAGES};

    st = sim_alloc(&a.runs, (size_t)argc, "cli/report");
    if (st == SIM_OK)
        sim_cli_parse(&argp, argc, argv, &a);
    if (st == SIM_OK && sim_cli_is_first_rank())
        st = write_report(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
    sim_free(a.runs);
    return st;
}
