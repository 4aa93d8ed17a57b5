/*
 * online_knn.c - kNN accuracy during training.
 */
#include "online.h"

#include <stdio.h>

static int64_t every_epochs(const sim_evaluate_options *o)
{
    return o->knn_every_epochs;
}

static size_t knn_bytes(const online_sizes *s)
{
    return larger_of(s->embedding, sim_knn_bytes(s->partition, &s->options->knn, 1,
                                                 s->dim, s->n_train, s->n_test));
}

static sim_status run_knn(online_step *s, sim_record *record)
{
    static const sim_metric top1 = {.name = "knn_top1", .format = SIM_FORMAT_FIXED},
                            top5 = {.name = "knn_top5", .format = SIM_FORMAT_FIXED},
                            k = {.name = "knn_k", .format = SIM_FORMAT_INT};
    sim_status st = SIM_OK;
    sim_labelled_features train, test;
    sim_knn_result r;

    SIM_TRY(sim_online_eval_features(s, (size_t)s->options->knn_images, &train, &test));
    SIM_TRY(sim_knn(s->comm, &s->options->knn, 1, sim_evaluation_dim(&s->in),
                    s->in.match->n_classes, &train, &test, &r));
    sim_record_add(record, &top1, r.top1);
    sim_record_add(record, &top5, r.top5);
    sim_record_add(record, &k, (double)r.k);
    (void)snprintf(record->text, sizeof record->text,
                   "kNN top-1 %.2f %%, top-5 %.2f %% of %lld test images (k %lld, T %g)",
                   100 * r.top1, 100 * r.top5, (long long)r.n_test, (long long)r.k,
                   s->options->knn.temperature);
done:
    return st;
}

const sim_online_eval_row sim_online_knn = {.name = "knn",
                                            .key = "knn_every_epochs",
                                            .labels = ONLINE_BOTH_LABELS,
                                            .every_epochs = every_epochs,
                                            .bytes = knn_bytes,
                                            .run = run_knn};
