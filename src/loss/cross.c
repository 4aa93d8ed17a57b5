/*
 * cross.c - buffers of anchors against columns, and the common part of their reports.
 *
 * In: a and b of this rank. Out: both sides for the passes, and the report.
 * Called by: cross_softmax.c, cross_sigmoid.c.
 */
#include "cross.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

enum { CROSS_BUFFERS = 8 };

static void list_cross_buffers(sim_cross *e, sim_partition p, const sim_rows_shape *s,
                               sim_buffer list[CROSS_BUFFERS])
{
    bool copies = p.size > 1 && !sim_passes_stream(p, s, N_SIDES);
    size_t floats = copies ? s->n * s->d : 0;

    list[0] = SIM_BUFFER(e->gathered[SIDE_ANCHORS], floats);
    list[1] = SIM_BUFFER(e->gathered[SIDE_COLUMNS], floats);
    list[2] = SIM_BUFFER(e->records[SIDE_ANCHORS], s->n);
    list[3] = SIM_BUFFER(e->records[SIDE_COLUMNS], s->n);
    list[4] = SIM_BUFFER(e->weights[SIDE_ANCHORS], s->n);
    list[5] = SIM_BUFFER(e->weights[SIDE_COLUMNS], s->n);
    list[6] = SIM_BUFFER(e->row_dot_grad, s->n);
    list[7] = SIM_BUFFER(e->b_sum, s->d);
}

size_t sim_cross_bytes(sim_partition p, const sim_rows_shape *s)
{
    sim_cross none = {0};
    sim_buffer list[CROSS_BUFFERS];

    list_cross_buffers(&none, p, s, list);
    return sizeof none + sim_buffers_bytes(list, CROSS_BUFFERS) +
           sim_leaf_sums_bytes(s, sim_passes_moments(p, s, N_SIDES)) +
           sim_passes_bytes(p, s, N_SIDES);
}

sim_status sim_cross_create(const sim_comm *c, const sim_rows_shape *shape,
                            sim_cross **out)
{
    sim_status st = SIM_OK;
    const sim_partition p = sim_comm_partition(c);
    sim_buffer list[CROSS_BUFFERS];
    sim_cross *e = NULL;

    SIM_ASSERT(shape->views == 1);
    SIM_TRY(sim_new(&e, "loss/cross"));
    e->comm = c;
    e->shape = *shape;
    e->local = sim_rows_local(p, shape);
    SIM_TRY(sim_leaf_sums_create(shape, sim_passes_moments(p, shape, N_SIDES),
                                 "loss/cross", &e->sums));
    list_cross_buffers(e, p, shape, list);
    SIM_TRY(sim_buffers_create(list, CROSS_BUFFERS, "loss/cross"));
    SIM_TRY(sim_passes_create(c, shape, N_SIDES, "loss/cross", &e->passes));
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
    list_cross_buffers(*e, sim_comm_partition((*e)->comm), &(*e)->shape, list);
    sim_buffers_destroy(list, CROSS_BUFFERS);
    sim_leaf_sums_destroy(&(*e)->sums);
    sim_passes_destroy(&(*e)->passes);
    sim_free(*e);
    *e = NULL;
}

row_pass sim_cross_pass(const sim_cross *e, size_t side)
{
    return (row_pass){
        .slots = e->local, .rows = e->rows[side], .columns = e->rows[!side]};
}

const float *sim_cross_row(const sim_cross *e, size_t side, size_t row)
{
    return sim_passes_row(&e->passes, &e->rows[side], 0, row);
}

void sim_cross_gather(sim_cross *e, const float *a, const float *b)
{
    const float *const sides[N_SIDES] = {[SIDE_ANCHORS] = a, [SIDE_COLUMNS] = b};
    for (size_t side = 0; side < N_SIDES; side++)
        sim_passes_gather(&e->passes, sides[side], e->gathered[side], &e->rows[side]);
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

void sim_cross_store_row_dot(sim_cross *e, size_t side, size_t row, const float *gradient)
{
    e->row_dot_grad[row] = sim_dot(e->shape.d, sim_cross_row(e, side, row), gradient);
}

double sim_cross_sum_row_dots(sim_cross *e)
{
    sim_tile_gather(e->comm, &e->shape, sizeof *e->row_dot_grad,
                    e->row_dot_grad + e->local.lo, e->row_dot_grad);
    return sim_leaf_mean(&e->sums, e->row_dot_grad, sizeof *e->row_dot_grad) *
           (double)e->shape.n;
}

float sim_cross_split_positive(cross_scores *scores, size_t row, column_tile c, float *s)
{
    if (row >= c.lo && row < c.lo + c.n) {
        scores->positive = s[row - c.lo];
        s[row - c.lo] = -INFINITY;
    }
    float max = sim_row_max(c.n, s);
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
    sim_passes_moments_run(&e->passes, &e->rows[SIDE_COLUMNS], &e->sums);
    memcpy(e->b_sum, e->sums.values, d * sizeof *e->b_sum);
    sim_passes_moments_run(&e->passes, &e->rows[SIDE_ANCHORS], &e->sums);
    for (size_t k = 0; k < d; k++)
        pairs += e->sums.values[k] * e->b_sum[k];
    report->embedding_std = sim_leaf_std(&e->sums);
    report->negative = (pairs / n - report->positive) / (n - 1);
}
