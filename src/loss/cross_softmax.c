/*
 * cross_softmax.c - InfoNCE of anchors against columns, in one direction or in both.
 *
 * In: anchors a and columns b of this rank. Out: the loss and the gradients of its mean.
 * L_i = -s_ii / T + log sum_{j in D} exp(s_ij / T); D are all columns, or when decoupled all
 * but i. With P_ij = exp(s_ij / T - lse_i) and Q_ij = exp(s_ij / T - lse'_j), the softmax
 * of column j over anchors, the gradient with respect to s_ij is (P_ij - [i = j]) / (T n),
 * with both directions (P_ij + Q_ij - 2 [i = j]) / (2 T n): da needs b, db needs a, each
 * rank computes its own rows of both without communication of gradients.
 * Euler: logits are linear in a, so the gradient with respect to log T, -sum_ij s_ij dL/ds_ij,
 * is -sum_i a_i . da_i, and -sum_j b_j . db_j likewise.
 * van den Oord et al. 2018, arXiv 1807.03748, equation 4; Chen, Xie, He 2021, arXiv 2104.02057.
 * Invariant: no logit overflows while s / T is a finite float.
 */
#include "cross.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

typedef struct {
    sim_cross *e;
    const sim_cross_options *options;
    float inverse;       /* 1 / T */
    bool fixed;          /* the shift 1 / T serves every row */
    size_t side;         /* whose rows are compared */
    float *out;          /* [local][d] gradient of that side */
    bool store_row_dots; /* also store row . gradient */
} softmax;

static double cross_softmax_factor(const sim_cross_options *o)
{
    return o->factor > 0 ? o->factor : 1;
}

/* ---- first pass: log-sum-exp, loss ---- */

typedef struct {
    running_sum negatives;
    cross_scores scores;
} row_state;

_Static_assert(sizeof(row_state) <= MAX_ROW_STATE, "states of the pass engine");

static void cross_softmax_first_begin(void *ctx, const pass_row *row)
{
    const softmax *q = ctx;
    *(row_state *)row->state =
        (row_state){.negatives = sim_running_begin(q->fixed, q->inverse),
                    .scores.negative = -INFINITY};
}

static void cross_softmax_first_row(void *ctx, const pass_row *row, column_tile c,
                                    float *s)
{
    const softmax *q = ctx;
    row_state *r = row->state;
    float max = sim_cross_split_positive(&r->scores, row->slot, c, s);
    if (max > -INFINITY) /* else a tile without negatives */
        sim_running_add(&r->negatives, q->fixed, q->inverse, c.n, s, max);
}

/* The larger of the two exponents shifts, so that neither overflows. */
static void cross_softmax_record_row(const softmax *q, const row_state *r,
                                     cross_record *out)
{
    double logit = (double)r->scores.positive * (double)q->inverse;
    double top = r->negatives.shift, positive = 0;

    if (!q->options->decoupled) {
        top = logit > top ? logit : top;
        positive = sim_exp_double(logit - top);
    }
    double negatives = r->negatives.sum * sim_exp_double(r->negatives.shift - top);
    double rest = sim_ln(negatives + positive);
    *out = (cross_record){.lse = top + rest,
                          .loss = top - logit + rest,
                          .positive = (double)r->scores.positive,
                          .correct = r->scores.positive > r->scores.negative ? 1 : 0,
                          .share = negatives / (negatives + positive)};
}

static void cross_softmax_first_end(void *ctx, const pass_row *row)
{
    const softmax *q = ctx;
    cross_softmax_record_row(q, row->state, &q->e->records[q->side][row->slot]);
}

/* ---- second pass: the gradient of a side ---- */

/*
 * Similarities of a row to its weights P, Q or P + Q.  The weight of the positive, P - 1,
 * is computed from the negatives' probabilities, since P rounds to 1, and in double, since it
 * dominates the gradient.
 */
static void cross_softmax_second_row(void *ctx, const pass_row *at, column_tile c,
                                     float *s)
{
    const softmax *q = ctx;
    const sim_cross *e = q->e;
    const size_t row = at->slot;
    bool both = q->options->columns, own = both || q->side == SIDE_ANCHORS;
    float weight = own ? e->weights[q->side][row]
                       : sim_tile_lse_weight(q->fixed, q->inverse, (double)INFINITY);
    const float *other =
        both || q->side == SIDE_COLUMNS ? e->weights[!q->side] + c.lo : NULL;

    sim_tile_probabilities(q->fixed, q->inverse, c.n, weight, other, s);
    if (row >= c.lo && row < c.lo + c.n)
        s[row - c.lo] = 0; /* added by add_positive */
}

static void add_positive(const softmax *q, size_t row, double *sum)
{
    const sim_cross *e = q->e;
    double positive_weight =
        e->records[SIDE_ANCHORS][row].share +
        (q->options->columns ? e->records[SIDE_COLUMNS][row].share : 0);
    sim_tile_add_scaled(sum, e->shape.d, -positive_weight,
                        sim_cross_row(e, !q->side, row));
}

static void cross_softmax_second_end(void *ctx, const pass_row *row)
{
    const softmax *q = ctx;
    sim_cross *e = q->e;
    const size_t d = e->shape.d;
    float *out = q->out + (row->slot - e->local.lo) * d;

    add_positive(q, row->slot, row->sum);
    sim_tile_finish(d, row->sum,
                    cross_softmax_factor(q->options) /
                        (q->options->temperature * (double)e->shape.n *
                         (q->options->columns ? 2 : 1)),
                    out);
    if (q->store_row_dots)
        sim_cross_store_row_dot(e, q->side, row->slot, out);
}

static void cross_softmax_differentiate(softmax *q, size_t side, float *out,
                                        bool store_row_dots)
{
    q->side = side;
    q->out = out;
    q->store_row_dots = store_row_dots;
    row_pass pass = sim_cross_pass(q->e, side);
    pass.ctx = q;
    pass.compare = cross_softmax_second_row;
    pass.end = cross_softmax_second_end;
    pass.accumulate = true;
    sim_passes_run(&q->e->passes, &pass);
}

/* ---- public functions ---- */

static void evaluate_side(softmax *q, size_t side)
{
    row_pass pass = sim_cross_pass(q->e, side);

    q->side = side;
    pass.ctx = q;
    pass.begin = cross_softmax_first_begin;
    pass.compare = cross_softmax_first_row;
    pass.end = cross_softmax_first_end;
    sim_passes_run(&q->e->passes, &pass);
    sim_cross_gather_records(q->e, side);
    for (size_t i = 0; i < q->e->shape.n; i++)
        q->e->weights[side][i] =
            sim_tile_lse_weight(q->fixed, q->inverse, q->e->records[side][i].lse);
}

static void cross_softmax_report(softmax *q, sim_loss_report *report)
{
    *report = (sim_loss_report){
        .loss = sim_cross_mean(q->e, SIDE_ANCHORS, offsetof(cross_record, loss))};
    if (q->options->columns)
        report->loss = (report->loss + sim_cross_mean(q->e, SIDE_COLUMNS,
                                                      offsetof(cross_record, loss))) /
                       2;
    report->loss *= cross_softmax_factor(q->options);
    sim_cross_describe(q->e, report);
}

void sim_cross_softmax(sim_cross *e, const sim_cross_options *options, const float *a,
                       const float *b, float *da, float *db, sim_loss_report *report)
{
    softmax q = {.e = e,
                 .options = options,
                 .inverse = (float)(1 / options->temperature),
                 .fixed = !options->any_length &&
                          sim_tile_shift_is_fixed(options->temperature)};

    SIM_ASSERT(e->shape.n >= 2 && options->temperature > 0);
    sim_cross_gather(e, a, b);
    evaluate_side(&q, SIDE_ANCHORS);
    if (options->columns)
        evaluate_side(&q, SIDE_COLUMNS);
    cross_softmax_report(&q, report);
    if (da)
        cross_softmax_differentiate(&q, SIDE_ANCHORS, da, true);
    if (db)
        cross_softmax_differentiate(&q, SIDE_COLUMNS, db, !da);
    if (da || db)
        report->d_log_temperature = -sim_cross_sum_row_dots(e);
}
