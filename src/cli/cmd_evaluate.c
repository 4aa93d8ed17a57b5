/*
 * cmd_evaluate.c - `simile evaluate NAME RUN`: an evaluation of the table in module eval.
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

enum { MAX_OWN_OPTIONS = 16 };

/* What is not given is taken from the job of the checkpoint. */
typedef struct {
    const sim_evaluation *evaluation;
    const char *run, *train, *test;
    const char
        *own[MAX_OWN_OPTIONS]; /* values of the evaluation's options; NULL: not given */
    int loader_threads;
    bool json;
} arguments;

/* ---- the command line ---- */

enum { KEY_TRAIN = 256, KEY_TEST, KEY_JSON, KEY_LOADERS, KEY_OWN };

static const struct argp_option common_options[] = {
    {"train", KEY_TRAIN, "A.h5", 0,
     "labelled training set (default: data.train of the run's job)", 0},
    {"test", KEY_TEST, "B.h5", 0,
     "labelled data set to classify (default: data.test of the run's job)", 0},
    {"loader-threads", KEY_LOADERS, "N", 0,
     "threads that read and decode images (default 1)", 0},
    {"json", KEY_JSON, NULL, 0, "print one JSON object", 0}};
enum { N_COMMON = sizeof common_options / sizeof common_options[0] };

/* false: the key is not that of an option of the evaluation. */
static bool parse_own_option(int key, char *arg, struct argp_state *state, arguments *a)
{
    sim_option_storage checked;
    char name[64];

    if (key < KEY_OWN || !a->evaluation ||
        (size_t)(key - KEY_OWN) >= a->evaluation->options.n_rows)
        return false;
    const sim_option *row = &a->evaluation->options.rows[key - KEY_OWN];
    (void)snprintf(name, sizeof name, "--%s", row->name);
    if (sim_config_option(row, name, arg, &checked) != SIM_OK)
        argp_error(state, "%s", sim_error_message());
    a->own[key - KEY_OWN] = arg;
    return true;
}

static void parse_word(arguments *a, char *arg, struct argp_state *state)
{
    if (a->evaluation && strcmp(arg, a->evaluation->name) == 0 && !a->run)
        return; /* found by find_evaluation */
    if (!a->evaluation)
        argp_error(state, "\"%s\" is not an evaluation; see --help", arg);
    if (a->run)
        argp_error(state, "expected one run or checkpoint");
    a->run = arg;
}

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
        parse_word(a, arg, state);
        return 0;
    case ARGP_KEY_END:
        if (!a->evaluation)
            argp_error(state, "an evaluation is required; see --help");
        if (!a->run)
            argp_error(state, "a run or checkpoint is required");
        return 0;
    default:
        return parse_own_option(key, arg, state, a) ? 0 : ARGP_ERR_UNKNOWN;
    }
}

/* The first word that names an evaluation, as its options are needed to parse the others. */
static const sim_evaluation *find_evaluation(int argc, char **argv)
{
    const sim_evaluation *found = NULL;

    for (int i = 1; i < argc && !found; i++)
        found = sim_evaluations_find(argv[i]);
    return found;
}

/* The common options, then those of the evaluation. */
static void list_options(const sim_evaluation *e,
                         struct argp_option list[N_COMMON + MAX_OWN_OPTIONS + 1])
{
    const size_t n_own = e ? e->options.n_rows : 0;

    SIM_ASSERT(n_own <= MAX_OWN_OPTIONS);
    memset(list, 0, (N_COMMON + n_own + 1) * sizeof *list);
    memcpy(list, common_options, sizeof common_options);
    for (size_t i = 0; i < n_own; i++)
        list[N_COMMON + i] = (struct argp_option){.name = e->options.rows[i].name,
                                                  .key = KEY_OWN + (int)i,
                                                  .arg = "VALUE",
                                                  .doc = e->options.rows[i].help,
                                                  .group = 1};
}

/* The text of --help; the caller frees it. */
static sim_status format_help(char **out)
{
    sim_status st = SIM_OK;
    char names[1024] = "";

    for (size_t i = 0; i < sim_evaluations_count(); i++) {
        const sim_evaluation *e = sim_evaluations_at(i);
        const size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, "  %-10s %s\n", e->name,
                       e->summary);
    }
    SIM_TRY(sim_text_format(
        "cli/text", out,
        "Measures the accuracy with which features of the backbone classify test images. "
        "NAME is one of\n\n%s\n"
        "The result is also stored as RUN/results/NAME-step-NNNNNNNNN.json; inputs "
        "other than those of the run's job are added to the file name.  Runs in "
        "parallel under mpirun; the result is the same on any number of ranks.\v"
        "`simile evaluate NAME --help` lists the options of an evaluation.\n"
        "Examples:\n"
        "  mpirun -np 2 simile evaluate knn runs/first\n"
        "  simile evaluate linear runs/first --train train.h5 --test test.h5",
        names));
done:
    return st;
}

/* ---- inputs ---- */

typedef struct {
    sim_checkpoint *checkpoint;
    sim_job *job;
    sim_option_storage options,
        defaults; /* of the evaluation; without the command line */
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

/* Defaults of the table, those of the job, then the command line. */
static sim_status fill_options(const arguments *a, const sim_evaluate_options *of_job,
                               sim_option_storage *defaults, sim_option_storage *out)
{
    sim_status st = SIM_OK;
    const sim_evaluation *e = a->evaluation;

    for (size_t i = 0; i < e->options.n_rows; i++)
        if (e->options.rows[i].fallback)
            SIM_TRY(sim_config_option(&e->options.rows[i], e->options.rows[i].name,
                                      e->options.rows[i].fallback, defaults));
    if (e->take_defaults)
        e->take_defaults(of_job, defaults);
    *out = *defaults;
    for (size_t i = 0; i < e->options.n_rows; i++)
        if (a->own[i])
            SIM_TRY(sim_config_option(&e->options.rows[i], e->options.rows[i].name,
                                      a->own[i], out));
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
    SIM_TRY(fill_options(a, &evaluate, &in->defaults, &in->options));
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

/* ---- the result ---- */

static void describe_data(sim_json *j, const char *key, const sim_dataset *d)
{
    sim_json *o = sim_json_object(j, key);
    sim_json_text(o, "path", sim_dataset_path(d));
    sim_json_text(o, "fingerprint", sim_dataset_about(d)->fingerprint);
}

static sim_status print_result(const sim_comm *c, const arguments *a, const inputs *in,
                               const char *text, const sim_json *j)
{
    sim_status st = SIM_OK;
    char *line = NULL;

    if (a->json) {
        SIM_TRY(sim_cli_print_json(c, j, false));
        goto done;
    }
    SIM_TRY(sim_text_format("cli/text", &line, "step %lld: %s",
                            (long long)sim_checkpoint_head_of(in->checkpoint)->step,
                            text));
    SIM_TRY(sim_cli_print(c, line));
done:
    sim_free(line);
    return st;
}

/* ---- the name of the stored result ---- */

static void append_variant(char *out, size_t out_bytes, const char *name,
                           const char *value)
{
    const size_t used = strlen(out);
    (void)snprintf(out + used, out_bytes - used, "-%.30s-%.60s", name, value);
}

static bool is_data_of_job(const char *given, const char *of_job)
{
    return !given || strcmp(given, of_job) == 0 || sim_path_is_same(given, of_job);
}

/* The inputs that differ from those of the run's job, as "-test-1a2b3c4d-k-20"; "" if none does. */
static void format_variant(const arguments *a, const inputs *in, char *out,
                           size_t out_bytes)
{
    const sim_option_table *own = &a->evaluation->options;
    const char *train = sim_dataset_about(in->train)->fingerprint;
    const char *test = sim_dataset_about(in->test)->fingerprint;
    char value[SIM_OPTION_TEXT_BYTES], fallback[SIM_OPTION_TEXT_BYTES];

    out[0] = '\0';
    (void)snprintf(value, sizeof value, "%.8s", train);
    if (strcmp(train, sim_checkpoint_head_of(in->checkpoint)->fingerprint) != 0)
        append_variant(out, out_bytes, "train", value);
    (void)snprintf(value, sizeof value, "%.8s", test);
    if (!is_data_of_job(a->test, in->job->train.test))
        append_variant(out, out_bytes, "test", value);
    for (size_t i = 0; i < own->n_rows; i++) {
        sim_config_format_option(&own->rows[i], &in->options, value, sizeof value);
        sim_config_format_option(&own->rows[i], &in->defaults, fallback, sizeof fallback);
        if (strcmp(value, fallback) != 0)
            append_variant(out, out_bytes, own->rows[i].name, value);
    }
}

static sim_status run_and_report(const sim_comm *c, const arguments *a, const inputs *in,
                                 sim_json *j)
{
    sim_status st = SIM_OK;
    char *text = NULL, variant[200];
    const sim_evaluation_inputs data = {.embedder = &in->embedder,
                                        .train = in->train,
                                        .test = in->test,
                                        .match = &in->match,
                                        .loader_threads = a->loader_threads};

    sim_json_text(j, "protocol", a->evaluation->name);
    SIM_TRY(a->evaluation->run(c, &in->options, &data, j, &text));
    sim_json_int(j, "step", sim_checkpoint_head_of(in->checkpoint)->step);
    sim_json_text(j, "checkpoint", sim_checkpoint_path(in->checkpoint));
    describe_data(j, "train", in->train);
    describe_data(j, "test", in->test);
    SIM_TRY(print_result(c, a, in, text, j));
    format_variant(a, in, variant, sizeof variant);
    if (c->rank == 0)
        sim_cli_keep_result(in->checkpoint, a->evaluation->name, variant, j);
done:
    sim_free(text);
    return st;
}

static sim_status run_evaluation(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    const arguments *a = ctx;
    inputs in = {0};
    sim_json *result = NULL;

    SIM_TRY(sim_checkpoint_open(c, a->run, &in.checkpoint));
    st = open_inputs(a, &in);
    if (st == SIM_OK)
        st = sim_json_create(&result);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(run_and_report(c, a, &in, result));
done:
    sim_json_destroy(&result);
    close_inputs(&in);
    return st;
}

sim_status sim_command_evaluate(int argc, char **argv)
{
    sim_status st = SIM_OK;
    arguments a = {.evaluation = find_evaluation(argc, argv), .loader_threads = 1};
    struct argp_option list[N_COMMON + MAX_OWN_OPTIONS + 1];
    char *help = NULL;
    struct argp argp = {.options = list,
                        .parser = parse_evaluate_option,
                        .args_doc =
                            "NAME RUN_OR_CHECKPOINT [--train A.h5] [--test B.h5]"};

    SIM_TRY(format_help(&help));
    argp.doc = help;
    list_options(a.evaluation, list);
    sim_cli_parse(&argp, argc, argv, &a);
    st = sim_cli_with_ranks(argc, argv, run_evaluation, &a);
done:
    sim_free(help);
    return st;
}
