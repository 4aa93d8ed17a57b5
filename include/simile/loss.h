/*
 * loss.h - the contrast engine: rows against columns over the global batch, tile by tile.
 *
 * Module: loss
 * No B x B buffer is ever allocated.  Rows (anchors) against columns (all gathered embeddings) in
 * tiles with fixed global boundaries; per row a maximum and a sum, tile sums in fp32
 * lanes, merges in double; the gradient needs no backward reduction: with z and the
 * rows' log-sum-exps gathered, grad_i = sum_j (P_ij + P_ji) z_j / T, both P from the
 * same tile (src/DESIGN.md).  The results have the same bits on any number of ranks and threads.
 */
#ifndef SIMILE_LOSS_H
#define SIMILE_LOSS_H

#include "simile/comm.h"
#include "simile/option.h"
#include "simile/status.h"
#include "simile/tensor.h"

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
/* The rank's slots [lo, hi). */
sim_range sim_rows_local(sim_partition p, const sim_rows_shape *s);

/* The loss and its statistics; 0 where a loss does not define one. */
typedef struct {
    double loss;
    double accuracy;            /* share of anchors whose positive beats all others */
    double positive;            /* mean similarity of positives */
    double negative;            /* mean similarity of negatives */
    double embedding_std;       /* mean over dimensions of the standard deviation of z */
    double d_log_temperature;   /* of `loss`, factor held; 0 without gradients */
    double d_log_scale, d_bias; /* sigmoid loss */
    /* Anchors with a loss of 0: no positive (labels), or decoupled and no negative. */
    int64_t anchors_without_positive;
} sim_loss_report;
/*
 * Adds one of several terms to a sum: losses and derivatives as they are (they include their
 * factor), means over anchors multiplied by `share`.
 */
void sim_loss_report_add(const sim_loss_report *one, double share, sim_loss_report *sum);

/* ---- rows against themselves: NT-Xent, DCL, DCLW, SupCon ---- */

typedef struct {
    double temperature;
    double factor;  /* on loss and gradients; 0 means 1 */
    bool decoupled; /* leave the positives out of the denominator (DCL) */
    bool inside;    /* three views and more: positives are summed inside the logarithm */
    /*
     * DCLW: positive i weighs w_i = 2 - exp(s_i / sigma) / mean over the B pairs of
     * exp(s / sigma), s the similarity of the two views (Yeh et al. 2022, section 3.2).
     * flow: the gradient takes w as a function of z; otherwise as a constant.  Two views,
     * no labels; sigma 0 means 0.5.
     */
    bool weighted, weight_flow;
    double weight_sigma;
    /* [n] of all slots, on every rank: all views of all images of a label are positives
     * (SupCon, L_out), also of one view; NULL: the views of an image. */
    const int32_t *labels;
} sim_ntxent_options;

/* Buffers for repeated calls. */
typedef struct sim_contrast sim_contrast;
SIM_MUST_USE sim_status sim_contrast_create(const sim_comm *c,
                                            const sim_rows_shape *shape,
                                            sim_contrast **out);
void sim_contrast_destroy(sim_contrast **e);
/* Bytes that create allocates, on any rank. */
size_t sim_contrast_bytes(const sim_rows_shape *shape);
/* Bytes of scratch per thread, here and for cross. */
size_t sim_ntxent_scratch(size_t d);

/*
 * NT-Xent over `views` >= 2 views (Chen et al. 2020, arXiv 2002.05709, equation 1;
 * decoupled and weighted: Yeh et al. 2022, arXiv 2110.06848; labels: Khosla et al. 2020,
 * arXiv 2004.11362, L_out).  The positives of (v, i) are (u, i), u != v, or by label; the
 * mean over an anchor's positives is outside the logarithm, or they are summed inside
 * it.  The value is the mean over all anchors.
 *   z   [views][local][d]  unit rows of this rank
 *   dz  [views][local][d]  gradient of the global mean loss, overwritten; NULL: loss only
 * Collective.  Temperatures 0.005 to 10 never overflow.  n >= 2.
 */
void sim_ntxent(sim_contrast *e, const sim_ntxent_options *options, const float *z,
                float *dz, sim_loss_report *report);

/* ---- anchors against columns: MoCo v3, NNCLR, CPC, SigLIP ---- */

/*
 * n >= 2 anchors and n columns, column i the positive of anchor i; shape.views is 1.  A
 * gradient pointer is NULL on all ranks or on none, here and for sampled columns.  Of the report,
 * embedding_std is the anchors'; accuracy is the share of anchors whose positive beats every
 * other column;
 * d_log_temperature and d_log_scale, which come from a gradient (Euler's relation), are 0
 * when neither is wanted.
 */
typedef struct sim_cross sim_cross;
SIM_MUST_USE sim_status sim_cross_create(const sim_comm *c, const sim_rows_shape *shape,
                                         sim_cross **out);
void sim_cross_destroy(sim_cross **e);
size_t sim_cross_bytes(const sim_rows_shape *shape); /* on any rank */

typedef struct {
    double temperature;
    double factor;  /* on loss and gradients; 0 means 1 */
    bool decoupled; /* leave the positive out of the denominator */
    bool columns;   /* also the columns' softmax over anchors: the mean of both terms */
    /* Rows need not be of unit length: the running maximum shifts, and nothing overflows
     * while a_i . b_j / T is a finite float. */
    bool any_length;
} sim_cross_options;

/*
 * Mean over anchors of -s_ii / T + log sum_j exp(s_ij / T), s_ij = a_i . b_j; with
 * `columns` the mean of it and of the same with a and b exchanged.
 *   a, b    [local][d] rows of this rank, anchors and columns
 *   da, db  [local][d] gradients of the global mean, overwritten; NULL: not wanted
 * Collective.
 */
void sim_cross_softmax(sim_cross *e, const sim_cross_options *options, const float *a,
                       const float *b, float *da, float *db, sim_loss_report *report);

/*
 * SigLIP (Zhai et al. 2023, arXiv 2303.15343): -1/n sum_ij log sigmoid(y_ij (scale a_i . b_j
 * + bias)), y_ij = 1 where i = j and -1 elsewhere; scale > 0.  Report: d_log_scale, d_bias.
 * Collective.
 */
void sim_cross_sigmoid(sim_cross *e, double scale, double bias, const float *a,
                       const float *b, float *da, float *db, sim_loss_report *report);

/* ---- anchors against columns drawn for each: CPC with sampled negatives ---- */

typedef struct {
    sim_rows_shape anchors, targets; /* views 1; of one d, units of the same owners */
    size_t m;                        /* negatives of an anchor */
} sim_sampled_shape;
typedef struct sim_sampled sim_sampled;
SIM_MUST_USE sim_status sim_sampled_create(const sim_comm *c,
                                           const sim_sampled_shape *shape,
                                           sim_sampled **out);
void sim_sampled_destroy(sim_sampled **e);
size_t sim_sampled_bytes(const sim_sampled_shape *shape);

/*
 * Mean over anchors of -s_p / T + log(exp(s_p / T) + sum_m exp(s_m / T)); decoupled: without
 * the first term in the sum.  A drawn index may repeat, or be the positive's, and counts each
 * time.  Only temperature and decoupled are read from the options.
 *   a [local anchors][d], b [local targets][d]; da, db likewise, overwritten, or NULL
 *   positive  [local anchors] global target rows;  negatives [local anchors][m] likewise
 * Rows may have any length; m >= 1.  Report: negative is the mean over draws; a draw of the
 * positive itself does not count against accuracy.
 * Collective.  Contributions to a target row are added in ascending order of the anchors.
 */
void sim_sampled_softmax(sim_sampled *e, const sim_cross_options *options, const float *a,
                         const float *b, const int32_t *positive,
                         const int32_t *negatives, float *da, float *db,
                         sim_loss_report *report);

/* ---- the queue: MoCo's negatives, NNCLR's support set ---- */

/*
 * A first-in-first-out store of K unit rows in tiles of 256 slots.  A rank owns the tiles
 * sim_tree_part(tiles, size, rank), possibly none; no rank holds all K rows.  The
 * pointer is the slot of the next write.  `rows` says which batch is pushed and compared
 * (views 1), d of both is equal.
 */
typedef struct sim_queue sim_queue;
enum { SIM_QUEUE_TILE = 256 };
typedef struct {
    size_t k;
    sim_rows_shape rows;
} sim_queue_shape;
SIM_MUST_USE sim_status sim_queue_create(const sim_comm *c, const sim_queue_shape *shape,
                                         sim_queue **out);
void sim_queue_destroy(sim_queue **q);
/* Bytes that sim_queue_create allocates on the rank. */
size_t sim_queue_bytes(sim_partition p, const sim_queue_shape *shape);
size_t sim_queue_scratch(size_t d); /* largest scratch per thread, bytes */
/* Fills the slots with normal draws of unit length (a pure function of seed and slot). */
void sim_queue_draw(sim_queue *q, uint32_t seed);
sim_range sim_queue_local(const sim_queue *q); /* slots of this rank */
float *sim_queue_rows(sim_queue *q);           /* [local][d] */
size_t sim_queue_slots(const sim_queue *q);    /* K */
int64_t sim_queue_pointer(const sim_queue *q);
void sim_queue_set_pointer(sim_queue *q, int64_t pointer);
void sim_queue_set_full(sim_queue *q); /* every slot counts as pushed */
/* Slots that hold pushed rows, 0 to K; with `only_filled` the others are masked below. */
int64_t sim_queue_filled(const sim_queue *q);
void sim_queue_only_filled(sim_queue *q, bool only_filled);
/* Visits `rows` (sharded by rows), `pointer` and `filled` under `group`. */
SIM_MUST_USE sim_status sim_queue_visit(sim_queue *q, const char *group,
                                        const sim_visitor *v);
/* One hash of all rows, tile by tile, pointer and filled.  Collective. */
SIM_MUST_USE sim_status sim_queue_hash(const sim_queue *q, sim_hash *out);

/*
 * Writes the n rows of the batch, in slot order, from the pointer on, modulo K; when
 * n > K only the last K are kept.   mine [local rows][d] unit rows.   Collective.
 */
void sim_queue_push(sim_queue *q, const float *local);

/*
 * MoCo (He et al. 2020, arXiv 1911.05722, equation 1): mean over anchors of
 * -s+ / T + log(exp(s+ / T) + sum over slots exp(s / T)); decoupled: without the first term
 * in the sum.  For an empty queue the loss and the gradient are 0.  `columns` and `any_length` are
 * ignored.
 *   a, keys [local][d] anchors and their positives, unit rows;  da [local][d] overwritten
 * Sums and gradients are computed per tile and reduced by the tree in slot order.  Collective.
 */
void sim_queue_contrast(sim_queue *q, const sim_cross_options *options, const float *a,
                        const float *keys, float *da, sim_loss_report *report);

/*
 * The most similar slot of each row; of equals the lower slot.
 *   z [local][d] unit rows;  nearest [local][d] copies;  slots [local]
 *   embedding_std  of z, as in a report
 * Collective.  At least one slot is active.
 */
void sim_queue_nearest(sim_queue *q, const float *z, float *nearest, int64_t *slots,
                       double *embedding_std);

#endif
