/*
 * tree.h - the one order in which sums over the batch are taken.
 *
 * Module: core
 * Leaves 0 .. L-1 are folded in the tree that splits [lo, hi) at lo + (hi - lo)/2; a
 * node with an empty child is the other child.  Whoever owns a range of leaves walks
 * them in ascending order with a stack, merging where a node of the tree over all L
 * closes; what is left on the stack are the range's maximal nodes, in order.  comm
 * joins the ranks' maximal nodes by the same tree: the number of ranks changes no bit.
 */
#ifndef SIMILE_TREE_H
#define SIMILE_TREE_H

#include "simile/status.h"

#include <stdint.h>

typedef struct {
    size_t lo, hi;
} sim_range;

/* Leaves of part `part` of `n_parts`: floor(part L / n_parts) on; may be empty. */
sim_range sim_tree_part(size_t n_leaves, size_t n_parts, size_t part);

/* One rank of `size` ranks, for code that divides leaves among ranks without communication. */
typedef struct {
    size_t size, rank;
} sim_partition;

/* The leaves of the rank: sim_tree_part(n_leaves, size, rank). */
sim_range sim_partition_range(sim_partition p, size_t n_leaves);

/* Most maximal nodes that a range can have. */
enum { SIM_TREE_MAX_NODES = 128 };

/* The maximal nodes of [lo, hi) in the tree over n_leaves, ascending; their number. */
size_t sim_tree_nodes(size_t n_leaves, sim_range range,
                      sim_range nodes[SIM_TREE_MAX_NODES]);

/* Number of merges of the two topmost partials after leaf `leaf` was pushed by the owner
 * of `range`. */
size_t sim_tree_merges(size_t n_leaves, sim_range range, size_t leaf);

/* Deepest the owner's stack gets while walking `range`. */
size_t sim_tree_depth(size_t n_leaves, sim_range range);

/*
 * A stack of float partials.  Write leaf i's values to sim_tree_stack_top(), then call
 * sim_tree_stack_push(): it merges (left + right, in parallel) as the tree says.
 * After the last leaf, node j of sim_tree_nodes stands at partials + j * n.
 */
typedef struct {
    size_t n;        /* floats in a partial */
    size_t n_leaves; /* of the whole tree */
    sim_range range; /* the owner's leaves */
    size_t next;     /* leaf that comes next */
    size_t height;   /* partials on the stack */
    float *partials; /* [sim_tree_depth][n], borrowed */
} sim_tree_stack;

void sim_tree_stack_begin(sim_tree_stack *f, size_t n, size_t n_leaves, sim_range range,
                          float *partials);
float *sim_tree_stack_top(const sim_tree_stack *f);
void sim_tree_stack_push(sim_tree_stack *f);

/*
 * Folds `n_nodes` partials of `width` doubles, given with the leaf ranges they stand
 * for (ascending, together [0, n_leaves)), by the tree; the result is in out[width].
 * `merge` folds right into left.  Overwrites the partials.
 */
typedef void sim_merge_fn(size_t width, double *left, size_t left_leaves,
                          const double *right, size_t right_leaves);
void sim_tree_reduce_doubles(size_t n_leaves, size_t width, const sim_range *ranges,
                             size_t n_nodes, double *partials, sim_merge_fn *merge,
                             double *out);

/*
 * The same for floats, summed: node j of n floats stands at partials + j * stride.
 * Returns the sum, which stands in the first node's place.
 */
float *sim_tree_reduce_floats(size_t n_leaves, size_t n, const sim_range *ranges,
                              size_t n_nodes, float *partials, size_t stride);

/* left += right. */
void sim_merge_sum(size_t width, double *left, size_t left_leaves, const double *right,
                   size_t right_leaves);

/*
 * Chan's pairwise formula on [2][width/2]: the means of a node, then V = (centred sum of
 * squares) / (samples in a leaf); all leaves stand for the same number of samples.  With
 * la and lb leaves: V = Va + Vb + (mean_b - mean_a)^2 la lb / (la + lb).  The biased
 * variance of a whole tree over L leaves is V / L.
 * Chan, Golub, LeVeque 1979.
 */
void sim_merge_moments(size_t width, double *left, size_t left_leaves,
                       const double *right, size_t right_leaves);

#endif
