/*
 * tiles.h - tiles of columns, a row's running sum of exponentials, and sums over rows by
 * leaves.
 */
#ifndef SIMILE_LOSS_TILES_H
#define SIMILE_LOSS_TILES_H

#include "simile/loss.h"
#include "simile/memory.h"

/* Columns of a tile, with fixed global boundaries; rows of a product; maximum of the rows of a row
 * tile, which is one iteration of sim_for; slots of a leaf of a sum over rows. */
enum { COLUMN_TILE = 512, PRODUCT_ROWS = 128, ROW_TILE = 512, LEAF_SLOTS = 32 };

size_t sim_tile_units(const sim_rows_shape *s); /* units of the global batch */
/* Row tiles of the rows [..][d] of this rank: their number, and the rows of the i-th. */
size_t sim_row_tiles(sim_range local, size_t d);
sim_range sim_row_tile(sim_range local, size_t d, size_t i);
/* The tile of n columns that begins at lo, a multiple of COLUMN_TILE. */
sim_range sim_tile_columns(size_t n, size_t lo);

/* Gathers the rows of one view; `local`: those of this rank.  Collective. */
void sim_tile_gather(const sim_comm *c, const sim_rows_shape *s, size_t row_bytes,
                     const void *local, void *all);

/* Scratch of a row tile. */
typedef struct {
    float *panel; /* columns packed for similarities */
    float *s;     /* [PRODUCT_ROWS][COLUMN_TILE] similarities, then weights */
    float *back;  /* columns packed for the gradient */
    float *tile;  /* [PRODUCT_ROWS][d] weighted sums over one column tile */
    double *sum;  /* [rows of a tile][d] over all column tiles */
} tile_workspace;
tile_workspace sim_tile_scratch(size_t d);
size_t sim_tile_scratch_bytes(size_t d);

/* sum of a row += weight * column [d]: for a column with a dominant weight, like a positive,
 * or one drawn for this row. */
void sim_tile_add_scaled(double *sum, size_t d, double weight, const float *column);

/* sum [m][d] += s [m][n] . columns, which are packed in `back`; s is that of the workspace. */
void sim_tile_accumulate(const tile_workspace *work, size_t d, size_t m, size_t n,
                         double *sum);
/* out [d] = scale * sum. */
void sim_tile_finish(size_t d, const double *sum, double scale, float *out);

/*
 * True if the shift is 1 / T for every row: exp(s / T - 1 / T) of unit rows is in the range of fp32
 * while 2 / T < 80. At T <= 0.025 the shift is the running maximum of the row. Depends on T alone.
 */
bool sim_tile_shift_is_fixed(double temperature);

/* Sum of exp(s / T - shift) over the tiles so far, merged in double. */
typedef struct {
    double shift, sum;
} running_sum;
running_sum sim_running_begin(bool fixed, float inverse);
/* Adds n similarities of which `max` is the largest; inverse is 1 / T. */
void sim_running_add(running_sum *r, bool fixed, float inverse, size_t n, const float *s,
                     float max);

/*
 * Softmax probabilities of similarities, P_ij = exp(s_ij / T - lse_i). A log-sum-exp is stored as a
 * weight: exp(1 / T - lse) if the shift is fixed, so that P_ij + P_ji needs one exponential and a
 * rounded lse does not scale a whole row; otherwise lse itself. The lse of a row without
 * probabilities is INFINITY.
 */
float sim_tile_lse_weight(bool fixed, float inverse, double lse);
/* s_j = P_ij + P_ji, from the weights of row i and of n columns (NULL: P_ij alone). */
void sim_tile_probabilities(bool fixed, float inverse, size_t n, float row,
                            const float *column, float *s);

/* Workspace for sums over rows, leaf by leaf and then by the tree. */
typedef struct {
    size_t views, n, d;
    double *values;    /* [leaves][2], or [moments][2][d] */
    sim_range *ranges; /* leaf by leaf */
} leaf_sums;
size_t sim_leaf_count(size_t n);
/* moments: number of leaves whose moments are stored: all, unless the rows are streamed. */
SIM_MUST_USE sim_status sim_leaf_sums_create(const sim_rows_shape *s, size_t moments,
                                             const char *tag, leaf_sums *out);
void sim_leaf_sums_destroy(leaf_sums *f);
size_t sim_leaf_sums_bytes(const sim_rows_shape *s, size_t moments);
/* Sum and mean over [views][n] rows of a double at a stride of `stride` bytes. */
double sim_leaf_sum(leaf_sums *f, const double *first, size_t stride);
double sim_leaf_mean(leaf_sums *f, const double *first, size_t stride);
/* values[0..d) are the sums over the rows z [views][n][d], values[d..2d) of the squares. */
void sim_leaf_moments(leaf_sums *f, const float *z);
/* sum [2][d] += n rows, and their squares. */
void sim_leaf_add_moments(size_t d, size_t n, const float *rows, double *sum);
/* After sim_leaf_moments: mean over dimensions of the standard deviation. */
double sim_leaf_std(const leaf_sums *f);

#endif
