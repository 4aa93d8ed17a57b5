/*
 * knn.c - classification by the weighted vote of nearest neighbours.
 *
 * In: features of this rank's images of the bank and of the test set.  Out: accuracy, the same on any
 * number of ranks.
 * Wu et al. 2018, arXiv 1805.01978.
 */
#include "bank.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

typedef struct {
    bank_search search;
    const sim_knn_options *options;
    size_t n_options, n_classes;
    const int32_t *train_labels, *test_labels;
    int64_t *hits; /* [local queries][options][2]: top 1, top 5 */
} knn;

/* The largest k. */
static size_t largest_k(const sim_knn_options *options, size_t n_options)
{
    size_t k = 0;

    for (size_t i = 0; i < n_options; i++)
        k = (size_t)options[i].k > k ? (size_t)options[i].k : k;
    return k;
}

static size_t hits_of(const bank_search *s, size_t n_options)
{
    return 2 * s->n_queries * n_options;
}

size_t sim_knn_bytes(sim_partition p, const sim_knn_options *options, size_t n_options,
                     size_t dim, size_t n_train, size_t n_test)
{
    const bank_search s =
        sim_bank_sizes(p, dim, largest_k(options, n_options), n_train, n_test);

    return sim_bank_bytes(s) + hits_of(&s, n_options) * sizeof(int64_t);
}

static sim_status knn_create(knn *q, const float *queries, const float *bank)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_bank_create(&q->search, queries, bank));
    SIM_TRY(sim_alloc(&q->hits, hits_of(&q->search, q->n_options), "eval/knn"));
done:
    return st;
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
static size_t classify(const knn *q, const sim_knn_options *o,
                       const sim_neighbour *sorted, size_t n, size_t label)
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
    const sim_neighbour *best = q->search.best + i * q->search.k;
    const size_t label = (size_t)q->test_labels[q->search.first_query + i];

    for (size_t o = 0; o < q->n_options; o++) {
        const size_t rank = classify(q, &q->options[o], best, q->search.n_best[i], label);
        q->hits[2 * (i * q->n_options + o)] = rank == 0;
        q->hits[2 * (i * q->n_options + o) + 1] = rank < 5;
    }
}

/* The result of option o, from the hits of this rank's queries.  Collective. */
static void count_hits(const sim_comm *c, const knn *q, size_t o, size_t n_test,
                       sim_knn_result *r)
{
    int64_t hits[2] = {0, 0};

    for (size_t i = 0; i < q->search.n_queries; i++) {
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
    knn q = {.options = options,
             .n_options = n_options,
             .n_classes = n_classes,
             .train_labels = train->labels,
             .test_labels = test->labels,
             .search = sim_bank_sizes(sim_comm_partition(c), dim,
                                      largest_k(options, n_options), train->n, test->n)};

    SIM_TRY(sim_comm_agree(c, knn_create(&q, test->features, train->features)));
    sim_bank_search(c, &q.search);
    sim_for(q.search.n_queries, classify_query, &q);
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
    sim_bank_destroy(&q.search);
    sim_free(q.hits);
    return st;
}
