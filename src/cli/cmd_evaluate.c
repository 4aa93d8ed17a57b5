/*
 * cmd_evaluate.c - `simile evaluate knn RUN --train A.h5 --test B.h5`: kNN accuracy.
 */
#include "cli.h"

#include "simile/eval.h"
#include "simile/file.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is not given is taken from the job of the checkpoint. */
typedef struct {
    const char *kind, *run, *train, *test;
    sim_knn_options knn; /* 0: not given */
    int loader_threads;
    bool json;
} arguments;

enum { KEY_TRAIN = 256, KEY_TEST, KEY_K, KEY_T, KEY_JSON, KEY_LOADERS };

static const struct argp_option options[] = {
    {"train", KEY_TRAIN, "A.h5", 0,
     "labelled data set of the neighbours (default: data.train of the run's job)", 0},
    {"test", KEY_TEST, "B.h5", 0,
     "labelled data set to classify (default: data.test of the run's job)", 0},
    {"k", KEY_K, "N", 0,
     "number of neighbours, at most the size of A.h5 (default: evaluate.k of the run's "
     "job)",
     0},
    {"temperature", KEY_T, "T", 0,
     "a neighbour votes with exp(cosine / T) (default: evaluate.temperature of the run's "
     "job)",
     0},
    {"loader-threads", KEY_LOADERS, "N", 0,
     "threads that read and decode images (default 1)", 0},
    {"json", KEY_JSON, NULL, 0, "print one JSON object", 0},
    {0}};

static error_t parse_evaluate_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    char *end = NULL;
    switch (key) {
    case KEY_TRAIN:
        a->train = arg;
        return 0;
    case KEY_TEST:
        a->test = arg;
        return 0;
    case KEY_K:
        a->knn.k = strtoll(arg, &end, 10);
        if (end == arg || *end || a->knn.k < 1)
            argp_error(state, "--k: \"%s\" is not a number >= 1", arg);
        return 0;
    case KEY_T:
        a->knn.temperature = strtod(arg, &end);
        if (end == arg || *end ||
            !(a->knn.temperature >= 0.001 && a->knn.temperature <= 100))
            argp_error(state, "--temperature: \"%s\" is not a number from 0.001 to 100",
                       arg);
        return 0;
    case KEY_LOADERS:
        a->loader_threads = (int)strtol(arg, &end, 10);
        if (end == arg || *end || a->loader_threads < 1 || a->loader_threads > 256)
            argp_error(state, "--loader-threads: \"%s\" is not a number from 1 to 256",
                       arg);
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (!a->kind)
            a->kind = arg;
        else if (!a->run)
            a->run = arg;
        else
            argp_error(state, "expected one run or checkpoint");
        return 0;
    case ARGP_KEY_END:
        if (!a->kind || strcmp(a->kind, "knn") != 0)
            argp_error(state, "the first argument must be knn%s%s%s",
                       a->kind ? ", not \"" : "", a->kind ? a->kind : "",
                       a->kind ? "\"" : "");
        if (!a->run)
            argp_error(state, "a run or checkpoint is required");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

typedef struct {
    sim_checkpoint *checkpoint;
    sim_job *job;
    sim_knn_options knn;
    sim_dataset *train, *test;
    sim_class_match match;
    sim_embedder embedder;
} inputs;

static sim_status check_labels(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    SIM_CHECK(sim_dataset_labels(d), SIM_E_DATA, "%s has no labels", sim_dataset_path(d));
done:
    return st;
}

/* Opens the data set that is given, or that the job names; key: of the job. */
static sim_status open_data(const inputs *in, const char *given, const char *of_job,
                            const char *key, sim_dataset **out)
{
    sim_status st = SIM_OK;
    const char *option = strchr(key, '.') + 1;

    SIM_CHECK(
        given || *of_job, SIM_E_CONFIG,
        "--%s is not given, and the job of %s has no %s; give a data set with labels",
        option, sim_checkpoint_path(in->checkpoint), key);
    st = sim_dataset_open(given ? given : of_job, out);
    if (st != SIM_OK && !given)
        sim_error_prefix(
            "--%s is not given, and %s of the run's job cannot be opened: ", option, key);
done:
    return st;
}

static sim_status read_job(const arguments *a, inputs *in)
{
    sim_status st = SIM_OK;
    sim_evaluate_options evaluate;

    SIM_TRY(sim_new(&in->job, "cli/job"));
    SIM_TRY(sim_cli_job_of_checkpoint(sim_checkpoint_head_of(in->checkpoint)->config,
                                      sim_checkpoint_path(in->checkpoint), in->job,
                                      &evaluate));
    in->knn.k = a->knn.k ? a->knn.k : evaluate.knn.k;
    in->knn.temperature =
        a->knn.temperature > 0 ? a->knn.temperature : evaluate.knn.temperature;
    SIM_TRY(sim_kernels_pick(in->job->train.kernels));
done:
    return st;
}

static sim_status open_inputs(const arguments *a, inputs *in)
{
    sim_status st = SIM_OK;
    sim_preprocessing p;

    SIM_TRY(read_job(a, in));
    SIM_TRY(open_data(in, a->train, in->job->train.train, "data.train", &in->train));
    SIM_TRY(open_data(in, a->test, in->job->train.test, "data.test", &in->test));
    SIM_TRY(check_labels(in->train));
    SIM_TRY(check_labels(in->test));
    SIM_TRY(sim_classes_match(in->train, in->test, &in->match));
    SIM_TRY(sim_preprocessing_open(in->checkpoint, in->job,
                                   (const sim_dataset *[]){in->train, in->test}, 2, &p));
    SIM_TRY(sim_preprocessing_check(&p, in->train));
    SIM_TRY(sim_preprocessing_check(&p, in->test));
    SIM_TRY(sim_embedder_open(in->checkpoint, in->job, &p, false, &in->embedder));
done:
    return st;
}

static void close_inputs(inputs *in)
{
    sim_embedder_close(&in->embedder);
    sim_class_match_clear(&in->match);
    sim_dataset_close(&in->train);
    sim_dataset_close(&in->test);
    sim_checkpoint_close(&in->checkpoint);
    sim_free(in->job);
}

static void describe_data(sim_json *j, const char *key, const sim_dataset *d)
{
    sim_json *o = sim_json_object(j, key);
    sim_json_text(o, "path", sim_dataset_path(d));
    sim_json_text(o, "fingerprint", sim_dataset_about(d)->fingerprint);
}

static void describe_result(sim_json *j, const inputs *in, const sim_knn_result *r)
{
    sim_json_text(j, "protocol", "knn");
    sim_json_int(j, "k", r->k);
    sim_json_real(j, "temperature", in->knn.temperature);
    sim_json_real(j, "top1", r->top1);
    sim_json_real(j, "top5", r->top5);
    sim_json_int(j, "n_train", r->n_train);
    sim_json_int(j, "n_test", r->n_test);
    sim_json_int(j, "dim", r->dim);
    sim_json_int(j, "classes", r->classes);
    sim_json_int(j, "step", sim_checkpoint_head_of(in->checkpoint)->step);
    sim_json_text(j, "checkpoint", sim_checkpoint_path(in->checkpoint));
    describe_data(j, "train", in->train);
    describe_data(j, "test", in->test);
}

static sim_status print_result(const sim_comm *c, const arguments *a, const inputs *in,
                               const sim_knn_result *r, const sim_json *j)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    if (a->json) {
        SIM_TRY(sim_cli_print_json(c, j, false));
        goto done;
    }
    SIM_TRY(sim_text_format(
        "cli/text", &text,
        "kNN (k %lld, T %g) at step %lld: top-1 %.2f %%, top-5 %.2f %% of "
        "%lld test images, %lld training images\n",
        (long long)r->k, in->knn.temperature,
        (long long)sim_checkpoint_head_of(in->checkpoint)->step, 100 * r->top1,
        100 * r->top5, (long long)r->n_test, (long long)r->n_train));
    SIM_TRY(sim_cli_print(c, text));
done:
    sim_free(text);
    return st;
}

static sim_status report_result(const sim_comm *c, const arguments *a, const inputs *in,
                                const sim_knn_result *r)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    SIM_TRY(sim_json_create(&j));
    describe_result(j, in, r);
    SIM_TRY(print_result(c, a, in, r, j));
    if (c->rank == 0)
        sim_cli_keep_result(in->checkpoint, "knn", j);
done:
    sim_json_destroy(&j);
    return st;
}

static sim_status run_knn(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    arguments *a = ctx;
    inputs in = {0};
    sim_knn_result result;

    SIM_TRY(sim_checkpoint_open(c, a->run, &in.checkpoint));
    SIM_TRY(sim_comm_agree(c, open_inputs(a, &in)));
    SIM_TRY(sim_knn_of(c, &in.knn, &in.embedder, in.train, in.test, &in.match,
                       a->loader_threads, &result));
    SIM_TRY(report_result(c, a, &in, &result));
done:
    close_inputs(&in);
    return st;
}

sim_status sim_command_evaluate(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_evaluate_option,
        .args_doc = "knn RUN_OR_CHECKPOINT [--train A.h5] [--test B.h5]",
        .doc =
            "Classifies test images by a weighted vote of their nearest training images "
            "(cosine of backbone features).  The result is also stored as "
            "RUN/results/knn-step-NNNNNNNNN.json.  Runs in parallel under mpirun; the "
            "result is the same on any number of ranks.\v"
            "Examples:\n"
            "  mpirun -np 2 simile evaluate knn runs/first\n"
            "  simile evaluate knn runs/first --train train.h5 --test test.h5 --k 20"};
    arguments a = {.loader_threads = 1};

    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, run_knn, &a);
}
