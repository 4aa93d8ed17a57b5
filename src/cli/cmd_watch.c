/*
 * cmd_watch.c - `simile watch RUN`: the state of a run in a terminal, with curves of one line each.
 *
 * It only reads the run.  On a terminal the lines are rewritten in place until the run ends; elsewhere they
 * are printed once.
 */
#include "report.h"
#include "run_columns.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

typedef struct {
    char *run;
    int every_s;
} arguments;

enum {
    KEY_EVERY = 256,
    EVERY_S = 5,
    MOST_EVERY_S = 86400,
    LINE_BYTES = 1024,
    MOST_LINES = 24
};

static const struct argp_option options[] = {
    {"every", KEY_EVERY, "SECONDS", 0, "time between updates (default 5)", 0}, {0}};

static error_t parse_watch_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    char *end = NULL;

    switch (key) {
    case KEY_EVERY:
        a->every_s = (int)strtol(arg, &end, 10);
        if (end == arg || *end || a->every_s < 1 || a->every_s > MOST_EVERY_S)
            argp_error(state, "--every requires 1 to %d seconds, not \"%s\"",
                       MOST_EVERY_S, arg);
        return 0;
    case ARGP_KEY_ARG:
        if (a->run)
            argp_error(state, "expected one run directory");
        a->run = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "the argument RUN (a run directory) is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- lines ---- */

typedef struct {
    char lines[MOST_LINES][LINE_BYTES];
    size_t n, columns;
} screen;

/* Appends a line of at most `columns` characters; control characters are escaped. */
static void add_line(screen *s, const char *text)
{
    char *line = s->lines[s->n < MOST_LINES ? s->n++ : MOST_LINES - 1], safe[LINE_BYTES];
    size_t used = 0, characters = 0;

    sim_text_escape(text, false, safe, sizeof safe);
    for (; safe[used]; used++) {
        characters += ((unsigned char)safe[used] & 0xc0) != 0x80;
        if (characters > s->columns)
            break;
    }
    (void)snprintf(line, LINE_BYTES, "%.*s", (int)used, safe);
}

/* The mean of the values in each of n intervals of the steps up to `last`; NaN where there is none. */
static void average(const report_curve *c, double last, size_t n, double *out)
{
    size_t i = 0;

    for (size_t k = 0; k < n; k++) {
        const double end = last * (double)(k + 1) / (double)n;
        double sum = 0, count = 0;
        for (; i < c->n && (c->points[i].x < end || k + 1 == n); i++)
            if (isfinite(c->points[i].y)) {
                sum += c->points[i].y;
                count += 1;
            }
        out[k] = count > 0 ? sum / count : (double)NAN;
    }
}

/* "loss        3.512 ▇▆▅▃▂▁"; of few columns without the curve. */
static void add_curve(screen *s, const char *name, const report_curve *c, double scale,
                      double last)
{
    static const char *const levels[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    enum { LABEL = 24, LEVELS = 8, MOST = 200 };
    const size_t n = s->columns > LABEL + 4 ? s->columns - LABEL : 0;
    double values[MOST], low = INFINITY, high = -INFINITY;
    char line[LINE_BYTES];

    if (!c || c->n == 0)
        return;
    const size_t shown = n < MOST ? n : MOST;
    average(c, last, shown, values);
    for (size_t k = 0; k < shown; k++)
        if (isfinite(values[k])) {
            low = fmin(low, values[k]);
            high = fmax(high, values[k]);
        }
    size_t used = (size_t)snprintf(line, sizeof line, "%-13.13s %9.4g ", name,
                                   scale * c->points[c->n - 1].y);
    for (size_t k = 0; k < shown && used < sizeof line - 4; k++) {
        const double at = high > low ? (values[k] - low) / (high - low) : 0.5;
        const int level = isfinite(at) ? (int)(at * (LEVELS - 1) + 0.5) : 0;
        used += (size_t)snprintf(line + used, sizeof line - used, "%s",
                                 isfinite(values[k]) ? levels[level] : " ");
    }
    add_line(s, line);
}

/* Seconds until the end of the run at the present rate; negative: unknown. */
static double time_left_s(const run_info *r)
{
    double images = -1;

    if (r->n_epochs > 0 && r->epoch >= 0 && r->images > 0)
        images = ((double)r->n_epochs - r->epoch) * (double)r->images;
    else if (r->total_steps > 0 && r->step >= 0 && r->batch > 0)
        images = (double)(r->total_steps - r->step) * (double)r->batch;
    return images >= 0 && r->images_per_s > 0 ? images / r->images_per_s : -1;
}

static void add_progress(screen *s, const report_run *r)
{
    char cell[RUN_CELL_BYTES] = "", line[RUN_CELL_BYTES + 160], left[32] = "";
    const double seconds = time_left_s(&r->info);

    for (size_t c = 0; c < RUN_COLUMNS; c++)
        if (strcmp(sim_run_columns[c].key, "progress") == 0)
            sim_run_columns[c].print(&r->info, cell);
    if (r->info.state == RUN_RUNNING && seconds >= 0)
        sim_clock_span(seconds, left, sizeof left);
    (void)snprintf(line, sizeof line, "%s, step %lld%s%s%s", cell,
                   (long long)r->info.step, *left ? ", " : "", left,
                   *left ? " left" : "");
    add_line(s, line);
    if (r->info.images_per_s >= 0) {
        (void)snprintf(line, sizeof line, "%.*f images/s",
                       r->info.images_per_s < 10 ? 2 : 0, r->info.images_per_s);
        add_line(s, line);
    }
}

/* The last line of RUN/log.txt, which also has the time left to the limit of the job. */
static void add_log(screen *s, const char *run)
{
    enum { END_BYTES = 4096 };
    char path[PATH_MAX], *text = NULL;
    size_t n = 0;

    (void)snprintf(path, sizeof path, "%.4000s/log.txt", run);
    if (!sim_path_exists(path) || sim_file_load_end(path, END_BYTES, &text, &n) != SIM_OK)
        goto done;
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    const char *line = memrchr(text, '\n', n);
    add_line(s, line ? line + 1 : text);
done:
    sim_error_clear();
    sim_free(text);
}

static void fill_screen(screen *s, const report_run *r)
{
    char line[LINE_BYTES];
    const report_curve *loss = sim_report_curve(r, "train", "loss");
    const double last = loss && loss->n > 0 ? loss->points[loss->n - 1].x : 0;
    const char *state = sim_run_state_names[r->info.state],
               *ended = strcmp(r->info.ended, state) == 0 ? "" : r->info.ended;

    (void)snprintf(line, sizeof line, "%.800s: %s%s%s%s%s", r->path, r->info.method,
                   *r->info.method ? ", " : "", state, *ended ? ": " : "", ended);
    add_line(s, line);
    add_progress(s, r);
    add_curve(s, "loss", loss, 1, last);
    add_curve(s, "accuracy %", sim_report_curve(r, "train", "accuracy"), 100, last);
    add_curve(s, "emb. std", sim_report_curve(r, "train", "embedding_std"), 1, last);
    add_curve(s, "lr", sim_report_curve(r, "train", "lr"), 1, last);
    for (size_t i = 0; i < r->n_curves; i++)
        if (sim_text_ends_with(r->curves[i].name, "_top1")) {
            (void)snprintf(line, sizeof line, "%.11s %%", r->curves[i].group);
            add_curve(s, line, &r->curves[i], 100, last);
        }
    add_log(s, r->path);
}

/* ---- the terminal ---- */

static size_t terminal_columns(void)
{
    enum { DEFAULT = 80, LEAST = 10 };
    struct winsize size = {.ws_col = 0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return DEFAULT;
    return size.ws_col < LEAST ? LEAST : size.ws_col;
}

/* Replaces the `above` lines that were printed before. */
static sim_status print_screen(const screen *s, size_t above)
{
    sim_status st = SIM_OK;

    if (above > 0)
        (void)printf("\033[%zuA\033[J", above);
    for (size_t i = 0; i < s->n; i++)
        (void)printf("%s\n", s->lines[i]);
    SIM_CHECK(fflush(stdout) == 0, SIM_E_IO, "writing to standard output failed");
done:
    return st;
}

static sim_status watch(const arguments *a)
{
    sim_status st = SIM_OK;
    report_run r = {.path = NULL};
    screen *s = NULL;
    size_t above = 0;
    const bool is_terminal = isatty(STDOUT_FILENO);
    bool is_running = true;

    SIM_TRY(sim_new(&s, "cli/watch"));
    while (is_running) {
        sim_report_clear(&r);
        SIM_TRY(sim_report_read(a->run, false, &r));
        is_running = is_terminal && r.info.state == RUN_RUNNING;
        *s = (screen){.columns = terminal_columns()};
        fill_screen(s, &r);
        SIM_TRY(print_screen(s, above));
        above = s->n;
        if (is_running)
            sim_clock_sleep(a->every_s);
    }
done:
    sim_report_clear(&r);
    sim_free(s);
    return st;
}

sim_status sim_command_watch(int argc, char **argv)
{
    static const struct argp argp = {.options = options,
                                     .parser = parse_watch_option,
                                     .args_doc = "RUN",
                                     .doc = "Shows the state of a run in a terminal: "
                                            "progress, time left, the curves of loss, "
                                            "accuracy and evaluations, and the last line "
                                            "of its log.  The lines are rewritten "
                                            "until the run ends; if the output is not a "
                                            "terminal, they are printed once."};
    arguments a = {.every_s = EVERY_S};

    sim_cli_parse(&argp, argc, argv, &a);
    sim_status st = sim_cli_is_first_rank() ? watch(&a) : SIM_OK;
    if (st != SIM_OK)
        sim_log_failure(st);
    return st;
}
