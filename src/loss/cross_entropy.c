/*
 * cross_entropy.c - cross-entropy of the logits of a classifier, with label smoothing.
 *
 * In: logits of this rank and the labels of the batch.  Out: the loss and the gradient of its mean.
 * With K classes, label y and the target q_k = (1 - s) [k = y] + s / K:
 *
 *   L_i = log sum_k exp(l_k) - sum_k q_k l_k,   dL_i/dl_k = softmax(l)_k - q_k
 *
 * Szegedy et al. 2016, arXiv 1512.00567, section 7; as torch.nn.CrossEntropyLoss.
 */
#include "tiles.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>

struct sim_cross_entropy {
    const sim_comm *comm;
    sim_rows_shape shape;
    sim_range local;
    struct entropy_record *records; /* [n] */
    leaf_sums sums;
};

typedef struct entropy_record {
    double loss;
    double
        correct; /* 1 if the label has the largest logit; of equal ones the first counts */
} entropy_record;

size_t sim_cross_entropy_bytes(const sim_rows_shape *s)
{
    return sizeof(sim_cross_entropy) + s->n * sizeof(entropy_record) +
           sim_leaf_sums_bytes(s, 0);
}

sim_status sim_cross_entropy_create(const sim_comm *c, const sim_rows_shape *shape,
                                    sim_cross_entropy **out)
{
    sim_status st = SIM_OK;
    sim_cross_entropy *e = NULL;

    SIM_ASSERT(shape->views == 1);
    SIM_TRY(sim_new(&e, "loss/cross-entropy"));
    e->comm = c;
    e->shape = *shape;
    e->local = sim_rows_local(sim_comm_partition(c), shape);
    SIM_TRY(sim_leaf_sums_create(shape, 0, "loss/cross-entropy", &e->sums));
    SIM_TRY(sim_alloc(&e->records, shape->n, "loss/cross-entropy"));
    *out = e;
    e = NULL;
done:
    sim_cross_entropy_destroy(&e);
    return st;
}

void sim_cross_entropy_destroy(sim_cross_entropy **e)
{
    if (!*e)
        return;
    sim_leaf_sums_destroy(&(*e)->sums);
    sim_free((*e)->records);
    sim_free(*e);
    *e = NULL;
}

typedef struct {
    const sim_cross_entropy *e;
    double smoothing;
    const int32_t *labels;
    const float *logits;
    float *gradient;
} entropy_call;

static size_t largest(size_t n, const float *x)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++)
        best = x[k] > x[best] ? k : best;
    return best;
}

/* Row i of this rank.  Logits are relative to the largest, so that nothing overflows. */
static void entropy_row(size_t i, void *ctx)
{
    const entropy_call *q = ctx;
    const size_t n_classes = q->e->shape.d, row = q->e->local.lo + i;
    const float *logits = q->logits + i * n_classes;
    const size_t label = (size_t)q->labels[row], best = largest(n_classes, logits);
    const double top = (double)logits[best], uniform = q->smoothing / (double)n_classes;
    double sum = 0, mean = 0;

    SIM_ASSERT(label < n_classes);
    for (size_t k = 0; k < n_classes; k++) {
        sum += sim_exp_double((double)logits[k] - top);
        mean += uniform * ((double)logits[k] - top);
    }
    q->e->records[row] = (entropy_record){
        .loss = sim_ln(sum) - (1 - q->smoothing) * ((double)logits[label] - top) - mean,
        .correct = best == label ? 1 : 0};
    for (size_t k = 0; q->gradient && k < n_classes; k++) {
        const double target = uniform + (k == label ? 1 - q->smoothing : 0);
        const double p = sim_exp_double((double)logits[k] - top) / sum;
        q->gradient[i * n_classes + k] = (float)((p - target) / (double)q->e->shape.n);
    }
}

static double record_mean(sim_cross_entropy *e, const double *first)
{
    return sim_leaf_mean(&e->sums, first, sizeof(entropy_record));
}

void sim_cross_entropy_run(sim_cross_entropy *e, double smoothing, const int32_t *labels,
                           const float *logits, float *gradient, sim_loss_report *report)
{
    entropy_call call = {e, smoothing, labels, logits, gradient};

    sim_for(e->local.hi - e->local.lo, entropy_row, &call);
    sim_tile_gather(e->comm, &e->shape, sizeof *e->records, e->records + e->local.lo,
                    e->records);
    *report = (sim_loss_report){.loss = record_mean(e, &e->records->loss),
                                .accuracy = record_mean(e, &e->records->correct),
                                .positive = (double)NAN,
                                .negative = (double)NAN,
                                .embedding_std = (double)NAN};
}
