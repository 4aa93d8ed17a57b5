/*
 * leaves.h - how a batch divides into leaves and groups, and the buffers of sums over them.
 */
#ifndef SIMILE_ENCODER_LEAVES_H
#define SIMILE_ENCODER_LEAVES_H

#include "net.h"

/* Leaves and groups of batch norm.  A leaf is min(block, group) slots of one view (joint: of
 * all views). */
typedef struct {
    size_t blocks; /* on this rank */
    size_t
        leaves_per_block; /* per set; more than one if groups are smaller than a block */
    size_t sets;          /* independent statistics: one per view, or one (joint) */
    size_t pieces;        /* per leaf: the number of views if joint, else 1 */
    size_t leaves;        /* on this rank: [block][set][leaf of the block] */
    size_t groups;        /* in the global batch */
    size_t leaves_per_group; /* per set */
    bool one_group;          /* the global batch */
} leaf_shape;

leaf_shape sim_leaves_of(const sim_batchnorm_options *options,
                         const sim_batch_shape *shape);
/* Groups of these blocks; a group must not be divided. */
sim_range sim_leaves_groups(const leaf_shape *s, sim_range blocks);

/* Number of micro-batches of a rank; 1 if all blocks pass together. */
size_t sim_micro_batches(const sim_batch_shape *rank);
/* The shape of micro-batch k; the first one is the largest. */
sim_batch_shape sim_micro_batch(const sim_batch_shape *rank, size_t k);
/* Errors: SIM_E_CONFIG unless the groups divide the batch and every layer can process
 * them. */
SIM_MUST_USE sim_status sim_leaves_check(const sim_net *net,
                                         const sim_batchnorm_options *options,
                                         const sim_batch_shape *shape);

/* Buffers that the layers of a tape share, large enough for every micro-batch. */
typedef struct {
    leaf_shape shape;    /* of the present micro-batch */
    size_t *start;       /* [leaf][piece] first rows, for the current node */
    double *sums;        /* [leaf][2][widest] */
    double *to_reduce;   /* the same in the reducer's layout */
    double *groups;      /* [group][2][set][widest] */
    float *coefficients; /* a, b, d of the backward pass, [3][leaf][widest] */
    float *partials;     /* tree stack of narrow gradients */
    uint32_t *leaf;      /* [image] */
} batch_sums;

SIM_MUST_USE sim_status sim_batch_sums_create(const sim_net *net,
                                              const sim_batchnorm_options *options,
                                              const sim_batch_shape *rank,
                                              batch_sums *out);
void sim_batch_sums_destroy(const sim_net *net, const sim_batch_shape *rank,
                            batch_sums *s);
size_t sim_batch_sums_bytes(const sim_net *net, const sim_batchnorm_options *options,
                            const sim_batch_shape *rank);
/* Reduces gradients of_block [local block][n] to the maximal nodes of the blocks' tree. */
void sim_batch_sums_reduce(const batch_sums *s, const sim_batch_shape *shape, size_t n,
                           const double *of_block, float *grads, size_t node_stride);

#endif
