/*
 * cmd_compare.c - `simile compare JOB.yaml...`: trains and evaluates a grid of runs, one after the
 * other, and tabulates the results.
 */
#include "compare.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_OUT = 256,
    KEY_VARY,
    KEY_SEEDS,
    KEY_EVALUATE,
    KEY_INIT,
    KEY_LAUNCHER,
    KEY_PART,
    KEY_TIME,
    KEY_PLAN,
    KEY_JSON,
    KEY_FORCE
};

static const struct argp_option options[] = {
    {"out", KEY_OUT, "DIR", 0, "directory of the runs and of the tables (required)", 0},
    {"vary", KEY_VARY, "KEY=V1,V2,...", 0,
     "values of a key, such as method.name=simclr,dcl; every combination of all --vary "
     "is "
     "run.  Commas inside [ ], { } and quotes belong to a value",
     0},
    {"seeds", KEY_SEEDS, "N", 0,
     "run each configuration with N seeds: seed, seed + 1, ... of the job (default 1); "
     "--vary seed=3,5 lists seeds",
     0},
    {"evaluate", KEY_EVALUATE, "NAME,...", 0,
     "evaluations of `simile evaluate`, or none (default: knn,linear if data.test has "
     "labels)",
     0},
    {"init", KEY_INIT, "WEIGHTS", 0,
     "start every run from these weights, as in `simile pretrain`", 0},
    {"launcher", KEY_LAUNCHER, "\"mpirun -np 4\"", 0,
     "start each command by this launcher (default: directly, on one rank)", 0},
    {"part", KEY_PART, "I/N", 0,
     "run the I-th of N parts of the grid (default in a Slurm array: that of the task)",
     0},
    {"time-limit", KEY_TIME, "TIME|auto", 0,
     "stop with a checkpoint before this limit, as in `simile pretrain`", 0},
    {"plan", KEY_PLAN, NULL, 0, "check and list the runs and start none", 0},
    {"json", KEY_JSON, NULL, 0, "print DIR/compare.json instead of the table", 0},
    {"force", KEY_FORCE, NULL, 0, "replace the files DIR/compare* whatever they are", 0},
    {0}};

static void parse_seeds(compare_arguments *a, const char *arg,
                        const struct argp_state *state)
{
    char *end = NULL;
    a->n_seeds = strtoll(arg, &end, 10);
    if (end == arg || *end || a->n_seeds < 1 || a->n_seeds > COMPARE_MAX_RUNS)
        argp_error(state, "--seeds requires a number from 1 to %d, not \"%s\"",
                   COMPARE_MAX_RUNS, arg);
}

static void parse_evaluations(compare_arguments *a, const char *arg,
                              const struct argp_state *state)
{
    char name[64];

    a->evaluations_given = true;
    a->n_evaluations = 0;
    if (strcmp(arg, "none") == 0)
        return;
    for (const char *p = arg; *p; p += *p == ',') {
        const size_t n = strcspn(p, ",");
        (void)snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : 63, p);
        const sim_evaluation *e = sim_evaluations_find(name);
        if (!e)
            argp_error(
                state,
                "--evaluate: \"%s\" is not an evaluation; `simile evaluate --help` "
                "lists them",
                name);
        for (size_t i = 0; i < a->n_evaluations; i++)
            if (a->evaluations[i] == e)
                argp_error(state, "--evaluate lists %s twice", name);
        if (a->n_evaluations == COMPARE_MAX_EVALUATIONS)
            argp_error(state, "--evaluate lists more than %d evaluations",
                       COMPARE_MAX_EVALUATIONS);
        a->evaluations[a->n_evaluations++] = e;
        p += n;
    }
}

static void parse_part(compare_arguments *a, const char *arg,
                       const struct argp_state *state)
{
    char *slash = NULL, *end = NULL;
    const long long part = strtoll(arg, &slash, 10),
                    n = *slash == '/' ? strtoll(slash + 1, &end, 10) : 0;

    if (part < 1 || n < part || n > COMPARE_MAX_RUNS || *end)
        argp_error(state, "--part requires I/N with I from 1 to N, not \"%s\"", arg);
    a->part = (size_t)part;
    a->n_parts = (size_t)n;
}

static void parse_compare_time(compare_arguments *a, const char *arg,
                               const struct argp_state *state)
{
    if (strcmp(arg, "auto") != 0 && !sim_clock_limit(arg, &a->time_limit_s))
        argp_error(state,
                   "--time-limit requires a time such as 45min, 12:00:00 or 90 (minutes, "
                   "as in Slurm), or auto, not \"%s\"",
                   arg);
    a->time_limit = arg;
}

/* KEY=VALUE; otherwise a word is a job file. */
static bool is_key_value(const char *arg)
{
    const size_t n = strspn(arg, "abcdefghijklmnopqrstuvwxyz0123456789_.");
    return n > 0 && arg[n] == '=';
}

static void parse_word(compare_arguments *a, char *arg, const struct argp_state *state)
{
    if (strncmp(arg, "run=", 4) == 0)
        argp_error(state, "the runs are created below --out; run= cannot be given");
    if (is_key_value(arg)) {
        a->given.path = a->n_jobs ? a->jobs[0] : "";
        if (!sim_cli_job_argument(&a->given, arg, state))
            argp_error(state, "there are more than %d KEY=VALUE", SIM_MAX_OVERRIDES);
        return;
    }
    if (a->n_jobs == COMPARE_MAX_JOBS)
        argp_error(state, "there are more than %d job files", COMPARE_MAX_JOBS);
    a->jobs[a->n_jobs++] = arg;
}

static void check_compare_words(const compare_arguments *a,
                                const struct argp_state *state)
{
    if (a->n_jobs == 0)
        argp_error(state, "a job file is missing");
    if (!a->out)
        argp_error(state, "--out DIR is missing: the directory of the runs");
    for (size_t i = 0; i < a->n_keys; i++) {
        if (strcmp(a->keys[i].key, "run") == 0)
            argp_error(state, "--vary run: the runs are created below --out");
        if (strcmp(a->keys[i].key, "seed") == 0 && a->n_seeds > 0)
            argp_error(state, "--seeds and --vary seed exclude each other");
    }
}

static error_t parse_compare_option(int key, char *arg, struct argp_state *state)
{
    compare_arguments *a = state->input;
    const char *problem = NULL;

    switch (key) {
    case KEY_OUT:
        for (size_t n = strlen(arg); n > 1 && arg[n - 1] == '/';)
            arg[--n] = '\0';
        a->out = arg;
        return 0;
    case KEY_VARY:
        if (!sim_compare_parse_key(a, arg, state->next, &problem))
            argp_error(state, "--vary %s: %s", arg, problem);
        return 0;
    case KEY_SEEDS:
        parse_seeds(a, arg, state);
        return 0;
    case KEY_EVALUATE:
        parse_evaluations(a, arg, state);
        return 0;
    case KEY_INIT:
        a->init = arg;
        return 0;
    case KEY_LAUNCHER:
        if (!sim_compare_parse_launcher(a, arg, &problem))
            argp_error(state, "--launcher %s: %s", arg, problem);
        return 0;
    case KEY_PART:
        parse_part(a, arg, state);
        return 0;
    case KEY_TIME:
        parse_compare_time(a, arg, state);
        return 0;
    case KEY_PLAN:
        a->plan = true;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        parse_word(a, arg, state);
        return 0;
    case ARGP_KEY_END:
        check_compare_words(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the environment ---- */

static long long number_of_variable(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    char *end = NULL;
    const long long n = text ? strtoll(text, &end, 10) : otherwise;
    return text && end != text && *end == '\0' ? n : otherwise;
}

/* compare starts the ranks, so it must be one process itself. */
static sim_status refuse_ranks(void)
{
    sim_status st = SIM_OK;
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                        "SLURM_STEP_NUM_TASKS"};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const long long n = number_of_variable(sizes[i], 1);
        SIM_CHECK(
            n <= 1, SIM_E_USAGE,
            "compare was started as %lld ranks; start it alone, and give the "
            "launcher of its runs: simile compare --launcher \"mpirun -np %lld\" ...",
            n, n);
    }
done:
    return st;
}

/* The part of this task of a Slurm array, unless --part was given. */
static sim_status choose_part(compare_arguments *a)
{
    sim_status st = SIM_OK;
    const long long id = number_of_variable("SLURM_ARRAY_TASK_ID", -1),
                    n = number_of_variable("SLURM_ARRAY_TASK_COUNT", -1),
                    first = number_of_variable("SLURM_ARRAY_TASK_MIN", -1),
                    step = number_of_variable("SLURM_ARRAY_TASK_STEP", 1);

    if (a->n_parts > 0 || id < 0 || n < 1 || first < 0 || step < 1)
        goto done;
    SIM_CHECK((id - first) % step == 0 && (id - first) / step < n, SIM_E_USAGE,
              "task %lld of the Slurm array has no part, because the ids are not "
              "consecutive; use --array=1-%lld, or give --part",
              id, n);
    a->part = (size_t)((id - first) / step) + 1;
    a->n_parts = (size_t)n;
done:
    return st;
}

/* ---- the list of runs ---- */

static sim_status print_list_line(const compare_arguments *a, const char *line)
{
    sim_status st = SIM_OK;

    if (a->plan) {
        SIM_TRY(sim_cli_print_line(line));
        SIM_TRY(sim_cli_print(NULL, "\n"));
    } else {
        sim_log("%s", line);
    }
done:
    return st;
}

static const char *state_of(const comparison *c, const compare_run *r)
{
    return r->is_elsewhere                  ? ", running elsewhere"
           : r->is_trained                  ? ", complete"
           : sim_path_is_directory(r->path) ? ", to be resumed"
           : sim_compare_is_mine(c, r)      ? ""
                                            : ", of another part";
}

static sim_status print_list(const comparison *c)
{
    sim_status st = SIM_OK;
    const compare_arguments *a = c->arguments;
    char line[8192];

    for (size_t i = 0; i < c->n_runs; i++) {
        const compare_run *r = &c->runs[i];
        (void)snprintf(line, sizeof line, "run %zu of %zu: %s, %lld steps%s", i + 1,
                       c->n_runs, r->path, (long long)r->n_steps, state_of(c, r));
        SIM_TRY(print_list_line(a, line));
    }
    (void)snprintf(line, sizeof line, "%zu run%s of %zu configuration%s, %lld steps",
                   c->n_runs, c->n_runs == 1 ? "" : "s", c->n_configurations,
                   c->n_configurations == 1 ? "" : "s", (long long)c->total_steps);
    SIM_TRY(print_list_line(a, line));
done:
    return st;
}

/* ---- the command ---- */

/* The exit code of the first failed run of this part, if it is one of simile's. */
static sim_status status_of_failures(const comparison *c)
{
    sim_status st = SIM_OK;
    const compare_counts n = sim_compare_count(c);

    for (size_t i = 0; i < c->n_runs; i++) {
        const compare_failure *f = &c->runs[i].failure;
        if (!sim_compare_is_mine(c, &c->runs[i]))
            continue;
        const bool is_own =
            f->code >= SIM_E_USAGE && f->code <= SIM_E_CONFIG && f->code != SIM_E_AGAIN;
        SIM_CHECK(f->code == 0, is_own ? (sim_status)f->code : SIM_E_BUG,
                  "%zu of %zu runs failed, first %s (exit code %d): %s", n.failed,
                  c->n_runs, c->runs[i].path, f->code, f->text);
    }
done:
    return st;
}

static sim_status run_and_report(comparison *c)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_directory_create(c->directory));
    SIM_TRY(sim_compare_check_outputs(c));
    sim_status driven = sim_compare_run_all(c);
    if (driven != SIM_OK && driven != SIM_E_AGAIN)
        SIM_TRY(driven);
    sim_compare_read_all(c);
    SIM_TRY(sim_compare_report(c, true));
    SIM_CHECK(driven == SIM_OK, SIM_E_AGAIN,
              "stopped; run the same command to resume (exit code 75)");
    SIM_TRY(status_of_failures(c));
done:
    return st;
}

static sim_status compare_runs(compare_arguments *a)
{
    sim_status st = SIM_OK;
    comparison *c = NULL;

    SIM_TRY(sim_new(&c, "cli/compare"));
    SIM_TRY(refuse_ranks());
    SIM_TRY(choose_part(a));
    SIM_TRY(sim_compare_create(a, c));
    SIM_TRY(sim_compare_check_stored(c));
    SIM_TRY(sim_compare_divide(c, a->n_parts));
    sim_compare_read_all(c);
    SIM_TRY(print_list(c));
    if (!a->plan)
        SIM_TRY(run_and_report(c));
done:
    if (c)
        sim_compare_destroy(c);
    sim_free(c);
    return st;
}

sim_status sim_command_compare(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_compare_option,
        .args_doc = "JOB.yaml [JOB2.yaml ...] [KEY=VALUE ...]",
        .doc =
            "Trains and evaluates every combination of job files, values of keys and "
            "seeds, one run after the other, and writes the tables DIR/compare.txt, "
            ".csv, "
            ".json and .html and a plot DIR/compare-KEY.svg per key.  The same command "
            "resumes: what is complete is not repeated.\v"
            "Examples:\n"
            "  simile compare job.yaml --out runs/methods --vary method.name=simclr,dcl "
            "--seeds 3\n"
            "  simile compare job.yaml --out runs/batch --vary batch=64,128,256 "
            "--launcher "
            "\"mpirun -np 4\"\n"
            "  simile compare a.yaml b.yaml --out runs/ab schedule.epochs=50 --plan\n\n"
            "USR1, TERM and INT stop the present run with a checkpoint; the exit code is "
            "then 75.  A run that fails is recorded in the table, the others continue, "
            "and "
            "the exit code is that of the first failed run."};
    compare_arguments *a = NULL;
    sim_status st = sim_new(&a, "cli/compare");

    if (st == SIM_OK) {
        sim_cli_parse(&argp, argc, argv, a);
        st = compare_runs(a);
        sim_compare_arguments_clear(a);
    }
    sim_free(a);
    if (st == SIM_E_AGAIN)
        sim_log("%s", sim_error_message());
    else if (st != SIM_OK)
        sim_log_failure(st);
    return st;
}
