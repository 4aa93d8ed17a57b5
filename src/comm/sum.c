/*
 * sum.c - sum of float vectors over leaves by the midpoint tree, across ranks.
 *
 * If each of P = 2^k ranks holds one node and all nodes have one depth in the tree, a
 * vector-halving reduce-scatter with partner r^1 first adds exactly the pairs of the tree.
 * Otherwise rank s receives slice s of every maximal node and reduces it by the tree. An
 * all-gather follows in both cases; the bits are those of one rank.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { TAG = 11, ADD_CHUNK = 1 << 14, MAX_STEPS = 32 };

/*
 * Sends n_out floats to one rank and receives n_in from another, perhaps the same, in pieces.
 * Returns the bytes sent.
 */
static size_t exchange_slices(const sim_comm *c, const float *out, size_t n_out, int to,
                              float *in, size_t n_in, int from)
{
    size_t piece = sim_comm_rows_per_piece(sizeof(float));
    for (size_t at = 0; at < n_out || at < n_in; at += piece) {
        size_t a = at < n_out ? sim_comm_piece(n_out - at, piece) : 0;
        size_t b = at < n_in ? sim_comm_piece(n_in - at, piece) : 0;
        MPI_Sendrecv(a ? out + at : NULL, (int)a, MPI_FLOAT, a ? to : MPI_PROC_NULL, TAG,
                     b ? in + at : NULL, (int)b, MPI_FLOAT, b ? from : MPI_PROC_NULL, TAG,
                     sim_comm_mpi(c), MPI_STATUS_IGNORE);
    }
    return n_out * sizeof(float);
}

typedef struct {
    float *to;
    const float *left, *right;
    size_t n;
} addition;

static void add_chunk(size_t i, void *ctx)
{
    const addition *a = ctx;
    size_t lo = i * ADD_CHUNK, hi = lo + ADD_CHUNK < a->n ? lo + ADD_CHUNK : a->n;
    for (size_t j = lo; j < hi; j++)
        a->to[j] = a->left[j] + a->right[j];
}

static void add_floats(addition a)
{
    sim_for((a.n + ADD_CHUNK - 1) / ADD_CHUNK, add_chunk, &a);
}

/* ---- P = 2^k ---- */

/* Whether ranks [rank, rank + size) hold the nodes below [lo, hi), one each. */
static bool is_regular(size_t n_leaves, size_t n_ranks, sim_range node, size_t rank,
                       size_t size)
{
    if (size == 1) {
        sim_range r = sim_tree_part(n_leaves, n_ranks, rank);
        return r.lo == node.lo && r.hi == node.hi && node.lo < node.hi;
    }
    size_t middle = node.lo + (node.hi - node.lo) / 2, half = size / 2;
    return is_regular(n_leaves, n_ranks, (sim_range){node.lo, middle}, rank, half) &&
           is_regular(n_leaves, n_ranks, (sim_range){middle, node.hi}, rank + half, half);
}

static bool uses_halving(size_t size, size_t n_leaves)
{
    return (size & (size - 1)) == 0 &&
           is_regular(n_leaves, size, (sim_range){0, n_leaves}, 0, size);
}

/*
 * Reduce-scatter: halves the vector log2 P times; at[k] is the part of this rank before step k.
 * Its part of the sum is in place in `nodes`. `spare` has space for half a vector.
 */
static size_t halve_vector(const sim_comm *c, size_t n, float *nodes, float *spare,
                           sim_range at[MAX_STEPS])
{
    size_t step = 0, sent = 0;
    sim_range s = {0, n};
    for (int bit = 1; bit < c->size; bit <<= 1) {
        int partner = c->rank ^ bit;
        bool lower = c->rank < partner;
        size_t middle = s.lo + (s.hi - s.lo) / 2;
        sim_range low = {s.lo, middle}, high = {middle, s.hi};
        sim_range kept = lower ? low : high, sent_part = lower ? high : low;
        float *local = nodes + kept.lo;
        size_t m = kept.hi - kept.lo;
        sent += exchange_slices(c, nodes + sent_part.lo, sent_part.hi - sent_part.lo,
                                partner, spare, m, partner);
        add_floats((addition){local, lower ? local : spare, lower ? spare : local, m});
        at[step++] = s;
        s = kept;
    }
    at[step] = s;
    return sent;
}

/* All-gather: each step doubles the part that holds the sum. */
static size_t gather_halves(const sim_comm *c, float *nodes,
                            const sim_range at[MAX_STEPS])
{
    size_t step = 0, sent = 0;
    for (int bit = 1; bit < c->size; bit <<= 1)
        step++;
    while (step-- > 0) {
        int partner = c->rank ^ (1 << step);
        sim_range own = at[step + 1], both = at[step];
        sim_range other = c->rank < partner ? (sim_range){own.hi, both.hi}
                                            : (sim_range){both.lo, own.lo};
        sent += exchange_slices(c, nodes + own.lo, own.hi - own.lo, partner,
                                nodes + other.lo, other.hi - other.lo, partner);
    }
    return sent;
}

static size_t sum_halving(const sim_comm *c, size_t n, float *nodes)
{
    sim_range at[MAX_STEPS];
    size_t sent = halve_vector(c, n, nodes, nodes + n, at);
    return sent + gather_halves(c, nodes, at);
}

/* ---- any P ---- */

static size_t nodes_of(size_t n_leaves, size_t size, size_t rank,
                       sim_range nodes[SIM_TREE_MAX_NODES])
{
    return sim_tree_nodes(n_leaves, sim_tree_part(n_leaves, size, rank), nodes);
}

static size_t nodes_of_all(size_t n_leaves, size_t size)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = 0;
    for (size_t r = 0; r < size; r++)
        n += nodes_of(n_leaves, size, r, nodes);
    return n;
}

/* Maximal nodes of all ranks, those of rank r from first[r], and the slices of a vector. */
typedef struct {
    sim_range *ranges;
    size_t *first, *slices;
} layout;

/* In scratch memory: valid until the next call of sim_scratch. */
static layout make_layout(size_t n_leaves, size_t size, size_t n)
{
    size_t total = nodes_of_all(n_leaves, size);
    layout l;

    l.ranges = sim_scratch(total * sizeof *l.ranges + 2 * (size + 1) * sizeof *l.first);
    l.first = (size_t *)(l.ranges + total);
    l.slices = l.first + size + 1;
    l.first[0] = l.slices[0] = 0;
    for (size_t r = 0; r < size; r++) {
        sim_range nodes[SIM_TREE_MAX_NODES];
        size_t have = nodes_of(n_leaves, size, r, nodes);
        memcpy(l.ranges + l.first[r], nodes, have * sizeof *nodes);
        l.first[r + 1] = l.first[r] + have;
        l.slices[r + 1] = sim_tree_part(n, size, r).hi;
    }
    return l;
}

/* Sends slice s of every node to rank s; `slices` receives those of this rank, node by node. */
static size_t scatter_slices(const sim_comm *c, const layout *l, size_t n,
                             const float *nodes, float *slices)
{
    size_t size = (size_t)c->size, rank = (size_t)c->rank, sent = 0;
    size_t lo = l->slices[rank], m = l->slices[rank + 1] - lo;
    size_t n_own = l->first[rank + 1] - l->first[rank];

    for (size_t j = 0; j < n_own; j++)
        memcpy(slices + (l->first[rank] + j) * m, nodes + j * n + lo, m * sizeof *slices);
    for (size_t step = 1; step < size; step++) {
        size_t to = (rank + step) % size, from = (rank + size - step) % size;
        size_t get = l->first[from + 1] - l->first[from];
        size_t out = l->slices[to + 1] - l->slices[to];
        for (size_t j = 0; j < n_own || j < get; j++)
            sent += exchange_slices(c, nodes + j * n + l->slices[to], j < n_own ? out : 0,
                                    (int)to, slices + (l->first[from] + j) * m,
                                    j < get ? m : 0, (int)from);
    }
    return sent;
}

/* Floats of the slices that a rank reduces. */
static size_t slices_floats(sim_partition p, size_t n_leaves, size_t n)
{
    sim_range own = sim_partition_range(p, n);
    return nodes_of_all(n_leaves, p.size) * (own.hi - own.lo);
}

static size_t own_floats(sim_partition p, size_t n_leaves, size_t n)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t have = nodes_of(n_leaves, p.size, p.rank, nodes);
    return (have ? have : 1) * n;
}

static size_t sum_slices(const sim_comm *c, size_t n_leaves, size_t n, float *nodes)
{
    size_t size = (size_t)c->size, rank = (size_t)c->rank;
    layout l = make_layout(n_leaves, size, n);
    size_t m = l.slices[rank + 1] - l.slices[rank];
    float *slices = nodes + own_floats(sim_comm_partition(c), n_leaves, n);
    size_t sent = scatter_slices(c, &l, n, nodes, slices);
    const float *sum =
        sim_tree_reduce_floats(n_leaves, m, l.ranges, l.first[size], slices, m);

    memcpy(nodes + l.slices[rank], sum, m * sizeof *sum);
    return sent + sim_comm_allgather(c, l.slices, sizeof *nodes, nodes);
}

/* ---- public functions ---- */

size_t sim_comm_sum_leaves_capacity(sim_partition p, size_t n_leaves, size_t n)
{
    size_t own = own_floats(p, n_leaves, n);
    if (p.size == 1)
        return own;
    return own +
           (uses_halving(p.size, n_leaves) ? (n + 1) / 2 : slices_floats(p, n_leaves, n));
}

void sim_comm_sum_leaves(const sim_comm *c, size_t n_leaves, size_t n, float *nodes)
{
    SIM_ASSERT(n_leaves > 0);
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    size_t sent = uses_halving((size_t)c->size, n_leaves)
                      ? sum_halving(c, n, nodes)
                      : sum_slices(c, n_leaves, n, nodes);
    sim_comm_leave(entered, sent);
}
