/*
 * compare_run.c - runs the commands of a comparison one after the other, as child processes.
 *
 * A run that ends by a crash or for lack of memory ends only its own process.  Output of the
 * commands is appended to RUN/output.txt; what failed is stored in RUN/failure.json until the next
 * attempt.
 */
#include "compare.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4800, TAIL_BYTES = 1 << 16 };

typedef struct {
    comparison *comparison;
    double start_s;
    size_t n_mine, n_done; /* runs of this part; those that were visited */
} driver;

static void path_in(const compare_run *r, const char *name, char out[PATH_BYTES])
{
    (void)snprintf(out, PATH_BYTES, "%.4096s/%s", r->path, name);
}

/* Whether output.txt is one of compare: its first line is a command. */
static bool is_output(const char *path)
{
    char start[2];
    uint64_t n = 0;
    int fd = -1;
    bool is = sim_file_open_read(path, &fd, &n) == SIM_OK &&
              (n == 0 || (n >= sizeof start &&
                          sim_file_read_at(fd, path, 0, start, sizeof start) == SIM_OK &&
                          memcmp(start, "$ ", sizeof start) == 0));

    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return is;
}

static bool is_failure(const char *path)
{
    char *text = NULL;
    size_t n = 0;
    sim_json *j = NULL;
    int64_t code = 0;
    bool is = sim_file_load(path, TAIL_BYTES, &text, &n) == SIM_OK &&
              sim_json_parse(text, n, &j) == SIM_OK && sim_json_get_int(j, "exit", &code);

    sim_error_clear();
    sim_json_destroy(&j);
    sim_free(text);
    return is;
}

/* Keeps files of the user that have the names of compare in the directory of a run. */
static sim_status keep_foreign(const compare_run *r)
{
    sim_status st = SIM_OK;
    char path[PATH_BYTES];

    path_in(r, "output.txt", path);
    if (sim_path_is_taken(path) && !is_output(path))
        SIM_TRY(sim_run_set_aside(path, "not an output of simile compare", NULL));
    path_in(r, "failure.json", path);
    if (sim_path_is_taken(path) && !is_failure(path))
        SIM_TRY(sim_run_set_aside(path, "not a failure of simile compare", NULL));
done:
    return st;
}

/* ---- a command ---- */

/* Separates the outputs of commands. */
static sim_status append_header(const char *path, const char *command)
{
    sim_status st = SIM_OK;
    char *line = NULL;
    int fd = -1;

    SIM_TRY(sim_text_format("cli/compare", &line, "$ %s\n", command));
    SIM_TRY(sim_file_open_append(path, &fd));
    SIM_TRY(sim_file_append(fd, path, line));
    SIM_TRY(sim_file_close(&fd, path));
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(line);
    return st;
}

/* Runs a command; *code as that of sim_process_run. */
static sim_status run_command(const compare_run *r, const compare_command *k, int *code)
{
    sim_status st = SIM_OK;
    char output[PATH_BYTES], *text = NULL;

    SIM_TRY(sim_directory_create(r->path));
    path_in(r, "output.txt", output);
    SIM_TRY(sim_compare_command_text(k, &text));
    sim_log("$ %s", text);
    SIM_TRY(append_header(output, text));
    SIM_TRY(sim_process_run(k->words, output, code));
done:
    sim_free(text);
    return st;
}

/* ---- failures ---- */

/* The message of the last command: its last line with "simile: ", otherwise its last line. */
static void find_message(const char *text, char out[COMPARE_ERROR_BYTES])
{
    static const char mark[] = "simile: ";
    bool is_marked = false;

    for (const char *p = text; *p;) {
        const size_t n = strcspn(p, "\n");
        const char *found = memmem(p, n, mark, sizeof mark - 1);
        if (strncmp(p, "$ ", 2) == 0) {
            is_marked = false;
            out[0] = '\0';
        } else if (found && !memmem(p, n, "warning:", 8)) {
            is_marked = true;
            found += sizeof mark - 1;
            (void)snprintf(out, COMPARE_ERROR_BYTES, "%.*s",
                           (int)(n - (size_t)(found - p)), found);
        } else if (!is_marked && n > 0) {
            (void)snprintf(out, COMPARE_ERROR_BYTES, "%.*s", (int)n, p);
        }
        p += n + (p[n] == '\n');
    }
}

static void read_message(const compare_run *r, int code, char out[COMPARE_ERROR_BYTES])
{
    char path[PATH_BYTES], *text = NULL;
    size_t n = 0;

    out[0] = '\0';
    path_in(r, "output.txt", path);
    if (sim_file_load_end(path, TAIL_BYTES, &text, &n) == SIM_OK)
        find_message(text, out);
    if (code == 0)
        (void)snprintf(
            out, COMPARE_ERROR_BYTES,
            "the command stored no result with the data and options of the run");
    else if (!out[0] && code > 128)
        (void)snprintf(out, COMPARE_ERROR_BYTES, "ended by signal %d", code - 128);
    sim_error_clear();
    sim_free(text);
}

/* code 0: the command did not fail, but its result is missing. */
static sim_status keep_failure(compare_run *r, int code, const char *what)
{
    sim_status st = SIM_OK;
    char path[PATH_BYTES], *text = NULL;
    sim_json *j = NULL;

    read_message(r, code, r->failure.text);
    r->failure.code = code ? code : SIM_E_IO;
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "command", what);
    sim_json_int(j, "exit", r->failure.code);
    sim_json_text(j, "error", r->failure.text);
    SIM_TRY(sim_json_dump(j, 2, &text));
    const sim_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    path_in(r, "failure.json", path);
    SIM_TRY(sim_file_replace(path, pieces, 2));
done:
    sim_json_destroy(&j);
    sim_free(text);
    return st;
}

static sim_status forget_failure(compare_run *r)
{
    char path[PATH_BYTES];

    r->failure = (compare_failure){0};
    path_in(r, "failure.json", path);
    return sim_file_remove(path);
}

/* ---- stops ---- */

static sim_status check_stop(void)
{
    sim_status st = SIM_OK;
    SIM_CHECK(sim_process_last_signal() == 0, SIM_E_AGAIN, "stopped by a signal");
done:
    return st;
}

/* Seconds until the time limit; 0: there is none, or it is that of the Slurm job. */
static sim_status time_left(const driver *d, double *left_s)
{
    sim_status st = SIM_OK;
    const double limit = d->comparison->arguments->time_limit_s;

    *left_s = 0;
    if (!(limit > 0))
        goto done;
    *left_s = ceil(limit - (sim_clock_s() - d->start_s));
    SIM_CHECK(*left_s >= 1, SIM_E_AGAIN, "stopped by the time limit");
done:
    return st;
}

/* ---- a run ---- */

/* Trains the run; a failure is recorded. */
static sim_status train_run(const driver *d, compare_run *r)
{
    sim_status st = SIM_OK;
    const comparison *c = d->comparison;
    compare_command k = {0};
    double left_s = 0;
    int code = 0;

    SIM_TRY(time_left(d, &left_s));
    SIM_TRY(sim_compare_pretrain_command(c, r, left_s, &k));
    SIM_TRY(run_command(r, &k, &code));
    sim_compare_read(c, r);
    SIM_CHECK(code != SIM_E_AGAIN, SIM_E_AGAIN, "%s was stopped", r->path);
    if (code != 0)
        SIM_TRY(check_stop());
    if (r->is_trained &&
        (code == 0 || code == SIM_E_CREATE)) /* also by another process */
        goto done;
    if (!(code == SIM_E_CREATE && r->is_elsewhere))
        SIM_TRY(keep_failure(r, code, "pretrain"));
done:
    sim_compare_command_clear(&k);
    return st;
}

static sim_status evaluate_run(const comparison *c, compare_run *r,
                               const sim_evaluation *e, int64_t step)
{
    sim_status st = SIM_OK;
    compare_command k = {0};
    int code = 0;

    SIM_TRY(check_stop());
    SIM_TRY(sim_compare_evaluate_command(c, r, e, step, &k));
    SIM_TRY(run_command(r, &k, &code));
    if (code == 0 && sim_compare_has_result(c, r, e, step))
        goto done;
    SIM_TRY(check_stop());
    SIM_TRY(keep_failure(r, code, "evaluate"));
done:
    sim_compare_command_clear(&k);
    return st;
}

static sim_status evaluate_final(const comparison *c, compare_run *r)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < c->n_evaluations && r->is_trained; i++)
        if (!sim_compare_has_result(c, r, c->evaluations[i], r->n_steps))
            SIM_TRY(evaluate_run(c, r, c->evaluations[i], r->n_steps));
done:
    return st;
}

/* The first run with an untrained encoder evaluates it; another one if the first has failed. */
static sim_status evaluate_untrained(const comparison *c, compare_run *r)
{
    sim_status st = SIM_OK;
    const compare_run *first = sim_compare_first_of_encoder(c, r);
    char path[PATH_BYTES];

    path_in(r, "checkpoints/step-000000000.h5", path);
    if ((first != r && first->failure.code == 0) || !sim_path_is_file(path))
        goto done;
    for (size_t i = 0; i < c->n_evaluations; i++)
        if (!sim_compare_has_untrained(c, r, c->evaluations[i]))
            SIM_TRY(evaluate_run(c, r, c->evaluations[i], 0));
done:
    return st;
}

/* "kNN top-1 % 45.10, loss 3.21" */
static void format_values(const comparison *c, const compare_run *r, char *out,
                          size_t out_bytes)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < c->n_measures; i++) {
        const compare_measure *m = &c->measures[i];
        const bool is_printed = m->is_accuracy || strcmp(m->key, "loss") == 0;
        if (!is_printed || !isfinite(r->values[i]))
            continue;
        const int n =
            snprintf(out + used, out_bytes - used, "%s%s %.*f", used ? ", " : "",
                     m->title, m->decimals, m->scale * r->values[i]);
        used += n > 0 && (size_t)n < out_bytes - used ? (size_t)n : 0;
    }
}

static void report_run(const driver *d, const compare_run *r, double elapsed_s,
                       bool was_complete)
{
    char values[400], span[32];

    format_values(d->comparison, r, values, sizeof values);
    sim_clock_span(elapsed_s, span, sizeof span);
    if (r->failure.code)
        sim_log("%zu/%zu %s: failed, exit code %d: %s", d->n_done, d->n_mine, r->name,
                r->failure.code, r->failure.text);
    else if (r->is_elsewhere)
        sim_log("%zu/%zu %s: running elsewhere", d->n_done, d->n_mine, r->name);
    else
        sim_log("%zu/%zu %s: %s, %s", d->n_done, d->n_mine, r->name, values,
                was_complete ? "was complete" : span);
}

static bool is_missing_result(const comparison *c, const compare_run *r)
{
    for (size_t i = 0; i < c->n_evaluations; i++)
        if (!sim_compare_has_result(c, r, c->evaluations[i], r->n_steps))
            return true;
    return false;
}

static sim_status process_run(driver *d, compare_run *r)
{
    sim_status st = SIM_OK;
    comparison *c = d->comparison;
    const double start_s = sim_clock_s();

    SIM_TRY(check_stop());
    sim_compare_read(c, r);
    const bool was_complete = r->is_trained && !is_missing_result(c, r);
    r->was_elsewhere = r->is_elsewhere;
    if (!r->is_elsewhere) {
        SIM_TRY(keep_foreign(r));
        SIM_TRY(forget_failure(r));
        if (!r->is_trained)
            SIM_TRY(train_run(d, r));
        SIM_TRY(evaluate_final(c, r));
        if (!r->is_elsewhere)
            SIM_TRY(evaluate_untrained(c, r));
        const compare_failure failure = r->failure;
        sim_compare_read(c, r);
        r->failure = failure;
    }
    report_run(d, r, sim_clock_s() - start_s, was_complete);
    if (was_complete)
        goto done;
    sim_compare_read_all(c); /* also the runs of other processes */
    SIM_TRY(sim_compare_report(c, false));
done:
    return st;
}

/* Runs that another process held are tried again at the end. */
static sim_status process_all(driver *d, bool again)
{
    sim_status st = SIM_OK;
    comparison *c = d->comparison;

    for (size_t i = 0; i < c->n_runs; i++) {
        compare_run *r = &c->runs[i];
        if (!sim_compare_is_mine(c, r) || (again && !r->was_elsewhere))
            continue;
        d->n_done += !again;
        SIM_TRY(process_run(d, r));
    }
done:
    return st;
}

sim_status sim_compare_run_all(comparison *c)
{
    sim_status st = SIM_OK;
    driver d = {.comparison = c, .start_s = sim_clock_s()};

    for (size_t i = 0; i < c->n_runs; i++)
        d.n_mine += sim_compare_is_mine(c, &c->runs[i]);
    sim_process_watch_signals(c->arguments->n_launcher > 0);
    SIM_TRY(process_all(&d, false));
    SIM_TRY(process_all(&d, true));
done:
    return st;
}
