/*
 * conv_weights_winograd.c - weight gradients of 3 x 3 convolutions in the Winograd domain.
 *
 * For each leaf, in rounds: tiles of x and dy are transformed to [36][tiles][c] and
 * [36][tiles][k], and 36 products over tiles add to U [36][c][k].  U is then transformed to
 * [3][3][c][k], which enters the tree.  In narrow layers, an item of sim_for is a frequency.
 * In wide layers, it is a patch of rows and columns in all frequencies; if one round
 * contains the whole leaf, U remains in the scratch of the thread, and [36][c][k] is never
 * written to memory.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

/* Size of a patch: U of 128 x 64 (1.2 MB) stays in L2.  Measured with AVX-512 at C = 512 on
 * 4 x 4 images: 2.0 times the rate of the direct product, and 1.06 times that of 96 x 64. */
enum { ROWS = 128, COLUMNS = 64, MIN_PATCHES = 8 };

/* Floats of the tiles of a round: they fit in the last-level cache, and in L2 where there is
 * little arithmetic (up to THIN channels in and out; measured: 1.5 times the rate at
 * C = 16).  Rounds of wide layers have enough tiles to amortize a pass over U. */
enum {
    ROUND_FLOATS = 1 << 19,
    THIN_FLOATS = 1 << 17,
    MIN_ROUND = 8,
    MIN_WIDE_ROUND = 128
};
enum { THIN = 32, TILES_PER_ITEM = 8, FILTER_CHUNK = 1 << 12 };

typedef struct {
    const sim_conv *v;
    sim_conv_input x; /* images of the leaf */
    const float *dy;
    size_t th, tw, padded;     /* tiles per image; k rounded up to 16 */
    size_t n_tiles, max_tiles; /* tiles of the leaf; maximum per round */
    size_t t0, n;              /* tiles [t0, t0 + n) of the round */
    size_t across;             /* patches along k */
    bool wide;                 /* items are patches */
    /* The transformed tiles, [36][blocks][max_tiles][row]: a block is the rows or columns of
     * a patch, so that a patch reads contiguous memory; narrow layers have one block. */
    float *vx, *vy;
    size_t x_block, y_block; /* channels of a block */
    size_t x_row, y_row;     /* those, rounded up to an odd number of cache lines */
    float *u; /* [36][c][padded]; wide: [item][36][ROWS][COLUMNS] or unused */
    size_t x_stride, y_stride, u_stride; /* floats per frequency */
    float *dw;                           /* [9][c][padded] */
} leaf_call;

static size_t tiles_of_round(bool wide, size_t channels, size_t n_tiles)
{
    size_t floats = channels <= THIN ? THIN_FLOATS : ROUND_FLOATS;
    size_t fit = floats / (WINO_N * channels) / TILES_PER_ITEM * TILES_PER_ITEM;
    size_t min = wide ? MIN_WIDE_ROUND : MIN_ROUND;
    return sim_min(fit < min ? min : fit, n_tiles);
}

static void transform_x(const leaf_call *q, size_t i, size_t image, size_t y, size_t x)
{
    const sim_conv *v = q->v;
    wino_window in =
        sim_wino_window((ptrdiff_t)y - 1, (ptrdiff_t)x - 1, WINO_IN, v->h, v->w);
    ptrdiff_t at =
        (((ptrdiff_t)(image * v->h + y) - 1) * (ptrdiff_t)v->w + (ptrdiff_t)x - 1) *
        (ptrdiff_t)v->c;
    float *to = q->vx + i * q->x_row;

    for (size_t c0 = 0; c0 < v->c; c0 += q->x_block, to += q->max_tiles * q->x_row)
        sim_kernels()->wino_input(sim_min(q->x_block, v->c - c0),
                                  q->x.x + at + (ptrdiff_t)c0, v->c, v->w * v->c, in,
                                  sim_read_norm(v, &q->x, image, c0), to, q->x_stride);
}

static void transform_dy(const leaf_call *q, size_t i, size_t image, size_t y, size_t x)
{
    const sim_conv *v = q->v;
    wino_window in = sim_wino_window((ptrdiff_t)y, (ptrdiff_t)x, WINO_OUT, v->h, v->w);
    const float *dy = q->dy + ((image * v->h + y) * v->w + x) * v->k;
    float *to = q->vy + i * q->y_row;

    for (size_t k0 = 0; k0 < v->k; k0 += q->y_block, to += q->max_tiles * q->y_row)
        sim_kernels()->wino_gradient(sim_min(q->y_block, v->k - k0), dy + k0, v->k,
                                     v->w * v->k, in, to, q->y_stride);
}

static void transform_tile(const leaf_call *q, size_t i)
{
    size_t tile = q->t0 + i, image = tile / (q->th * q->tw);
    size_t y = tile / q->tw % q->th * WINO_OUT, x = tile % q->tw * WINO_OUT;
    transform_x(q, i, image, y, x);
    transform_dy(q, i, image, y, x);
}

static void transform_item(size_t item, void *ctx)
{
    const leaf_call *q = ctx;
    for (size_t i = item * TILES_PER_ITEM; i < (item + 1) * TILES_PER_ITEM && i < q->n;
         i++)
        transform_tile(q, i);
}

/* ---- narrow layers: items are frequencies, then chunks of U ---- */

static void frequency_item(size_t f, void *ctx)
{
    const leaf_call *q = ctx;
    size_t c = q->v->c;
    sim_kernels()->product_transposed(c, q->padded, q->n, q->vx + f * q->x_stride,
                                      q->x_row, q->vy + f * q->y_stride, q->y_row,
                                      q->t0 > 0, q->u + f * q->u_stride, q->padded);
}

static void filter_item(size_t item, void *ctx)
{
    const leaf_call *q = ctx;
    size_t total = q->v->c * q->padded, lo = item * FILTER_CHUNK;
    sim_kernels()->wino_filter(sim_min(FILTER_CHUNK, total - lo), q->u + lo, q->u_stride,
                               q->dw + lo, total);
}

/* ---- wide layers: items are patches ---- */

/* Rows [c0, c0 + rows) and columns [k0, k0 + columns) of dW, computed by one item. */
typedef struct {
    size_t c0, rows, k0, columns;
} patch;

static patch patch_of(const leaf_call *q, size_t item)
{
    size_t c0 = item / q->across * ROWS, k0 = item % q->across * COLUMNS;
    return (patch){.c0 = c0,
                   .rows = sim_min(ROWS, q->v->c - c0),
                   .k0 = k0,
                   .columns = sim_min(COLUMNS, q->padded - k0)};
}

/* Transforms U of the patch to the nine taps of dW. */
static void transform_patch(const leaf_call *q, const patch *p, const float *u)
{
    for (size_t r = 0; r < p->rows; r++)
        sim_kernels()->wino_filter(p->columns, u + r * p->columns, q->u_stride,
                                   q->dw + (p->c0 + r) * q->padded + p->k0,
                                   q->v->c * q->padded);
}

static void patch_item(size_t item, void *ctx)
{
    const leaf_call *q = ctx;
    patch p = patch_of(q, item);
    size_t floats = WINO_N * q->u_stride;
    size_t x_block = q->max_tiles * q->x_row, y_block = q->max_tiles * q->y_row;
    const float *vx = q->vx + p.c0 / ROWS * x_block,
                *vy = q->vy + p.k0 / COLUMNS * y_block;
    float *u =
        q->n == q->n_tiles ? sim_scratch(floats * sizeof *u) : q->u + item * floats;

    for (size_t f = 0; f < WINO_N; f++)
        sim_kernels()->product_transposed(p.rows, p.columns, q->n, vx + f * q->x_stride,
                                          q->x_row, vy + f * q->y_stride, q->y_row,
                                          q->t0 > 0, u + f * q->u_stride, p.columns);
    if (q->t0 + q->n == q->n_tiles)
        transform_patch(q, &p, u);
}

static size_t n_patches(const leaf_call *q)
{
    return (q->v->c + ROWS - 1) / ROWS * q->across;
}

/* Computes dw [9][c][padded] of one leaf. */
static void leaf_weights(leaf_call *q)
{
    size_t total = q->v->c * q->padded;
    for (q->t0 = 0; q->t0 < q->n_tiles; q->t0 += q->max_tiles) {
        q->n = sim_min(q->max_tiles, q->n_tiles - q->t0);
        sim_for((q->n + TILES_PER_ITEM - 1) / TILES_PER_ITEM, transform_item, q);
        if (q->wide)
            sim_for(n_patches(q), patch_item, q);
        else
            sim_for(WINO_N, frequency_item, q);
    }
    if (!q->wide)
        sim_for((total + FILTER_CHUNK - 1) / FILTER_CHUNK, filter_item, q);
}

/* Floats of U in the shared workspace. */
static size_t u_floats(const leaf_call *q)
{
    if (!q->wide)
        return WINO_N * q->u_stride;
    return q->max_tiles < q->n_tiles ? n_patches(q) * WINO_N * q->u_stride : 0;
}

/* Sets the fields that follow from the shapes; the caller sets buffers and leaf. */
static leaf_call leaf_call_of(const sim_conv *v, const sim_leaf_layout *layout)
{
    size_t padded = sim_round_up(v->k, HALF_PANEL);
    leaf_call q = {.v = v,
                   .padded = padded,
                   .th = (v->h + WINO_OUT - 1) / WINO_OUT,
                   .tw = (v->w + WINO_OUT - 1) / WINO_OUT,
                   .across = (padded + COLUMNS - 1) / COLUMNS};
    q.n_tiles = layout->images_per_leaf * q.th * q.tw;
    q.wide = n_patches(&q) >= MIN_PATCHES;
    q.max_tiles = tiles_of_round(q.wide, v->c + padded, q.n_tiles);
    q.x_block = q.wide ? ROWS : v->c;
    q.y_block = q.wide ? COLUMNS : padded;
    q.x_row = sim_wino_stride(sim_min(q.x_block, v->c));
    q.y_row = sim_wino_stride(sim_min(q.y_block, padded));
    q.x_stride =
        sim_wino_stride((v->c + q.x_block - 1) / q.x_block * q.max_tiles * q.x_row);
    q.y_stride =
        sim_wino_stride((padded + q.y_block - 1) / q.y_block * q.max_tiles * q.y_row);
    q.u_stride = sim_wino_stride(q.wide ? ROWS * COLUMNS : v->c * padded);
    return q;
}

/* Floats of the transformed tiles of a round. */
static size_t tile_floats(const leaf_call *q)
{
    return WINO_N * (q->x_stride + q->y_stride);
}

static size_t workspace_floats(const leaf_call *q, const sim_leaf_layout *layout)
{
    size_t depth = sim_tree_depth(layout->n_leaves, layout->range);
    return tile_floats(q) + u_floats(q) + depth * 9 * q->v->c * q->padded;
}

void sim_winograd_weights_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                                    sim_workspace_size *size)
{
    const leaf_call q = leaf_call_of(v, layout);
    sim_raise(&size->shared, workspace_floats(&q, layout) * sizeof(float));
    if (q.wide && q.max_tiles == q.n_tiles)
        sim_raise(&size->thread, WINO_N * q.u_stride * sizeof(float));
}

void sim_winograd_weights(const sim_conv *v, const sim_leaf_layout *layout,
                          const sim_conv_input *x, const float *dy, float *dw,
                          size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    leaf_call q = leaf_call_of(v, layout);
    size_t padded = q.padded, leaf_floats = 9 * v->c * padded;
    size_t n_nodes = sim_tree_nodes(layout->n_leaves, layout->range, nodes);
    sim_tree_stack stack;

    q.vx = sim_workspace(workspace_floats(&q, layout) * sizeof(float));
    q.vy = q.vx + WINO_N * q.x_stride;
    q.u = q.vx + tile_floats(&q);
    /* The transform writes k channels; the columns past k remain 0. */
    if (padded > v->k)
        memset(q.vy, 0, WINO_N * q.y_stride * sizeof(float));
    sim_tree_stack_begin(&stack, leaf_floats, layout->n_leaves, layout->range,
                         q.u + u_floats(&q));
    for (size_t i = 0; i < layout->range.hi - layout->range.lo; i++) {
        size_t first = i * layout->images_per_leaf;
        q.x = sim_input_from(v, x, first);
        q.dy = dy + first * v->h * v->w * v->k;
        q.dw = sim_tree_stack_top(&stack);
        leaf_weights(&q);
        sim_tree_stack_push(&stack);
    }
    for (size_t j = 0; j < n_nodes; j++)
        sim_weights_to_torch(v, padded, stack.partials + j * leaf_floats,
                             dw + j * node_stride);
}
