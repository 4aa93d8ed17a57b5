/*
 * neighbours.c - nearest neighbours of images, and pairs of images that are nearly the same.
 */
#include "bank.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- the k nearest ---- */

sim_status sim_neighbours(const sim_comm *c, const sim_feature_sets *sets, size_t k,
                          sim_neighbour **out)
{
    sim_status st = SIM_OK;
    bank_search q = sim_bank_sizes(sim_comm_partition(c), sets->dim, k, sets->n_bank,
                                   sets->n_queries);

    SIM_ASSERT(k <= sets->n_bank);
    SIM_TRY(sim_comm_agree(c, sim_bank_create(&q, sets->queries, sets->bank)));
    sim_bank_search(c, &q);
    *out = q.best;
    q.best = NULL;
done:
    sim_bank_destroy(&q);
    return st;
}

/* ---- pairs ---- */

/* Pairs of this rank.  Each query of a batch of sim_for has a list of its own, so that threads do not share
 * one; they are joined after each tile. */
typedef struct {
    sim_similar_pair *pairs;
    size_t n, capacity;
} pair_list;

typedef struct {
    const sim_comm *comm;
    bank_search *search;
    float threshold;
    size_t most;
    pair_list *of_query; /* [local queries] of the present tile */
    pair_list all;       /* of this rank */
    size_t total;        /* of all ranks */
    atomic_size_t
        n_found; /* of this rank; beyond `most` they are counted, but not stored */
    atomic_bool is_out_of_memory;
} pair_search;

static sim_status add_pairs(pair_list *to, const sim_similar_pair *pairs, size_t n)
{
    sim_status st = SIM_OK;

    if (to->n + n > to->capacity) {
        const size_t capacity = 2 * (to->n + n);
        SIM_TRY(sim_grow(&to->pairs, capacity, "eval/pairs"));
        to->capacity = capacity;
    }
    memcpy(to->pairs + to->n, pairs, n * sizeof *pairs);
    to->n += n;
done:
    return st;
}

static void take_similar(void *ctx, size_t i, size_t first, const float *similarity)
{
    pair_search *p = ctx;
    const bank_search *q = p->search;

    for (size_t j = first > q->tile_lo ? first - q->tile_lo : 0; j < q->tile_n; j++) {
        if (!(similarity[j] >= p->threshold) ||
            atomic_fetch_add(&p->n_found, 1) >= p->most)
            continue;
        const sim_similar_pair pair = {(uint32_t)(q->first_query + i),
                                       (uint32_t)(q->tile_lo + j), similarity[j]};
        if (add_pairs(&p->of_query[i], &pair, 1) != SIM_OK) {
            p->is_out_of_memory = true;
            return;
        }
    }
}

static sim_status join_lists(pair_search *p)
{
    sim_status st = SIM_OK;

    SIM_CHECK(!p->is_out_of_memory, SIM_E_IO, "memory is exhausted by similar pairs");
    for (size_t i = 0; i < p->search->n_queries; i++) {
        pair_list *l = &p->of_query[i];
        if (l->n == 0)
            continue;
        SIM_TRY(add_pairs(&p->all, l->pairs, l->n));
        SIM_FREE(l->pairs);
        *l = (pair_list){.n = 0};
    }
done:
    return st;
}

/* Collective. */
static sim_status after_tile(void *ctx)
{
    sim_status st = SIM_OK;
    pair_search *p = ctx;
    int64_t total = 0;

    SIM_TRY(sim_comm_agree(p->comm, join_lists(p)));
    total = (int64_t)p->n_found;
    sim_comm_sum_i64(p->comm, &total, 1);
    p->total = (size_t)total;
    SIM_CHECK(
        p->total <= p->most, SIM_E_DATA,
        "more than %zu pairs have a similarity of at least %g; use a larger threshold",
        p->most, (double)p->threshold);
done:
    return st;
}

static int compare_pairs(const void *a, const void *b)
{
    const sim_similar_pair *x = a, *y = b;

    if (x->similarity < y->similarity || x->similarity > y->similarity)
        return x->similarity < y->similarity ? 1 : -1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x->second > y->second) - (x->second < y->second);
}

/* Collects the pairs of all ranks on rank 0, and sorts them.  Collective. */
static sim_status collect_pairs(pair_search *p, sim_similar_pair **out)
{
    sim_status st = SIM_OK;
    const size_t size = (size_t)p->comm->size;
    sim_similar_pair *all = NULL;
    int64_t *counts = NULL;
    size_t *first = NULL;

    st = sim_alloc(&counts, size, "eval/pairs");
    if (st == SIM_OK)
        st = sim_alloc(&first, size + 1, "eval/pairs");
    if (st == SIM_OK && p->comm->rank == 0)
        st = sim_alloc(&all, p->total, "eval/pairs");
    SIM_TRY(sim_comm_agree(p->comm, st));
    SIM_ASSERT(counts && first);
    counts[p->comm->rank] = (int64_t)p->all.n;
    sim_comm_sum_i64(p->comm, counts, size);
    for (size_t r = 0; r < size; r++)
        first[r + 1] = first[r] + (size_t)counts[r];
    sim_comm_fetch_rows(p->comm, 0, first, (sim_range){0, p->total}, sizeof *all,
                        p->all.pairs, all);
    if (all)
        qsort(all, p->total, sizeof *all, compare_pairs);
    *out = all;
    all = NULL;
done:
    sim_free(all);
    sim_free(counts);
    sim_free(first);
    return st;
}

sim_status sim_similar_pairs(const sim_comm *c, const sim_feature_sets *sets, bool within,
                             double threshold, size_t most, sim_similar_pair **out,
                             size_t *n_pairs)
{
    sim_status st = SIM_OK;
    bank_search q = sim_bank_sizes(sim_comm_partition(c), sets->dim, 0, sets->n_bank,
                                   sets->n_queries);
    pair_search p = {
        .comm = c, .search = &q, .threshold = (float)threshold, .most = most};

    q.is_upper = within;
    st = sim_bank_create(&q, sets->queries, sets->bank);
    if (st == SIM_OK)
        st = sim_alloc(&p.of_query, q.n_queries, "eval/pairs");
    SIM_TRY(sim_comm_agree(c, st));
    sim_bank_pass(c, &q, take_similar, &p, after_tile, &st);
    SIM_TRY(st);
    SIM_TRY(collect_pairs(&p, out));
    *n_pairs = p.total;
done:
    for (size_t i = 0; p.of_query && i < q.n_queries; i++)
        sim_free(p.of_query[i].pairs);
    sim_free(p.of_query);
    sim_free(p.all.pairs);
    sim_bank_destroy(&q);
    return st;
}
