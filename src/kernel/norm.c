/*
 * norm.c - moments and sums of batch-norm leaves, and the passes that use them.
 *
 * The rows of a leaf are divided into segments of chunks.  A kernel sums a chunk of
 * NORM_CHUNK rows per channel; chunks are merged in double in ascending order into their
 * segment (one item of sim_for), and segments into the leaf.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { SEGMENT = 16 * NORM_CHUNK }; /* rows per item */

typedef struct {
    const sim_norm_leaves *leaves;
    size_t segments; /* per piece */
    const float *x, *scale, *shift, *mean, *residual, *dy, *a, *b, *d;
    float *y, *g;
    sim_activation act;
    const sim_row_producer *producer; /* writes the rows of a segment first, or NULL */
    double *partials;                 /* [item][2][c] */
    double *out;                      /* [leaf][2][c] */
} norm_call;

typedef struct {
    size_t leaf, row, n; /* rows [row, row + n) of the arrays */
} segment;

static norm_call norm_call_of(const sim_norm_leaves *leaves)
{
    norm_call q = {.leaves = leaves, .segments = (leaves->rows + SEGMENT - 1) / SEGMENT};
    return q;
}

static size_t norm_items(const norm_call *q)
{
    return q->leaves->n_leaves * q->leaves->n_pieces * q->segments;
}

void sim_norm_workspace(const sim_norm_leaves *leaves, sim_workspace_size *size)
{
    const norm_call q = norm_call_of(leaves);
    sim_raise(&size->shared, norm_items(&q) * 2 * leaves->c * sizeof(double));
    sim_raise(&size->thread, 2 * leaves->c * sizeof(double));
}

static segment segment_at(const norm_call *q, size_t item)
{
    size_t piece = item / q->segments, lo = item % q->segments * SEGMENT;
    return (segment){.leaf = piece / q->leaves->n_pieces,
                     .row = q->leaves->start[piece] + lo,
                     .n = sim_min(SEGMENT, q->leaves->rows - lo)};
}

bool sim_norm_has_units(const sim_norm_leaves *leaves, size_t unit)
{
    enum { ITEMS_PER_THREAD = 4 };
    const norm_call q = norm_call_of(leaves);
    return unit > 0 && SEGMENT % unit == 0 && leaves->rows % unit == 0 &&
           norm_items(&q) >= ITEMS_PER_THREAD * (size_t)sim_threads();
}

static void produce(const norm_call *q, const segment *s)
{
    if (q->producer)
        q->producer->rows(q->producer->ctx, s->row, s->n);
}

/* Merges (mean, M2) of nb rows into (mean, M2) of na rows: Chan, Golub, LeVeque 1979. */
static void merge_moments(size_t c, double *into, double na, const double *from,
                          double nb)
{
    double share = nb / (na + nb), weight = na * share;
    for (size_t i = 0; i < c; i++) {
        double delta = from[i] - into[i];
        into[i] += delta * share;
        into[c + i] += from[c + i] + delta * delta * weight;
    }
}

static void moments_item(size_t item, void *ctx)
{
    const norm_call *q = ctx;
    size_t c = q->leaves->c;
    segment s = segment_at(q, item);
    double *sum = q->partials + item * 2 * c;

    produce(q, &s);
    double *chunk = sim_scratch(2 * c * sizeof *chunk);
    for (size_t at = 0; at < s.n; at += NORM_CHUNK) {
        size_t n = sim_min(NORM_CHUNK, s.n - at);
        double *to = at ? chunk : sum;
        sim_kernels()->moments(n, c, q->x + (s.row + at) * c, to, to + c);
        if (at)
            merge_moments(c, sum, (double)at, chunk, (double)n);
    }
}

static void moments_leaf(size_t leaf, void *ctx)
{
    const norm_call *q = ctx;
    size_t c = q->leaves->c, per_leaf = q->leaves->n_pieces * q->segments;
    double *out = q->out + leaf * 2 * c, rows = 0;

    for (size_t i = 0; i < per_leaf; i++) {
        size_t item = leaf * per_leaf + i;
        const double *from = q->partials + item * 2 * c;
        double n = (double)segment_at(q, item).n;
        if (i == 0)
            memcpy(out, from, 2 * c * sizeof *out);
        else
            merge_moments(c, out, rows, from, n);
        rows += n;
    }
    for (size_t i = 0; i < c; i++)
        out[c + i] = out[c + i] > 0 ? out[c + i] / rows : 0 * out[c + i];
}

void sim_norm_moments(const sim_norm_leaves *leaves, const float *x, double *out)
{
    sim_norm_moments_of(leaves, NULL, x, out);
}

void sim_norm_moments_of(const sim_norm_leaves *leaves, const sim_row_producer *producer,
                         const float *x, double *out)
{
    norm_call q = norm_call_of(leaves);
    q.producer = producer;
    q.x = x;
    q.out = out;
    q.partials = sim_workspace(norm_items(&q) * 2 * leaves->c * sizeof(double));
    sim_for(norm_items(&q), moments_item, &q);
    sim_for(leaves->n_leaves, moments_leaf, &q);
}

static void apply_item(size_t item, void *ctx)
{
    const norm_call *q = ctx;
    size_t c = q->leaves->c;
    segment s = segment_at(q, item);
    sim_kernels()->norm_apply(
        s.n, c, q->x + s.row * c, q->scale + s.leaf * c, q->shift + s.leaf * c,
        q->residual ? q->residual + s.row * c : NULL, q->act, q->y + s.row * c);
}

void sim_norm_apply(const sim_norm_leaves *leaves, const float *x, const float *scale,
                    const float *shift, const float *residual, sim_activation act,
                    float *y)
{
    norm_call q = norm_call_of(leaves);
    q.x = x;
    q.scale = scale;
    q.shift = shift;
    q.residual = residual;
    q.act = act;
    q.y = y;
    sim_for(norm_items(&q), apply_item, &q);
}

static void sums_item(size_t item, void *ctx)
{
    const norm_call *q = ctx;
    size_t c = q->leaves->c;
    segment s = segment_at(q, item);
    double *sum = q->partials + item * 2 * c;

    produce(q, &s);
    float *chunk = sim_scratch(2 * c * sizeof *chunk);
    memset(sum, 0, 2 * c * sizeof *sum);
    for (size_t at = 0; at < s.n; at += NORM_CHUNK) {
        size_t n = sim_min(NORM_CHUNK, s.n - at), first = (s.row + at) * c;
        sim_kernels()->norm_sums(n, c, q->x + first, q->scale + s.leaf * c,
                                 q->shift + s.leaf * c, q->mean + s.leaf * c,
                                 q->residual ? q->residual + first : NULL, q->act,
                                 q->dy + first, q->g + first, chunk, chunk + c);
        for (size_t i = 0; i < 2 * c; i++)
            sum[i] += (double)chunk[i];
    }
}

static void sums_leaf(size_t leaf, void *ctx)
{
    const norm_call *q = ctx;
    size_t c = q->leaves->c, per_leaf = q->leaves->n_pieces * q->segments;
    double *out = q->out + leaf * 2 * c;

    memset(out, 0, 2 * c * sizeof *out);
    for (size_t i = 0; i < per_leaf; i++)
        for (size_t j = 0; j < 2 * c; j++)
            out[j] += q->partials[(leaf * per_leaf + i) * 2 * c + j];
}

void sim_norm_backward_sums(const sim_norm_leaves *leaves, const float *x,
                            const float *scale, const float *shift, const float *mean,
                            const float *residual, sim_activation act, const float *dy,
                            float *g, double *out)
{
    sim_norm_sums_of(leaves, NULL, x, scale, shift, mean, residual, act, dy, g, out);
}

void sim_norm_sums_of(const sim_norm_leaves *leaves, const sim_row_producer *producer,
                      const float *x, const float *scale, const float *shift,
                      const float *mean, const float *residual, sim_activation act,
                      const float *dy, float *g, double *out)
{
    norm_call q = norm_call_of(leaves);
    q.producer = producer;
    q.x = x;
    q.scale = scale;
    q.shift = shift;
    q.mean = mean;
    q.residual = residual;
    q.act = act;
    q.dy = dy;
    q.g = g;
    q.out = out;
    q.partials = sim_workspace(norm_items(&q) * 2 * leaves->c * sizeof(double));
    sim_for(norm_items(&q), sums_item, &q);
    sim_for(leaves->n_leaves, sums_leaf, &q);
}

static void backward_item(size_t item, void *ctx)
{
    const norm_call *q = ctx;
    size_t c = q->leaves->c;
    segment s = segment_at(q, item);
    sim_kernels()->norm_backward(s.n, c, q->x + s.row * c, q->dy + s.row * c,
                                 q->a + s.leaf * c, q->b + s.leaf * c, q->d + s.leaf * c,
                                 q->y + s.row * c);
}

void sim_norm_backward(const sim_norm_leaves *leaves, const float *x, const float *g,
                       const float *a, const float *b, const float *d, float *dx)
{
    norm_call q = norm_call_of(leaves);
    q.x = x;
    q.dy = g;
    q.a = a;
    q.b = b;
    q.d = d;
    q.y = dx;
    sim_for(norm_items(&q), backward_item, &q);
}
