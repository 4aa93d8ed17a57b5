/*
 * evaluate.h - the arguments of `simile evaluate` and what they refer to.
 */
#ifndef SIMILE_CLI_EVALUATE_H
#define SIMILE_CLI_EVALUATE_H

#include "cli.h"

enum { MAX_OWN_OPTIONS = 16 };

/* What is not given is taken from the job of the checkpoint. */
typedef struct {
    const sim_evaluation *evaluation;
    bool is_named;            /* the name of the evaluation has been parsed */
    const char *run;          /* run or checkpoint; NULL with `features` */
    const char *train, *test; /* data sets, or files of features */
    bool features, projections;
    const char *own[MAX_OWN_OPTIONS]; /* options of the evaluation; NULL: not given */
    int loader_threads;
    bool json;
} evaluate_arguments;

typedef struct {
    sim_checkpoint *checkpoint; /* this and the next are NULL with files of features */
    sim_job *job;
    sim_option_storage options,
        defaults; /* of the evaluation; without the command line */
    sim_dataset *train, *test;
    sim_feature_file *train_file, *test_file;
    sim_class_match match;
    sim_embedder embedder;
    sim_evaluation_inputs sets; /* the above, for the evaluation */
} evaluate_inputs;

/* Collective; the status is equal on all ranks. Close also after a failure. */
SIM_MUST_USE sim_status sim_cli_evaluate_open(const sim_comm *c,
                                              const evaluate_arguments *a,
                                              evaluate_inputs *in);
void sim_cli_evaluate_close(evaluate_inputs *in);

/* What differs from the run's job, for the name of a result: "-test-1a2b3c4d-k-20", or "". */
void sim_cli_evaluate_variant(const evaluate_arguments *a, const evaluate_inputs *in,
                              char *out, size_t out_bytes);

#endif
