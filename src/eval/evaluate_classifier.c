/*
 * evaluate_classifier.c - `simile evaluate classifier`: the classifier that a supervised run trained.
 *
 * Also used during training.
 */
#include "class_counts.h"
#include "evaluations.h"
#include "logistic.h"

#include "simile/memory.h"

static void count_images(const sim_evaluation_inputs *in, sim_range local,
                         size_t n_outputs, const float *logits, sim_class_counts *r)
{
    /* A classifier may have more outputs than the training set has classes. */
    const size_t dim = n_outputs, known = in->train.n_classes;
    const size_t n = known < n_outputs ? known : n_outputs;

    for (size_t i = local.lo; i < local.hi; i++) {
        const float *z = logits + (i - local.lo) * dim;
        const size_t class = (size_t)in->match->labels[i];
        size_t first = 0;
        for (size_t k = 1; k < n; k++)
            first = z[k] > z[first] ? k : first;
        sim_class_counts_add(r, class, first,
                             class < n ? sim_logistic_rank(n, z, class) : SIZE_MAX);
    }
}

/* Local. */
static sim_status classify(const sim_evaluation_inputs *in, sim_range local,
                           const float *features, sim_class_counts *out)
{
    sim_status st = SIM_OK;
    sim_net *net = in->embedder->projector;
    const size_t n = local.hi - local.lo, n_outputs = sim_net_dim(net);
    sim_evaluator *evaluator = NULL;
    float *logits = NULL;

    SIM_TRY(sim_class_counts_create(in->match->n_classes, in->test.n, out));
    SIM_TRY(sim_alloc(&logits, n * n_outputs, "eval/logits"));
    SIM_TRY(sim_evaluator_create(net, &evaluator));
    sim_evaluator_run(evaluator, n, features, logits);
    count_images(in, local, n_outputs, logits, out);
done:
    sim_evaluator_destroy(&evaluator);
    sim_free(logits);
    return st;
}

sim_status sim_classifier_of(const sim_comm *c, const sim_evaluation_inputs *in,
                             const float *features, sim_class_counts *out)
{
    sim_status st = SIM_OK;
    const sim_range local = sim_embed_local(sim_comm_partition(c), in->test.n);

    SIM_TRY(sim_comm_agree(c, classify(in, local, features, out)));
    sim_class_counts_sum(c, out);
done:
    return st;
}

static sim_status evaluate_classifier(const sim_comm *c, const void *options,
                                      const sim_evaluation_inputs *in, sim_json *result,
                                      char **text)
{
    sim_status st = SIM_OK;
    sim_class_counts r = {0};
    float *features = NULL;
    (void)options;

    SIM_TRY(sim_evaluation_features(c, in, &in->test, NULL, &features));
    SIM_TRY(sim_classifier_of(c, in, features, &r));
    sim_class_counts_describe(&r, result);
    sim_json_int(result, "n_train", (int64_t)in->train.n);
    sim_json_int(result, "n_test", r.n_test);
    sim_json_int(result, "dim", (int64_t)sim_evaluation_dim(in));
    sim_json_int(result, "classes", r.classes);
    sim_class_counts_describe_classes(&r, in, result);
    SIM_TRY(sim_comm_agree(c, sim_class_counts_format(&r, in, "classifier: ", "", text)));
done:
    sim_free(features);
    sim_class_counts_clear(&r);
    return st;
}

const sim_evaluation sim_evaluation_classifier = {
    .name = "classifier",
    .summary = "the classifier that a run of method supervised trained",
    .classifier = true,
    .run = evaluate_classifier,
};
