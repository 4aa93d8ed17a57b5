/*
 * online_linear.c - accuracy of a linear classifier during training.
 */
#include "online.h"

#include <stdio.h>

static int64_t every_epochs(const sim_evaluate_options *o)
{
    return o->linear_every_epochs;
}

static size_t linear_bytes(const online_sizes *s)
{
    const sim_comm planned = {.rank = (int)s->partition.rank,
                              .size = (int)s->partition.size};
    return larger_of(s->embedding,
                     sim_linear_bytes(&planned, s->dim, s->n_classes, s->n_train));
}

static sim_status run_linear(online_step *s, sim_record *record)
{
    static const sim_metric top1 = {.name = "linear_top1", .format = SIM_FORMAT_FIXED},
                            top5 = {.name = "linear_top5", .format = SIM_FORMAT_FIXED},
                            l2 = {.name = "linear_l2", .format = SIM_FORMAT_GENERAL};
    sim_status st = SIM_OK;
    const sim_linear_options options = {.l2 = s->options->linear.l2, .quiet = true};
    sim_labelled_features train, test;
    sim_linear_result r = {0};

    SIM_TRY(sim_online_eval_features(s, 0, &train, &test));
    SIM_TRY(sim_linear(s->comm, &options, sim_evaluation_dim(&s->in),
                       s->in.match->n_classes, &train, &test, &r));
    sim_record_add(record, &top1, r.counts.top1);
    sim_record_add(record, &top5, r.counts.top5);
    sim_record_add(record, &l2, r.l2);
    (void)snprintf(record->text, sizeof record->text,
                   "linear top-1 %.2f %%, top-5 %.2f %% of %lld test images (l2 %.3g)",
                   100 * r.counts.top1, 100 * r.counts.top5, (long long)r.counts.n_test,
                   r.l2);
done:
    sim_linear_result_clear(&r);
    return st;
}

const sim_online_eval_row sim_online_linear = {.name = "linear",
                                               .key = "linear_every_epochs",
                                               .labels = ONLINE_BOTH_LABELS,
                                               .every_epochs = every_epochs,
                                               .bytes = linear_bytes,
                                               .run = run_linear};
