/*
 * contrast.c - rows of the global batch on every rank, and sums over them in fixed order.
 */
#include "contrast.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

static size_t units_of(const sim_rows_shape *s)
{
    return (s->n + s->unit - 1) / s->unit;
}

sim_range sim_rows_mine(const sim_comm *c, const sim_rows_shape *s)
{
    sim_range r = sim_tree_part(units_of(s), (size_t)c->size, (size_t)c->rank);
    r.lo *= s->unit;
    r.hi *= s->unit;
    return (sim_range){r.lo < s->n ? r.lo : s->n, r.hi < s->n ? r.hi : s->n};
}

static size_t leaves_of(const sim_rows_shape *s)
{
    return (s->n + LEAF_SLOTS - 1) / LEAF_SLOTS;
}

size_t sim_contrast_bytes(size_t ranks, const sim_rows_shape *s)
{
    size_t rows = s->views * s->n;
    (void)ranks;
    return sizeof(sim_contrast) +
           rows * (s->d * sizeof(float) + sizeof(row_record) + sizeof(float) +
                   s->views * sizeof(double)) +
           leaves_of(s) * (2 * s->d * sizeof(double) + sizeof(sim_range));
}

sim_status sim_contrast_create(const sim_comm *c, const sim_rows_shape *shape,
                               sim_contrast **out)
{
    sim_status st = SIM_OK;
    sim_contrast *e = NULL;
    size_t rows = shape->views * shape->n, leaves = leaves_of(shape);

    SIM_TRY(sim_new(&e, "loss/contrast"));
    e->comm = c;
    e->shape = *shape;
    e->mine = sim_rows_mine(c, shape);
    SIM_TRY(sim_alloc(&e->z, rows * shape->d, "loss/contrast"));
    SIM_TRY(sim_alloc(&e->records, rows, "loss/contrast"));
    SIM_TRY(sim_alloc(&e->lse, rows, "loss/contrast"));
    SIM_TRY(sim_alloc(&e->positives, rows * (shape->views - 1), "loss/contrast"));
    SIM_TRY(sim_alloc(&e->radial, rows, "loss/contrast"));
    SIM_TRY(sim_alloc(&e->leaves, leaves * 2 * shape->d, "loss/contrast"));
    SIM_TRY(sim_alloc(&e->ranges, leaves, "loss/contrast"));
    for (size_t i = 0; i < leaves; i++)
        e->ranges[i] = (sim_range){i, i + 1};
    *out = e;
    e = NULL;
done:
    sim_contrast_destroy(&e);
    return st;
}

void sim_contrast_destroy(sim_contrast **e)
{
    if (!*e)
        return;
    sim_free((*e)->z);
    sim_free((*e)->records);
    sim_free((*e)->lse);
    sim_free((*e)->positives);
    sim_free((*e)->radial);
    sim_free((*e)->leaves);
    sim_free((*e)->ranges);
    sim_free(*e);
    *e = NULL;
}

/* ---- the tile walk ---- */

static size_t tiles_of_view(const sim_contrast *e)
{
    return (e->mine.hi - e->mine.lo + ROW_TILE - 1) / ROW_TILE;
}

size_t contrast_row_tiles(const sim_contrast *e)
{
    return e->shape.views * tiles_of_view(e);
}

row_tile contrast_row_tile(const sim_contrast *e, size_t i)
{
    size_t per_view = tiles_of_view(e);
    size_t lo = e->mine.lo + i % per_view * ROW_TILE, hi = lo + ROW_TILE;
    return (row_tile){i / per_view, lo, hi < e->mine.hi ? hi : e->mine.hi};
}

void contrast_gather(sim_contrast *e, const float *z)
{
    const sim_rows_shape *s = &e->shape;
    size_t mine = e->mine.hi - e->mine.lo;
    for (size_t v = 0; v < s->views; v++)
        sim_comm_gather_rows(e->comm, units_of(s), s->unit, s->n, s->d * sizeof(float),
                             z + v * mine * s->d, e->z + v * s->n * s->d);
}

void contrast_gather_records(sim_contrast *e)
{
    const sim_rows_shape *s = &e->shape;
    for (size_t v = 0; v < s->views; v++) {
        row_record *all = e->records + v * s->n;
        sim_comm_gather_rows(e->comm, units_of(s), s->unit, s->n, sizeof *all,
                             all + e->mine.lo, all);
    }
    for (size_t r = 0; r < s->views * s->n; r++)
        e->lse[r] = (float)e->records[r].lse;
}

void contrast_gather_radial(sim_contrast *e)
{
    const sim_rows_shape *s = &e->shape;
    for (size_t v = 0; v < s->views; v++) {
        double *all = e->radial + v * s->n;
        sim_comm_gather_rows(e->comm, units_of(s), s->unit, s->n, sizeof *all,
                             all + e->mine.lo, all);
    }
}

/* ---- sums over all rows ---- */

/* Of doubles `stride` bytes apart, row by row. */
static double sum_rows(sim_contrast *e, const void *first, size_t stride)
{
    const sim_rows_shape *s = &e->shape;
    size_t leaves = leaves_of(s);
    double sum = 0;

    for (size_t l = 0; l < leaves; l++) {
        e->leaves[l] = 0;
        for (size_t v = 0; v < s->views; v++)
            for (size_t i = l * LEAF_SLOTS; i < (l + 1) * LEAF_SLOTS && i < s->n; i++) {
                const char *row = (const char *)first + (v * s->n + i) * stride;
                e->leaves[l] += *(const double *)(const void *)row;
            }
    }
    sim_tree_fold_doubles(leaves, 1, e->ranges, leaves, e->leaves, sim_merge_sum, &sum);
    return sum;
}

double contrast_sum(sim_contrast *e, size_t field_offset)
{
    return sum_rows(e, (const char *)e->records + field_offset, sizeof *e->records);
}

double contrast_mean(sim_contrast *e, size_t field_offset)
{
    return contrast_sum(e, field_offset) / (double)(e->shape.views * e->shape.n);
}

double contrast_sum_radial(sim_contrast *e)
{
    return sum_rows(e, e->radial, sizeof *e->radial);
}

/* Sums and squares of a leaf's rows: [2][d]. */
static void geometry_leaf(size_t l, void *ctx)
{
    const sim_contrast *e = ctx;
    const sim_rows_shape *s = &e->shape;
    double *sum = e->leaves + l * 2 * s->d;

    memset(sum, 0, 2 * s->d * sizeof *sum);
    for (size_t v = 0; v < s->views; v++)
        for (size_t i = l * LEAF_SLOTS; i < (l + 1) * LEAF_SLOTS && i < s->n; i++)
            for (size_t k = 0; k < s->d; k++) {
                double x = (double)e->z[(v * s->n + i) * s->d + k];
                sum[k] += x;
                sum[s->d + k] += x * x;
            }
}

void contrast_geometry(sim_contrast *e, double *spread, double *pairs)
{
    const sim_rows_shape *s = &e->shape;
    size_t leaves = leaves_of(s);
    double rows = (double)(s->views * s->n), between = 0, within = 0, deviations = 0;

    sim_for(leaves, geometry_leaf, e);
    sim_tree_fold_doubles(leaves, 2 * s->d, e->ranges, leaves, e->leaves, sim_merge_sum,
                          e->leaves);
    for (size_t k = 0; k < s->d; k++) {
        double mean = e->leaves[k] / rows;
        double variance = e->leaves[s->d + k] / rows - mean * mean;
        deviations += sqrt(variance > 0 ? variance : 0);
        between += e->leaves[k] * e->leaves[k];
        within += e->leaves[s->d + k];
    }
    *spread = deviations / (double)s->d;
    *pairs = between - within;
}
