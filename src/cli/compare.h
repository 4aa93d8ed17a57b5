/*
 * compare.h - `simile compare`: the grid of runs, the driver, the results and the tables.
 */
#ifndef SIMILE_CLI_COMPARE_H
#define SIMILE_CLI_COMPARE_H

#include "cli.h"

enum {
    COMPARE_MAX_JOBS = 64,
    COMPARE_MAX_KEYS = 16,
    COMPARE_MAX_RUNS = 10000,
    COMPARE_MAX_EVALUATIONS = 8,
    COMPARE_MAX_MEASURES = 64,
    COMPARE_MAX_LAUNCHER = 64,
    COMPARE_ERROR_BYTES = 320
};

/* ---- the command line ---- */

/* --vary KEY=V1,V2. */
typedef struct {
    char *key;
    char **values; /* [n] */
    size_t n;
    int number; /* position on the command line, for messages */
} compare_key;

typedef struct {
    const char *jobs[COMPARE_MAX_JOBS];
    size_t n_jobs;
    sim_job_source given; /* KEY=VALUE of all runs; without a path */
    compare_key keys[COMPARE_MAX_KEYS];
    size_t n_keys;
    int64_t n_seeds; /* 0: not given */
    const char *out;
    const char *init;                         /* weights that runs start from; or NULL */
    const char *time_limit;                   /* as given; NULL: none */
    double time_limit_s;                      /* 0: auto */
    char *launcher[COMPARE_MAX_LAUNCHER + 1]; /* words; owned */
    size_t n_launcher;
    const sim_evaluation *evaluations[COMPARE_MAX_EVALUATIONS];
    size_t n_evaluations;
    bool evaluations_given;
    size_t part, n_parts; /* 1 to n_parts; 0: all runs */
    bool plan, json, force;
} compare_arguments;

/* Parsers of words of the command line.  false: *problem says why. */
bool sim_compare_parse_key(compare_arguments *a, const char *arg, int number,
                           const char **problem);
bool sim_compare_parse_launcher(compare_arguments *a, const char *arg,
                                const char **problem);
void sim_compare_arguments_clear(compare_arguments *a);

/* ---- the grid ---- */

typedef struct {
    size_t job;                      /* index of the job file */
    size_t choice[COMPARE_MAX_KEYS]; /* index of the value of each key; seed: 0 */
    char *identity; /* of its first run: lines "key: value" that determine the results */
    char *resolved; /* the job without run and seed, to find equal configurations */
} compare_configuration;

typedef struct {
    int code; /* exit code of the command that failed; 0: none failed */
    char text[COMPARE_ERROR_BYTES];
} compare_failure;

typedef struct {
    char *name, *path; /* DIR/NAME */
    size_t configuration, part;
    int64_t seed, n_steps, batch;
    char *words[COMPARE_MAX_KEYS + 2]; /* key=value of this run: keys, seed, run */
    size_t n_words;
    char *identity;
    char *train, *test; /* data sets; test "" if there is none */
    sim_evaluate_options evaluate;
    char *encoder; /* what determines the untrained encoder and its evaluation */
    /* Set by sim_compare_read. */
    bool is_trained, is_elsewhere; /* complete; another process works on it */
    compare_failure failure;
    double values[COMPARE_MAX_MEASURES]; /* NaN: unknown */
    bool was_elsewhere;                  /* is_elsewhere when it was to be trained */
} compare_run;

/* A measure of a run. */
typedef enum { MEASURE_METRIC, MEASURE_FINAL, MEASURE_UNTRAINED } compare_source;
typedef struct {
    compare_source source;
    const sim_evaluation *evaluation; /* NULL for metrics */
    const char *field;                /* of the metrics or of the result */
    char key[64], title[64];          /* in JSON and CSV; in tables */
    double scale;                     /* in tables */
    int decimals;
    bool is_shown; /* in tables */
    bool is_accuracy;
} compare_measure;

typedef struct {
    char fingerprint[33]; /* "" if there is no data set */
    char *path;
    bool is_composed; /* the path does not determine it */
} compare_data;

typedef struct {
    const compare_arguments *arguments;
    char *directory;               /* --out, expanded like `run` of a job */
    char *stems[COMPARE_MAX_JOBS]; /* unique names of the job files */
    int seed_key;                  /* index of `seed` in the keys; -1: not varied */
    compare_configuration *configurations;
    size_t n_configurations;
    compare_run *runs; /* [configurations][seeds] */
    size_t n_runs, n_seeds;
    compare_data train, test;
    sim_option_texts train_files; /* of data.train */
    int64_t total_steps;
    const sim_evaluation *evaluations[COMPARE_MAX_EVALUATIONS];
    size_t n_evaluations;
    compare_measure measures[COMPARE_MAX_MEASURES];
    size_t n_measures;
} comparison;

/*
 * Builds the grid and checks every job as pretrain does; *out is zeroed before.
 * Errors: those of sim_job_load and sim_job_check, naming the run; SIM_E_DATA for different data
 * sets; SIM_E_CONFIG for equal runs and for a stored run of another job.
 */
SIM_MUST_USE sim_status sim_compare_create(const compare_arguments *a, comparison *out);
void sim_compare_destroy(comparison *c);
/*
 * Value of a key in lines "key: value", such as an identity; NULL: there is no such line.  Borrowed;
 * it ends after n_value bytes.
 */
const char *sim_compare_line_value(const char *lines, const char *key, size_t n_key,
                                   size_t *n_value);
/* The value of a key in a configuration, as given. */
const char *sim_compare_value(const comparison *c, const compare_configuration *f,
                              size_t key);
/* Assigns the runs to the parts, with about the same number of images each. */
SIM_MUST_USE sim_status sim_compare_divide(comparison *c, size_t n_parts);
/* Whether this process runs it: it is of the part that was chosen. */
bool sim_compare_is_mine(const comparison *c, const compare_run *r);
/* Refuses runs below DIR that are stored with another job or other data. */
SIM_MUST_USE sim_status sim_compare_check_stored(const comparison *c);

/* ---- names ---- */

/* Fills the stems; job files of the same name are numbered.  Errors: SIM_E_USAGE if a file is given
 * twice. */
SIM_MUST_USE sim_status sim_compare_name_jobs(comparison *c);
/* Sets the name of a run of which the seed is set; a very long one is shortened to a hash. */
SIM_MUST_USE sim_status sim_compare_name_run(const comparison *c,
                                             const compare_configuration *f,
                                             compare_run *r);
/* "run=PATH" or, with a name, "run=PATH/NAME", quoted where YAML requires it.  The caller frees
 * *out. */
SIM_MUST_USE sim_status sim_compare_run_word(const char *path, const char *name,
                                             char **out);

/* ---- jobs and data ---- */

/* Loads jobs of the grid and checks them against the data, which are opened once. */
typedef struct {
    comparison *comparison;
    sim_dataset *train, *test; /* of the first job; test NULL: there is none */
    sim_job *job;              /* of the last load */
    sim_evaluate_options evaluate;
    sim_job_texts texts;
    sim_schedule_plan plan;
    size_t n_ranks; /* that the launcher starts */
} compare_loader;
SIM_MUST_USE sim_status sim_compare_loader_create(comparison *c, compare_loader *out);
/* Errors: those of sim_job_load and sim_job_check; SIM_E_DATA if the data are not those of the first
 * job. */
SIM_MUST_USE sim_status sim_compare_load(compare_loader *l, const sim_job_source *source);
/* Chooses the evaluations that the data permit. */
SIM_MUST_USE sim_status sim_compare_choose_evaluations(compare_loader *l);
void sim_compare_loader_destroy(compare_loader *l);

/* ---- results ---- */

void sim_compare_list_measures(comparison *c);
/* Reads the state of a run, its metrics and its results. */
void sim_compare_read(const comparison *c, compare_run *r);
void sim_compare_read_all(comparison *c);
/* Whether the result of an evaluation of the checkpoint of `step` is stored, with the data sets and
 * options of the run. */
bool sim_compare_has_result(const comparison *c, const compare_run *r,
                            const sim_evaluation *e, int64_t step);
/* The same of the untrained encoder, of any run with this encoder. */
bool sim_compare_has_untrained(const comparison *c, const compare_run *r,
                               const sim_evaluation *e);
/* The first run with the same untrained encoder. */
const compare_run *sim_compare_first_of_encoder(const comparison *c,
                                                const compare_run *r);

/* ---- commands ---- */

/* Words of a command, terminated by NULL; it owns those in `owned` and borrows the others. */
enum { COMPARE_MAX_ARGV = SIM_MAX_OVERRIDES + COMPARE_MAX_LAUNCHER + 64 };
typedef struct {
    const char *words[COMPARE_MAX_ARGV + 1];
    size_t n;
    char *owned[32];
    size_t n_owned;
} compare_command;

SIM_MUST_USE sim_status sim_compare_pretrain_command(const comparison *c,
                                                     const compare_run *r,
                                                     double time_left_s,
                                                     compare_command *out);
/* step 0: of the untrained encoder. */
SIM_MUST_USE sim_status sim_compare_evaluate_command(const comparison *c,
                                                     const compare_run *r,
                                                     const sim_evaluation *e,
                                                     int64_t step, compare_command *out);
/* As a line for a shell; the caller frees *out. */
SIM_MUST_USE sim_status sim_compare_command_text(const compare_command *command,
                                                 char **out);
void sim_compare_command_clear(compare_command *command);

/* ---- the driver ---- */

/*
 * Runs what is not stored yet.
 * Errors: SIM_E_AGAIN if it was stopped; SIM_E_IO if a file below DIR cannot be written.  A run
 * that fails is recorded and is not an error.
 */
SIM_MUST_USE sim_status sim_compare_run_all(comparison *c);

/* ---- tables ---- */

/* Mean and standard deviation (n - 1) of a measure over the seeds of a configuration. */
typedef struct {
    double mean, deviation; /* NaN: n is 0; deviation 0 if n is 1 */
    size_t n;
} compare_mean;
compare_mean sim_compare_mean(const comparison *c, size_t configuration, size_t measure);

/* Counts of runs. */
typedef struct {
    size_t complete, failed, missing,
        elsewhere; /* missing: neither complete nor failed */
} compare_counts;
compare_counts sim_compare_count(const comparison *c);

/* Keys of the identity that differ between configurations, in addition to the varied ones. */
typedef struct {
    char *key, *value;    /* value "": the method has no such key */
    char *configurations; /* numbers, as "1-4, 7" */
} compare_difference;
typedef struct {
    compare_difference *rows;
    size_t n;
} compare_differences;
SIM_MUST_USE sim_status sim_compare_differences(const comparison *c,
                                                compare_differences *out);
void sim_compare_differences_clear(compare_differences *d);

/* Checks that no file of the user has the name of an output. */
SIM_MUST_USE sim_status sim_compare_check_outputs(const comparison *c);
/* Writes DIR/compare.*; prints the table, or the JSON object. */
SIM_MUST_USE sim_status sim_compare_report(const comparison *c, bool print);
/* The JSON object; the caller destroys it. */
SIM_MUST_USE sim_status sim_compare_json(const comparison *c,
                                         const compare_differences *differences,
                                         sim_json **out);

#endif
