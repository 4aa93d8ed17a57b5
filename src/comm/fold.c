/*
 * fold.c - doubles over leaves, for many groups at once: batch norm and the loss.
 *
 * Each rank folds what of a group it owns down to the group's maximal nodes; only nodes
 * travel, and every rank folds them by the tree.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

/* The shape with its zeros resolved. */
typedef struct {
    size_t n_leaves, per_group, n_groups, width;
} groups;

static groups resolve(const sim_fold_shape *s)
{
    size_t n = s->n_units * s->leaves_per_unit;
    size_t per_group = s->leaves_per_group ? s->leaves_per_group : n;
    SIM_ASSERT(n > 0 && n % per_group == 0);
    return (groups){n, per_group, n / per_group, s->width};
}

size_t sim_fold_groups(const sim_fold_shape *shape)
{
    return resolve(shape).n_groups;
}

/* Leaves of the batch that a rank owns. */
static sim_range leaves_of(const sim_comm *c, const sim_fold_shape *s, int rank)
{
    sim_range r = sim_tree_part(s->n_units, (size_t)c->size, (size_t)rank);
    return (sim_range){r.lo * s->leaves_per_unit, r.hi * s->leaves_per_unit};
}

/* The part of group g in `r`, counted from the group's own leaf 0. */
static sim_range part_of_group(const groups *g, size_t group, sim_range r)
{
    size_t base = group * g->per_group, end = base + g->per_group;
    size_t lo = r.lo > base ? r.lo : base, hi = r.hi < end ? r.hi : end;
    return lo < hi ? (sim_range){lo - base, hi - base} : (sim_range){0, 0};
}

/* Maximal nodes of all groups that meet `r`, group after group, with their groups. */
static size_t nodes_of_rank(const groups *g, sim_range r, sim_range *nodes)
{
    size_t n = 0;
    if (r.lo == r.hi)
        return 0;
    for (size_t group = r.lo / g->per_group; group <= (r.hi - 1) / g->per_group; group++)
        n += sim_tree_nodes(g->per_group, part_of_group(g, group, r), nodes + n);
    return n;
}

/* Most nodes a rank can have: a few for each group cut by its ends, one for each inside. */
static size_t most_nodes(const groups *g)
{
    return g->n_groups + 2 * SIM_TREE_MAX_NODES;
}

/* Folds leaves [lo, hi) of one node of a group, given from the node's first leaf. */
static void fold_node(const groups *g, sim_range node, double *leaves,
                      sim_merge_fn *merge)
{
    sim_range one = {node.lo, node.hi};
    size_t n = one.hi - one.lo;
    if (n == 1)
        return;
    size_t middle = one.lo + n / 2;
    double *right = leaves + (middle - one.lo) * g->width;
    fold_node(g, (sim_range){one.lo, middle}, leaves, merge);
    fold_node(g, (sim_range){middle, one.hi}, right, merge);
    merge(g->width, leaves, middle - one.lo, right, one.hi - middle);
}

/* Folds this rank's leaves to nodes, packed at the front of `leaves`. */
static size_t fold_own(const groups *g, sim_range mine, const sim_range *nodes, size_t n,
                       double *leaves, sim_merge_fn *merge)
{
    size_t at = 0;
    for (size_t j = 0; j < n; j++) {
        double *node = leaves + at * g->width;
        fold_node(g, nodes[j], node, merge);
        if (node != leaves + j * g->width)
            memmove(leaves + j * g->width, node, g->width * sizeof *node);
        at += nodes[j].hi - nodes[j].lo;
    }
    SIM_ASSERT(at == mine.hi - mine.lo);
    return n;
}

/* Nodes of all ranks, in order, on every rank. */
static void gather_nodes(const sim_comm *c, size_t width, const size_t *first,
                         const double *mine, double *all)
{
    size_t row_bytes = width * sizeof *all, piece = sim_comm_rows_per_piece(row_bytes);
    size_t own = first[c->rank + 1] - first[c->rank];
    if (own)
        memcpy(all + first[c->rank] * width, mine, own * row_bytes);
    for (int r = 0; c->size > 1 && r < c->size; r++)
        for (size_t at = first[r]; at < first[r + 1]; at += piece) {
            size_t n = first[r + 1] - at < piece ? first[r + 1] - at : piece;
            MPI_Bcast(all + at * width, (int)(n * width), MPI_DOUBLE, r, MPI_COMM_WORLD);
        }
}

static void fold_groups(const groups *g, const sim_range *nodes, double *all,
                        sim_merge_fn *merge, double *out)
{
    size_t at = 0;
    for (size_t group = 0; group < g->n_groups; group++) {
        size_t n = 0, covered = 0;
        while (covered < g->per_group) {
            covered += nodes[at + n].hi - nodes[at + n].lo;
            n++;
        }
        sim_tree_fold_doubles(g->per_group, g->width, nodes + at, n, all + at * g->width,
                              merge, out + group * g->width);
        at += n;
    }
}

static sim_status fold(const sim_comm *c, const sim_fold_shape *shape, double *leaves,
                       double *out)
{
    sim_status st = SIM_OK;
    groups g = resolve(shape);
    size_t size = (size_t)c->size, most = most_nodes(&g);
    sim_range *nodes = NULL;
    size_t *first = NULL;
    double *all = NULL;

    SIM_TRY(sim_alloc(&nodes, size * most, "comm/fold"));
    SIM_TRY(sim_alloc(&first, size + 1, "comm/fold"));
    for (int r = 0; r < c->size; r++)
        first[r + 1] =
            first[r] + nodes_of_rank(&g, leaves_of(c, shape, r), nodes + first[r]);
    SIM_TRY(sim_alloc(&all, first[size] * g.width, "comm/fold"));
    sim_range mine = leaves_of(c, shape, c->rank);
    size_t n = first[c->rank + 1] - first[c->rank];
    (void)fold_own(&g, mine, nodes + first[c->rank], n, leaves, shape->merge);
    gather_nodes(c, g.width, first, leaves, all);
    fold_groups(&g, nodes, all, shape->merge, out);
done:
    sim_free(nodes);
    sim_free(first);
    sim_free(all);
    return st;
}

void sim_comm_fold_doubles(const sim_comm *c, const sim_fold_shape *shape, double *leaves,
                           double *out)
{
    double entered = sim_comm_enter();
    if (fold(c, shape, leaves, out) != SIM_OK)
        sim_comm_abort(SIM_E_IO); /* out of memory between points of agreement */
    sim_comm_leave(entered, shape->width * sizeof(double));
}
