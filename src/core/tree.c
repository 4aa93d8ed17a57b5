/*
 * tree.c - the midpoint tree over leaves: its nodes, its stack, its fold.
 *
 * A node is [lo, hi); its children meet at lo + (hi - lo)/2.  No function here knows of
 * ranks: they see a range of leaves, or a list of nodes.
 */
#include "simile/tree.h"

#include "simile/thread.h"

#include <string.h>

static size_t middle(sim_range r)
{
    return r.lo + (r.hi - r.lo) / 2;
}

sim_range sim_tree_part(size_t n_leaves, size_t n_parts, size_t part)
{
    __extension__ typedef unsigned __int128 wide;
    return (sim_range){.lo = (size_t)((wide)part * n_leaves / n_parts),
                       .hi = (size_t)((wide)(part + 1) * n_leaves / n_parts)};
}

sim_range sim_partition_range(sim_partition p, size_t n_leaves)
{
    SIM_ASSERT(p.rank < p.size);
    return sim_tree_part(n_leaves, p.size, p.rank);
}

/* Maximal nodes of `range` below `node`, appended. */
static size_t collect(sim_range node, sim_range range, sim_range *nodes, size_t n)
{
    if (node.hi <= range.lo || range.hi <= node.lo || node.lo == node.hi)
        return n;
    if (range.lo <= node.lo && node.hi <= range.hi) {
        SIM_ASSERT(n < SIM_TREE_MAX_NODES);
        nodes[n] = node;
        return n + 1;
    }
    n = collect((sim_range){node.lo, middle(node)}, range, nodes, n);
    return collect((sim_range){middle(node), node.hi}, range, nodes, n);
}

size_t sim_tree_nodes(size_t n_leaves, sim_range range,
                      sim_range nodes[SIM_TREE_MAX_NODES])
{
    if (range.lo == range.hi)
        return 0;
    return collect((sim_range){0, n_leaves}, range, nodes, 0);
}

size_t sim_tree_merges(size_t n_leaves, sim_range range, size_t leaf)
{
    sim_range path[SIM_TREE_MAX_NODES];
    size_t depth = 0, merges = 0;

    /* The nodes above the leaf, the root first. */
    for (sim_range r = {0, n_leaves}; r.hi - r.lo > 1;) {
        SIM_ASSERT(depth < SIM_TREE_MAX_NODES);
        path[depth++] = r;
        if (leaf < middle(r))
            r.hi = middle(r);
        else
            r.lo = middle(r);
    }
    /* Each that ends with this leaf and lies in the range closes, from below. */
    while (depth > 0 && path[depth - 1].hi == leaf + 1 &&
           path[depth - 1].lo >= range.lo) {
        depth--;
        merges++;
    }
    return merges;
}

size_t sim_tree_depth(size_t n_leaves, sim_range range)
{
    size_t height = 0, most = 0;
    for (size_t i = range.lo; i < range.hi; i++) {
        height++;
        if (height > most)
            most = height;
        height -= sim_tree_merges(n_leaves, range, i);
    }
    return most;
}

void sim_tree_stack_begin(sim_tree_stack *f, size_t n, size_t n_leaves, sim_range range,
                          float *partials)
{
    *f = (sim_tree_stack){.n = n,
                          .n_leaves = n_leaves,
                          .range = range,
                          .next = range.lo,
                          .partials = partials};
}

float *sim_tree_stack_top(const sim_tree_stack *f)
{
    return f->partials + f->height * f->n;
}

enum { CHUNK = 1 << 14 }; /* floats of an item: enough work to hand to a thread */

typedef struct {
    float *left;
    const float *right;
    size_t n;
} addition;

static void add_chunk(size_t i, void *ctx)
{
    const addition *a = ctx;
    size_t lo = i * CHUNK, hi = lo + CHUNK < a->n ? lo + CHUNK : a->n;
    float *restrict left = a->left;
    const float *restrict right = a->right;
    for (size_t j = lo; j < hi; j++)
        left[j] += right[j];
}

static void add_floats(float *left, const float *right, size_t n)
{
    addition a = {left, right, n};
    sim_for((n + CHUNK - 1) / CHUNK, add_chunk, &a);
}

void sim_tree_stack_push(sim_tree_stack *f)
{
    SIM_ASSERT(f->next < f->range.hi);
    f->height++;
    for (size_t m = sim_tree_merges(f->n_leaves, f->range, f->next); m > 0; m--) {
        f->height--;
        add_floats(f->partials + (f->height - 1) * f->n, f->partials + f->height * f->n,
                   f->n);
    }
    f->next++;
}

/* The list of nodes that a recursive fold walks, left to right. */
typedef struct {
    const sim_range *ranges;
    size_t n_nodes, next;
} cursor;

/* Is `node` the next of the list?  If not it must have children. */
static bool is_next(const cursor *at, sim_range node)
{
    SIM_ASSERT(at->next < at->n_nodes);
    sim_range r = at->ranges[at->next];
    bool found = r.lo == node.lo && r.hi == node.hi;
    SIM_ASSERT(found || node.hi - node.lo > 1);
    return found;
}

static double *fold_doubles(sim_range node, cursor *at, size_t width, double *partials,
                            sim_merge_fn *merge)
{
    if (is_next(at, node))
        return partials + width * at->next++;
    sim_range left_node = {node.lo, middle(node)}, right_node = {middle(node), node.hi};
    double *left = fold_doubles(left_node, at, width, partials, merge);
    const double *right = fold_doubles(right_node, at, width, partials, merge);
    merge(width, left, left_node.hi - left_node.lo, right, right_node.hi - right_node.lo);
    return left;
}

void sim_tree_reduce_doubles(size_t n_leaves, size_t width, const sim_range *ranges,
                             size_t n_nodes, double *partials, sim_merge_fn *merge,
                             double *out)
{
    cursor at = {ranges, n_nodes, 0};
    const double *root =
        fold_doubles((sim_range){0, n_leaves}, &at, width, partials, merge);
    SIM_ASSERT(at.next == n_nodes);
    memcpy(out, root, width * sizeof *out);
}

static float *fold_floats(sim_range node, cursor *at, size_t n, size_t stride,
                          float *partials)
{
    if (is_next(at, node))
        return partials + stride * at->next++;
    sim_range left_node = {node.lo, middle(node)}, right_node = {middle(node), node.hi};
    float *left = fold_floats(left_node, at, n, stride, partials);
    add_floats(left, fold_floats(right_node, at, n, stride, partials), n);
    return left;
}

float *sim_tree_reduce_floats(size_t n_leaves, size_t n, const sim_range *ranges,
                              size_t n_nodes, float *partials, size_t stride)
{
    cursor at = {ranges, n_nodes, 0};
    float *root = fold_floats((sim_range){0, n_leaves}, &at, n, stride, partials);
    SIM_ASSERT(at.next == n_nodes);
    return root;
}

void sim_merge_sum(size_t width, double *left, size_t left_leaves, const double *right,
                   size_t right_leaves)
{
    (void)left_leaves;
    (void)right_leaves;
    for (size_t i = 0; i < width; i++)
        left[i] += right[i];
}

void sim_merge_moments(size_t width, double *left, size_t left_leaves,
                       const double *right, size_t right_leaves)
{
    size_t c = width / 2;
    double la = (double)left_leaves, lb = (double)right_leaves;
    double share = lb / (la + lb), weight = la * lb / (la + lb);
    for (size_t i = 0; i < c; i++) {
        double delta = right[i] - left[i];
        left[i] += delta * share;
        left[c + i] = left[c + i] + right[c + i] + delta * delta * weight;
    }
}
