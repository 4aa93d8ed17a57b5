/*
 * evaluate_knn.c - `simile evaluate knn`: embeds two data sets and classifies one by the other.
 */
#include "evaluations.h"

#include "simile/memory.h"

static sim_status run_search(const sim_comm *c, const sim_knn_options *options,
                             size_t n_options, const sim_evaluation_inputs *in,
                             sim_knn_result *out)
{
    sim_status st = SIM_OK;
    float *bank = NULL, *queries = NULL;

    SIM_TRY(sim_evaluation_features(c, in, &in->train, NULL, &bank));
    SIM_TRY(sim_evaluation_features(c, in, &in->test, NULL, &queries));
    SIM_TRY(sim_knn(c, options, n_options, sim_evaluation_dim(in), in->match->n_classes,
                    &(sim_labelled_features){in->train.n, bank, in->train.labels},
                    &(sim_labelled_features){in->test.n, queries, in->match->labels},
                    out));
done:
    sim_free(bank);
    sim_free(queries);
    return st;
}

/* Options of the command; every k is combined with every temperature. */
typedef struct {
    sim_option_numbers k, temperature;
} knn_grid;

enum { MAX_COMBINATIONS = SIM_OPTION_MAX_NUMBERS * SIM_OPTION_MAX_NUMBERS };

static void take_defaults(const sim_evaluate_options *job, void *options)
{
    knn_grid *grid = options;

    grid->k = (sim_option_numbers){1, {(double)job->knn.k}};
    grid->temperature = (sim_option_numbers){1, {job->knn.temperature}};
}

static size_t list_combinations(const knn_grid *grid,
                                sim_knn_options list[MAX_COMBINATIONS])
{
    size_t n = 0;

    for (size_t i = 0; i < grid->k.n; i++)
        for (size_t j = 0; j < grid->temperature.n; j++)
            list[n++] = (sim_knn_options){.k = (int64_t)grid->k.values[i],
                                          .temperature = grid->temperature.values[j]};
    return n;
}

static void describe_one(const sim_knn_options *o, const sim_knn_result *r, sim_json *j)
{
    sim_json_int(j, "k", r->k);
    sim_json_real(j, "temperature", o->temperature);
    sim_json_real(j, "top1", r->top1);
    sim_json_real(j, "top5", r->top5);
}

/* Those of the first combination; of several, all in `results`. */
static void describe(size_t n, const sim_knn_options *o, const sim_knn_result *r,
                     sim_json *j)
{
    describe_one(o, r, j);
    sim_json_int(j, "n_train", r->n_train);
    sim_json_int(j, "n_test", r->n_test);
    sim_json_int(j, "dim", r->dim);
    sim_json_int(j, "classes", r->classes);
    if (n == 1)
        return;
    sim_json *list = sim_json_array(j, "results");
    for (size_t i = 0; i < n; i++)
        describe_one(&o[i], &r[i], sim_json_object(list, NULL));
}

static sim_status format_one(const sim_knn_options *o, const sim_knn_result *r,
                             char **text)
{
    return sim_text_format(
        "eval/text", text,
        "kNN (k %lld, T %g): top-1 %.2f %%, top-5 %.2f %% of %lld test images, %lld "
        "training images\n",
        (long long)r->k, o->temperature, 100 * r->top1, 100 * r->top5,
        (long long)r->n_test, (long long)r->n_train);
}

/* A line for each combination. */
static sim_status format_several(size_t n, const sim_knn_options *o,
                                 const sim_knn_result *r, char **text)
{
    sim_status st = SIM_OK;
    char *lines = NULL, *longer = NULL;

    SIM_TRY(sim_text_format("eval/text", &lines,
                            "kNN of %lld test images, %lld training images:\n",
                            (long long)r->n_test, (long long)r->n_train));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(sim_text_format("eval/text", &longer,
                                "%s  k %lld, T %g: top-1 %.2f %%, top-5 %.2f %%\n", lines,
                                (long long)r[i].k, o[i].temperature, 100 * r[i].top1,
                                100 * r[i].top5));
        sim_free(lines);
        lines = longer;
    }
    *text = lines;
    lines = NULL;
done:
    sim_free(lines);
    return st;
}

static sim_status evaluate_knn(const sim_comm *c, const void *options,
                               const sim_evaluation_inputs *in, sim_json *result,
                               char **text)
{
    sim_status st = SIM_OK;
    sim_knn_options list[MAX_COMBINATIONS];
    sim_knn_result results[MAX_COMBINATIONS];
    const size_t n = list_combinations(options, list);

    SIM_TRY(run_search(c, list, n, in, results));
    describe(n, list, results, result);
    SIM_TRY(sim_comm_agree(c, n == 1 ? format_one(list, results, text)
                                     : format_several(n, list, results, text)));
done:
    return st;
}

static const sim_option options[] = {
    {.name = "k",
     .type = SIM_OPTION_NUMBERS,
     .offset = offsetof(knn_grid, k),
     .min = 1,
     .max = 1000000,
     .choices = SIM_WHOLE_NUMBERS,
     .fallback = "200",
     .unit = "images",
     .help = "number of neighbours, at most that of the training images; of several, as "
             "1,20,200, all are reported (default: evaluate.k of the run's job)"},
    {.name = "temperature",
     .type = SIM_OPTION_NUMBERS,
     .offset = offsetof(knn_grid, temperature),
     .min = 0.001,
     .max = 100,
     .fallback = "0.1",
     .unit = "",
     .help = "a neighbour votes with exp(cosine / temperature); one or several (default: "
             "evaluate.temperature of the run's job)"},
};

const sim_evaluation sim_evaluation_knn = {
    .name = "knn",
    .summary = "weighted vote of the nearest training images, by cosine",
    .options = {.rows = options,
                .n_rows = sizeof options / sizeof options[0],
                .struct_bytes = SIM_OPTION_BYTES(knn_grid, sim_option_storage)},
    .take_defaults = take_defaults,
    .run = evaluate_knn,
};
