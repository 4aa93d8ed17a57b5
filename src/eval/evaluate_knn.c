/*
 * evaluate_knn.c - `simile evaluate knn`: embeds two data sets and classifies one by the other.
 *
 * Also used by the kNN of training.
 */
#include "evaluations.h"

#include "simile/memory.h"

sim_status sim_knn_of(const sim_comm *c, const sim_knn_options *options,
                      const sim_evaluation_inputs *in, sim_knn_result *out)
{
    sim_status st = SIM_OK;
    const size_t n_train = sim_dataset_about(in->train)->n_images,
                 n_test = sim_dataset_about(in->test)->n_images;
    float *bank = NULL, *queries = NULL;

    SIM_TRY(sim_embed(c, in->embedder, in->train, in->loader_threads, &bank, NULL));
    SIM_TRY(sim_embed(c, in->embedder, in->test, in->loader_threads, &queries, NULL));
    SIM_TRY(
        sim_knn(c, options, sim_net_dim(in->embedder->backbone), in->match->n_classes,
                &(sim_labelled_features){n_train, bank, sim_dataset_labels(in->train)},
                &(sim_labelled_features){n_test, queries, in->match->labels}, out));
done:
    sim_free(bank);
    sim_free(queries);
    return st;
}

static void take_defaults(const sim_evaluate_options *job, void *options)
{
    *(sim_knn_options *)options = job->knn;
}

static void describe(const sim_knn_options *o, const sim_knn_result *r, sim_json *j)
{
    sim_json_int(j, "k", r->k);
    sim_json_real(j, "temperature", o->temperature);
    sim_json_real(j, "top1", r->top1);
    sim_json_real(j, "top5", r->top5);
    sim_json_int(j, "n_train", r->n_train);
    sim_json_int(j, "n_test", r->n_test);
    sim_json_int(j, "dim", r->dim);
    sim_json_int(j, "classes", r->classes);
}

static sim_status evaluate_knn(const sim_comm *c, const void *options,
                               const sim_evaluation_inputs *in, sim_json *result,
                               char **text)
{
    sim_status st = SIM_OK;
    const sim_knn_options *o = options;
    sim_knn_result r;

    SIM_TRY(sim_knn_of(c, o, in, &r));
    describe(o, &r, result);
    SIM_TRY(sim_comm_agree(
        c,
        sim_text_format("eval/text", text,
                        "kNN (k %lld, T %g): top-1 %.2f %%, top-5 %.2f %% of %lld test "
                        "images, %lld training images\n",
                        (long long)r.k, o->temperature, 100 * r.top1, 100 * r.top5,
                        (long long)r.n_test, (long long)r.n_train)));
done:
    return st;
}

static const sim_option options[] = {
    {.name = "k",
     .type = SIM_OPTION_INT,
     .offset = offsetof(sim_knn_options, k),
     .min = 1,
     .max = 1000000,
     .unit = "images",
     .help = "number of neighbours, at most that of the training images (default: "
             "evaluate.k of the run's job)"},
    {.name = "temperature",
     .type = SIM_OPTION_REAL,
     .offset = offsetof(sim_knn_options, temperature),
     .min = 0.001,
     .max = 100,
     .unit = "",
     .help = "a neighbour votes with exp(cosine / temperature) (default: "
             "evaluate.temperature of the run's job)"},
};

const sim_evaluation sim_evaluation_knn = {
    .name = "knn",
    .summary = "weighted vote of the nearest training images, by cosine",
    .options = {.rows = options,
                .n_rows = sizeof options / sizeof options[0],
                .struct_bytes = SIM_OPTION_BYTES(sim_knn_options, sim_option_storage)},
    .take_defaults = take_defaults,
    .run = evaluate_knn,
};
