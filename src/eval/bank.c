/*
 * bank.c - the most similar rows of a sharded bank, for sharded queries.
 *
 * In: rows of this rank of the bank and of the queries.  Out: neighbours of this rank's queries.
 * Tiles of the bank are broadcast in global order, so that no rank holds the bank.  Neighbours are ordered
 * by similarity, then by bank index: the result is the same on any number of ranks.
 */
#include "bank.h"

#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/thread.h"

#include <string.h>

enum { QUERIES = 64 };

/* ---- buffers ---- */

enum { BUFFERS = 7 };

static void list_buffers(bank_search *q, sim_buffer list[BUFFERS])
{
    const size_t n = q->n_queries, m = q->n_bank;

    list[0] = SIM_BUFFER(q->best, n * q->k);
    list[1] = SIM_BUFFER(q->n_best, n);
    list[2] = SIM_BUFFER(q->tile, BANK_TILE * q->dim);
    list[3] = SIM_BUFFER(q->panel, sim_panel_floats(q->dim, BANK_TILE));
    list[4] = SIM_BUFFER(q->queries, n * q->dim);
    list[5] = SIM_BUFFER(q->bank, m * q->dim);
    list[6] = SIM_BUFFER(q->norms, n > m ? n : m);
}

bank_search sim_bank_sizes(sim_partition p, size_t dim, size_t k, size_t n_bank,
                           size_t n_queries)
{
    const sim_range queries = sim_embed_local(p, n_queries),
                    bank = sim_embed_local(p, n_bank);

    return (bank_search){.dim = dim,
                         .k = k < n_bank ? k : n_bank,
                         .n_rows = n_bank,
                         .n_queries = queries.hi - queries.lo,
                         .n_bank = bank.hi - bank.lo,
                         .first_query = queries.lo};
}

size_t sim_bank_bytes(bank_search sizes)
{
    sim_buffer list[BUFFERS];

    list_buffers(&sizes, list);
    return sim_buffers_bytes(list, BUFFERS);
}

sim_status sim_bank_create(bank_search *q, const float *queries, const float *bank)
{
    sim_status st = SIM_OK;
    sim_buffer list[BUFFERS];

    list_buffers(q, list);
    SIM_TRY(sim_buffers_create(list, BUFFERS, "eval/bank"));
    sim_unit_rows(q->n_queries, q->dim, queries, q->queries, q->norms);
    sim_unit_rows(q->n_bank, q->dim, bank, q->bank, q->norms);
done:
    return st;
}

void sim_bank_destroy(bank_search *q)
{
    sim_buffer list[BUFFERS];

    list_buffers(q, list);
    sim_buffers_destroy(list, BUFFERS);
}

/* ---- heaps with the worst neighbour at the root ---- */

static bool is_worse(sim_neighbour a, sim_neighbour b)
{
    return a.similarity < b.similarity ||
           (a.similarity == b.similarity && a.index > b.index);
}

static void sift_down(sim_neighbour *heap, size_t n, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1, worst = i;
        for (size_t c = child; c < child + 2 && c < n; c++)
            if (is_worse(heap[c], heap[worst]))
                worst = c;
        if (worst == i)
            return;
        sim_neighbour swap = heap[i];
        heap[i] = heap[worst];
        heap[worst] = swap;
        i = worst;
    }
}

/* Adds x to the k best if it is one of them. */
static void heap_add(sim_neighbour *heap, size_t *n, size_t k, sim_neighbour x)
{
    if (*n < k) {
        size_t i = (*n)++;
        heap[i] = x;
        while (i > 0 && is_worse(heap[i], heap[(i - 1) / 2])) {
            sim_neighbour swap = heap[i];
            heap[i] = heap[(i - 1) / 2];
            heap[(i - 1) / 2] = swap;
            i = (i - 1) / 2;
        }
    } else if (is_worse(heap[0], x)) {
        heap[0] = x;
        sift_down(heap, k, 0);
    }
}

/* Heap sort, best neighbour first. */
static void sort_best(sim_neighbour *heap, size_t n)
{
    for (size_t last = n; last > 1; last--) {
        sim_neighbour swap = heap[0];
        heap[0] = heap[last - 1];
        heap[last - 1] = swap;
        sift_down(heap, last - 1, 0);
    }
}

/* ---- tiles ---- */

/* The first row of the bank that query i is compared with: those before it are not searched. */
static size_t first_row(const bank_search *q, size_t i)
{
    return q->is_upper ? q->first_query + i + 1 : 0;
}

/* Compares QUERIES queries with the tile. */
static void compare_queries(size_t item, void *ctx)
{
    const bank_search *q = ctx;
    const size_t lo = item * QUERIES,
                 n = q->n_queries - lo < QUERIES ? q->n_queries - lo : QUERIES;
    float *s = sim_scratch(QUERIES * BANK_TILE * sizeof *s);

    if (first_row(q, lo) >= q->tile_lo + q->tile_n)
        return;
    sim_product(n, q->tile_n, q->dim, q->queries + lo * q->dim, q->dim, q->panel, s,
                BANK_TILE);
    for (size_t i = 0; i < n; i++)
        q->take(q->ctx, lo + i, first_row(q, lo + i), s + i * BANK_TILE);
}

/* Broadcasts and packs the tile that begins at row `lo` of the bank; each owner sends its rows. */
static void broadcast_tile(const sim_comm *c, bank_search *q, size_t lo)
{
    size_t n = q->n_rows - lo < BANK_TILE ? q->n_rows - lo : BANK_TILE,
           row = q->dim * sizeof(float);
    for (int r = 0; r < c->size; r++) {
        const sim_partition owner = {.size = (size_t)c->size, .rank = (size_t)r};
        sim_range own = sim_embed_local(owner, q->n_rows);
        size_t a = own.lo > lo ? own.lo : lo, b = own.hi < lo + n ? own.hi : lo + n;
        if (a >= b)
            continue;
        if (r == c->rank)
            memcpy(q->tile + (a - lo) * q->dim, q->bank + (a - own.lo) * q->dim,
                   (b - a) * row);
        sim_comm_broadcast(c, r, q->tile + (a - lo) * q->dim, (b - a) * row);
    }
    q->tile_lo = lo;
    q->tile_n = n;
    sim_panel_pack(q->dim, n, q->tile, q->dim, true, q->panel);
}

void sim_bank_pass(const sim_comm *c, bank_search *q, bank_take *take, void *ctx,
                   sim_status (*after_tile)(void *ctx), sim_status *status)
{
    sim_progress_line progress =
        sim_progress_line_begin("comparing", "images", 0, q->n_rows);

    q->take = take;
    q->ctx = ctx;
    for (size_t lo = 0; lo < q->n_rows && *status == SIM_OK; lo += BANK_TILE) {
        broadcast_tile(c, q, lo);
        sim_for((q->n_queries + QUERIES - 1) / QUERIES, compare_queries, q);
        if (after_tile)
            *status = after_tile(ctx);
        sim_progress_line_report(&progress, lo + q->tile_n);
    }
}

/* ---- the k nearest ---- */

static void take_nearest(void *ctx, size_t i, size_t first, const float *similarity)
{
    const bank_search *q = ctx;

    for (size_t j = first > q->tile_lo ? first - q->tile_lo : 0; j < q->tile_n; j++)
        heap_add(q->best + i * q->k, &q->n_best[i], q->k,
                 (sim_neighbour){similarity[j], (uint32_t)(q->tile_lo + j)});
}

static void sort_query(size_t i, void *ctx)
{
    const bank_search *q = ctx;
    sort_best(q->best + i * q->k, q->n_best[i]);
}

void sim_bank_search(const sim_comm *c, bank_search *q)
{
    sim_status unused = SIM_OK;

    sim_bank_pass(c, q, take_nearest, q, NULL, &unused);
    sim_for(q->n_queries, sort_query, q);
}
