/*
 * tree.h - the binary tree that fixes the order of sums over the batch.
 *
 * Module: core
 * Leaves 0 to L-1 are reduced by the tree that splits [lo, hi) at lo + (hi - lo)/2; the value of
 * a node with one empty child is that of the other child. The owner of a range of leaves
 * processes them in ascending order on a stack and merges two partial sums when a node of the
 * tree over all L leaves is complete. The entries that remain are the maximal nodes of the
 * range, in ascending order. comm combines the maximal nodes of all ranks by the same tree, so
 * results have the same bits for any number of ranks.
 */
#ifndef SIMILE_TREE_H
#define SIMILE_TREE_H

#include "simile/status.h"

#include <stdint.h>

/* The integers lo, ..., hi - 1. */
typedef struct {
    size_t lo, hi;
} sim_range;

/* Part `part` of n_parts of the leaves: from floor(part L / n_parts) up to
 * floor((part + 1) L / n_parts); may be empty. */
sim_range sim_tree_part(size_t n_leaves, size_t n_parts, size_t part);

/* One rank of `size` ranks, for code that divides leaves among ranks without communication. */
typedef struct {
    size_t size, rank;
} sim_partition;

/* The leaves of the rank: sim_tree_part(n_leaves, size, rank). */
sim_range sim_partition_range(sim_partition p, size_t n_leaves);

/* Upper bound of the number of maximal nodes of a range. */
enum { SIM_TREE_MAX_NODES = 128 };

/* Stores the maximal nodes of `range` in the tree over n_leaves, ascending; returns their
 * number. */
size_t sim_tree_nodes(size_t n_leaves, sim_range range,
                      sim_range nodes[SIM_TREE_MAX_NODES]);

/* Number of merges of the two topmost stack entries after the owner of `range` has pushed
 * leaf `leaf`. */
size_t sim_tree_merges(size_t n_leaves, sim_range range, size_t leaf);

/* Maximum height of the owner's stack while it processes `range`. */
size_t sim_tree_depth(size_t n_leaves, sim_range range);
/* The same if the owner pushes the nodes of `step` leaves at once; the last step may be shorter. */
size_t sim_tree_depth_in_steps(size_t n_leaves, sim_range range, size_t step);

/*
 * A stack of partial sums of float vectors. For each leaf in ascending order, write its values
 * to sim_tree_stack_top() and call sim_tree_stack_push(), which merges entries (left + right,
 * in parallel) where nodes are complete. After the last leaf, node j of sim_tree_nodes is stored
 * at partials + j * n.
 */
typedef struct {
    size_t n;        /* floats per entry */
    size_t n_leaves; /* of the whole tree */
    sim_range range; /* leaves of the owner */
    size_t next;     /* next leaf to push */
    size_t height;   /* entries on the stack */
    float *partials; /* [sim_tree_depth][n], borrowed */
} sim_tree_stack;

void sim_tree_stack_begin(sim_tree_stack *s, size_t n, size_t n_leaves, sim_range range,
                          float *partials);
float *sim_tree_stack_top(const sim_tree_stack *s);
void sim_tree_stack_push(sim_tree_stack *s);
/* Pushes several leaves at once: write the maximal nodes of the leaves from `next` up to `end`, one
 * after the other, to sim_tree_stack_top() and call it. */
void sim_tree_stack_push_nodes(sim_tree_stack *s, size_t end);

/*
 * Reduces nodes to the root of the tree.
 *
 *   ranges    [n_nodes]         leaves of the nodes; ascending, together [0, n_leaves)
 *   partials  [n_nodes][width]  values of the nodes, overwritten
 *   merge     reduces the values of a right child into those of its left sibling
 *   out       [width]
 *
 * Serial; may be called inside sim_for.
 */
typedef void sim_merge_fn(size_t width, double *left, size_t left_leaves,
                          const double *right, size_t right_leaves);
void sim_tree_reduce_doubles(size_t n_leaves, size_t width, const sim_range *ranges,
                             size_t n_nodes, double *partials, sim_merge_fn *merge,
                             double *out);

/*
 * Sums nodes of n floats to the root of the tree; node j is stored at partials + j * stride.
 * Returns the sum, which overwrites the first node.
 */
float *sim_tree_reduce_floats(size_t n_leaves, size_t n, const sim_range *ranges,
                              size_t n_nodes, float *partials, size_t stride);

/* left += right. */
void sim_merge_sum(size_t width, double *left, size_t left_leaves, const double *right,
                   size_t right_leaves);

/*
 * Merges means and variances by Chan's pairwise formula. A vector is [2][width/2]: the means,
 * then V = (centred sum of squares) / (samples per leaf); all leaves have the same number of
 * samples. With la and lb leaves, V = Va + Vb + (mean_b - mean_a)^2 la lb / (la + lb). The
 * biased variance over all L leaves is V / L.
 * Source: Chan, Golub, LeVeque 1979.
 */
void sim_merge_moments(size_t width, double *left, size_t left_leaves,
                       const double *right, size_t right_leaves);

#endif
