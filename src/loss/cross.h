/*
 * cross.h - state of the losses of anchors against columns.
 *
 * The same code computes da and db: the rows of one side are compared with the rows of the other.
 */
#ifndef SIMILE_LOSS_CROSS_H
#define SIMILE_LOSS_CROSS_H

#include "passes.h"

/* The anchors a and the columns b. */
enum { SIDE_ANCHORS, SIDE_COLUMNS, N_SIDES };

/* Results of a row of one side, gathered on every rank. */
typedef struct {
    double lse;      /* log-sum-exp of the row's logits; softmax only */
    double loss;     /* of the row */
    double positive; /* similarity of its positive */
    double correct;  /* 1 if the positive has the largest similarity */
    double share;    /* softmax: of the negatives in the row's sum; decoupled 1 */
    double bias;     /* sigmoid: sum of the gradients with respect to the row's logits */
} cross_record;

struct sim_cross {
    const sim_comm *comm;
    sim_rows_shape shape;
    sim_range local; /* rows of this rank */
    float
        *gathered[N_SIDES]; /* [n][d] per side, of all ranks; none if alone or streamed */
    row_set rows[N_SIDES];  /* during a call */
    cross_record *records[N_SIDES]; /* [n] per side */
    float *weights[N_SIDES]; /* [n] sim_tile_lse_weight of the rows; softmax only */
    double *row_dot_grad;    /* [n] row . its gradient, of one side */
    double *b_sum;           /* [d] sum of b */
    leaf_sums sums;
    pass_engine passes;
};

/* Running state of a row over the column tiles. The positive is kept separate from the
 * negatives, so that no precision is lost when it dominates the sum. */
typedef struct {
    float positive, negative; /* similarities: the positive, the largest other */
} cross_scores;

/* A pass of this rank's rows of a side over the rows of the other side. */
row_pass sim_cross_pass(const sim_cross *e, size_t side);
/* A row of this rank. */
const float *sim_cross_row(const sim_cross *e, size_t side, size_t row);
void sim_cross_gather(sim_cross *e, const float *a, const float *b);
void sim_cross_gather_records(sim_cross *e, size_t side);
double sim_cross_mean(sim_cross *e, size_t side, size_t field_offset);
/* Stores the inner product of a row and its gradient [d], which is complete. */
void sim_cross_store_row_dot(sim_cross *e, size_t side, size_t row,
                             const float *gradient);
/* Sum of row . gradient over the n rows, as stored by sim_cross_store_row_dot. */
double sim_cross_sum_row_dots(sim_cross *e);

/*
 * Stores the similarity of the positive in `scores` if the tile contains it, replaces it by -INFINITY,
 * and returns the largest remaining similarity.
 */
float sim_cross_split_positive(cross_scores *scores, size_t row, column_tile c, float *s);
/* accuracy, positive, negative and embedding_std, from the records of the anchors and the rows of both sides. */
void sim_cross_describe(sim_cross *e, sim_loss_report *report);

#endif
