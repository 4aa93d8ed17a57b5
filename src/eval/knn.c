/*
 * knn.c - weighted nearest neighbours over a sharded bank.
 *
 * In: features of this rank's images of the bank and of the test set.  Out: accuracy.
 * Tiles of the bank are broadcast in global order; each rank keeps the k nearest neighbours of
 * its own queries.  Neighbours are ordered by similarity, then by bank index, so the result is
 * the same on any number of ranks.
 * Wu et al. 2018, arXiv 1805.01978.
 */
#include "simile/eval.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

enum { TILE = 1024, QUERIES = 64 };

typedef struct {
    float similarity;
    uint32_t index;
} neighbour;

typedef struct {
    const sim_knn_options *options;
    size_t n_options;
    size_t dim, k, n_queries, n_bank, n_classes; /* queries and bank rows of this rank */
    float *queries;                              /* [n_queries][dim] unit rows */
    float *bank;                                 /* [n_bank][dim] unit rows */
    float *norms;    /* lengths of the rows of queries or bank; only used at the start */
    neighbour *best; /* [queries][k]: a heap with the worst at the root */
    size_t *n_best;  /* [queries] */
    float *tile, *panel; /* current rows of the bank, as stored and packed */
    size_t tile_lo, tile_n;
    const int32_t *train_labels, *test_labels;
    size_t first_query; /* global index */
    int64_t *hits;      /* [queries][options][2]: top 1, top 5 */
} knn;

enum { KNN_BUFFERS = 8 };

static void list_knn_buffers(knn *q, sim_buffer list[KNN_BUFFERS])
{
    const size_t n = q->n_queries, m = q->n_bank;

    list[0] = SIM_BUFFER(q->best, n * q->k);
    list[1] = SIM_BUFFER(q->n_best, n);
    list[2] = SIM_BUFFER(q->hits, 2 * n * q->n_options);
    list[3] = SIM_BUFFER(q->tile, TILE * q->dim);
    list[4] = SIM_BUFFER(q->panel, sim_panel_floats(q->dim, TILE));
    list[5] = SIM_BUFFER(q->queries, n * q->dim);
    list[6] = SIM_BUFFER(q->bank, m * q->dim);
    list[7] = SIM_BUFFER(q->norms, n > m ? n : m);
}

/* The sizes of a search on one rank. */
static knn knn_of_sizes(sim_partition p, const sim_knn_options *options, size_t n_options,
                        size_t dim, size_t n_train, size_t n_test)
{
    const sim_range queries = sim_embed_local(p, n_test),
                    bank = sim_embed_local(p, n_train);
    size_t k = 0; /* the largest */

    for (size_t i = 0; i < n_options; i++)
        k = (size_t)options[i].k > k ? (size_t)options[i].k : k;
    return (knn){.options = options,
                 .n_options = n_options,
                 .dim = dim,
                 .k = k < n_train ? k : n_train,
                 .n_queries = queries.hi - queries.lo,
                 .n_bank = bank.hi - bank.lo,
                 .first_query = queries.lo};
}

size_t sim_knn_bytes(sim_partition p, const sim_knn_options *options, size_t n_options,
                     size_t dim, size_t n_train, size_t n_test)
{
    knn q = knn_of_sizes(p, options, n_options, dim, n_train, n_test);
    sim_buffer list[KNN_BUFFERS];

    list_knn_buffers(&q, list);
    return sim_buffers_bytes(list, KNN_BUFFERS);
}

static sim_status knn_create(knn *q, const float *queries, const float *bank)
{
    sim_status st = SIM_OK;
    sim_buffer list[KNN_BUFFERS];

    list_knn_buffers(q, list);
    SIM_TRY(sim_buffers_create(list, KNN_BUFFERS, "eval/knn"));
    sim_unit_rows(q->n_queries, q->dim, queries, q->queries, q->norms);
    sim_unit_rows(q->n_bank, q->dim, bank, q->bank, q->norms);
done:
    return st;
}

static void knn_destroy(knn *q)
{
    sim_buffer list[KNN_BUFFERS];

    list_knn_buffers(q, list);
    sim_buffers_destroy(list, KNN_BUFFERS);
}

static bool is_worse(neighbour a, neighbour b)
{
    return a.similarity < b.similarity ||
           (a.similarity == b.similarity && a.index > b.index);
}

static void sift_down(neighbour *heap, size_t n, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1, worst = i;
        for (size_t c = child; c < child + 2 && c < n; c++)
            if (is_worse(heap[c], heap[worst]))
                worst = c;
        if (worst == i)
            return;
        neighbour swap = heap[i];
        heap[i] = heap[worst];
        heap[worst] = swap;
        i = worst;
    }
}

/* Adds x to the k best if it is one of them. */
static void heap_add(neighbour *heap, size_t *n, size_t k, neighbour x)
{
    if (*n < k) {
        size_t i = (*n)++;
        heap[i] = x;
        while (i > 0 && is_worse(heap[i], heap[(i - 1) / 2])) {
            neighbour swap = heap[i];
            heap[i] = heap[(i - 1) / 2];
            heap[(i - 1) / 2] = swap;
            i = (i - 1) / 2;
        }
    } else if (is_worse(heap[0], x)) {
        heap[0] = x;
        sift_down(heap, k, 0);
    }
}

/* Compares QUERIES queries with the tile. */
static void compare_queries(size_t item, void *ctx)
{
    const knn *q = ctx;
    size_t lo = item * QUERIES,
           n = q->n_queries - lo < QUERIES ? q->n_queries - lo : QUERIES;
    float *s = sim_scratch(QUERIES * TILE * sizeof *s);

    sim_product(n, q->tile_n, q->dim, q->queries + lo * q->dim, q->dim, q->panel, s,
                TILE);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < q->tile_n; j++)
            heap_add(q->best + (lo + i) * q->k, &q->n_best[lo + i], q->k,
                     (neighbour){s[i * TILE + j], (uint32_t)(q->tile_lo + j)});
}

/* Broadcasts and packs the tile that begins at row `lo` of the bank; each owner sends its rows. */
static void broadcast_tile(const sim_comm *c, knn *q, size_t n_train, size_t lo)
{
    size_t n = n_train - lo < TILE ? n_train - lo : TILE, row = q->dim * sizeof(float);
    for (int r = 0; r < c->size; r++) {
        const sim_partition owner = {.size = (size_t)c->size, .rank = (size_t)r};
        sim_range own = sim_embed_local(owner, n_train);
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

/* Heap sort, best neighbour first. */
static void sort_best(neighbour *heap, size_t n)
{
    for (size_t last = n; last > 1; last--) {
        neighbour swap = heap[0];
        heap[0] = heap[last - 1];
        heap[last - 1] = swap;
        sift_down(heap, last - 1, 0);
    }
}

/* Number of classes ranked above `label`; of equal weights, the lower class ranks first. */
static size_t rank_of(const double *weight, size_t classes, size_t label)
{
    size_t better = 0;
    for (size_t c = 0; c < classes; c++)
        better += weight[c] > weight[label] || (weight[c] == weight[label] && c < label);
    return better;
}

/* Rank of the label of a query among the classes; neighbours: sorted.  Weights are relative to that of the
 * nearest, which does not change the ranks: exp(1 / temperature) itself may overflow. */
static size_t classify(const knn *q, const sim_knn_options *o, const neighbour *sorted,
                       size_t n, size_t label)
{
    const size_t k = (size_t)o->k < n ? (size_t)o->k : n;
    double *weight = sim_scratch(q->n_classes * sizeof *weight);
    const double nearest = (double)sorted[0].similarity;

    memset(weight, 0, q->n_classes * sizeof *weight);
    for (size_t j = 0; j < k; j++)
        weight[q->train_labels[sorted[j].index]] +=
            sim_exp_double(((double)sorted[j].similarity - nearest) / o->temperature);
    return rank_of(weight, q->n_classes, label);
}

static void classify_query(size_t i, void *ctx)
{
    const knn *q = ctx;
    neighbour *best = q->best + i * q->k;
    const size_t label = (size_t)q->test_labels[q->first_query + i];

    sort_best(best, q->n_best[i]);
    for (size_t o = 0; o < q->n_options; o++) {
        const size_t rank = classify(q, &q->options[o], best, q->n_best[i], label);
        q->hits[2 * (i * q->n_options + o)] = rank == 0;
        q->hits[2 * (i * q->n_options + o) + 1] = rank < 5;
    }
}

/* The result of option o, from the hits of this rank's queries.  Collective. */
static void count_hits(const sim_comm *c, const knn *q, size_t o, size_t n_test,
                       sim_knn_result *r)
{
    int64_t hits[2] = {0, 0};

    for (size_t i = 0; i < q->n_queries; i++) {
        hits[0] += q->hits[2 * (i * q->n_options + o)];
        hits[1] += q->hits[2 * (i * q->n_options + o) + 1];
    }
    sim_comm_sum_i64(c, hits, 2);
    r->top1 = (double)hits[0] / (double)n_test;
    r->top5 = (double)hits[1] / (double)n_test;
}

sim_status sim_knn(const sim_comm *c, const sim_knn_options *options, size_t n_options,
                   size_t dim, size_t n_classes, const sim_labelled_features *train,
                   const sim_labelled_features *test, sim_knn_result *out)
{
    sim_status st = SIM_OK;
    knn q =
        knn_of_sizes(sim_comm_partition(c), options, n_options, dim, train->n, test->n);

    q.n_classes = n_classes;
    q.train_labels = train->labels;
    q.test_labels = test->labels;
    SIM_TRY(sim_comm_agree(c, knn_create(&q, test->features, train->features)));
    for (size_t lo = 0; lo < train->n; lo += TILE) {
        broadcast_tile(c, &q, train->n, lo);
        sim_for((q.n_queries + QUERIES - 1) / QUERIES, compare_queries, &q);
    }
    sim_for(q.n_queries, classify_query, &q);
    for (size_t o = 0; o < n_options; o++) {
        const size_t k = (size_t)options[o].k;
        out[o] = (sim_knn_result){.k = (int64_t)(k < train->n ? k : train->n),
                                  .n_train = (int64_t)train->n,
                                  .n_test = (int64_t)test->n,
                                  .dim = (int64_t)dim,
                                  .classes = (int64_t)n_classes};
        count_hits(c, &q, o, test->n, &out[o]);
    }
done:
    knn_destroy(&q);
    return st;
}
