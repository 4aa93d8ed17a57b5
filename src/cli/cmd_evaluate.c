/*
 * cmd_evaluate.c - `simile evaluate NAME RUN`: an evaluation of the table in module eval.
 */
#include "evaluate.h"

#include "simile/config.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the command line ---- */

enum {
    KEY_TRAIN = 256,
    KEY_TEST,
    KEY_FEATURES,
    KEY_PROJECTOR,
    KEY_JSON,
    KEY_LOADERS,
    KEY_OWN
};

static const struct argp_option common_options[] = {
    {"train", KEY_TRAIN, "A.h5", 0,
     "labelled training set (default: data.train of the run's job)", 0},
    {"test", KEY_TEST, "B.h5", 0,
     "labelled data set to classify (default: data.test of the run's job)", 0},
    {"features", KEY_FEATURES, "A.h5 B.h5", 0,
     "instead of a run: files of features and labels of the training and the test set, "
     "as "
     "those of `simile embed`",
     0},
    {"projector", KEY_PROJECTOR, NULL, 0,
     "evaluate the outputs of the projector, not those of the backbone", 0},
    {"loader-threads", KEY_LOADERS, "N", 0,
     "threads that read and decode images (default 1)", 0},
    {"json", KEY_JSON, NULL, 0, "print one JSON object", 0}};
enum { N_COMMON = sizeof common_options / sizeof common_options[0] };

/* false: the key is not that of an option of the evaluation. */
static bool parse_own_option(int key, char *arg, struct argp_state *state,
                             evaluate_arguments *a)
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

/* The name of the evaluation, then a run, or with --features the file of the test set. */
static void parse_word(evaluate_arguments *a, char *arg, struct argp_state *state)
{
    if (!a->evaluation)
        argp_error(state, "\"%s\" is not an evaluation; see --help", arg);
    if (!a->is_named && strcmp(arg, a->evaluation->name) == 0) {
        a->is_named = true;
        return;
    }
    const char **to = a->features ? &a->test : &a->run;
    if (*to)
        argp_error(state, a->features
                              ? "--features takes two files"
                              : "expected one run, checkpoint or safetensors file");
    *to = arg;
}

static void check_words(evaluate_arguments *a, struct argp_state *state)
{
    if (!a->evaluation)
        argp_error(state, "an evaluation is required; see --help");
    const bool is_of_classes = a->evaluation->needs == SIM_EVALUATES_CLASSES;
    if (a->features && !is_of_classes && !a->run && !a->test) {
        a->test = a->train; /* the only file */
        a->train = NULL;
    }
    if (a->features && (a->run || !a->test || (!a->train && is_of_classes)))
        argp_error(state, "--features takes two files, and no run or checkpoint");
    if (!is_of_classes && a->train)
        argp_error(state, "%s evaluates one set: --test B.h5, or --features B.h5",
                   a->evaluation->name);
    if (a->evaluation->classifier && (a->features || a->projections))
        argp_error(state,
                   "%s evaluates the classifier of a run; --features and "
                   "--projector do not apply",
                   a->evaluation->name);
    if (a->features && a->projections)
        argp_error(state, "--projector is for a run; give a file of its outputs");
    if (!a->features && !a->run)
        argp_error(state, "a run, checkpoint or safetensors file is required");
}

static error_t parse_evaluate_option(int key, char *arg, struct argp_state *state)
{
    evaluate_arguments *a = state->input;
    char *end = NULL;

    switch (key) {
    case KEY_TRAIN:
        a->train = arg;
        return 0;
    case KEY_TEST:
        a->test = arg;
        return 0;
    case KEY_FEATURES:
        if (a->train || a->test)
            argp_error(state, "--features replaces --train and --test");
        a->features = true;
        a->train = arg;
        return 0;
    case KEY_PROJECTOR:
        a->projections = true;
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
        check_words(a, state);
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
        "Evaluates features of the backbone, mostly by the accuracy of a classifier. "
        "MODEL is a run, a checkpoint, or a safetensors file of a ResNet (an export, or "
        "torchvision's names).  NAME is one of\n\n%s\n"
        "The result of a run is also stored as RUN/results/NAME-step-NNNNNNNNN.json; "
        "inputs "
        "other than those of the run's job are added to the file name.  Runs in "
        "parallel under mpirun; the result is the same on any number of ranks.\v"
        "`simile evaluate NAME --help` lists the options of an evaluation.\n"
        "Examples:\n"
        "  mpirun -np 2 simile evaluate knn runs/first\n"
        "  simile evaluate linear runs/first --train train.h5 --test test.h5\n"
        "  simile evaluate knn --features train_features.h5 test_features.h5 --k "
        "1,20,200",
        names));
done:
    return st;
}

/* ---- the result ---- */

static void describe_set(sim_json *j, const char *key, const sim_labelled_set *s)
{
    sim_json *o = sim_json_object(j, key);
    sim_json_text(o, "path", s->path);
    if (s->data)
        sim_json_text(o, "fingerprint", sim_dataset_about(s->data)->fingerprint);
}

static void describe_inputs(sim_json *j, const evaluate_arguments *a,
                            const evaluate_inputs *in)
{
    sim_json_text(j, "features",
                  !in->checkpoint             ? "file"
                  : a->evaluation->classifier ? "classifier"
                  : a->projections            ? "projector"
                                              : "backbone");
    if (in->checkpoint) {
        sim_json_int(j, "step", sim_checkpoint_head_of(in->checkpoint)->step);
        sim_json_text(j, "checkpoint", sim_checkpoint_path(in->checkpoint));
    }
    if (in->sets.train.path)
        describe_set(j, "train", &in->sets.train);
    describe_set(j, "test", &in->sets.test);
}

/* The options of the evaluation as text, by which a stored result is recognized. */
static void describe_options(sim_json *j, const sim_option_table *table,
                             const void *options)
{
    char value[SIM_OPTION_TEXT_BYTES];

    if (table->n_rows == 0)
        return;
    sim_json *list = sim_json_object(j, "options");
    for (size_t i = 0; i < table->n_rows; i++) {
        sim_config_format_option(&table->rows[i], options, value, sizeof value);
        sim_json_text(list, table->rows[i].name, value);
    }
}

static sim_status print_result(const sim_comm *c, const evaluate_arguments *a,
                               const evaluate_inputs *in, const char *text,
                               const sim_json *j)
{
    sim_status st = SIM_OK;
    char *line = NULL;

    if (a->json) {
        SIM_TRY(sim_cli_print_json(c, j, false));
        goto done;
    }
    if (in->checkpoint) {
        SIM_TRY(sim_text_format("cli/text", &line, "step %lld: ",
                                (long long)sim_checkpoint_head_of(in->checkpoint)->step));
        SIM_TRY(sim_cli_print(c, line));
    }
    SIM_TRY(sim_cli_print(c, text));
done:
    sim_free(line);
    return st;
}

static sim_status run_and_report(const sim_comm *c, const evaluate_arguments *a,
                                 const evaluate_inputs *in, sim_json *j)
{
    sim_status st = SIM_OK;
    char *text = NULL, variant[200];

    sim_json_text(j, "protocol", a->evaluation->name);
    SIM_TRY(a->evaluation->run(c, &in->options, &in->sets, j, &text));
    describe_inputs(j, a, in);
    describe_options(j, &a->evaluation->options, &in->options);
    SIM_TRY(print_result(c, a, in, text, j));
    if (c->rank == 0 && in->checkpoint) {
        sim_cli_evaluate_variant(a, in, variant, sizeof variant);
        sim_cli_keep_result(in->checkpoint, a->evaluation->name, variant, j);
    }
done:
    sim_free(text);
    return st;
}

static sim_status run_evaluation(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    const evaluate_arguments *a = ctx;
    evaluate_inputs in = {0};
    sim_json *result = NULL;

    SIM_TRY(sim_cli_evaluate_open(c, a, &in));
    SIM_TRY(sim_comm_agree(c, sim_json_create(&result)));
    SIM_TRY(run_and_report(c, a, &in, result));
done:
    sim_json_destroy(&result);
    sim_cli_evaluate_close(&in);
    return st;
}

sim_status sim_command_evaluate(int argc, char **argv)
{
    sim_status st = SIM_OK;
    evaluate_arguments a = {.evaluation = find_evaluation(argc, argv),
                            .loader_threads = 1};
    struct argp_option list[N_COMMON + MAX_OWN_OPTIONS + 1];
    char *help = NULL;
    struct argp argp = {.options = list,
                        .parser = parse_evaluate_option,
                        .args_doc = "NAME MODEL [--train A.h5] [--test B.h5]"};

    SIM_TRY(format_help(&help));
    argp.doc = help;
    list_options(a.evaluation, list);
    sim_cli_parse(&argp, argc, argv, &a);
    st = sim_cli_with_ranks(argc, argv, run_evaluation, &a);
done:
    sim_free(help);
    return st;
}
