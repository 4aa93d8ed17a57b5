/*
 * compare_job.c - loads a job of the grid and checks it against the data, as pretrain does.
 *
 * All jobs of a comparison have the same data sets, by fingerprint.
 */
#include "compare.h"

#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- the launcher ---- */

static size_t positive_number(const char *text)
{
    char *end = NULL;
    const long n = text ? strtol(text, &end, 10) : 0;
    return text && end != text && *end == '\0' && n > 0 ? (size_t)n : 1;
}

/* Ranks that the launcher starts, as far as its options state it. */
static size_t ranks_of_launcher(const compare_arguments *a)
{
    static const char *const names[] = {"-n", "-np", "--np", "--ntasks"};
    static const char ntasks[] = "--ntasks=";
    const size_t n = a->n_launcher;

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            if (strcmp(a->launcher[i], names[k]) == 0 && i + 1 < n)
                return positive_number(a->launcher[i + 1]);
        if (strncmp(a->launcher[i], ntasks, sizeof ntasks - 1) == 0)
            return positive_number(a->launcher[i] + sizeof ntasks - 1);
    }
    return n > 0 && strcmp(a->launcher[0], "srun") == 0
               ? positive_number(getenv("SLURM_NTASKS"))
               : 1;
}

/* ---- data ---- */

typedef sim_status open_data(const sim_job *job, sim_dataset **out);

/* A data set of a job: its key, its name, and how it is opened. */
typedef struct {
    const sim_job *job;
    const char *key, *name;
    open_data *open;
} job_data;

/* Whether the name does not determine the data: they depend on other keys too. */
static bool is_composed(const sim_train_options *o)
{
    return o->train.n > 1 || *o->classes;
}

static sim_status open_first(const job_data *own, sim_dataset **data, compare_data *named)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_text_copy(own->name, "cli/compare", &named->path));
    named->is_composed = is_composed(&own->job->train);
    if (!*own->name)
        goto done;
    SIM_TRY(own->open(own->job, data));
    (void)snprintf(named->fingerprint, sizeof named->fingerprint, "%s",
                   sim_dataset_about(*data)->fingerprint);
done:
    return st;
}

static sim_status check_same_data(const job_data *own, const compare_data *first)
{
    sim_status st = SIM_OK;
    sim_dataset *other = NULL;
    const char *name = own->name;

    if (strcmp(name, first->path) == 0 && !first->is_composed &&
        !is_composed(&own->job->train))
        goto done;
    if (*name)
        SIM_TRY(own->open(own->job, &other));
    const char *fingerprint = other ? sim_dataset_about(other)->fingerprint : "";
    SIM_CHECK(strcmp(fingerprint, first->fingerprint) == 0, SIM_E_DATA,
              "%s: %s (fingerprint %.8s) is not the data set of the first run, %s "
              "(fingerprint %.8s); only runs on the same data, with the same "
              "data.proportions and data.classes, can be compared",
              own->key, *name ? name : "none", other ? fingerprint : "-",
              *first->path ? first->path : "none",
              *first->path ? first->fingerprint : "-");
done:
    sim_dataset_close(&other);
    return st;
}

static sim_status take_data(const job_data *own, sim_dataset **data, compare_data *named)
{
    return named->path ? check_same_data(own, named) : open_first(own, data, named);
}

static sim_status take_both(compare_loader *l)
{
    sim_status st = SIM_OK;
    comparison *c = l->comparison;
    const sim_train_options *o = &l->job->train;
    const job_data train = {l->job, "data.train", o->train_name, sim_job_open_whole},
                   test = {l->job, "data.test", o->test, sim_job_open_test};

    c->train_files = o->train;
    SIM_TRY(take_data(&train, &l->train, &c->train));
    SIM_TRY(take_data(&test, &l->test, &c->test));
done:
    return st;
}

/* ---- jobs ---- */

sim_status sim_compare_loader_create(comparison *c, compare_loader *out)
{
    sim_status st = SIM_OK;

    *out = (compare_loader){.comparison = c, .n_ranks = ranks_of_launcher(c->arguments)};
    SIM_TRY(sim_new(&out->job, "cli/job"));
done:
    return st;
}

/* Checks the job against the part of the training set that it uses. */
static sim_status check_plan(compare_loader *l)
{
    sim_status st = SIM_OK;
    sim_dataset *part = NULL;

    if (l->job->train.fraction < 1)
        SIM_TRY(sim_job_open_train(l->job, &part));
    SIM_TRY(sim_job_check(l->job, sim_dataset_about(part ? part : l->train), l->n_ranks,
                          &l->plan));
done:
    sim_dataset_close(&part);
    return st;
}

sim_status sim_compare_load(compare_loader *l, const sim_job_source *source)
{
    sim_status st = SIM_OK;

    sim_job_texts_clear(&l->texts);
    SIM_TRY(sim_cli_job_load(source, l->job, &l->evaluate, &l->texts));
    SIM_TRY(sim_kernels_pick(l->job->train.kernels));
    SIM_TRY(take_both(l));
    SIM_TRY(check_plan(l));
    SIM_TRY(sim_online_eval_check(l->job, &l->evaluate, l->train, l->test));
done:
    return st;
}

void sim_compare_loader_destroy(compare_loader *l)
{
    sim_dataset_close(&l->train);
    sim_dataset_close(&l->test);
    sim_job_texts_clear(&l->texts);
    sim_free(l->job);
}

/* ---- evaluations ---- */

static bool have_labels(const compare_loader *l)
{
    return l->test && sim_dataset_about(l->train)->has_labels &&
           sim_dataset_about(l->test)->has_labels;
}

/* The errors of classes that do not match, before the first run. */
static sim_status check_classes(const compare_loader *l)
{
    sim_status st = SIM_OK;
    sim_class_match match = {0};
    const sim_labelled_set train = sim_labelled_set_of(l->train),
                           test = sim_labelled_set_of(l->test);

    SIM_TRY(sim_classes_match(&train, &test, &match));
done:
    sim_class_match_clear(&match);
    return st;
}

static sim_status take_given(compare_loader *l)
{
    sim_status st = SIM_OK;
    comparison *c = l->comparison;
    const compare_arguments *a = c->arguments;

    for (size_t i = 0; i < a->n_evaluations; i++) {
        SIM_CHECK(a->evaluations[i]->needs == SIM_EVALUATES_IMAGES || have_labels(l),
                  SIM_E_CONFIG,
                  "--evaluate %s needs labels in data.train and data.test, which are %s "
                  "and %s; give data sets with labels, or --evaluate none",
                  a->evaluations[i]->name, c->train.path,
                  *c->test.path ? c->test.path : "not set");
        c->evaluations[c->n_evaluations++] = a->evaluations[i];
    }
done:
    return st;
}

static void take_default(compare_loader *l)
{
    static const char *const names[] = {"knn", "linear"};
    comparison *c = l->comparison;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const sim_evaluation *e = sim_evaluations_find(names[i]);
        if (e && have_labels(l))
            c->evaluations[c->n_evaluations++] = e;
    }
}

sim_status sim_compare_choose_evaluations(compare_loader *l)
{
    sim_status st = SIM_OK;

    if (l->comparison->arguments->evaluations_given)
        SIM_TRY(take_given(l));
    else
        take_default(l);
    if (!l->comparison->arguments->evaluations_given && l->comparison->n_evaluations == 0)
        sim_log("no evaluations: they need labels in data.train and data.test");
    if (have_labels(l) && l->comparison->n_evaluations > 0)
        SIM_TRY(check_classes(l));
done:
    return st;
}
