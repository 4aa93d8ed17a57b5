/*
 * evaluate_linear.c - `simile evaluate linear`: a linear classifier on backbone features.
 */
#include "class_counts.h"
#include "evaluations.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>

/* ---- the result ---- */

static void describe(const sim_evaluation_inputs *in, const sim_linear_result *r,
                     sim_json *j)
{
    sim_json_real(j, "l2", r->l2);
    if (r->held_out_top1 >= 0)
        sim_json_real(j, "held_out_top1", r->held_out_top1);
    sim_json_real(j, "loss", r->loss);
    sim_json_int(j, "iterations", r->iterations);
    sim_class_counts_describe(&r->counts, j);
    sim_json_int(j, "n_train", r->n_train);
    sim_json_int(j, "n_test", r->counts.n_test);
    sim_json_int(j, "dim", r->dim);
    sim_json_int(j, "classes", r->counts.classes);
    sim_class_counts_describe_classes(&r->counts, in, j);
}

static sim_status format_result(const sim_evaluation_inputs *in,
                                const sim_linear_result *r, char **text)
{
    char head[64], tail[64];

    (void)snprintf(head, sizeof head, "linear (l2 %.3g): ", r->l2);
    (void)snprintf(tail, sizeof tail, ", %lld training images", (long long)r->n_train);
    return sim_class_counts_format(&r->counts, in, head, tail, text);
}

/* ---- the evaluation ---- */

/* Reports the memory of this rank, before the features are computed. */
static void log_memory(const sim_comm *c, const sim_evaluation_inputs *in)
{
    const size_t dim = sim_evaluation_dim(in);
    const sim_range train = sim_embed_local(sim_comm_partition(c), in->train.n),
                    test = sim_embed_local(sim_comm_partition(c), in->test.n);
    const double features =
        (double)((train.hi - train.lo + test.hi - test.lo) * dim * sizeof(float));

    sim_log("memory    %.1f MB per rank for features, %.1f MB for the linear classifier",
            features / 1e6,
            (double)sim_linear_bytes(c, dim, in->match->n_classes, in->train.n) / 1e6);
}

static sim_status evaluate_linear(const sim_comm *c, const void *options,
                                  const sim_evaluation_inputs *in, sim_json *result,
                                  char **text)
{
    sim_status st = SIM_OK;
    float *train = NULL, *test = NULL;
    sim_linear_result r = {0};

    log_memory(c, in);
    SIM_TRY(sim_evaluation_features(c, in, &in->train, NULL, &train));
    SIM_TRY(sim_evaluation_features(c, in, &in->test, NULL, &test));
    SIM_TRY(sim_linear(c, options, sim_evaluation_dim(in), in->match->n_classes,
                       &(sim_labelled_features){in->train.n, train, in->train.labels},
                       &(sim_labelled_features){in->test.n, test, in->match->labels},
                       &r));
    describe(in, &r, result);
    SIM_TRY(sim_comm_agree(c, format_result(in, &r, text)));
done:
    sim_linear_result_clear(&r);
    sim_free(train);
    sim_free(test);
    return st;
}

static void take_defaults(const sim_evaluate_options *job, void *options)
{
    *(sim_linear_options *)options = job->linear;
}

static const sim_option options[] = {
    {.name = "l2",
     .type = SIM_OPTION_REAL,
     .offset = offsetof(sim_linear_options, l2),
     .max = 1e9,
     .fallback = "0",
     .unit = "",
     .help =
         "weight of the penalty l2/2 |W|^2 beside the mean cross-entropy; 0: the best of "
         "a grid on a fifth of the training images (default: evaluate.linear_l2 of the "
         "run's job)"},
};

const sim_evaluation sim_evaluation_linear = {
    .name = "linear",
    .summary = "logistic regression on the features of the training images",
    .options = {.rows = options,
                .n_rows = sizeof options / sizeof options[0],
                .struct_bytes = SIM_OPTION_BYTES(sim_linear_options, sim_option_storage)},
    .take_defaults = take_defaults,
    .run = evaluate_linear,
};
