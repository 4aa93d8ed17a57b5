/*
 * conv_weights.c - weight gradients by products over pixels, leaf by leaf.
 *
 * dW[(tap, c)][k] = sum over a leaf's pixels of patch[(tap, c)] dy[k], one chain of fma over
 * ascending pixels.  An item owns some rows of dW for all leaves: its stack of the tree
 * stays in cache, and items share nothing.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { ROWS = 48, PIXELS = 256 }; /* of an item; gathered at a time */

typedef struct {
    const sim_conv *v;
    const sim_leaf_walk *walk;
    const float *x, *dy;
    float *native; /* [nodes][taps * c][padded] */
    size_t padded; /* k rounded up to 16 */
    size_t depth, n_nodes, images_at_once;
} weights_call;

/* Columns [m0, m0 + m) of the patches of image's output pixels: out [pixels][m]. */
static void gather_columns(const sim_conv *v, const float *image, size_t m0, size_t m,
                           float *out)
{
    for (size_t at = 0; at < m;) {
        size_t tap = (m0 + at) / v->c, c0 = (m0 + at) % v->c;
        size_t run = sim_smaller(v->c - c0, m - at);
        size_t r = tap / v->size, s = tap % v->size;
        for (size_t o = 0; o < v->oh * v->ow; o++) {
            size_t y = o / v->ow * v->stride + r, x = o % v->ow * v->stride + s;
            bool inside =
                y >= v->pad && x >= v->pad && y - v->pad < v->h && x - v->pad < v->w;
            float *to = out + o * m + at;
            if (inside)
                memcpy(to, image + ((y - v->pad) * v->w + x - v->pad) * v->c + c0,
                       run * sizeof *to);
            else
                memset(to, 0, run * sizeof *to);
        }
        at += run;
    }
}

/* dy of some pixels with rows padded to a multiple of 16; itself where they are. */
static const float *padded_gradient(const weights_call *q, const float *dy, size_t pixels,
                                    float *buffer)
{
    size_t k = q->v->k;
    if (q->padded == k)
        return dy;
    for (size_t p = 0; p < pixels; p++) {
        memcpy(buffer + p * q->padded, dy + p * k, k * sizeof *dy);
        memset(buffer + p * q->padded + k, 0, (q->padded - k) * sizeof *dy);
    }
    return buffer;
}

/* Adds the products of n images to sum [m][padded]. */
static void add_images(const weights_call *q, size_t image, size_t n, size_t m0, size_t m,
                       float *patches, float *gradients, float *sum)
{
    const sim_conv *v = q->v;
    size_t in = v->h * v->w * v->c, out = v->oh * v->ow;
    for (size_t i = 0; i < n; i++)
        gather_columns(v, q->x + (image + i) * in, m0, m, patches + i * out * m);
    const float *dy = padded_gradient(q, q->dy + image * out * v->k, n * out, gradients);
    sim_kernels()->product_transposed(m, q->padded, n * out, patches, m, dy, q->padded,
                                      true, sum, q->padded);
}

static void rows_item(size_t item, void *ctx)
{
    const weights_call *q = ctx;
    const sim_conv *v = q->v;
    size_t total = v->size * v->size * v->c, m0 = item * ROWS;
    size_t m = sim_smaller(ROWS, total - m0), n = m * q->padded;
    size_t pixels = q->images_at_once * v->oh * v->ow;
    float *partials =
        sim_scratch((q->depth * n + pixels * (m + q->padded)) * sizeof *partials);
    float *patches = partials + q->depth * n, *gradients = patches + pixels * m;
    sim_fold fold;

    sim_fold_begin(&fold, n, q->walk->n_leaves, q->walk->range, partials);
    for (size_t leaf = 0; leaf < q->walk->range.hi - q->walk->range.lo; leaf++) {
        float *sum = sim_fold_slot(&fold);
        size_t first = leaf * q->walk->images_per_leaf, step = q->images_at_once;
        memset(sum, 0, n * sizeof *sum);
        for (size_t i = 0; i < q->walk->images_per_leaf; i += step)
            add_images(q, first + i, sim_smaller(step, q->walk->images_per_leaf - i), m0,
                       m, patches, gradients, sum);
        sim_fold_close(&fold);
    }
    for (size_t j = 0; j < q->n_nodes; j++)
        memcpy(q->native + (j * total + m0) * q->padded, partials + j * n,
               n * sizeof *partials);
}

/* ---- to torch's order ---- */

typedef struct {
    const sim_conv *v;
    const float *native; /* [taps][c][padded] */
    size_t padded;
    float *dw; /* [k][c][taps] */
} turn_call;

enum { TURN_K = 16 };

/* Sixteen output channels: reads run along a row, writes along a filter. */
static void turn_item(size_t item, void *ctx)
{
    const turn_call *q = ctx;
    size_t n_c = q->v->c, taps = q->v->size * q->v->size, k0 = item * TURN_K;
    size_t n = sim_smaller(TURN_K, q->v->k - k0);
    for (size_t c = 0; c < n_c; c++)
        for (size_t t = 0; t < taps; t++) {
            const float *from = q->native + (t * n_c + c) * q->padded + k0;
            float *to = q->dw + (k0 * n_c + c) * taps + t;
            for (size_t k = 0; k < n; k++)
                to[k * n_c * taps] = from[k];
        }
}

void sim_turn_weights(const sim_conv *v, size_t padded, const float *native, float *dw)
{
    turn_call q = {v, native, padded, dw};
    sim_for((v->k + TURN_K - 1) / TURN_K, turn_item, &q);
}

static size_t images_at_once(const sim_conv *v)
{
    size_t out = v->oh * v->ow;
    return out < PIXELS ? PIXELS / out : 1;
}

void sim_direct_weights_room(const sim_conv *v, const sim_leaf_walk *walk, sim_room *room)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t padded = sim_round_up(v->k, HALF_PANEL), rows = v->size * v->size * v->c;
    size_t n_nodes = sim_tree_nodes(walk->n_leaves, walk->range, nodes);
    size_t depth = sim_tree_depth(walk->n_leaves, walk->range);
    size_t m = sim_smaller(ROWS, rows), pixels = images_at_once(v) * v->oh * v->ow;

    sim_raise(&room->shared, n_nodes * rows * padded * sizeof(float));
    sim_raise(&room->thread,
              (depth * m * padded + pixels * (m + padded)) * sizeof(float));
}

void sim_direct_weights(const sim_conv *v, const sim_leaf_walk *walk, const float *x,
                        const float *dy, float *dw, size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t rows = v->size * v->size * v->c;
    weights_call q = {.v = v,
                      .walk = walk,
                      .x = x,
                      .dy = dy,
                      .padded = sim_round_up(v->k, HALF_PANEL),
                      .depth = sim_tree_depth(walk->n_leaves, walk->range),
                      .n_nodes = sim_tree_nodes(walk->n_leaves, walk->range, nodes),
                      .images_at_once = images_at_once(v)};
    q.native = sim_workspace(q.n_nodes * rows * q.padded * sizeof *q.native);
    sim_for((rows + ROWS - 1) / ROWS, rows_item, &q);
    for (size_t j = 0; j < q.n_nodes; j++)
        sim_turn_weights(v, q.padded, q.native + j * rows * q.padded,
                         dw + j * node_stride);
}
