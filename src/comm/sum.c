/*
 * sum.c - the sum of float vectors over leaves: the midpoint tree across ranks.
 *
 * When every rank holds one node and the nodes are the tree's at one depth (P = 2^k),
 * vector-halving reduce-scatter with partner r^1 first adds exactly the tree's pairs.
 * Otherwise slice s of every maximal node goes to rank s, which folds its slice by the
 * tree.  Either way an all-gather follows, and the bits are those of one rank.
 */
#include "private.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

enum { TAG = 11, ADD_CHUNK = 1 << 14 };

/* Messages of at most 64 MiB each, both ways at once. */
static void exchange(const float *out, size_t n_out, float *in, size_t n_in, int partner)
{
    size_t piece = sim_comm_rows_per_piece(sizeof(float));
    for (size_t at = 0; at < n_out || at < n_in; at += piece) {
        size_t a = at < n_out ? (n_out - at < piece ? n_out - at : piece) : 0;
        size_t b = at < n_in ? (n_in - at < piece ? n_in - at : piece) : 0;
        MPI_Sendrecv(out + at, (int)a, MPI_FLOAT, partner, TAG, in + at, (int)b,
                     MPI_FLOAT, partner, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
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

static void add(float *to, const float *left, const float *right, size_t n)
{
    addition a = {to, left, right, n};
    sim_for((n + ADD_CHUNK - 1) / ADD_CHUNK, add_chunk, &a);
}

/* ---- P = 2^k ---- */

/* Does every rank hold exactly its node of the tree at depth log2 P? */
static bool is_regular(size_t n_leaves, size_t lo, size_t hi, size_t size, size_t rank,
                       size_t n_parts)
{
    if (size == 1) {
        sim_range r = sim_tree_part(n_leaves, n_parts, rank);
        return r.lo == lo && r.hi == hi && lo < hi;
    }
    size_t middle = lo + (hi - lo) / 2;
    return is_regular(n_leaves, lo, middle, size / 2, rank, n_parts) &&
           is_regular(n_leaves, middle, hi, size / 2, rank + size / 2, n_parts);
}

/* Bounds of this rank's part after each halving. */
typedef struct {
    size_t lo, hi;
} slice;

static size_t halve(const sim_comm *c, size_t n, float *nodes, float *spare, slice at[64])
{
    size_t steps = 0;
    slice s = {0, n};
    for (int bit = 1; bit < c->size; bit <<= 1, steps++) {
        int partner = c->rank ^ bit;
        bool lower = c->rank < partner;
        size_t middle = s.lo + (s.hi - s.lo) / 2;
        slice keep = lower ? (slice){s.lo, middle} : (slice){middle, s.hi};
        slice give = lower ? (slice){middle, s.hi} : (slice){s.lo, middle};
        float *got = spare;
        size_t m = keep.hi - keep.lo;
        exchange(nodes + give.lo, give.hi - give.lo, got, m, partner);
        float *mine = nodes + keep.lo;
        add(mine, lower ? mine : got, lower ? got : mine, m);
        at[steps] = s;
        s = keep;
    }
    at[steps] = s;
    return steps;
}

static void unfold(const sim_comm *c, size_t steps, float *nodes, const slice at[64])
{
    for (size_t k = steps; k-- > 0;) {
        int partner = c->rank ^ (1 << k);
        slice mine = at[k + 1], whole = at[k];
        slice theirs =
            mine.lo == whole.lo ? (slice){mine.hi, whole.hi} : (slice){whole.lo, mine.lo};
        exchange(nodes + mine.lo, mine.hi - mine.lo, nodes + theirs.lo,
                 theirs.hi - theirs.lo, partner);
    }
}

static void sum_halving(const sim_comm *c, size_t n, float *nodes, float *spare)
{
    slice at[64];
    size_t steps = halve(c, n, nodes, spare, at);
    unfold(c, steps, nodes, at);
}

/* ---- any P ---- */

sim_status sim_comm_all_nodes(size_t size, size_t n_leaves, sim_range **nodes,
                              size_t **first)
{
    sim_status st = SIM_OK;
    sim_range *list = NULL;
    size_t *start = NULL, n = 0;

    SIM_TRY(sim_alloc(&list, size * SIM_TREE_MAX_NODES, "comm/nodes"));
    SIM_TRY(sim_alloc(&start, size + 1, "comm/nodes"));
    for (size_t r = 0; r < size; r++) {
        start[r] = n;
        n += sim_tree_nodes(n_leaves, sim_tree_part(n_leaves, size, r), list + n);
    }
    start[size] = n;
    *nodes = list;
    *first = start;
    list = NULL;
    start = NULL;
done:
    sim_free(list);
    sim_free(start);
    return st;
}

/* Slices of all nodes to their folders; rank r's slice of every node ends in `mine`. */
static void scatter_slices(const sim_comm *c, size_t n, const float *nodes,
                           const size_t *first, float *mine)
{
    size_t size = (size_t)c->size, rank = (size_t)c->rank;
    sim_range own = sim_tree_part(n, size, rank);
    size_t m = own.hi - own.lo, have = first[rank + 1] - first[rank];

    for (size_t j = 0; j < have; j++)
        memcpy(mine + (first[rank] + j) * m, nodes + j * n + own.lo, m * sizeof *mine);
    for (size_t step = 1; step < size; step++) {
        size_t to = (rank + step) % size, from = (rank + size - step) % size;
        sim_range theirs = sim_tree_part(n, size, to);
        size_t give = first[rank + 1] - first[rank], get = first[from + 1] - first[from];
        for (size_t j = 0; j < give || j < get; j++) {
            MPI_Request request = MPI_REQUEST_NULL;
            if (j < get)
                MPI_Irecv(mine + (first[from] + j) * m, (int)m, MPI_FLOAT, (int)from, TAG,
                          MPI_COMM_WORLD, &request);
            if (j < give)
                MPI_Send(nodes + j * n + theirs.lo, (int)(theirs.hi - theirs.lo),
                         MPI_FLOAT, (int)to, TAG, MPI_COMM_WORLD);
            MPI_Wait(&request, MPI_STATUS_IGNORE);
        }
    }
}

static sim_status sum_slices(const sim_comm *c, size_t n_leaves, size_t n, float *nodes)
{
    sim_status st = SIM_OK;
    sim_range *ranges = NULL;
    size_t *first = NULL;
    float *mine = NULL;
    size_t size = (size_t)c->size;
    sim_range own = sim_tree_part(n, size, (size_t)c->rank);
    size_t m = own.hi - own.lo;

    SIM_TRY(sim_comm_all_nodes(size, n_leaves, &ranges, &first));
    SIM_TRY(sim_alloc(&mine, first[size] * m, "comm/slices"));
    scatter_slices(c, n, nodes, first, mine);
    const float *sum = sim_tree_fold_floats(n_leaves, m, ranges, first[size], mine, m);
    sim_comm_gather_rows(c, n, 1, n, sizeof(float), sum, nodes);
done:
    sim_free(ranges);
    sim_free(first);
    sim_free(mine);
    return st;
}

/* ---- the door ---- */

static bool takes_halving(const sim_comm *c, size_t n_leaves)
{
    size_t size = (size_t)c->size;
    return (size & (size - 1)) == 0 && is_regular(n_leaves, 0, n_leaves, size, 0, size);
}

size_t sim_comm_sum_leaves_room(const sim_comm *c, size_t n_leaves, size_t n)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    sim_range range = sim_tree_part(n_leaves, (size_t)c->size, (size_t)c->rank);
    size_t have = sim_tree_nodes(n_leaves, range, nodes);
    size_t room = (have ? have : 1) * n;
    /* Halving receives up to half a vector beside it. */
    return c->size > 1 && takes_halving(c, n_leaves) ? room + (n + 1) / 2 : room;
}

void sim_comm_sum_leaves(const sim_comm *c, size_t n_leaves, size_t n, float *nodes)
{
    double entered = sim_comm_enter();
    size_t sent = c->size > 1 ? 2 * n * sizeof(float) : 0;

    if (c->size > 1 && takes_halving(c, n_leaves)) {
        sum_halving(c, n, nodes, nodes + n);
    } else if (c->size > 1) {
        if (sum_slices(c, n_leaves, n, nodes) != SIM_OK)
            sim_comm_abort(SIM_E_IO); /* out of memory between points of agreement */
    }
    sim_comm_leave(entered, sent);
}
