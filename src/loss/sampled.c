/*
 * sampled.c - softmax of each anchor against its positive and its sampled columns.
 *
 * In: anchors and targets of this rank, the positive and the m samples of each anchor. Out:
 * the loss and the gradients of its mean.
 * Let p_s be the softmax over the m + 1 logits of an anchor, where slot 0 is the positive (if
 * decoupled, over the m samples, with p_0 = 0). Then da_i = (sum_s p_s b_s - b_0) / (T n). For db
 * each rank gathers anchors, indices and weights of all ranks and finds the pairs of its targets by
 * a counting sort, so contributions to a target are added in ascending order of anchor, then slot.
 * Rows may have any length, because the largest logit is subtracted. Logits are summed in double.
 * By Euler's theorem dL/d log T = -sum a . da = -sum b . db, as in cross_softmax.c.
 * van den Oord et al. 2018, arXiv 1807.03748; negatives as in Lowe et al. 2019, 1905.11786.
 */
#include "tiles.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

typedef struct {
    double loss, positive, negative, correct;
} anchor_record;

struct sim_sampled {
    const sim_comm *comm;
    sim_sampled_shape shape;
    sim_range local, own; /* this rank's anchors and targets */
    float *a, *b;         /* [n][d], [targets][d], all ranks' */
    int32_t *index;       /* [n][m + 1] target rows, the positive first */
    float *weight;        /* [n][m + 1] p_s, less 1 for the positive */
    anchor_record *records;
    double *row_dot_grad; /* [max(anchors, targets)] row . its gradient */
    size_t *begin;        /* [targets + 2] where an own target's pairs begin */
    size_t *pairs;        /* [n (m + 1)] anchor (m + 1) + slot */
    leaf_sums anchor_sums, target_sums;
};

typedef struct {
    sim_sampled *e;
    const sim_cross_options *options;
    float *da, *db;
} sampled;

/* ---- buffers ---- */

static size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

enum { SAMPLED_BUFFERS = 8 };

static void list_sampled_buffers(sim_sampled *e, const sim_sampled_shape *s,
                                 sim_buffer list[SAMPLED_BUFFERS])
{
    size_t n = s->anchors.n, t = s->targets.n, d = s->anchors.d, slots = n * (s->m + 1);

    list[0] = SIM_BUFFER(e->a, n * d);
    list[1] = SIM_BUFFER(e->b, t * d);
    list[2] = SIM_BUFFER(e->index, slots);
    list[3] = SIM_BUFFER(e->weight, slots);
    list[4] = SIM_BUFFER(e->records, n);
    list[5] = SIM_BUFFER(e->row_dot_grad, larger_of(n, t));
    list[6] = SIM_BUFFER(e->begin, t + 2);
    list[7] = SIM_BUFFER(e->pairs, slots);
}

size_t sim_sampled_bytes(const sim_sampled_shape *s)
{
    sim_sampled none = {0};
    sim_buffer list[SAMPLED_BUFFERS];

    list_sampled_buffers(&none, s, list);
    return sizeof none + sim_buffers_bytes(list, SAMPLED_BUFFERS) +
           sim_leaf_sums_bytes(&s->anchors, sim_leaf_count(s->anchors.n)) +
           sim_leaf_sums_bytes(&s->targets, sim_leaf_count(s->targets.n));
}

sim_status sim_sampled_create(const sim_comm *c, const sim_sampled_shape *shape,
                              sim_sampled **out)
{
    sim_status st = SIM_OK;
    sim_buffer list[SAMPLED_BUFFERS];
    sim_sampled *e = NULL;
    size_t t = shape->targets.n, d = shape->anchors.d;

    SIM_ASSERT(shape->anchors.views == 1 && shape->targets.views == 1);
    SIM_ASSERT(shape->targets.d == d && shape->m >= 1 && t <= INT32_MAX);
    SIM_TRY(sim_new(&e, "loss/sampled"));
    e->comm = c;
    e->shape = *shape;
    e->local = sim_rows_local(sim_comm_partition(c), &shape->anchors);
    e->own = sim_rows_local(sim_comm_partition(c), &shape->targets);
    SIM_TRY(sim_leaf_sums_create(&shape->anchors, sim_leaf_count(shape->anchors.n),
                                 "loss/sampled", &e->anchor_sums));
    SIM_TRY(sim_leaf_sums_create(&shape->targets, sim_leaf_count(shape->targets.n),
                                 "loss/sampled", &e->target_sums));
    list_sampled_buffers(e, shape, list);
    SIM_TRY(sim_buffers_create(list, SAMPLED_BUFFERS, "loss/sampled"));
    *out = e;
    e = NULL;
done:
    sim_sampled_destroy(&e);
    return st;
}

void sim_sampled_destroy(sim_sampled **e)
{
    sim_buffer list[SAMPLED_BUFFERS];
    if (!*e)
        return;
    list_sampled_buffers(*e, &(*e)->shape, list);
    sim_buffers_destroy(list, SAMPLED_BUFFERS);
    sim_leaf_sums_destroy(&(*e)->anchor_sums);
    sim_leaf_sums_destroy(&(*e)->target_sums);
    sim_free(*e);
    *e = NULL;
}

/* ---- anchors ---- */

/* This rank's indices, the positive before the draws. */
static void store_indices(sim_sampled *e, const int32_t *positive,
                          const int32_t *negatives)
{
    size_t m = e->shape.m;
    for (size_t i = e->local.lo; i < e->local.hi; i++) {
        int32_t *index = e->index + i * (m + 1);
        index[0] = positive[i - e->local.lo];
        memcpy(index + 1, negatives + (i - e->local.lo) * m, m * sizeof *index);
        for (size_t s = 0; s <= m; s++)
            SIM_ASSERT(index[s] >= 0 && (size_t)index[s] < e->shape.targets.n);
    }
}

/* Similarities of an anchor's slots, and its record except the loss. Draws of the positive
 * itself are ignored for accuracy. */
static anchor_record score_slots(const sim_sampled *e, size_t i, double *s)
{
    size_t d = e->shape.anchors.d, m = e->shape.m;
    const int32_t *index = e->index + i * (m + 1);
    anchor_record r = {.correct = 1};

    for (size_t k = 0; k <= m; k++)
        s[k] = sim_dot(d, e->a + i * d, e->b + (size_t)index[k] * d);
    for (size_t k = 1; k <= m; k++) {
        r.negative += s[k];
        if (index[k] != index[0] && !(s[0] > s[k]))
            r.correct = 0;
    }
    r.positive = s[0];
    r.negative /= (double)m;
    return r;
}

/* Similarities to weights in place: p_s, and for the positive p_0 - 1 from the others'
 * shares. Returns the loss. */
static double weight_slots(size_t m, const sim_cross_options *o, double *s)
{
    double top = o->decoupled ? s[1] : s[0], others = 0, temperature = o->temperature;
    for (size_t k = 1; k <= m; k++)
        top = s[k] > top ? s[k] : top;
    double ahead = (top - s[0]) / temperature;
    double positive = o->decoupled ? 0 : sim_exp_double(-ahead);
    for (size_t k = 1; k <= m; k++) {
        s[k] = sim_exp_double((s[k] - top) / temperature);
        others += s[k];
    }
    double total = others + positive;
    for (size_t k = 1; k <= m; k++)
        s[k] /= total;
    s[0] = -others / total;
    return ahead + sim_ln(total);
}

/* out = scale * sum, and row . out. */
static double finish_row(size_t d, const double *sum, double scale, const float *row,
                         float *out)
{
    for (size_t k = 0; k < d; k++)
        out[k] = (float)(sum[k] * scale);
    return sim_dot(d, row, out);
}

static double scale_of(const sampled *q)
{
    return 1 / (q->options->temperature * (double)q->e->shape.anchors.n);
}

static void anchor_tile_pass(size_t tile_index, void *ctx)
{
    const sampled *q = ctx;
    sim_sampled *e = q->e;
    size_t d = e->shape.anchors.d, m = e->shape.m;
    sim_range rows = sim_row_tile(e->local, e->shape.anchors.d, tile_index);
    double *s = sim_scratch((m + 1 + d) * sizeof *s), *sum = s + m + 1;

    for (size_t i = rows.lo; i < rows.hi; i++) {
        float *weight = e->weight + i * (m + 1);
        e->records[i] = score_slots(e, i, s);
        e->records[i].loss = weight_slots(m, q->options, s);
        for (size_t k = 0; k <= m; k++)
            weight[k] = (float)s[k];
        if (!q->da)
            continue;
        memset(sum, 0, d * sizeof *sum);
        for (size_t k = 0; k <= m; k++)
            sim_tile_add_scaled(sum, d, s[k],
                                e->b + (size_t)e->index[i * (m + 1) + k] * d);
        e->row_dot_grad[i] =
            finish_row(d, sum, scale_of(q), e->a + i * d, q->da + (i - e->local.lo) * d);
    }
}

/* ---- targets ---- */

/* The own target that pair p names, from 0; false when it is another rank's. */
static bool own_target(const sim_sampled *e, size_t p, size_t *target)
{
    *target = (size_t)e->index[p] - e->own.lo;
    return (size_t)e->index[p] >= e->own.lo && (size_t)e->index[p] < e->own.hi;
}

/*
 * Pairs of own targets, by target, then in ascending order; those of target t are in
 * [begin[t], begin[t + 1]). Counts are stored at offset 2, so that filling turns begins
 * into ends at offset 1.
 */
static void sort_pairs(sim_sampled *e)
{
    size_t n_pairs = e->shape.anchors.n * (e->shape.m + 1), own = e->own.hi - e->own.lo;
    size_t *begin = e->begin, target = 0;

    memset(begin, 0, (own + 2) * sizeof *begin);
    for (size_t p = 0; p < n_pairs; p++)
        if (own_target(e, p, &target))
            begin[target + 2]++;
    for (size_t t = 0; t < own; t++)
        begin[t + 2] += begin[t + 1];
    for (size_t p = 0; p < n_pairs; p++)
        if (own_target(e, p, &target))
            e->pairs[begin[target + 1]++] = p;
}

static void target_tile_pass(size_t tile_index, void *ctx)
{
    const sampled *q = ctx;
    sim_sampled *e = q->e;
    size_t d = e->shape.anchors.d, slots = e->shape.m + 1;
    sim_range rows = sim_row_tile(e->own, e->shape.anchors.d, tile_index);
    double *sum = sim_scratch(d * sizeof *sum);

    for (size_t j = rows.lo; j < rows.hi; j++) {
        const size_t *begin = e->begin + (j - e->own.lo);
        memset(sum, 0, d * sizeof *sum);
        for (size_t p = begin[0]; p < begin[1]; p++) {
            size_t pair = e->pairs[p];
            sim_tile_add_scaled(sum, d, (double)e->weight[pair], e->a + pair / slots * d);
        }
        double inner =
            finish_row(d, sum, scale_of(q), e->b + j * d, q->db + (j - e->own.lo) * d);
        if (!q->da)
            e->row_dot_grad[j] = inner;
    }
}

/* ---- public functions ---- */

static double sampled_mean(sim_sampled *e, size_t field_offset)
{
    const char *field = (const char *)e->records + field_offset;
    return sim_leaf_mean(&e->anchor_sums, (const double *)(const void *)field,
                         sizeof *e->records);
}

static void sampled_report(sim_sampled *e, sim_loss_report *report)
{
    *report =
        (sim_loss_report){.loss = sampled_mean(e, offsetof(anchor_record, loss)),
                          .accuracy = sampled_mean(e, offsetof(anchor_record, correct)),
                          .positive = sampled_mean(e, offsetof(anchor_record, positive)),
                          .negative = sampled_mean(e, offsetof(anchor_record, negative))};
    sim_leaf_moments(&e->anchor_sums, e->a);
    report->embedding_std = sim_leaf_std(&e->anchor_sums);
}

/* Sum of row . gradient over one side. */
static double sum_row_dots(sim_sampled *e, const sim_rows_shape *s, sim_range local,
                           leaf_sums *sums)
{
    sim_tile_gather(e->comm, s, sizeof *e->row_dot_grad, e->row_dot_grad + local.lo,
                    e->row_dot_grad);
    return sim_leaf_mean(sums, e->row_dot_grad, sizeof *e->row_dot_grad) * (double)s->n;
}

static void target_pass(sampled *q)
{
    sim_sampled *e = q->e;
    const sim_rows_shape *s = &e->shape.anchors;
    size_t slots = e->shape.m + 1;

    sim_tile_gather(e->comm, s, slots * sizeof *e->index, e->index + e->local.lo * slots,
                    e->index);
    sim_tile_gather(e->comm, s, slots * sizeof *e->weight,
                    e->weight + e->local.lo * slots, e->weight);
    sort_pairs(e);
    sim_for(sim_row_tiles(e->own, e->shape.anchors.d), target_tile_pass, q);
}

/* NOLINTNEXTLINE(readability-function-size): six arrays, each with its own shape and name */
void sim_sampled_softmax(sim_sampled *e, const sim_cross_options *options, const float *a,
                         const float *b, const int32_t *positive,
                         const int32_t *negatives, float *da, float *db,
                         sim_loss_report *report)
{
    sampled q = {.e = e, .options = options, .da = da, .db = db};
    const sim_rows_shape *anchors = &e->shape.anchors, *targets = &e->shape.targets;
    size_t row_bytes = anchors->d * sizeof(float);

    SIM_ASSERT(options->temperature > 0);
    sim_tile_gather(e->comm, anchors, row_bytes, a, e->a);
    sim_tile_gather(e->comm, targets, row_bytes, b, e->b);
    store_indices(e, positive, negatives);
    sim_for(sim_row_tiles(e->local, e->shape.anchors.d), anchor_tile_pass, &q);
    sim_tile_gather(e->comm, anchors, sizeof *e->records, e->records + e->local.lo,
                    e->records);
    sampled_report(e, report);
    if (db)
        target_pass(&q);
    if (da)
        report->d_log_temperature = -sum_row_dots(e, anchors, e->local, &e->anchor_sums);
    else if (db)
        report->d_log_temperature = -sum_row_dots(e, targets, e->own, &e->target_sums);
}
