/*
 * contrast.h - state of the losses of rows against themselves: rows of all ranks, records.
 */
#ifndef SIMILE_LOSS_CONTRAST_H
#define SIMILE_LOSS_CONTRAST_H

#include "passes.h"

/* Results of a row, gathered on every rank. A row without a loss (no positive, or an empty
 * denominator) has lse = INFINITY, so that all its probabilities are 0. */
typedef struct {
    double lse;  /* log-sum-exp of the row's similarities / T */
    double loss; /* of the anchor */
    double n_positives;
    double positive_sum; /* of the similarities of its positives */
    double correct;      /* 1 if every positive is more similar than every negative */
    /* The negatives' part of the sum of exponentials: 1 - P if there is a single positive. */
    double negative_share;
    /* a_ij of each positive: 1 / n_positives; DCLW: w less the gradient through w. */
    double positive_weight;
    /* Positives inside the logarithm, if there are several: the log-sum-exp of their logits, from
     * which the weight of each is computed. */
    double positives_lse;
} row_record;

struct sim_contrast {
    const sim_comm *comm;
    sim_rows_shape shape;
    sim_range local;     /* slots of this rank */
    float *gathered;     /* [views][n][d] rows of all ranks; none if alone or streamed */
    row_set z;           /* during a call */
    row_record *records; /* [views][n] */
    float *weights;      /* [views][n] sim_tile_lse_weight of the rows */
    double *positives;   /* [views][n][views - 1] similarities of this rank's rows */
    double *z_dot_dz;    /* [views][n] z . dz without the part through DCLW's weights */
    leaf_sums sums;
    pass_engine passes;
};

/* Gathers the records of this rank's rows. */
void sim_contrast_gather_records(sim_contrast *e);

/* Gathers z . dz of this rank's rows. */
void sim_contrast_gather_z_dot_dz(sim_contrast *e);

/* Sum over all rows of one field of the records, by leaves of 32 slots and the tree. */
double sim_contrast_sum(sim_contrast *e, size_t field_offset);
double sim_contrast_mean(sim_contrast *e, size_t field_offset);
double sim_contrast_sum_z_dot_dz(sim_contrast *e);
/* Embedding standard deviation of z, and the sum of the similarities of all ordered pairs of
 * different rows. */
void sim_contrast_statistics(sim_contrast *e, double *embedding_std, double *pairs);

#endif
