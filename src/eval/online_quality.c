/*
 * online_quality.c - measures without labels during training.
 */
#include "evaluations.h"
#include "online.h"

#include <stdio.h>
#include <string.h>

static int64_t every_epochs(const sim_evaluate_options *o)
{
    return o->quality_every_epochs;
}

/* Features of the images and of two views of them. */
static size_t quality_bytes(const online_sizes *s)
{
    const size_t most = (size_t)s->options->quality_images,
                 n = most < s->n_test ? most : s->n_test;
    const sim_range local = sim_embed_local(s->partition, n);

    return larger_of(s->embedding, sim_quality_bytes(n, s->dim)) +
           3 * (local.hi - local.lo) * s->dim * sizeof(float);
}

static void add_histogram(sim_record *record, const char *name, const sim_similarities *s)
{
    sim_histogram h = {.name = name,
                       .lo = -1,
                       .hi = 1,
                       .mean = s->mean,
                       .std = s->std,
                       .n_bins = SIM_SIMILARITY_BINS};

    memcpy(h.counts, s->histogram, sizeof s->histogram);
    sim_record_add_histogram(record, &h);
}

static sim_status run_quality(online_step *s, sim_record *record)
{
    static const sim_metric rankme = {.name = "rankme", .format = SIM_FORMAT_FIXED},
                            uniformity = {.name = "uniformity",
                                          .format = SIM_FORMAT_FIXED},
                            alignment = {.name = "alignment", .format = SIM_FORMAT_FIXED},
                            negatives = {.name = "negative_similarity",
                                         .format = SIM_FORMAT_FIXED},
                            positives = {.name = "positive_similarity",
                                         .format = SIM_FORMAT_FIXED};
    sim_status st = SIM_OK;
    sim_quality_result r;

    SIM_TRY(sim_quality_of(s->comm, (size_t)s->options->quality_images, &s->in, &r));
    sim_record_add(record, &rankme, r.rankme);
    sim_record_add(record, &uniformity, r.uniformity);
    sim_record_add(record, &alignment, r.alignment);
    sim_record_add(record, &negatives, r.negatives.mean);
    sim_record_add(record, &positives, r.positives.mean);
    add_histogram(record, "negative_histogram", &r.negatives);
    add_histogram(record, "positive_histogram", &r.positives);
    (void)snprintf(record->text, sizeof record->text,
                   "RankMe %.1f of %lld, uniformity %.3f, alignment %.3f, similarity of "
                   "positives %.3f, of negatives %.3f (%lld images)",
                   r.rankme, (long long)r.dim, r.uniformity, r.alignment,
                   r.positives.mean, r.negatives.mean, (long long)r.n_images);
done:
    return st;
}

const sim_online_eval_row sim_online_quality = {.name = "quality",
                                                .key = "quality_every_epochs",
                                                .labels = ONLINE_NO_LABELS,
                                                .every_epochs = every_epochs,
                                                .bytes = quality_bytes,
                                                .run = run_quality};
