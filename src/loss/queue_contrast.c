/*
 * queue_contrast.c - anchors against their keys and all slots of a sharded queue.
 *
 * In: unit rows of this rank. Out: the loss and the gradient of the global mean.
 * L_i = -s+ / T + log(exp(s+ / T) + sum over slots exp(s / T)). With G_i = sum over slots
 * of softmax(s / T) times the slot's row, and w_i the slots' share of the whole sum (1 when
 * decoupled), the gradient is w_i (G_i - k_i) / (T n): the softmax runs over slots alone and
 * the positive enters by w_i, in double, so that no precision is lost when it dominates the sum.
 * He et al. 2020, arXiv 1911.05722, equation 1; decoupled: Yeh et al. 2022, arXiv 2110.06848.
 * Invariant: per-tile sums and gradients are reduced by the tree over tiles.
 */
#include "queue.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

typedef struct {
    sim_queue *q;
    const sim_cross_options *options;
    float inverse; /* 1 / T */
    bool fixed;    /* the shift 1 / T serves every tile */
    const float *keys;
    float *da;
} contrast_call;

/* On loss and gradient. */
static double queue_contrast_factor(const contrast_call *call)
{
    return call->options->factor > 0 ? call->options->factor : 1;
}

/* ---- first pass: sums over slots ---- */

static slot_sum sum_of_row(const contrast_call *call, size_t n, const float *s)
{
    float max = sim_row_max(n, s);
    float shift = call->fixed ? call->inverse : max * call->inverse;
    slot_sum sum = {.shift = (double)shift, .max = (double)max};
    if (max > -INFINITY || max != max) /* some slot is active */
        sum.sum = (double)sim_row_exp_sum(n, s, call->inverse, shift);
    return sum;
}

static void merge_pair(slot_sum *left, const slot_sum *right)
{
    if (right->shift > left->shift) {
        left->sum = left->sum * sim_exp_double(left->shift - right->shift) + right->sum;
        left->shift = right->shift;
    } else if (right->shift < left->shift) {
        left->sum += right->sum * sim_exp_double(right->shift - left->shift);
    } else {
        left->sum += right->sum;
    }
    left->max = right->max > left->max ? right->max : left->max;
}

enum { SUM_WIDTH = sizeof(slot_sum) / sizeof(double) };

static void merge_sums(size_t width, double *left, size_t left_leaves,
                       const double *right, size_t right_leaves)
{
    slot_sum *l = (slot_sum *)(void *)left;
    const slot_sum *r = (const slot_sum *)(const void *)right;
    (void)left_leaves;
    (void)right_leaves;
    for (size_t i = 0; i < width / SUM_WIDTH; i++)
        merge_pair(&l[i], &r[i]);
}

static void sum_tile(const queue_loop *w, const queue_tile *t, sim_range anchors,
                     float *s)
{
    size_t n = w->q->shape.rows.n, m = anchors.hi - anchors.lo;
    slot_sum *top = w->q->sums + t->height * n + anchors.lo;

    for (size_t i = 0; i < m; i++)
        top[i] = sum_of_row(w->ctx, t->n, s + i * QUEUE_TILE);
    for (size_t merges = t->merges; merges > 0; merges--) {
        top -= n;
        merge_sums(m * SUM_WIDTH, &top->shift, 0, &top[n].shift, 0);
    }
}

static void sum_slots(const contrast_call *call)
{
    sim_queue *q = call->q;
    sim_queue_for_tiles(q, sum_tile, call, false);
    sim_comm_reduce_nodes(q->comm, q->n_tiles, q->shape.rows.n * SUM_WIDTH,
                          &q->sums->shift, merge_sums, &q->total->shift);
}

/* ---- the anchors' records ---- */

/* An anchor of this rank and its positive, multiplied as the slots are: so that a key that is
 * also in the queue has an equal similarity. */
static float queue_similarity(size_t d, const float *a, const float *key)
{
    float *panel = sim_scratch(sim_panel_floats(d, 1) * sizeof *panel), s = 0;
    sim_panel_pack(d, 1, key, d, true, panel);
    sim_product(1, 1, d, a, d, panel, &s, 1);
    return s;
}

static void record_anchor(size_t item, void *ctx)
{
    const contrast_call *call = ctx;
    const sim_queue *q = call->q;
    size_t d = q->shape.rows.d, i = q->local.lo + item;
    const slot_sum *slots = &q->total[i];
    anchor_record *out = &q->records[i];
    double inverse = (double)call->inverse, total = slots->sum;

    out->positive = (double)queue_similarity(d, q->z + i * d, call->keys + item * d);
    if (!call->options->decoupled)
        total += sim_exp_double(out->positive * inverse - slots->shift);
    out->loss = slots->shift + sim_ln(total) - out->positive * inverse;
    out->correct = out->positive > slots->max ? 1 : 0;
    out->share = slots->sum / total;
}

/* ---- the report ---- */

/* Sum of the similarities of all anchors to the active slots of a tile, from the sums of
 * both. */
static void measure_tile(size_t item, void *ctx)
{
    const contrast_call *call = ctx;
    sim_queue *q = call->q;
    queue_active active = sim_queue_active_slots(q);
    size_t d = q->shape.rows.d, tile = q->tiles.lo + item;
    size_t lo = tile * QUEUE_TILE, hi = lo + QUEUE_TILE;
    double *rows = sim_scratch(d * sizeof *rows), sum = 0;

    for (size_t p = 0; p < 2; p++) {
        size_t from = active.part[p].lo > lo ? active.part[p].lo : lo;
        size_t to = active.part[p].hi < hi ? active.part[p].hi : hi;
        if (from >= to)
            continue;
        sim_column_sums(to - from, d, q->store + (from - q->slots.lo) * d, rows);
        for (size_t j = 0; j < d; j++)
            sum += q->leaves.values[j] * rows[j];
    }
    q->tile_sums[tile] = sum;
}

static double mean_of_slots(contrast_call *call)
{
    sim_queue *q = call->q;
    double sum = 0;

    sim_for(q->tiles.hi - q->tiles.lo, measure_tile, call);
    sim_comm_gather_rows(q->comm, q->n_tiles, 1, q->n_tiles, sizeof *q->tile_sums,
                         q->tile_sums + q->tiles.lo, q->tile_sums);
    for (size_t i = 0; i < q->n_tiles; i++)
        sum += q->tile_sums[i];
    return sum / ((double)q->shape.rows.n * (double)sim_queue_active_slots(q).n);
}

/* Mean over all anchors of a field of their records. */
static double queue_contrast_mean(sim_queue *q, size_t field_offset)
{
    const char *field = (const char *)q->records + field_offset;
    return sim_leaf_mean(&q->leaves, (const double *)(const void *)field,
                         sizeof *q->records);
}

static void queue_contrast_report(contrast_call *call, sim_loss_report *report)
{
    sim_queue *q = call->q;

    report->loss = queue_contrast_factor(call) *
                   queue_contrast_mean(q, offsetof(anchor_record, loss));
    report->accuracy = queue_contrast_mean(q, offsetof(anchor_record, correct));
    report->positive = queue_contrast_mean(q, offsetof(anchor_record, positive));
    sim_leaf_moments(&q->leaves, q->z); /* stays in the leaves for the next two */
    report->embedding_std = sim_leaf_std(&q->leaves);
    report->negative = mean_of_slots(call);
}

/* ---- second pass: the gradient ---- */

static void accumulate_gradient(const queue_loop *w, const queue_tile *t,
                                sim_range anchors, float *s)
{
    const contrast_call *call = w->ctx;
    const sim_rows_shape *shape = &w->q->shape.rows;
    size_t d = shape->d, m = anchors.hi - anchors.lo;
    float *top = w->q->partials + (t->height * shape->n + anchors.lo) * d;

    for (size_t i = 0; i < m; i++)
        sim_row_softmax_two(t->n, s + i * QUEUE_TILE, call->inverse,
                            w->q->lse[anchors.lo + i], NULL, s + i * QUEUE_TILE);
    sim_product(m, d, t->n, s, QUEUE_TILE, t->back, top, d);
    for (size_t merges = t->merges; merges > 0; merges--) {
        top -= shape->n * d;
        sim_add(m * d, top + shape->n * d, top);
    }
}

/* Gradients of this rank's anchors from G, stored in `partials`. */
static void finish_anchor(size_t item, void *ctx)
{
    const contrast_call *call = ctx;
    const sim_queue *q = call->q;
    size_t d = q->shape.rows.d, i = q->local.lo + item;
    const float *sum = q->partials + i * d, *key = call->keys + item * d;
    double scale = queue_contrast_factor(call) * q->records[i].share /
                   (call->options->temperature * (double)q->shape.rows.n);

    for (size_t j = 0; j < d; j++)
        call->da[item * d + j] = (float)(scale * ((double)sum[j] - (double)key[j]));
}

/* a . da times n, from G and s+, which every rank has. */
static void dot_of_anchor(size_t i, void *ctx)
{
    const contrast_call *call = ctx;
    const sim_queue *q = call->q;
    size_t d = q->shape.rows.d;
    anchor_record *r = &q->records[i];
    double inner = 0;

    for (size_t j = 0; j < d; j++)
        inner += (double)q->z[i * d + j] * (double)q->partials[i * d + j];
    r->a_dot_da = queue_contrast_factor(call) * r->share * (inner - r->positive) /
                  call->options->temperature;
}

static void queue_contrast_differentiate(contrast_call *call, sim_loss_report *report)
{
    sim_queue *q = call->q;
    size_t n = q->shape.rows.n;

    for (size_t i = 0; i < n; i++)
        q->lse[i] = (float)(q->total[i].shift + sim_ln(q->total[i].sum));
    sim_queue_for_tiles(q, accumulate_gradient, call, true);
    sim_comm_sum_leaves(q->comm, q->n_tiles, n * q->shape.rows.d, q->partials);
    sim_for(q->local.hi - q->local.lo, finish_anchor, call);
    sim_for(n, dot_of_anchor, call);
    report->d_log_temperature =
        -queue_contrast_mean(q, offsetof(anchor_record, a_dot_da));
}

/* ---- public functions ---- */

void sim_queue_contrast(sim_queue *q, const sim_cross_options *options, const float *a,
                        const float *keys, float *da, sim_loss_report *report)
{
    contrast_call call = {.q = q,
                          .options = options,
                          .inverse = (float)(1 / options->temperature),
                          .fixed = sim_tile_shift_is_fixed(options->temperature),
                          .keys = keys,
                          .da = da};
    size_t local = q->local.hi - q->local.lo;

    *report = (sim_loss_report){0};
    if (sim_queue_active_slots(q).n == 0) {
        if (da && local)
            memset(da, 0, local * q->shape.rows.d * sizeof *da);
        return;
    }
    sim_queue_gather(q, a);
    sum_slots(&call);
    sim_for(local, record_anchor, &call);
    sim_tile_gather(q->comm, &q->shape.rows, sizeof *q->records, q->records + q->local.lo,
                    q->records);
    queue_contrast_report(&call, report);
    if (da)
        queue_contrast_differentiate(&call, report);
}
