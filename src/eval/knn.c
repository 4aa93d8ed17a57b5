/*
 * knn.c - weighted nearest neighbours over a sharded bank.
 *
 * Bank shards pass in global order in tiles of constant size; each rank keeps the k best of
 * its own queries.  A neighbour is better by similarity, then by lower bank index, so the
 * result is the same on any number of ranks.
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
    size_t dim, k, n_queries, n_classes;
    const float *queries; /* unit rows of this rank */
    neighbour *best;      /* [queries][k]: a heap, the worst on top */
    size_t *n_best;       /* [queries] */
    float *tile, *panel;  /* rows of the bank that pass; packed */
    size_t tile_lo, tile_n;
    const int32_t *train_labels, *test_labels;
    size_t first_query; /* global index */
    int64_t *hits;      /* [queries][2]: top 1, top 5 */
} knn;

static bool is_worse(neighbour a, neighbour b)
{
    return a.similarity < b.similarity ||
           (a.similarity == b.similarity && a.index > b.index);
}

static void sink(neighbour *heap, size_t n, size_t i)
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

static void offer(neighbour *heap, size_t *n, size_t k, neighbour x)
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
        sink(heap, k, 0);
    }
}

/* Some queries against the tile. */
static void match(size_t item, void *ctx)
{
    const knn *q = ctx;
    size_t lo = item * QUERIES,
           n = q->n_queries - lo < QUERIES ? q->n_queries - lo : QUERIES;
    float *s = sim_scratch(QUERIES * TILE * sizeof *s);

    sim_product(n, q->tile_n, q->dim, q->queries + lo * q->dim, q->dim, q->panel, s,
                TILE);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < q->tile_n; j++)
            offer(q->best + (lo + i) * q->k, &q->n_best[lo + i], q->k,
                  (neighbour){s[i * TILE + j], (uint32_t)(q->tile_lo + j)});
}

/* Rows [lo, lo + n) of the bank from their owner to all. */
static void bring_tile(const sim_comm *c, knn *q, size_t n_train, const float *bank,
                       size_t lo)
{
    size_t n = n_train - lo < TILE ? n_train - lo : TILE, row = q->dim * sizeof(float);
    for (int r = 0; r < c->size; r++) {
        const sim_partition owner = {.size = (size_t)c->size, .rank = (size_t)r};
        sim_range own = sim_embed_local(owner, n_train);
        size_t a = own.lo > lo ? own.lo : lo, b = own.hi < lo + n ? own.hi : lo + n;
        if (a >= b)
            continue;
        if (r == c->rank && bank)
            memcpy(q->tile + (a - lo) * q->dim, bank + (a - own.lo) * q->dim,
                   (b - a) * row);
        sim_comm_broadcast(c, r, q->tile + (a - lo) * q->dim, (b - a) * row);
    }
    q->tile_lo = lo;
    q->tile_n = n;
    sim_panel_pack(q->dim, n, q->tile, q->dim, true, q->panel);
}

/* The heap to descending order: the worst goes to the end, again and again. */
static void sort_best(neighbour *heap, size_t n)
{
    for (size_t last = n; last > 1; last--) {
        neighbour swap = heap[0];
        heap[0] = heap[last - 1];
        heap[last - 1] = swap;
        sink(heap, last - 1, 0);
    }
}

/* How many classes are better than the true one (ties: the lower class is better). */
static size_t rank_of(const double *weight, size_t classes, size_t label)
{
    size_t better = 0;
    for (size_t c = 0; c < classes; c++)
        better += weight[c] > weight[label] || (weight[c] == weight[label] && c < label);
    return better;
}

static void vote(size_t i, void *ctx)
{
    const knn *q = ctx;
    neighbour *best = q->best + i * q->k;
    double *weight = sim_scratch(q->n_classes * sizeof *weight);
    size_t label = (size_t)q->test_labels[q->first_query + i];

    sort_best(best, q->n_best[i]);
    memset(weight, 0, q->n_classes * sizeof *weight);
    for (size_t j = 0; j < q->n_best[i]; j++)
        weight[q->train_labels[best[j].index]] +=
            sim_exp_double((double)best[j].similarity / q->options->temperature);
    size_t rank = rank_of(weight, q->n_classes, label);
    q->hits[2 * i] = rank == 0;
    q->hits[2 * i + 1] = rank < 5;
}

static sim_status prepare(knn *q, float **unit, const float *queries)
{
    sim_status st = SIM_OK;
    float *norm = NULL;

    SIM_TRY(sim_alloc(&q->best, q->n_queries * q->k, "eval/knn"));
    SIM_TRY(sim_alloc(&q->n_best, q->n_queries, "eval/knn"));
    SIM_TRY(sim_alloc(&q->hits, 2 * q->n_queries, "eval/knn"));
    SIM_TRY(sim_alloc(&q->tile, TILE * q->dim, "eval/knn"));
    SIM_TRY(sim_alloc(&q->panel, sim_panel_floats(q->dim, TILE), "eval/knn"));
    SIM_TRY(sim_alloc(unit, q->n_queries * q->dim, "eval/knn"));
    SIM_TRY(sim_alloc(&norm, q->n_queries, "eval/knn"));
    sim_unit_rows(q->n_queries, q->dim, queries, *unit, norm);
    q->queries = *unit;
done:
    sim_free(norm);
    return st;
}

static sim_status unit_bank(size_t n, size_t dim, const float *bank, float **out)
{
    sim_status st = SIM_OK;
    float *norm = NULL;
    SIM_TRY(sim_alloc(out, n * dim, "eval/knn"));
    SIM_TRY(sim_alloc(&norm, n, "eval/knn"));
    sim_unit_rows(n, dim, bank, *out, norm);
done:
    sim_free(norm);
    return st;
}

size_t sim_knn_bytes(sim_partition p, const sim_knn_options *options, size_t dim,
                     size_t n_train, size_t n_test)
{
    const sim_range mine = sim_embed_local(p, n_test);
    const sim_range own = sim_embed_local(p, n_train);
    size_t queries = mine.hi - mine.lo, bank = own.hi - own.lo;
    size_t k = (size_t)options->k < n_train ? (size_t)options->k : n_train;

    return queries * (k * sizeof(neighbour) + sizeof(size_t) + 2 * sizeof(int64_t)) +
           (TILE * dim + sim_panel_floats(dim, TILE)) * sizeof(float) +
           ((queries + bank) * dim + bank) * sizeof(float); /* unit rows, norms */
}

sim_status sim_knn(const sim_comm *c, const sim_knn_options *options, size_t dim,
                   size_t n_classes, const sim_knn_set *train, const sim_knn_set *test,
                   sim_knn_result *out)
{
    sim_status st = SIM_OK;
    const sim_partition p = sim_comm_partition(c);
    sim_range mine = sim_embed_local(p, test->n), own = sim_embed_local(p, train->n);
    size_t k = (size_t)options->k < train->n ? (size_t)options->k : train->n;
    knn q = {.options = options,
             .dim = dim,
             .k = k,
             .n_queries = mine.hi - mine.lo,
             .n_classes = n_classes,
             .train_labels = train->labels,
             .test_labels = test->labels,
             .first_query = mine.lo};
    float *unit = NULL, *bank_unit = NULL;
    int64_t hits[2] = {0, 0};

    st = prepare(&q, &unit, test->features);
    if (st == SIM_OK)
        st = unit_bank(own.hi - own.lo, dim, train->features, &bank_unit);
    SIM_TRY(sim_comm_agree(c, st));
    for (size_t lo = 0; lo < train->n; lo += TILE) {
        bring_tile(c, &q, train->n, bank_unit, lo);
        sim_for((q.n_queries + QUERIES - 1) / QUERIES, match, &q);
    }
    sim_for(q.n_queries, vote, &q);
    for (size_t i = 0; i < q.n_queries; i++) {
        hits[0] += q.hits[2 * i];
        hits[1] += q.hits[2 * i + 1];
    }
    sim_comm_sum_i64(c, hits, 2);
    *out = (sim_knn_result){.top1 = (double)hits[0] / (double)test->n,
                            .top5 = (double)hits[1] / (double)test->n,
                            .k = (int64_t)k,
                            .n_train = (int64_t)train->n,
                            .n_test = (int64_t)test->n,
                            .dim = (int64_t)dim,
                            .classes = (int64_t)n_classes};
done:
    sim_free(q.best);
    sim_free(q.n_best);
    sim_free(q.hits);
    sim_free(q.tile);
    sim_free(q.panel);
    sim_free(unit);
    sim_free(bank_unit);
    return st;
}

sim_status sim_knn_same_shape(const sim_dataset *a, const sim_dataset *b)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *x = sim_dataset_about(a), *y = sim_dataset_about(b);
    SIM_CHECK(
        x->c == y->c && (x->encoded || y->encoded || (x->h == y->h && x->w == y->w)),
        SIM_E_DATA, "%s holds images of %zu x %zu x %zu, but %s of %zu x %zu x %zu",
        sim_dataset_path(a), x->h, x->w, x->c, sim_dataset_path(b), y->h, y->w, y->c);
done:
    return st;
}

sim_status sim_knn_of(const sim_comm *c, const sim_knn_options *options,
                      const sim_embedder *e, const sim_dataset *train,
                      const sim_dataset *test, int loader_threads, sim_knn_result *out)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *a = sim_dataset_about(train), *b = sim_dataset_about(test);
    size_t classes = a->n_classes > b->n_classes ? a->n_classes : b->n_classes;
    float *bank = NULL, *queries = NULL;

    SIM_TRY(sim_embed(c, e, train, loader_threads, &bank, NULL));
    SIM_TRY(sim_embed(c, e, test, loader_threads, &queries, NULL));
    SIM_TRY(sim_knn(c, options, sim_net_dim(e->backbone), classes,
                    &(sim_knn_set){a->n_images, bank, sim_dataset_labels(train)},
                    &(sim_knn_set){b->n_images, queries, sim_dataset_labels(test)}, out));
done:
    sim_free(bank);
    sim_free(queries);
    return st;
}
