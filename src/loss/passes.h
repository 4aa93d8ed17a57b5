/*
 * passes.h - passes of the rows of this rank over the columns of all ranks, which are in memory or
 * streamed.
 *
 * The columns of a row are compared in the same order either way: view by view, then in ascending
 * column tiles. The bits are therefore equal.
 */
#ifndef SIMILE_LOSS_PASSES_H
#define SIMILE_LOSS_PASSES_H

#include "tiles.h"

/* Rows of all ranks. */
typedef struct {
    const float *local; /* [views][local][d] of this rank */
    const float *all;   /* [views][n][d]; NULL: they are streamed */
} row_set;

/* Columns [lo, lo + n) of a view. */
typedef struct {
    size_t view, lo, n;
} column_tile;

/* A row of this rank in a pass. */
typedef struct {
    size_t view, slot;
    void *state; /* for the caller of the pass, at most MAX_ROW_STATE bytes */
    double *sum; /* [d] weighted sum of columns */
} pass_row;
enum { MAX_ROW_STATE = 64 };

/*
 * begin    initializes row->state; may be NULL
 * compare  receives the similarities s [c.n] of a row to a column tile; it may overwrite s, and add
 *          to row->sum
 * end      after all columns
 * accumulate  row->sum += s . columns after each `compare`; zero at the start
 *
 * The functions are called inside sim_for, for each row in this order.
 */
typedef struct {
    sim_range slots; /* rows of this rank that are compared, in each view */
    row_set rows, columns;
    void *ctx;
    void (*begin)(void *ctx, const pass_row *row);
    void (*compare)(void *ctx, const pass_row *row, column_tile c, float *s);
    void (*end)(void *ctx, const pass_row *row);
    bool accumulate;
} row_pass;

/* What the passes over rows and columns of one shape share. */
typedef struct {
    const sim_comm *comm;
    sim_rows_shape shape;
    sim_range local;         /* slots of this rank */
    sim_comm_stream *stream; /* NULL: all columns are in memory */
    /* A rank passes `group` of its slots at a time over all columns, so that their sums need
     * little memory. Every rank streams the columns n_groups times. */
    size_t group, n_groups;
    double *sums; /* [views][group][d] */
    char *states; /* [views][group][MAX_ROW_STATE] */
} pass_engine;

/* Whether the columns of n_sets sets of rows are streamed; a rank alone has them. */
bool sim_passes_stream(sim_partition p, const sim_rows_shape *s, size_t n_sets);
SIM_MUST_USE sim_status sim_passes_create(const sim_comm *c, const sim_rows_shape *shape,
                                          size_t n_sets, const char *tag,
                                          pass_engine *out);
void sim_passes_destroy(pass_engine *e);
size_t sim_passes_bytes(sim_partition p, const sim_rows_shape *shape, size_t n_sets);

/* Leaves whose moments this rank computes; see sim_leaf_sums_create. */
size_t sim_passes_moments(sim_partition p, const sim_rows_shape *shape, size_t n_sets);

/*
 * Sets *out to the rows of all ranks, of which `local` are those of this rank; borrows both.
 *   gathered  [views][n][d] for rows of more than one rank that are not streamed, else unused
 * Collective.
 */
void sim_passes_gather(const pass_engine *e, const float *local, float *gathered,
                       row_set *out);
/* Collective. */
void sim_passes_run(pass_engine *e, const row_pass *pass);
/* The sums over all rows of a set, and of their squares; see sim_leaf_moments. Collective. */
void sim_passes_moments_run(pass_engine *e, const row_set *rows, leaf_sums *f);

/* A row of this rank in a set. */
const float *sim_passes_row(const pass_engine *e, const row_set *set, size_t view,
                            size_t slot);

#endif
