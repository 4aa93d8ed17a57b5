/*
 * cross_sigmoid.c - SigLIP: each pair of anchor and column is a binary classification.
 *
 * In: anchors a and columns b of this rank. Out: the loss and its gradients.
 * With x_ij = scale s_ij + bias, L = (sum_{i != j} softplus(x_ij) + sum_i softplus(-x_ii)) / n
 * and dL/dx_ij = sigmoid(x_ij) / n, on the diagonal -sigmoid(-x_ii) / n. No row needs a
 * normalizer: one pass computes the loss and da, a second one over local columns db.
 * Euler: dL/d log scale = sum_ij scale s_ij dL/dx_ij = sum_i a_i . da_i = sum_j b_j . db_j.
 * Zhai et al. 2023, arXiv 2303.15343, section 3.2.
 */
#include "cross.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

typedef struct {
    sim_cross *e;
    double scale, bias;
    size_t side;         /* whose rows are compared */
    float *out;          /* [local][d] gradient of that side, or NULL */
    bool store_row_dots; /* also store row . gradient */
} sigmoid;

typedef struct {
    cross_scores scores;
    double loss, bias;
} row_state;

/* log(1 + exp(x)). */
static double softplus(double x)
{
    return (x > 0 ? x : 0) + sim_ln(1 + sim_exp_double(-fabs(x)));
}

/* Loss of the negatives in one row of a tile; s becomes the gradients with respect to x. */
static void cross_sigmoid_row(void *ctx, const pass_row *at, column_tile c, float *s)
{
    const sigmoid *q = ctx;
    row_state *r = at->state;
    const size_t n = c.n, row = at->slot;
    float scale = (float)q->scale, bias = (float)q->bias;

    (void)sim_cross_split_positive(&r->scores, row, c, s);
    r->loss += (double)sim_row_softplus_sum(n, s, scale, bias);
    sim_row_sigmoid(n, s, scale, bias, s);
    if (row >= c.lo && row < c.lo + n) {
        double x = q->scale * (double)r->scores.positive + q->bias;
        s[row - c.lo] = (float)(-1 / (1 + sim_exp_double(x)));
    }
    for (size_t j = 0; j < n; j++)
        r->bias += (double)s[j];
}

static void cross_sigmoid_record_row(const sigmoid *q, const row_state *r,
                                     cross_record *out)
{
    double x = q->scale * (double)r->scores.positive + q->bias;
    *out = (cross_record){.loss = r->loss + softplus(-x),
                          .positive = (double)r->scores.positive,
                          .correct = r->scores.positive > r->scores.negative ? 1 : 0,
                          .bias = r->bias};
}

_Static_assert(sizeof(row_state) <= MAX_ROW_STATE, "states of the pass engine");

static void cross_sigmoid_begin(void *ctx, const pass_row *row)
{
    (void)ctx;
    *(row_state *)row->state = (row_state){.scores.negative = -INFINITY};
}

static void cross_sigmoid_end(void *ctx, const pass_row *row)
{
    const sigmoid *q = ctx;
    sim_cross *e = q->e;
    const size_t d = e->shape.d;

    cross_sigmoid_record_row(q, row->state, &e->records[q->side][row->slot]);
    if (!q->out)
        return;
    float *out = q->out + (row->slot - e->local.lo) * d;
    sim_tile_finish(d, row->sum, q->scale / (double)e->shape.n, out);
    if (q->store_row_dots)
        sim_cross_store_row_dot(e, q->side, row->slot, out);
}

static void cross_sigmoid_differentiate(sigmoid *q, size_t side, float *out,
                                        bool store_row_dots)
{
    q->side = side;
    q->out = out;
    q->store_row_dots = store_row_dots;
    row_pass pass = sim_cross_pass(q->e, side);
    pass.ctx = q;
    pass.begin = cross_sigmoid_begin;
    pass.compare = cross_sigmoid_row;
    pass.end = cross_sigmoid_end;
    pass.accumulate = out != NULL;
    sim_passes_run(&q->e->passes, &pass);
}

void sim_cross_sigmoid(sim_cross *e, double scale, double bias, const float *a,
                       const float *b, float *da, float *db, sim_loss_report *report)
{
    sigmoid q = {.e = e, .scale = scale, .bias = bias};

    SIM_ASSERT(e->shape.n >= 2 && scale > 0);
    sim_cross_gather(e, a, b);
    cross_sigmoid_differentiate(&q, SIDE_ANCHORS, da, da != NULL);
    sim_cross_gather_records(e, SIDE_ANCHORS);
    *report = (sim_loss_report){
        .loss = sim_cross_mean(e, SIDE_ANCHORS, offsetof(cross_record, loss)),
        .d_bias = sim_cross_mean(e, SIDE_ANCHORS, offsetof(cross_record, bias))};
    sim_cross_describe(e, report);
    if (db)
        cross_sigmoid_differentiate(&q, SIDE_COLUMNS, db, !da);
    if (da || db)
        report->d_log_scale = sim_cross_sum_row_dots(e);
}
