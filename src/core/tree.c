/*
 * tree.c - the midpoint tree over leaves: nodes, stack, reduction.
 *
 * A node is [lo, hi); its children meet at lo + (hi - lo)/2. The functions operate on ranges of
 * leaves and lists of nodes; they do not depend on ranks.
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

/* Appends the maximal nodes of `range` below `node`; returns the new number of nodes. */
static size_t collect_nodes(sim_range node, sim_range range, sim_range *nodes, size_t n)
{
    if (node.hi <= range.lo || range.hi <= node.lo || node.lo == node.hi)
        return n;
    if (range.lo <= node.lo && node.hi <= range.hi) {
        SIM_ASSERT(n < SIM_TREE_MAX_NODES);
        nodes[n] = node;
        return n + 1;
    }
    n = collect_nodes((sim_range){node.lo, middle(node)}, range, nodes, n);
    return collect_nodes((sim_range){middle(node), node.hi}, range, nodes, n);
}

size_t sim_tree_nodes(size_t n_leaves, sim_range range,
                      sim_range nodes[SIM_TREE_MAX_NODES])
{
    if (range.lo == range.hi)
        return 0;
    return collect_nodes((sim_range){0, n_leaves}, range, nodes, 0);
}

size_t sim_tree_merges(size_t n_leaves, sim_range range, size_t leaf)
{
    sim_range path[SIM_TREE_MAX_NODES];
    size_t depth = 0, merges = 0;

    /* The ancestors of the leaf, root first. */
    for (sim_range r = {0, n_leaves}; r.hi - r.lo > 1;) {
        SIM_ASSERT(depth < SIM_TREE_MAX_NODES);
        path[depth++] = r;
        if (leaf < middle(r))
            r.hi = middle(r);
        else
            r.lo = middle(r);
    }
    /* Bottom up: an ancestor is complete if it ends with this leaf and starts within the range. */
    while (depth > 0 && path[depth - 1].hi == leaf + 1 &&
           path[depth - 1].lo >= range.lo) {
        depth--;
        merges++;
    }
    return merges;
}

size_t sim_tree_depth(size_t n_leaves, sim_range range)
{
    size_t height = 0, max_height = 0;
    for (size_t i = range.lo; i < range.hi; i++) {
        height++;
        if (height > max_height)
            max_height = height;
        height -= sim_tree_merges(n_leaves, range, i);
    }
    return max_height;
}

/* Maximal nodes of leaves [lo, hi). */
static size_t count_nodes(size_t n_leaves, size_t lo, size_t hi)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    return sim_tree_nodes(n_leaves, (sim_range){lo, hi}, nodes);
}

size_t sim_tree_depth_in_steps(size_t n_leaves, sim_range range, size_t step)
{
    size_t max_height = 0;

    SIM_ASSERT(step > 0);
    for (size_t at = range.lo; at < range.hi; at += step) {
        size_t end = range.hi - at > step ? at + step : range.hi;
        size_t height =
            count_nodes(n_leaves, range.lo, at) + count_nodes(n_leaves, at, end);
        if (height > max_height)
            max_height = height;
    }
    return max_height;
}

void sim_tree_stack_begin(sim_tree_stack *s, size_t n, size_t n_leaves, sim_range range,
                          float *partials)
{
    *s = (sim_tree_stack){.n = n,
                          .n_leaves = n_leaves,
                          .range = range,
                          .next = range.lo,
                          .partials = partials};
}

float *sim_tree_stack_top(const sim_tree_stack *s)
{
    return s->partials + s->height * s->n;
}

enum { CHUNK = 1 << 14 }; /* floats per iteration: enough work for a thread */

typedef struct {
    float *left;
    const float *right;
    size_t n;
} vector_sum;

static void add_chunk(size_t i, void *ctx)
{
    const vector_sum *a = ctx;
    size_t lo = i * CHUNK, hi = lo + CHUNK < a->n ? lo + CHUNK : a->n;
    float *restrict left = a->left;
    const float *restrict right = a->right;
    for (size_t j = lo; j < hi; j++)
        left[j] += right[j];
}

static void add_floats(float *left, const float *right, size_t n)
{
    vector_sum a = {left, right, n};
    sim_for((n + CHUNK - 1) / CHUNK, add_chunk, &a);
}

static void merge_topmost(sim_tree_stack *s)
{
    s->height--;
    add_floats(s->partials + (s->height - 1) * s->n, s->partials + s->height * s->n,
               s->n);
}

void sim_tree_stack_push(sim_tree_stack *s)
{
    SIM_ASSERT(s->next < s->range.hi);
    s->height++;
    for (size_t m = sim_tree_merges(s->n_leaves, s->range, s->next); m > 0; m--)
        merge_topmost(s);
    s->next++;
}

/* Pushes the entry on top, which is the sum of a node; the merges below the node are done. */
static void push_node(sim_tree_stack *s, sim_range node)
{
    size_t last = node.hi - 1, below = sim_tree_merges(s->n_leaves, node, last);

    s->height++;
    for (size_t m = sim_tree_merges(s->n_leaves, s->range, last); m > below; m--)
        merge_topmost(s);
    s->next = node.hi;
}

void sim_tree_stack_push_nodes(sim_tree_stack *s, size_t end)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = sim_tree_nodes(s->n_leaves, (sim_range){s->next, end}, nodes);
    const float *sum = sim_tree_stack_top(s);

    SIM_ASSERT(s->next < end && end <= s->range.hi);
    for (size_t j = 0; j < n; j++, sum += s->n) {
        float *top = sim_tree_stack_top(s);
        if (top != sum) /* earlier nodes were merged */
            memcpy(top, sum, s->n * sizeof *top);
        push_node(s, nodes[j]);
    }
}

/* Position in the list of nodes that a recursive reduction consumes left to right. */
typedef struct {
    const sim_range *ranges;
    size_t n_nodes, next;
} cursor;

/* Whether `node` is the next in the list; otherwise it has children. */
static bool is_next(const cursor *at, sim_range node)
{
    SIM_ASSERT(at->next < at->n_nodes);
    sim_range r = at->ranges[at->next];
    bool found = r.lo == node.lo && r.hi == node.hi;
    SIM_ASSERT(found || node.hi - node.lo > 1);
    return found;
}

static double *reduce_doubles(sim_range node, cursor *at, size_t width, double *partials,
                              sim_merge_fn *merge)
{
    if (is_next(at, node))
        return partials + width * at->next++;
    sim_range left_node = {node.lo, middle(node)}, right_node = {middle(node), node.hi};
    double *left = reduce_doubles(left_node, at, width, partials, merge);
    const double *right = reduce_doubles(right_node, at, width, partials, merge);
    merge(width, left, left_node.hi - left_node.lo, right, right_node.hi - right_node.lo);
    return left;
}

void sim_tree_reduce_doubles(size_t n_leaves, size_t width, const sim_range *ranges,
                             size_t n_nodes, double *partials, sim_merge_fn *merge,
                             double *out)
{
    cursor at = {ranges, n_nodes, 0};
    const double *root =
        reduce_doubles((sim_range){0, n_leaves}, &at, width, partials, merge);
    SIM_ASSERT(at.next == n_nodes);
    memcpy(out, root, width * sizeof *out);
}

static float *reduce_floats(sim_range node, cursor *at, size_t n, size_t stride,
                            float *partials)
{
    if (is_next(at, node))
        return partials + stride * at->next++;
    sim_range left_node = {node.lo, middle(node)}, right_node = {middle(node), node.hi};
    float *left = reduce_floats(left_node, at, n, stride, partials);
    add_floats(left, reduce_floats(right_node, at, n, stride, partials), n);
    return left;
}

float *sim_tree_reduce_floats(size_t n_leaves, size_t n, const sim_range *ranges,
                              size_t n_nodes, float *partials, size_t stride)
{
    cursor at = {ranges, n_nodes, 0};
    float *root = reduce_floats((sim_range){0, n_leaves}, &at, n, stride, partials);
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
