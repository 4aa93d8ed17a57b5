/*
 * tiles.c - tiles with fixed boundaries, running sums, and sums by leaves of 32 slots.
 *
 * Called by: all losses. Tile sums accumulate in fp32 lanes and merge in double.
 * Only the gather communicates.
 */
#include "tiles.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

/* ---- tiles ---- */

size_t sim_tile_units(const sim_rows_shape *s)
{
    return (s->n + s->unit - 1) / s->unit;
}

/* Most rows of a tile; few where their sums would exceed L2. */
static size_t max_tile_rows(size_t d)
{
    enum { NARROW = 256 };
    return d <= NARROW ? ROW_TILE : PRODUCT_ROWS;
}

/* Many rows amortize packing the columns; all threads need several tiles. */
static size_t tile_rows(sim_range local, size_t d)
{
    enum { TILES_PER_THREAD = 4 };
    const size_t rows = max_tile_rows(d), threads = (size_t)sim_threads();
    return local.hi - local.lo >= TILES_PER_THREAD * threads * rows ? rows : PRODUCT_ROWS;
}

size_t sim_row_tiles(sim_range local, size_t d)
{
    const size_t rows = tile_rows(local, d);
    return (local.hi - local.lo + rows - 1) / rows;
}

sim_range sim_row_tile(sim_range local, size_t d, size_t i)
{
    const size_t rows = tile_rows(local, d), lo = local.lo + i * rows, hi = lo + rows;
    return (sim_range){lo, hi < local.hi ? hi : local.hi};
}

sim_range sim_tile_columns(size_t n, size_t lo)
{
    return (sim_range){lo, n - lo < COLUMN_TILE ? n : lo + COLUMN_TILE};
}

void sim_tile_gather(const sim_comm *c, const sim_rows_shape *s, size_t row_bytes,
                     const void *local, void *all)
{
    sim_comm_gather_rows(c, sim_tile_units(s), s->unit, s->n, row_bytes, local, all);
}

static size_t back_floats(size_t d)
{
    return sim_panel_floats(COLUMN_TILE, d);
}

size_t sim_tile_scratch_bytes(size_t d)
{
    return (sim_panel_floats(d, COLUMN_TILE) + PRODUCT_ROWS * COLUMN_TILE +
            back_floats(d) + PRODUCT_ROWS * d) *
               sizeof(float) +
           max_tile_rows(d) * d * sizeof(double);
}

tile_workspace sim_tile_scratch(size_t d)
{
    tile_workspace r = {.sum = sim_scratch(sim_tile_scratch_bytes(d))};
    r.panel = (float *)(void *)(r.sum + max_tile_rows(d) * d);
    r.s = r.panel + sim_panel_floats(d, COLUMN_TILE);
    r.back = r.s + PRODUCT_ROWS * COLUMN_TILE;
    r.tile = r.back + back_floats(d);
    return r;
}

void sim_tile_add_scaled(double *sum, size_t d, double weight, const float *column)
{
    for (size_t k = 0; k < d; k++)
        sum[k] += weight * (double)column[k];
}

void sim_tile_accumulate(const tile_workspace *work, size_t d, size_t m, size_t n,
                         double *sum)
{
    sim_product(m, d, n, work->s, COLUMN_TILE, work->back, work->tile, d);
    for (size_t i = 0; i < m * d; i++)
        sum[i] += (double)work->tile[i];
}

void sim_tile_finish(size_t d, const double *sum, double scale, float *out)
{
    for (size_t k = 0; k < d; k++)
        out[k] = (float)(scale * sum[k]);
}

/* ---- running sums ---- */

bool sim_tile_shift_is_fixed(double temperature)
{
    return 2 / temperature < 80;
}

running_sum sim_running_begin(bool fixed, float inverse)
{
    return (running_sum){.shift = fixed ? (double)inverse : -(double)INFINITY};
}

void sim_running_add(running_sum *r, bool fixed, float inverse, size_t n, const float *s,
                     float max)
{
    /* Store the rounded shift, which the tile was summed with. */
    float shift = fixed ? inverse : max * inverse;
    double tile = (double)sim_row_exp_sum(n, s, inverse, shift), now = (double)shift;

    if (now > r->shift) {
        r->sum = r->sum * sim_exp_double(r->shift - now) + tile;
        r->shift = now;
    } else {
        r->sum += tile * sim_exp_double(now - r->shift);
    }
}

/* ---- probabilities ---- */

float sim_tile_lse_weight(bool fixed, float inverse, double lse)
{
    return (float)(fixed ? sim_exp_double((double)inverse - lse) : lse);
}

void sim_tile_probabilities(bool fixed, float inverse, size_t n, float row,
                            const float *column, float *s)
{
    if (fixed)
        sim_row_shares(n, s, inverse, inverse, row, column, s);
    else
        sim_row_softmax_two(n, s, inverse, row, column, s);
}

/* ---- sums by leaves ---- */

size_t sim_leaf_count(size_t n)
{
    return (n + LEAF_SLOTS - 1) / LEAF_SLOTS;
}

enum { LEAF_BUFFERS = 2 };

/* Two doubles per leaf, or the moments. */
static void list_leaf_buffers(leaf_sums *f, const sim_rows_shape *s, size_t moments,
                              sim_buffer list[LEAF_BUFFERS])
{
    const size_t leaves = sim_leaf_count(s->n), floor = 2 * leaves;
    const size_t values = moments * 2 * s->d;

    list[0] = SIM_BUFFER(f->values, values > floor ? values : floor);
    list[1] = SIM_BUFFER(f->ranges, leaves);
}

sim_status sim_leaf_sums_create(const sim_rows_shape *s, size_t moments, const char *tag,
                                leaf_sums *out)
{
    sim_status st = SIM_OK;
    size_t leaves = sim_leaf_count(s->n);
    sim_buffer list[LEAF_BUFFERS];

    *out = (leaf_sums){.views = s->views, .n = s->n, .d = s->d};
    list_leaf_buffers(out, s, moments, list);
    SIM_TRY(sim_buffers_create(list, LEAF_BUFFERS, tag));
    for (size_t i = 0; i < leaves; i++)
        out->ranges[i] = (sim_range){i, i + 1};
done:
    if (st != SIM_OK)
        sim_leaf_sums_destroy(out);
    return st;
}

void sim_leaf_sums_destroy(leaf_sums *f)
{
    static const sim_rows_shape none = {0};
    sim_buffer list[LEAF_BUFFERS];
    list_leaf_buffers(f, &none, 0, list); /* counts are not used */
    sim_buffers_destroy(list, LEAF_BUFFERS);
}

void sim_loss_report_add(const sim_loss_report *one, double share, sim_loss_report *sum)
{
    sum->loss += one->loss;
    sum->d_log_temperature += one->d_log_temperature;
    sum->d_log_scale += one->d_log_scale;
    sum->d_bias += one->d_bias;
    sum->accuracy += share * one->accuracy;
    sum->positive += share * one->positive;
    sum->negative += share * one->negative;
    sum->embedding_std += share * one->embedding_std;
    sum->anchors_without_positive += one->anchors_without_positive;
}

size_t sim_leaf_sums_bytes(const sim_rows_shape *s, size_t moments)
{
    leaf_sums f = {0};
    sim_buffer list[LEAF_BUFFERS];
    list_leaf_buffers(&f, s, moments, list);
    return sim_buffers_bytes(list, LEAF_BUFFERS);
}

double sim_leaf_sum(leaf_sums *f, const double *first, size_t stride)
{
    size_t leaves = sim_leaf_count(f->n);
    double sum = 0;

    for (size_t l = 0; l < leaves; l++) {
        f->values[l] = 0;
        for (size_t v = 0; v < f->views; v++)
            for (size_t i = l * LEAF_SLOTS; i < (l + 1) * LEAF_SLOTS && i < f->n; i++) {
                const char *at = (const char *)first + (v * f->n + i) * stride;
                f->values[l] += *(const double *)(const void *)at;
            }
    }
    sim_tree_reduce_doubles(leaves, 1, f->ranges, leaves, f->values, sim_merge_sum, &sum);
    return sum;
}

double sim_leaf_mean(leaf_sums *f, const double *first, size_t stride)
{
    return sim_leaf_sum(f, first, stride) / (double)(f->views * f->n);
}

typedef struct {
    const leaf_sums *f;
    const float *z;
} moments;

void sim_leaf_add_moments(size_t d, size_t n, const float *rows, double *sum)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < d; k++) {
            double x = (double)rows[i * d + k];
            sum[k] += x;
            sum[d + k] += x * x;
        }
}

/* Sums over the rows of a leaf, and of their squares: [2][d]. */
static void sum_leaf_moments(size_t l, void *ctx)
{
    const moments *q = ctx;
    const leaf_sums *f = q->f;
    const size_t lo = l * LEAF_SLOTS, left = f->n - lo;
    double *sum = f->values + l * 2 * f->d;

    memset(sum, 0, 2 * f->d * sizeof *sum);
    for (size_t v = 0; v < f->views; v++)
        sim_leaf_add_moments(f->d, left < LEAF_SLOTS ? left : LEAF_SLOTS,
                             q->z + (v * f->n + lo) * f->d, sum);
}

void sim_leaf_moments(leaf_sums *f, const float *z)
{
    moments q = {f, z};
    size_t leaves = sim_leaf_count(f->n);
    sim_for(leaves, sum_leaf_moments, &q);
    sim_tree_reduce_doubles(leaves, 2 * f->d, f->ranges, leaves, f->values, sim_merge_sum,
                            f->values);
}

double sim_leaf_std(const leaf_sums *f)
{
    double rows = (double)(f->views * f->n), deviations = 0;
    for (size_t k = 0; k < f->d; k++) {
        double mean = f->values[k] / rows;
        double variance = f->values[f->d + k] / rows - mean * mean;
        deviations += sqrt(variance > 0 ? variance : 0);
    }
    return deviations / (double)f->d;
}
