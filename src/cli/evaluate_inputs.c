/*
 * evaluate_inputs.c - opens the data sets, files of features and checkpoint of `simile evaluate`.
 */
#include "evaluate.h"

#include "simile/file.h"
#include "simile/import.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static sim_status need_data(const evaluate_inputs *in, const char *given,
                            const char *of_job, const char *key)
{
    sim_status st = SIM_OK;
    SIM_CHECK(given || *of_job, SIM_E_CONFIG,
              "--%s is not given, and %s specifies no %s; give a data set with labels",
              strchr(key, '.') + 1, sim_checkpoint_path(in->checkpoint), key);
done:
    return st;
}

static sim_status explain_default(sim_status st, const char *given, const char *key)
{
    if (st != SIM_OK && !given)
        sim_error_prefix("--%s is not given, and %s of the run's job cannot be opened: ",
                         strchr(key, '.') + 1, key);
    return st;
}

/* The data set that is given, or the training set of the job, as the run was trained on it. */
static sim_status open_train(const evaluate_inputs *in, const char *given,
                             sim_dataset **out)
{
    static const char key[] = "data.train";
    sim_status st = SIM_OK;

    SIM_TRY(need_data(in, given, in->job->train.train_name, key));
    SIM_TRY(explain_default(given ? sim_dataset_open(given, out)
                                  : sim_job_open_train(in->job, out),
                            given, key));
done:
    return st;
}

static sim_status open_test(const evaluate_inputs *in, const char *given,
                            sim_dataset **out)
{
    static const char key[] = "data.test";
    sim_status st = SIM_OK;
    const char *of_job = in->job->train.test;

    SIM_TRY(need_data(in, given, of_job, key));
    SIM_TRY(explain_default(given ? sim_dataset_open(given, out)
                                  : sim_job_open_test(in->job, out),
                            given, key));
done:
    return st;
}

/* Defaults of the table, those of the job unless it is NULL, then the command line. */
static sim_status fill_options(const evaluate_arguments *a,
                               const sim_evaluate_options *of_job,
                               sim_option_storage *defaults, sim_option_storage *out)
{
    sim_status st = SIM_OK;
    const sim_evaluation *e = a->evaluation;

    for (size_t i = 0; i < e->options.n_rows; i++)
        if (e->options.rows[i].fallback)
            SIM_TRY(sim_config_option(&e->options.rows[i], e->options.rows[i].name,
                                      e->options.rows[i].fallback, defaults));
    if (e->take_defaults && of_job)
        e->take_defaults(of_job, defaults);
    *out = *defaults;
    for (size_t i = 0; i < e->options.n_rows; i++)
        if (a->own[i])
            SIM_TRY(sim_config_option(&e->options.rows[i], e->options.rows[i].name,
                                      a->own[i], out));
done:
    return st;
}

static sim_status read_job(const evaluate_arguments *a, evaluate_inputs *in)
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

static sim_status check_labels(const sim_labelled_set *s)
{
    sim_status st = SIM_OK;
    const char *why = s->data ? sim_dataset_unlabelled(s->data) : NULL;

    SIM_CHECK(s->labels, SIM_E_DATA, "%s has no labels%s%s", s->path, why ? ": " : "",
              why ? why : "");
done:
    return st;
}

static bool needs_classes(const evaluate_arguments *a)
{
    return a->evaluation->needs == SIM_EVALUATES_CLASSES;
}

/* The images of both data sets, or of one: data.test of the job, else data.train. */
static sim_status open_images(const evaluate_arguments *a, evaluate_inputs *in)
{
    sim_status st = SIM_OK;
    const sim_train_options *job = &in->job->train;

    if (needs_classes(a)) {
        SIM_TRY(open_train(in, a->train, &in->train));
        in->sets.train = sim_labelled_set_of(in->train);
    }
    if (needs_classes(a) || a->test || *job->test)
        SIM_TRY(open_test(in, a->test, &in->test));
    else
        SIM_TRY(open_train(in, NULL, &in->test));
    in->sets.test = sim_labelled_set_of(in->test);
done:
    return st;
}

/* The classes of a classifier are those of the data set that it was trained on. */
static sim_status check_classifier(const evaluate_inputs *in)
{
    sim_status st = SIM_OK;
    const char *path = sim_checkpoint_path(in->checkpoint);

    SIM_CHECK(in->embedder.projector, SIM_E_CONFIG,
              "%s has no classifier (method %s); a run of method supervised trains one",
              path, in->job->method->name);
    SIM_CHECK(
        strcmp(sim_dataset_about(in->train)->fingerprint,
               sim_checkpoint_head_of(in->checkpoint)->fingerprint) == 0,
        SIM_E_DATA,
        "%s is not the training set of %s, so the classes of its classifier are not "
        "known; give the training set by --train",
        sim_dataset_path(in->train), path);
done:
    return st;
}

static sim_status open_embedder(const evaluate_arguments *a, evaluate_inputs *in)
{
    sim_status st = SIM_OK;
    const bool classifier = a->evaluation->classifier;
    sim_preprocessing p;

    SIM_TRY(sim_preprocessing_open(in->checkpoint, in->job,
                                   (const sim_dataset *[]){in->train, in->test}, 2, &p));
    if (in->train)
        SIM_TRY(sim_preprocessing_check(&p, in->train));
    SIM_TRY(sim_preprocessing_check(&p, in->test));
    SIM_TRY(sim_embedder_open(in->checkpoint, in->job, &p,
                              classifier       ? SIM_EMBED_CLASSIFIER
                              : a->projections ? SIM_EMBED_PROJECTOR
                                               : SIM_EMBED_BACKBONE,
                              &in->embedder));
    if (classifier)
        SIM_TRY(check_classifier(in));
    SIM_CHECK(!a->projections || in->embedder.projector, SIM_E_CONFIG,
              "--projector: the model of %s has no projector",
              sim_checkpoint_path(in->checkpoint));
    in->sets.embedder = &in->embedder;
    in->sets.projections = a->projections;
    in->sets.job = in->job;
done:
    return st;
}

/* Without a run, the defaults are those of a job. */
static sim_status open_features(const evaluate_arguments *a, evaluate_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(fill_options(a, NULL, &in->defaults, &in->options));
    SIM_TRY(sim_kernels_pick("auto"));
    SIM_TRY(sim_feature_file_open(a->test, &in->test_file));
    in->sets.test = sim_labelled_set_of_file(in->test_file);
    if (!needs_classes(a))
        goto done;
    SIM_TRY(sim_feature_file_open(a->train, &in->train_file));
    in->sets.train = sim_labelled_set_of_file(in->train_file);
    SIM_CHECK(sim_feature_file_dim(in->train_file) == sim_feature_file_dim(in->test_file),
              SIM_E_DATA, "features of %s have %zu dimensions, those of %s %zu", a->train,
              sim_feature_file_dim(in->train_file), a->test,
              sim_feature_file_dim(in->test_file));
done:
    return st;
}

static sim_status match_classes(evaluate_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(check_labels(&in->sets.train));
    SIM_TRY(check_labels(&in->sets.test));
    SIM_TRY(sim_classes_match(&in->sets.train, &in->sets.test, &in->match));
    in->sets.match = &in->match;
done:
    return st;
}

static sim_status open_local(const evaluate_arguments *a, evaluate_inputs *in)
{
    sim_status st = SIM_OK;

    if (a->features) {
        SIM_TRY(open_features(a, in));
    } else {
        SIM_TRY(read_job(a, in));
        SIM_TRY(open_images(a, in));
    }
    if (needs_classes(a))
        SIM_TRY(match_classes(in));
    in->sets.loader_threads = a->loader_threads;
    if (!a->features)
        SIM_TRY(open_embedder(a, in));
done:
    return st;
}

/* Whether all ranks have read the same. */
static sim_status compare_ranks(const sim_comm *c, const evaluate_arguments *a,
                                const evaluate_inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_cli_compare_kernels(c));
    if (in->train)
        SIM_TRY(sim_job_compare_data(c, in->train));
    if (in->test)
        SIM_TRY(sim_job_compare_data(c, in->test));
    if (in->train_file)
        SIM_TRY(sim_comm_compare_file(c, a->train));
    if (in->test_file)
        SIM_TRY(sim_comm_compare_file(c, a->test));
    if (!a->features)
        SIM_TRY(sim_cli_compare_preprocessing(c, &in->embedder.preprocessing));
done:
    return st;
}

sim_status sim_cli_evaluate_open(const sim_comm *c, const evaluate_arguments *a,
                                 evaluate_inputs *in)
{
    sim_status st = SIM_OK;

    if (!a->features)
        SIM_TRY(sim_import_open(c, a->run, &in->checkpoint));
    SIM_TRY(sim_comm_agree(c, open_local(a, in)));
    SIM_TRY(compare_ranks(c, a, in));
done:
    return st;
}

void sim_cli_evaluate_close(evaluate_inputs *in)
{
    sim_embedder_close(&in->embedder);
    sim_class_match_clear(&in->match);
    sim_dataset_close(&in->train);
    sim_dataset_close(&in->test);
    sim_feature_file_close(&in->train_file);
    sim_feature_file_close(&in->test_file);
    sim_checkpoint_close(&in->checkpoint);
    sim_free(in->job);
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
void sim_cli_evaluate_variant(const evaluate_arguments *a, const evaluate_inputs *in,
                              char *out, size_t out_bytes)
{
    const sim_option_table *own = &a->evaluation->options;
    const char *train = in->train ? sim_dataset_about(in->train)->fingerprint : NULL;
    const char *test = sim_dataset_about(in->test)->fingerprint;
    char value[SIM_OPTION_TEXT_BYTES], fallback[SIM_OPTION_TEXT_BYTES];

    out[0] = '\0';
    const bool is_part = *in->job->train.classes != '\0';
    const bool is_whole = a->train && (in->job->train.fraction < 1 || is_part);
    if (train &&
        (is_whole ||
         strcmp(train, sim_checkpoint_head_of(in->checkpoint)->fingerprint) != 0)) {
        (void)snprintf(value, sizeof value, "%.8s", train);
        append_variant(out, out_bytes, "train", value);
    }
    (void)snprintf(value, sizeof value, "%.8s", test);
    if ((a->test && is_part) || !is_data_of_job(a->test, in->job->train.test))
        append_variant(out, out_bytes, "test", value);
    if (a->projections)
        append_variant(out, out_bytes, "features", "projector");
    for (size_t i = 0; i < own->n_rows; i++) {
        sim_config_format_option(&own->rows[i], &in->options, value, sizeof value);
        sim_config_format_option(&own->rows[i], &in->defaults, fallback, sizeof fallback);
        if (strcmp(value, fallback) != 0)
            append_variant(out, out_bytes, own->rows[i].name, value);
    }
}
