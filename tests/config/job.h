/*
 * job.h - the option tables of a small job, for the tests of config.
 */
#ifndef SIMILE_TEST_CONFIG_JOB_H
#define SIMILE_TEST_CONFIG_JOB_H

#include "simile_test.h"

#include "simile/config.h"
#include "simile/memory.h"

typedef struct {
    double rate;
    int64_t steps;
    bool flag;
    int kind;
    char path[SIM_OPTION_TEXT_BYTES];
    char note[SIM_OPTION_TEXT_BYTES];
    sim_option_items ops;
} job_options;

typedef struct {
    double p;
    int64_t size;
} job_item;

static const sim_option job_item_rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(job_item, p), 0, 1, "0.5", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
    {"size", SIM_OPTION_INT, offsetof(job_item, size), 1, 99, "3", NULL, "pixels", "side",
     SIM_IDENTITY, NULL, NULL},
};
static const sim_option_table job_items[] = {
    {"flip", job_item_rows, 1, sizeof(job_item)},
    {"crop", job_item_rows, 2, sizeof(job_item)}};

/* Two tables of section `opt` and one of the top level. */
static const sim_option job_top_rows[] = {
    {"path", SIM_OPTION_TEXT, offsetof(job_options, path), 0, 0, NULL, NULL, "", "a path",
     SIM_FREE_KEY, NULL, NULL},
    {"view.ops", SIM_OPTION_ITEMS, offsetof(job_options, ops), 0, 0, NULL, "flip|crop",
     "", "operations", SIM_IDENTITY, job_items, NULL},
};
static const sim_option job_opt_rows[] = {
    {"rate", SIM_OPTION_REAL, offsetof(job_options, rate), 0, 1e300, "0.1", NULL,
     "per step", "learning rate", SIM_IDENTITY, NULL, NULL},
    {"steps", SIM_OPTION_INT, offsetof(job_options, steps), -1e18, 1e18, "10", NULL,
     "steps", "length", SIM_IDENTITY, NULL, NULL},
};
static const sim_option job_more_rows[] = {
    {"flag", SIM_OPTION_BOOL, offsetof(job_options, flag), 0, 0, "false", NULL, "",
     "a flag", SIM_IDENTITY, NULL, NULL},
    {"kind", SIM_OPTION_ENUM, offsetof(job_options, kind), 0, 0, "sgd", "sgd|lars|adamw",
     "", "optimizer", SIM_IDENTITY, NULL, NULL},
    {"note", SIM_OPTION_TEXT, offsetof(job_options, note), 0, 0, "", NULL, "", "a note",
     SIM_FREE_KEY, NULL, NULL},
};
static const sim_option_table job_top = {"", job_top_rows, 2, sizeof(job_options)};
static const sim_option_table job_opt = {"opt", job_opt_rows, 2, sizeof(job_options)};
static const sim_option_table job_more = {"opt", job_more_rows, 3, sizeof(job_options)};

/* Fills all tables. Each fill zeroes its struct, so two structs are copied to *o afterwards. */
static inline sim_status job_fill(sim_config *c, job_options *o)
{
    static job_options opt, more;
    sim_status st = sim_config_fill(c, &job_top, o);
    st = st == SIM_OK ? sim_config_fill(c, &job_opt, &opt) : st;
    st = st == SIM_OK ? sim_config_fill(c, &job_more, &more) : st;
    if (st != SIM_OK)
        return st;
    o->rate = opt.rate;
    o->steps = opt.steps;
    o->flag = more.flag;
    o->kind = more.kind;
    memcpy(o->note, more.note, sizeof o->note);
    return sim_config_finish(c);
}

static inline sim_status job_parse(const char *text, size_t n, job_options *o)
{
    sim_config *c = NULL;
    sim_status st = sim_config_parse(text, n, "job.yaml", &c);
    st = st == SIM_OK ? job_fill(c, o) : st;
    sim_config_destroy(&c);
    return st;
}

/* Writes a job file to a new path. */
static inline void job_write(char path[32], const char *text, size_t n)
{
    (void)snprintf(path, 32, "simile-job-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

#endif
