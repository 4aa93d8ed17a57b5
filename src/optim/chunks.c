/*
 * chunks.c - parallel loops and norms over chunks of 4096 elements, for the optimizers.
 */
#include "optim_row.h"

#include "simile/thread.h"
#include "simile/tree.h"

#include <math.h>

double sim_optim_decay(const tensor_update *u)
{
    return u->p->bn_or_bias && !u->options->decay_bn_bias ? 0 : u->options->weight_decay;
}

enum { CHUNK = 4096 };

typedef struct {
    const tensor_update *u;
    const void *more;
    void (*fn)(const tensor_update *u, const void *more, size_t lo, size_t hi);
} chunk_call;

static void update_one_chunk(size_t i, void *ctx)
{
    const chunk_call *q = ctx;
    size_t lo = i * CHUNK, n = q->u->p->count;
    q->fn(q->u, q->more, lo, lo + CHUNK < n ? lo + CHUNK : n);
}

void sim_optim_for(const tensor_update *u, const void *more,
                   void (*fn)(const tensor_update *u, const void *more, size_t lo,
                              size_t hi))
{
    chunk_call q = {u, more, fn};
    sim_for((u->p->count + CHUNK - 1) / CHUNK, update_one_chunk, &q);
}

/* ---- norms: chunks of 4096 in double, then the midpoint tree over chunks ---- */

typedef struct {
    size_t n;
    const void *ctx;
    double (*squares)(const void *ctx, size_t lo, size_t hi);
    double *out;
} norm_call;

static double reduce_chunks(const norm_call *q, size_t lo, size_t hi)
{
    if (hi - lo == 1) {
        size_t at = lo * CHUNK;
        return q->squares(q->ctx, at, at + CHUNK < q->n ? at + CHUNK : q->n);
    }
    size_t middle = lo + (hi - lo) / 2;
    double left = reduce_chunks(q, lo, middle);
    return left + reduce_chunks(q, middle, hi);
}

enum { NORM_PARTS = 64 }; /* parallel parts: nodes of the tree at depth 6 */

/* Node `i` of depth 6 below all chunks. */
static sim_range norm_part_chunks(size_t chunks, size_t i)
{
    sim_range r = {0, chunks};
    for (size_t bit = NORM_PARTS / 2; bit > 0; bit /= 2) {
        size_t middle = r.lo + (r.hi - r.lo) / 2;
        if (i & bit)
            r.lo = middle;
        else
            r.hi = middle;
    }
    return r;
}

static void reduce_norm_part(size_t i, void *ctx)
{
    const norm_call *q = ctx;
    sim_range r = norm_part_chunks((q->n + CHUNK - 1) / CHUNK, i);
    q->out[i] = r.lo < r.hi ? reduce_chunks(q, r.lo, r.hi) : 0;
}

double sim_optim_norm(size_t n, const void *ctx,
                      double (*squares)(const void *ctx, size_t lo, size_t hi))
{
    double parts[NORM_PARTS];
    norm_call q = {.n = n, .ctx = ctx, .squares = squares, .out = parts};
    sim_for(NORM_PARTS, reduce_norm_part, &q);
    for (size_t half = 1; half < NORM_PARTS; half *= 2)
        for (size_t i = 0; i < NORM_PARTS; i += 2 * half)
            parts[i] += parts[i + half];
    return sqrt(parts[0]);
}

static double plain_squares(const void *ctx, size_t lo, size_t hi)
{
    const float *x = ctx;
    double sum = 0;
    for (size_t i = lo; i < hi; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

double sim_norm_l2(const float *x, size_t n, bool *bad)
{
    double norm = sim_optim_norm(n, x, plain_squares);
    *bad = !isfinite(norm);
    return norm;
}
