/*
 * loss.h - the contrast engine: softmax over the global batch, tile by tile.
 *
 * Room: loss
 * Never a B x B buffer.  Rows (anchors) against columns (all gathered embeddings) in
 * tiles with fixed global boundaries; per row a maximum and a sum, tile sums in fp32
 * lanes, merges in double; the gradient needs no backward reduction: with z and the
 * rows' log-sum-exps gathered, grad_i = sum_j (P_ij + P_ji) z_j / T, both P from the
 * same tile (DESIGN.md section 4).  Same bits on any number of ranks and threads.
 */
#ifndef SIMILE_LOSS_H
#define SIMILE_LOSS_H

#include "simile/comm.h"
#include "simile/option.h"
#include "simile/status.h"

/*
 * Rows of a view belong to ranks in units: training, blocks of `unit` slots; `simile
 * loss`, leaves of 32.  Views are columns view by view, then slot.
 */
typedef struct {
    size_t n;    /* rows of a view, global (B) */
    size_t unit; /* rows of a unit; the last unit may be short */
    size_t views;
    size_t d;
} sim_rows_shape;
/* This rank's slots [lo, hi). */
sim_range sim_rows_mine(const sim_comm *c, const sim_rows_shape *s);

typedef struct {
    double temperature;
    bool decoupled;      /* leave the positive out of the denominator (DCL) */
    bool sum_directions; /* loss and gradients twice the mean */
} sim_ntxent_options;

/* What a person wants to see beside the loss. */
typedef struct {
    double loss;
    double accuracy;  /* contrastive: fraction of anchors whose positive beats all others */
    double positive;  /* mean similarity of positives */
    double negative;  /* mean similarity of negatives */
    double spread;    /* mean over dimensions of the standard deviation of z */
} sim_loss_report;

/* Buffers for repeated calls. */
typedef struct sim_contrast sim_contrast;
SIM_MUST_USE sim_status sim_contrast_create(const sim_comm *c, const sim_rows_shape *shape,
                                            sim_contrast **out);
void sim_contrast_destroy(sim_contrast **e);
/* Bytes that create takes on the largest rank. */
size_t sim_contrast_bytes(size_t ranks, const sim_rows_shape *shape);

/*
 * NT-Xent over `views` >= 2 views (Chen et al. 2020, arXiv 2002.05709, equation 1;
 * decoupled: Yeh et al. 2022, arXiv 2110.06848).  With two views the positive of (v, i)
 * is (1 - v, i); with more, the mean over an anchor's positives outside the logarithm.
 *   z   [views][mine][d]  unit rows of this rank
 *   dz  [views][mine][d]  gradient of the global mean loss, overwritten; NULL: loss only
 * Collective.  Temperatures 0.005 to 10 never overflow.  n >= 2.
 */
void sim_ntxent(sim_contrast *e, const sim_ntxent_options *options, const float *z,
                float *dz, sim_loss_report *report);

/* Negatives that an anchor sees. */
size_t sim_ntxent_negatives(const sim_rows_shape *shape);

#endif
