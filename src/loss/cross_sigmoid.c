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
static void cross_sigmoid_accumulate_row(const sigmoid *q, size_t row, sim_range columns,
                                         float *s, row_state *r)
{
    size_t n = columns.hi - columns.lo;
    float scale = (float)q->scale, bias = (float)q->bias;

    (void)sim_cross_split_positive(&r->scores, row, columns, s);
    r->loss += (double)sim_row_softplus_sum(n, s, scale, bias);
    sim_row_sigmoid(n, s, scale, bias, s);
    if (row >= columns.lo && row < columns.hi) {
        double x = q->scale * (double)r->scores.positive + q->bias;
        s[row - columns.lo] = (float)(-1 / (1 + sim_exp_double(x)));
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

static void cross_sigmoid_finish_rows(const sigmoid *q, const tile_workspace *work,
                                      sim_range rows, float *out)
{
    sim_tile_finish(work, q->e->shape.d, rows.hi - rows.lo,
                    q->scale / (double)q->e->shape.n, out);
    if (q->store_row_dots)
        sim_cross_store_row_dots(q->e, rows, q->side, out);
}

typedef struct {
    const sigmoid *q;
    size_t first; /* row of the tile */
    row_state state[ROW_TILE];
} sigmoid_tile;

static void sigmoid_row(void *ctx, size_t i, size_t view, sim_range columns, float *s)
{
    sigmoid_tile *t = ctx;
    (void)view;
    cross_sigmoid_accumulate_row(t->q, t->first + i, columns, s, &t->state[i]);
}

static void sigmoid_pass(size_t tile_index, void *ctx)
{
    const sigmoid *q = ctx;
    sim_cross *e = q->e;
    size_t d = e->shape.d;
    sim_range rows = sim_row_tile(e->local, e->shape.d, tile_index);
    const tile_workspace work = sim_tile_scratch(d);
    float *out = q->out ? q->out + (rows.lo - e->local.lo) * d : NULL;
    sigmoid_tile tile = {.q = q, .first = rows.lo};
    tile_loop loop = sim_cross_loop(e, q->side, rows);

    for (size_t i = 0; i < rows.hi - rows.lo; i++)
        tile.state[i].scores.negative = -INFINITY;
    loop.row = sigmoid_row;
    loop.ctx = &tile;
    loop.accumulate = out != NULL;
    sim_tile_loop(&loop, &work);
    for (size_t i = 0; i < rows.hi - rows.lo; i++)
        cross_sigmoid_record_row(q, &tile.state[i], &e->records[q->side][rows.lo + i]);
    if (out)
        cross_sigmoid_finish_rows(q, &work, rows, out);
}

static void cross_sigmoid_differentiate(sigmoid *q, size_t side, float *out,
                                        bool store_row_dots)
{
    q->side = side;
    q->out = out;
    q->store_row_dots = store_row_dots;
    sim_for(sim_row_tiles(q->e->local, q->e->shape.d), sigmoid_pass, q);
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
