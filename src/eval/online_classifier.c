/*
 * online_classifier.c - accuracy of the classifier in training on the test set.
 */
#include "evaluations.h"
#include "online.h"

#include <stdio.h>

static int64_t every_epochs(const sim_evaluate_options *o)
{
    return o->classifier_every_epochs;
}

/* Logits of the test set. */
static size_t classifier_bytes(const online_sizes *s)
{
    const sim_range local = sim_embed_local(s->partition, s->n_test);
    return larger_of(s->embedding, (local.hi - local.lo) * s->n_classes * sizeof(float));
}

static sim_status run_classifier(online_step *s, sim_record *record)
{
    static const sim_metric top1 = {.name = "classifier_top1",
                                    .format = SIM_FORMAT_FIXED},
                            top5 = {.name = "classifier_top5",
                                    .format = SIM_FORMAT_FIXED};
    sim_status st = SIM_OK;
    const float *features = NULL;
    sim_class_counts r = {0};

    SIM_TRY(sim_online_eval_test_features(s, &features));
    SIM_TRY(sim_classifier_of(s->comm, &s->in, features, &r));
    sim_record_add(record, &top1, r.top1);
    sim_record_add(record, &top5, r.top5);
    (void)snprintf(record->text, sizeof record->text,
                   "classifier top-1 %.2f %%, top-5 %.2f %% of %lld test images",
                   100 * r.top1, 100 * r.top5, (long long)r.n_test);
done:
    sim_class_counts_clear(&r);
    return st;
}

const sim_online_eval_row sim_online_classifier = {.name = "classifier",
                                                   .key = "classifier_every_epochs",
                                                   .labels = ONLINE_TEST_LABELS,
                                                   .classifier = true,
                                                   .every_epochs = every_epochs,
                                                   .bytes = classifier_bytes,
                                                   .run = run_classifier};
