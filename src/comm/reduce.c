/*
 * reduce.c - reduction of doubles over leaves, for many groups at once: batch norm, the loss.
 *
 * Each rank reduces its leaves of a group to the group's maximal nodes. The nodes are gathered,
 * and every rank reduces them by the tree.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

/* The shape with its defaults resolved. */
typedef struct {
    size_t n_leaves, per_group, n_groups, width;
} groups;

static groups resolve_groups(const sim_reduce_shape *s)
{
    size_t n = s->n_units * s->leaves_per_unit;
    size_t per_group = s->leaves_per_group ? s->leaves_per_group : n;
    SIM_ASSERT(n > 0 && n % per_group == 0);
    SIM_ASSERT(per_group % s->leaves_per_unit == 0 ||
               s->leaves_per_unit % per_group == 0);
    return (groups){n, per_group, n / per_group, s->width};
}

size_t sim_reduce_groups(const sim_reduce_shape *shape)
{
    return resolve_groups(shape).n_groups;
}

/* Leaves of a rank. */
static sim_range leaves_of(const sim_comm *c, const sim_reduce_shape *s, int rank)
{
    sim_range r = sim_tree_part(s->n_units, (size_t)c->size, (size_t)rank);
    return (sim_range){r.lo * s->leaves_per_unit, r.hi * s->leaves_per_unit};
}

/* Intersection of a group with `r`, relative to the first leaf of the group. */
static sim_range part_of_group(const groups *g, size_t group, sim_range r)
{
    size_t base = group * g->per_group, end = base + g->per_group;
    size_t lo = r.lo > base ? r.lo : base, hi = r.hi < end ? r.hi : end;
    return lo < hi ? (sim_range){lo - base, hi - base} : (sim_range){0, 0};
}

/* Maximal nodes of `r`, group after group; returns their number. nodes may be NULL. */
static size_t nodes_of(const groups *g, sim_range r, sim_range *nodes)
{
    size_t n = 0;
    if (r.lo == r.hi)
        return 0;
    for (size_t group = r.lo / g->per_group; group <= (r.hi - 1) / g->per_group;
         group++) {
        sim_range found[SIM_TREE_MAX_NODES];
        size_t k = sim_tree_nodes(g->per_group, part_of_group(g, group, r), found);
        if (nodes)
            memcpy(nodes + n, found, k * sizeof *found);
        n += k;
    }
    return n;
}

/* Reduces the leaves of one node into its first; `leaves` points to that leaf. */
static void reduce_node(size_t width, sim_range node, double *leaves, sim_merge_fn *merge)
{
    if (node.hi - node.lo == 1)
        return;
    size_t middle = node.lo + (node.hi - node.lo) / 2;
    double *right = leaves + (middle - node.lo) * width;
    reduce_node(width, (sim_range){node.lo, middle}, leaves, merge);
    reduce_node(width, (sim_range){middle, node.hi}, right, merge);
    merge(width, leaves, middle - node.lo, right, node.hi - middle);
}

/* Reduces the leaves of this rank to its n nodes, stored consecutively in `out`. */
static void reduce_local(const groups *g, const sim_range *nodes, size_t n,
                         double *leaves, sim_merge_fn *merge, double *out)
{
    for (size_t j = 0; j < n; j++) {
        reduce_node(g->width, nodes[j], leaves, merge);
        memcpy(out + j * g->width, leaves, g->width * sizeof *out);
        leaves += (nodes[j].hi - nodes[j].lo) * g->width;
    }
}

/* Reduces the nodes of every group, which are stored in order. */
static void reduce_all_groups(const groups *g, const sim_range *nodes, double *all,
                              sim_merge_fn *merge, double *out)
{
    for (size_t group = 0; group < g->n_groups; group++) {
        size_t n = 0;
        for (size_t covered = 0; covered < g->per_group; n++)
            covered += nodes[n].hi - nodes[n].lo;
        sim_tree_reduce_doubles(g->per_group, g->width, nodes, n, all, merge,
                                out + group * g->width);
        nodes += n;
        all += n * g->width;
    }
}

/* Maximal nodes of all ranks and their values; those of rank r begin at first[r]. */
typedef struct {
    double *all;
    sim_range *nodes;
    size_t *first;
} layout;

/* In scratch memory: valid until the next call of sim_scratch. */
static layout make_layout(const sim_comm *c, const sim_reduce_shape *shape,
                          const groups *g)
{
    size_t total = 0;
    layout l;

    for (int r = 0; r < c->size; r++)
        total += nodes_of(g, leaves_of(c, shape, r), NULL);
    l.all = sim_scratch(total * (g->width * sizeof *l.all + sizeof *l.nodes) +
                        ((size_t)c->size + 1) * sizeof *l.first);
    l.nodes = (sim_range *)(l.all + total * g->width);
    l.first = (size_t *)(l.nodes + total);
    l.first[0] = 0;
    for (int r = 0; r < c->size; r++)
        l.first[r + 1] =
            l.first[r] + nodes_of(g, leaves_of(c, shape, r), l.nodes + l.first[r]);
    return l;
}

/* Gathers the nodes, those of this rank being in place, and reduces each group. */
static size_t gather_and_reduce(const sim_comm *c, const layout *l, const groups *g,
                                sim_merge_fn *merge, double *out)
{
    sim_comm_count_reduction((l->first[c->rank + 1] - l->first[c->rank]) * g->width *
                             sizeof *l->all);
    size_t sent = c->size > 1
                      ? sim_comm_allgather(c, l->first, g->width * sizeof *l->all, l->all)
                      : 0;
    reduce_all_groups(g, l->nodes, l->all, merge, out);
    return sent;
}

void sim_comm_reduce_doubles(const sim_comm *c, const sim_reduce_shape *shape,
                             double *leaves, double *out)
{
    double entered = sim_comm_enter();
    groups g = resolve_groups(shape);
    layout l = make_layout(c, shape, &g);
    size_t begin = l.first[c->rank];

    reduce_local(&g, l.nodes + begin, l.first[c->rank + 1] - begin, leaves, shape->merge,
                 l.all + begin * g.width);
    sim_comm_leave(entered, gather_and_reduce(c, &l, &g, shape->merge, out));
}

void sim_comm_reduce_nodes(const sim_comm *c, size_t n_leaves, size_t width,
                           const double *nodes, sim_merge_fn *merge, double *out)
{
    double entered = sim_comm_enter();
    const sim_reduce_shape shape = {
        .n_units = n_leaves, .leaves_per_unit = 1, .width = width};
    groups g = resolve_groups(&shape);
    layout l = make_layout(c, &shape, &g);
    size_t begin = l.first[c->rank], own = l.first[c->rank + 1] - begin;

    if (own)
        memcpy(l.all + begin * width, nodes, own * width * sizeof *nodes);
    sim_comm_leave(entered, gather_and_reduce(c, &l, &g, merge, out));
}
