/*
 * cross.c - buffers of anchors against columns, and the common part of their reports.
 *
 * In: a and b of this rank. Out: both sides on every rank, and the report.
 * Called by: cross_softmax.c, cross_sigmoid.c.
 */
#include "cross.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

enum { CROSS_BUFFERS = 8 };

static void list_cross_buffers(sim_cross *e, const sim_rows_shape *s,
                               sim_buffer list[CROSS_BUFFERS])
{
    list[0] = SIM_BUFFER(e->rows[SIDE_ANCHORS], s->n * s->d);
    list[1] = SIM_BUFFER(e->rows[SIDE_COLUMNS], s->n * s->d);
    list[2] = SIM_BUFFER(e->records[SIDE_ANCHORS], s->n);
    list[3] = SIM_BUFFER(e->records[SIDE_COLUMNS], s->n);
    list[4] = SIM_BUFFER(e->weights[SIDE_ANCHORS], s->n);
    list[5] = SIM_BUFFER(e->weights[SIDE_COLUMNS], s->n);
    list[6] = SIM_BUFFER(e->row_dot_grad, s->n);
    list[7] = SIM_BUFFER(e->b_sum, s->d);
}

size_t sim_cross_bytes(const sim_rows_shape *s)
{
    sim_cross none = {0};
    sim_buffer list[CROSS_BUFFERS];

    list_cross_buffers(&none, s, list);
    return sizeof none + sim_buffers_bytes(list, CROSS_BUFFERS) + sim_leaf_sums_bytes(s);
}

sim_status sim_cross_create(const sim_comm *c, const sim_rows_shape *shape,
                            sim_cross **out)
{
    sim_status st = SIM_OK;
    sim_buffer list[CROSS_BUFFERS];
    sim_cross *e = NULL;

    SIM_ASSERT(shape->views == 1);
    SIM_TRY(sim_new(&e, "loss/cross"));
    e->comm = c;
    e->shape = *shape;
    e->local = sim_rows_local(sim_comm_partition(c), shape);
    SIM_TRY(sim_leaf_sums_create(shape, "loss/cross", &e->sums));
    list_cross_buffers(e, shape, list);
    SIM_TRY(sim_buffers_create(list, CROSS_BUFFERS, "loss/cross"));
    *out = e;
    e = NULL;
done:
    sim_cross_destroy(&e);
    return st;
}

void sim_cross_destroy(sim_cross **e)
{
    sim_buffer list[CROSS_BUFFERS];
    if (!*e)
        return;
    list_cross_buffers(*e, &(*e)->shape, list);
    sim_buffers_destroy(list, CROSS_BUFFERS);
    sim_leaf_sums_destroy(&(*e)->sums);
    sim_free(*e);
    *e = NULL;
}

tile_loop sim_cross_loop(const sim_cross *e, size_t side, sim_range rows)
{
    return (tile_loop){.d = e->shape.d,
                       .n_rows = rows.hi - rows.lo,
                       .rows = e->rows[side] + rows.lo * e->shape.d,
                       .views = 1,
                       .n = e->shape.n,
                       .columns = e->rows[!side]};
}

void sim_cross_gather(sim_cross *e, const float *a, const float *b)
{
    size_t row_bytes = e->shape.d * sizeof(float);
    sim_tile_gather(e->comm, &e->shape, row_bytes, a, e->rows[SIDE_ANCHORS]);
    sim_tile_gather(e->comm, &e->shape, row_bytes, b, e->rows[SIDE_COLUMNS]);
}

void sim_cross_gather_records(sim_cross *e, size_t side)
{
    cross_record *all = e->records[side];
    sim_tile_gather(e->comm, &e->shape, sizeof *all, all + e->local.lo, all);
}

double sim_cross_mean(sim_cross *e, size_t side, size_t field_offset)
{
    const char *field = (const char *)e->records[side] + field_offset;
    return sim_leaf_mean(&e->sums, (const double *)(const void *)field,
                         sizeof(cross_record));
}

void sim_cross_store_row_dots(sim_cross *e, sim_range rows, size_t side,
                              const float *gradient)
{
    size_t d = e->shape.d;
    for (size_t i = rows.lo; i < rows.hi; i++)
        e->row_dot_grad[i] =
            sim_dot(d, e->rows[side] + i * d, gradient + (i - rows.lo) * d);
}

double sim_cross_sum_row_dots(sim_cross *e)
{
    sim_tile_gather(e->comm, &e->shape, sizeof *e->row_dot_grad,
                    e->row_dot_grad + e->local.lo, e->row_dot_grad);
    return sim_leaf_mean(&e->sums, e->row_dot_grad, sizeof *e->row_dot_grad) *
           (double)e->shape.n;
}

float sim_cross_split_positive(cross_scores *scores, size_t row, sim_range columns,
                               float *s)
{
    if (row >= columns.lo && row < columns.hi) {
        scores->positive = s[row - columns.lo];
        s[row - columns.lo] = -INFINITY;
    }
    float max = sim_row_max(columns.hi - columns.lo, s);
    scores->negative = max > scores->negative ? max : scores->negative;
    return max;
}

/* Negatives need no loop over pairs: the sum over all pairs is (sum of a) . (sum of b). */
void sim_cross_describe(sim_cross *e, sim_loss_report *report)
{
    size_t d = e->shape.d;
    double n = (double)e->shape.n, pairs = 0;

    report->accuracy = sim_cross_mean(e, SIDE_ANCHORS, offsetof(cross_record, correct));
    report->positive = sim_cross_mean(e, SIDE_ANCHORS, offsetof(cross_record, positive));
    sim_leaf_moments(&e->sums, e->rows[SIDE_COLUMNS]);
    memcpy(e->b_sum, e->sums.values, d * sizeof *e->b_sum);
    sim_leaf_moments(&e->sums, e->rows[SIDE_ANCHORS]);
    for (size_t k = 0; k < d; k++)
        pairs += e->sums.values[k] * e->b_sum[k];
    report->embedding_std = sim_leaf_std(&e->sums);
    report->negative = (pairs / n - report->positive) / (n - 1);
}
