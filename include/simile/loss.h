/*
 * loss.h - the contrast engine: rows against columns over the global batch, tile by tile.
 *
 * Module: loss
 * No B x B matrix is allocated. Rows (anchors) are compared with columns (all gathered
 * embeddings) in tiles with fixed global boundaries. Each row keeps a running maximum and a sum;
 * sums over a tile are in fp32 lanes, sums over tiles in double. Gradients need no reduction over
 * ranks: with z and the log-sum-exps of all rows gathered, grad_i = sum_j (P_ij + P_ji) z_j / T,
 * where both P follow from the same tile (src/DESIGN.md). Results have the same bits on any number
 * of ranks and threads.
 */
#ifndef SIMILE_LOSS_H
#define SIMILE_LOSS_H

#include "simile/comm.h"
#include "simile/option.h"
#include "simile/status.h"
#include "simile/tensor.h"

/*
 * How the rows of other ranks reach a rank. ALL: it holds those of all ranks. STREAM: they pass in
 * chunks of a few megabytes, so that its memory falls with the number of ranks; once for the
 * statistics, once or twice for the loss, once for each gradient. AUTO: streamed if the rows of all
 * ranks are more than 256 MiB. A rank alone copies nothing. The bits are equal.
 */
typedef enum { SIM_GATHER_AUTO, SIM_GATHER_ALL, SIM_GATHER_STREAM } sim_gather;
#define SIM_GATHER_CHOICES "auto|all|stream"

/*
 * Rows of a view are divided among ranks in units: blocks of slots in training, 32 rows in
 * `simile loss`. Columns are ordered by view, then by slot.
 */
typedef struct {
    size_t n;    /* rows per view over all ranks (B) */
    size_t unit; /* rows per unit; the last unit may be short */
    size_t views;
    size_t d;          /* floats per row */
    sim_gather gather; /* of sim_contrast and sim_cross */
    size_t
        stream_rows; /* for tests: rows of a chunk and slots that pass at a time, a multiple of
                           512; 0: by d */
} sim_rows_shape;
/* The slots of the rank. */
sim_range sim_rows_local(sim_partition p, const sim_rows_shape *s);

/* The loss and its statistics; 0 if a loss does not define one. */
typedef struct {
    double loss;
    double accuracy;            /* fraction of anchors most similar to their positive */
    double positive;            /* mean similarity of positives */
    double negative;            /* mean similarity of negatives */
    double embedding_std;       /* mean over dimensions of the standard deviation of z */
    double d_log_temperature;   /* of `loss`, factor constant; 0 without gradients */
    double d_log_scale, d_bias; /* sigmoid loss */
    /* Anchors with a loss of 0: no positive (labels), or decoupled and no negative. */
    int64_t anchors_without_positive;
} sim_loss_report;
/*
 * Adds the report of one of several terms to a sum: losses and derivatives unchanged, because they
 * include their factor; means over anchors multiplied by `share`.
 */
void sim_loss_report_add(const sim_loss_report *one, double share, sim_loss_report *sum);

/* ---- rows against themselves: NT-Xent, DCL, DCLW, SupCon ---- */

typedef struct {
    double temperature;
    double factor;  /* on loss and gradients; 0 means 1 */
    bool decoupled; /* exclude the positives from the denominator (DCL) */
    /* Positives inside the logarithm, if an anchor has several: their sum or their mean (L_in of
     * Khosla et al. 2020, equation 3). The mean adds log |P(i)| to the loss and has the same gradient. */
    bool inside, inside_mean;
    /*
     * DCLW: the weight of positive i is w_i = 2 - exp(s_i / sigma) / (mean over the B pairs of
     * exp(s / sigma)), where s is the similarity of the two views (Yeh et al. 2022, section 3.2).
     * weight_flow: the gradient includes that of w; otherwise w is a constant. Requires two views
     * and no labels. weight_sigma 0 means 0.5. weight_group: the mean is over each group of that many
     * consecutive pairs, a divisor of B; 0: over all pairs.
     */
    bool weighted, weight_flow;
    double weight_sigma;
    size_t weight_group;
    /* Slots whose rows are anchors, to compute a part of a batch too large for the machine: the loss
     * is the sum over them divided by all rows, dz is that of their rows only, and d_log_temperature
     * is 0. Two views without labels and weights. {0, 0}: all slots. */
    sim_range anchors;
    /* [n] for all slots, on every rank: all views of all images with the same label are positives
     * (SupCon); a single view is then sufficient. NULL: the views of an image. */
    const int32_t *labels;
} sim_ntxent_options;

/* Buffers for calls with one shape; `c` is borrowed. */
typedef struct sim_contrast sim_contrast;
SIM_MUST_USE sim_status sim_contrast_create(const sim_comm *c,
                                            const sim_rows_shape *shape,
                                            sim_contrast **out);
void sim_contrast_destroy(sim_contrast **e);
/* Bytes that sim_contrast_create allocates on the rank. A rank alone reads the caller's rows, others
 * a copy of all or a stream. */
size_t sim_contrast_bytes(sim_partition p, const sim_rows_shape *shape);
/* Bytes of scratch per thread in sim_ntxent and the sim_cross functions. */
size_t sim_ntxent_scratch(size_t d);

/*
 * NT-Xent over two or more views, n >= 2. The positives of (v, i) are (u, i) with u != v, or all
 * embeddings with the same label; their mean is taken outside the logarithm, or their sum or mean
 * inside it. The loss is the mean over all anchors.
 *
 *   z   [views][local][d]  unit rows of this rank
 *   dz  [views][local][d]  gradient of the global mean, overwritten; NULL: loss only
 *
 * Collective. Temperatures from 0.005 to 10 do not overflow.
 * Source: Chen et al. 2020, arXiv 2002.05709, equation 1; decoupled and weighted: Yeh et al. 2022,
 * arXiv 2110.06848; labels: Khosla et al. 2020, arXiv 2004.11362, L_out and L_in.
 */
void sim_ntxent(sim_contrast *e, const sim_ntxent_options *options, const float *z,
                float *dz, sim_loss_report *report);

/* ---- anchors against columns: MoCo v3, NNCLR, CPC, SigLIP ---- */

/*
 * n >= 2 anchors and n columns; column i is the positive of anchor i; shape.views is 1. A
 * gradient pointer is NULL on all ranks or on none, also for sampled columns. In the report,
 * embedding_std is that of the anchors, and accuracy is the fraction of anchors that are more
 * similar to their positive than to any other column. d_log_temperature and d_log_scale are derived
 * from a gradient (Euler's theorem on homogeneous functions) and are 0 if both gradient pointers
 * are NULL.
 */
typedef struct sim_cross sim_cross;
SIM_MUST_USE sim_status sim_cross_create(const sim_comm *c, const sim_rows_shape *shape,
                                         sim_cross **out);
void sim_cross_destroy(sim_cross **e);
size_t sim_cross_bytes(sim_partition p, const sim_rows_shape *shape); /* on the rank */

typedef struct {
    double temperature;
    double factor;  /* on loss and gradients; 0 means 1 */
    bool decoupled; /* exclude the positive from the denominator */
    bool columns;   /* mean of this loss and the softmax of each column over anchors */
    /* Rows may have any length: the running maximum is subtracted, so nothing overflows as long as
     * a_i . b_j / T is a finite float. Otherwise rows must be of unit length. */
    bool any_length;
} sim_cross_options;

/*
 * Mean over anchors of -s_ii / T + log sum_j exp(s_ij / T), where s_ij = a_i . b_j; with
 * `columns`, the mean of this value and that with a and b exchanged.
 *
 *   a, b    [local][d]  anchors and columns of this rank
 *   da, db  [local][d]  gradients of the global mean, overwritten; NULL: not computed
 *
 * Collective.
 */
void sim_cross_softmax(sim_cross *e, const sim_cross_options *options, const float *a,
                       const float *b, float *da, float *db, sim_loss_report *report);

/*
 * SigLIP: -1/n sum_ij log sigmoid(y_ij (scale a_i . b_j + bias)), where y_ij is 1 if i = j and
 * -1 otherwise; scale > 0. Arguments as sim_cross_softmax; the report includes d_log_scale and
 * d_bias.
 * Collective.
 * Source: Zhai et al. 2023, arXiv 2303.15343.
 */
void sim_cross_sigmoid(sim_cross *e, double scale, double bias, const float *a,
                       const float *b, float *da, float *db, sim_loss_report *report);

/* ---- each anchor against its own sampled columns: CPC with sampled negatives ---- */

typedef struct {
    sim_rows_shape anchors, targets; /* views 1; equal d and equal number of units */
    size_t m;                        /* negatives per anchor */
} sim_sampled_shape;
typedef struct sim_sampled sim_sampled;
SIM_MUST_USE sim_status sim_sampled_create(const sim_comm *c,
                                           const sim_sampled_shape *shape,
                                           sim_sampled **out);
void sim_sampled_destroy(sim_sampled **e);
size_t sim_sampled_bytes(const sim_sampled_shape *shape);

/*
 * Mean over anchors of -s_p / T + log(exp(s_p / T) + sum_m exp(s_m / T)); with `decoupled`,
 * without the first term in the sum. A sampled index may occur repeatedly or equal the positive;
 * each occurrence counts. Of the options only temperature and decoupled are used. m >= 1.
 *
 *   a          [local anchors][d]  rows of any length
 *   b          [local targets][d]  rows of any length
 *   positive   [local anchors]     global index of a target row
 *   negatives  [local anchors][m]  global indices of target rows
 *   da, db     as a and b, gradients of the global mean, overwritten; NULL: not computed
 *
 * In the report, `negative` is the mean over samples; a sample that equals the positive does not
 * reduce accuracy.
 * Collective. Contributions to a target row are added in ascending order of anchors.
 */
void sim_sampled_softmax(sim_sampled *e, const sim_cross_options *options, const float *a,
                         const float *b, const int32_t *positive,
                         const int32_t *negatives, float *da, float *db,
                         sim_loss_report *report);

/* ---- logits against labels: supervised ---- */

/* Buffers for calls with one shape, whose views is 1 and whose d is the number of classes; `c` is
 * borrowed. */
typedef struct sim_cross_entropy sim_cross_entropy;
SIM_MUST_USE sim_status sim_cross_entropy_create(const sim_comm *c,
                                                 const sim_rows_shape *shape,
                                                 sim_cross_entropy **out);
void sim_cross_entropy_destroy(sim_cross_entropy **e);
size_t sim_cross_entropy_bytes(const sim_rows_shape *shape); /* on any rank */

/*
 * Mean over the batch of the cross-entropy, as torch.nn.CrossEntropyLoss(label_smoothing=...).
 * The report has loss and accuracy, the fraction of rows whose label has the largest logit; what is
 * about embeddings is NaN.
 *
 *   smoothing  part of the target that is equal for all classes, 0 to 1
 *   labels     [n] for all slots, on every rank, each in [0, d)
 *   logits     [local][d]
 *   gradient   [local][d] of the global mean, overwritten; NULL: not computed
 *
 * Collective.
 */
void sim_cross_entropy_run(sim_cross_entropy *e, double smoothing, const int32_t *labels,
                           const float *logits, float *gradient, sim_loss_report *report);

/* ---- the queue: negatives of MoCo, support set of NNCLR ---- */

/*
 * A ring buffer of K unit rows in tiles of 256 slots. Rank r holds the tiles
 * sim_tree_part(tiles, size, r), possibly none; no rank holds all K rows. The pointer is the slot
 * of the next write. `rows` is the shape of the batch that is pushed and compared (views 1).
 */
typedef struct sim_queue sim_queue;
enum { SIM_QUEUE_TILE = 256 };
typedef struct {
    size_t k; /* slots */
    sim_rows_shape rows;
} sim_queue_shape;
SIM_MUST_USE sim_status sim_queue_create(const sim_comm *c, const sim_queue_shape *shape,
                                         sim_queue **out);
void sim_queue_destroy(sim_queue **q);
/* Bytes that sim_queue_create allocates on the rank. */
size_t sim_queue_bytes(sim_partition p, const sim_queue_shape *shape);
size_t sim_queue_scratch(size_t d); /* largest scratch per thread, bytes */
/* Fills the slots with normalized normal deviates, a pure function of seed and slot. */
void sim_queue_draw(sim_queue *q, uint32_t seed);
sim_range sim_queue_local(const sim_queue *q); /* slots of this rank */
float *sim_queue_rows(sim_queue *q);           /* [local][d] */
size_t sim_queue_slots(const sim_queue *q);    /* K */
int64_t sim_queue_pointer(const sim_queue *q);
void sim_queue_set_pointer(sim_queue *q, int64_t pointer);
void sim_queue_set_full(sim_queue *q); /* every slot counts as pushed */
/* Number of slots that contain pushed rows, 0 to K. With `only_filled` the functions below ignore
 * all other slots. */
int64_t sim_queue_filled(const sim_queue *q);
void sim_queue_only_filled(sim_queue *q, bool only_filled);
/* Visits `rows` (sharded by rows), `pointer` and `filled` under `group`. */
SIM_MUST_USE sim_status sim_queue_visit(sim_queue *q, const char *group,
                                        const sim_visitor *v);
/* Hash of all rows, tile by tile, the pointer and the number of filled slots. Collective. */
SIM_MUST_USE sim_status sim_queue_hash(const sim_queue *q, sim_hash *out);

/*
 * Writes the n rows of the batch in slot order, starting at the pointer, modulo K; if n > K only
 * the last K rows.
 *
 *   local  [local rows][d]  unit rows
 *
 * Collective.
 */
void sim_queue_push(sim_queue *q, const float *local);

/*
 * MoCo: mean over anchors of -s+ / T + log(exp(s+ / T) + sum over slots exp(s / T)); with
 * `decoupled`, without the first term in the sum. For an empty queue loss and gradient are 0.
 * `columns` and `any_length` are ignored.
 *
 *   a, keys  [local][d]  anchors and their positives, unit rows
 *   da       [local][d]  gradient of the global mean, overwritten
 *
 * Sums and gradients are computed per tile and reduced by the tree in slot order.
 * Collective.
 * Source: He et al. 2020, arXiv 1911.05722, equation 1.
 */
void sim_queue_contrast(sim_queue *q, const sim_cross_options *options, const float *a,
                        const float *keys, float *da, sim_loss_report *report);

/*
 * Finds the most similar slot of each row; of equally similar ones the lower slot. At least one
 * slot must be active.
 *
 *   z              [local][d]  unit rows
 *   nearest        [local][d]  copies of the rows found
 *   slots          [local]     their slots
 *   embedding_std  of z, as in a report
 *
 * Collective.
 */
void sim_queue_nearest(sim_queue *q, const float *z, float *nearest, int64_t *slots,
                       double *embedding_std);

#endif
