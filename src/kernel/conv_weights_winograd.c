/*
 * conv_weights_winograd.c - weight gradients of 3 x 3 convolutions in the Winograd domain.
 *
 * Per leaf: blocks of tiles of x and dy are transformed to [36][tiles][c] and
 * [36][tiles][k]; 36 products over tiles add to U [36][c][k]; U goes back to [3][3][c][k],
 * and only then into the tree.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { BLOCK_FLOATS = 1 << 19, TILES_PER_ITEM = 8, FILTER_CHUNK = 1 << 12 };

typedef struct {
    const sim_conv *v;
    const float *x, *dy;     /* of the leaf */
    size_t th, tw, padded;   /* tiles of an image; k rounded up to 16 */
    size_t t0, n, most;      /* the block's tiles; most in a block */
    float *vx, *vy, *u, *dw; /* [36][most][c], [36][most][padded], [36][c][padded] */
} leaf_call;

static void transform_one(const leaf_call *q, size_t i)
{
    const sim_kernel_table *t = sim_kernels();
    const sim_conv *v = q->v;
    size_t tile = q->t0 + i, image = tile / (q->th * q->tw);
    size_t y = tile / q->tw % q->th * WINO_OUT, x = tile % q->tw * WINO_OUT;
    ptrdiff_t at =
        (((ptrdiff_t)(image * v->h + y) - 1) * (ptrdiff_t)v->w + (ptrdiff_t)x - 1) *
        (ptrdiff_t)v->c;

    t->wino_input(
        v->c, q->x + at, v->w * v->c,
        sim_wino_window((ptrdiff_t)y - 1, (ptrdiff_t)x - 1, WINO_IN, v->h, v->w),
        q->vx + i * v->c, q->most * v->c);
    t->wino_gradient(v->k, q->dy + ((image * v->h + y) * v->w + x) * v->k, v->w * v->k,
                     sim_wino_window((ptrdiff_t)y, (ptrdiff_t)x, WINO_OUT, v->h, v->w),
                     q->vy + i * q->padded, q->most * q->padded);
}

static void transform_item(size_t item, void *ctx)
{
    const leaf_call *q = ctx;
    for (size_t i = item * TILES_PER_ITEM; i < (item + 1) * TILES_PER_ITEM && i < q->n;
         i++)
        transform_one(q, i);
}

static void product_item(size_t f, void *ctx)
{
    const leaf_call *q = ctx;
    size_t c = q->v->c;
    sim_kernels()->product_transposed(c, q->padded, q->n, q->vx + f * q->most * c, c,
                                      q->vy + f * q->most * q->padded, q->padded,
                                      q->u + f * c * q->padded, q->padded);
}

static void filter_item(size_t item, void *ctx)
{
    const leaf_call *q = ctx;
    size_t total = q->v->c * q->padded, lo = item * FILTER_CHUNK;
    sim_kernels()->wino_filter(sim_smaller(FILTER_CHUNK, total - lo), q->u + lo, total,
                               q->dw + lo, total);
}

/* dw [9][c][padded] of one leaf. */
static void one_leaf(leaf_call *q, size_t images)
{
    size_t n_tiles = images * q->th * q->tw, total = q->v->c * q->padded;

    memset(q->u, 0, WINO_N * total * sizeof *q->u);
    for (q->t0 = 0; q->t0 < n_tiles; q->t0 += q->most) {
        q->n = sim_smaller(q->most, n_tiles - q->t0);
        sim_for((q->n + TILES_PER_ITEM - 1) / TILES_PER_ITEM, transform_item, q);
        sim_for(WINO_N, product_item, q);
    }
    sim_for((total + FILTER_CHUNK - 1) / FILTER_CHUNK, filter_item, q);
}

void sim_winograd_weights(const sim_conv *v, const sim_leaf_walk *walk, const float *x,
                          const float *dy, float *dw, size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t padded = sim_round_up(v->k, HALF_PANEL), leaf_floats = 9 * v->c * padded;
    size_t most =
        BLOCK_FLOATS / (WINO_N * (v->c + padded)) / TILES_PER_ITEM * TILES_PER_ITEM;
    leaf_call q = {.v = v, .padded = padded, .most = most < 8 ? 8 : most};
    size_t depth = sim_tree_depth(walk->n_leaves, walk->range);
    size_t n_nodes = sim_tree_nodes(walk->n_leaves, walk->range, nodes);
    size_t block = WINO_N * q.most * (v->c + padded), u = WINO_N * v->c * padded;
    sim_fold fold;

    q.th = (v->h + WINO_OUT - 1) / WINO_OUT;
    q.tw = (v->w + WINO_OUT - 1) / WINO_OUT;
    q.vx = sim_workspace((block + u + depth * leaf_floats) * sizeof(float));
    q.vy = q.vx + WINO_N * q.most * v->c;
    q.u = q.vx + block;
    /* Rows past k stay as they were cleared: the transform writes k channels only. */
    memset(q.vy, 0, WINO_N * q.most * padded * sizeof(float));
    sim_fold_begin(&fold, leaf_floats, walk->n_leaves, walk->range, q.u + u);
    for (size_t i = 0; i < walk->range.hi - walk->range.lo; i++) {
        size_t first = i * walk->images_per_leaf;
        q.x = x + first * v->h * v->w * v->c;
        q.dy = dy + first * v->h * v->w * v->k;
        q.dw = sim_fold_slot(&fold);
        one_leaf(&q, walk->images_per_leaf);
        sim_fold_close(&fold);
    }
    for (size_t j = 0; j < n_nodes; j++)
        sim_turn_weights(v, padded, fold.partials + j * leaf_floats,
                         dw + j * node_stride);
}
