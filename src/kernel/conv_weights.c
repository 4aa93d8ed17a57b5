/*
 * conv_weights.c - weight gradients by matrix products over pixels, per leaf.
 *
 * dW[(tap, c)][k] = sum over the pixels of a leaf of patch[(tap, c)] dy[k], one chain of fma
 * over ascending pixels.  An item of sim_for computes a tile of dW for all leaves, so its
 * tree stack stays in cache and items share no data.  If dW is small, an item computes a
 * tile of one leaf, which provides enough items for all threads; the leaves are summed by
 * the tree at the end.
 *
 * The operands of a product are copied to contiguous panels first: rows of an image are often
 * a multiple of 4096 bytes apart, which leaves few sets of L1 and a page per row.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

/* A tile of dW; pixels at a time: the panel of dy [PIXELS][PANEL] stays in L1, the patches
 * [PIXELS][ROWS] in L2. */
enum { ROWS = 192, COLUMNS = 192, PIXELS = 128 };
enum { SMALL_FLOATS = 1 << 15 }; /* largest dW whose leaves are stored separately */

typedef struct {
    const sim_conv *v;
    const sim_leaf_layout *layout;
    const sim_conv_input *x;
    const float *dy;
    float *native; /* [nodes][taps * c][padded] */
    float *leaves; /* [leaves][taps * c][padded], if dW is small */
    size_t rows;   /* taps * c */
    size_t padded; /* k rounded up to 16 */
    size_t across; /* tiles along k */
    size_t depth, n_nodes;
} weights_call;

/* Rows [m0, m0 + m) and columns [k0, k0 + n) of dW. */
typedef struct {
    size_t m0, m, k0, n;
} weights_tile;

/* Number of leaves of this rank. */
static size_t leaves_of(const sim_leaf_layout *layout)
{
    return layout->range.hi - layout->range.lo;
}

static size_t n_tiles(const weights_call *q)
{
    return (q->rows + ROWS - 1) / ROWS * q->across;
}

static weights_tile tile_at(const weights_call *q, size_t i)
{
    size_t m0 = i / q->across * ROWS, k0 = i % q->across * COLUMNS;
    return (weights_tile){.m0 = m0,
                          .m = sim_min(ROWS, q->rows - m0),
                          .k0 = k0,
                          .n = sim_min(COLUMNS, q->padded - k0)};
}

/* out [n][m]: columns [m0, m0 + m) of the patches of output pixels [p0, p0 + n), numbered over all
 * images. */
static void gather_columns(const sim_conv *v, const sim_conv_input *x, size_t p0,
                           size_t n, size_t m0, size_t m, float *out)
{
    if (v->size > 1 || v->stride > 1) {
        sim_gather_patches(v, x->x, p0, n, m0, m, out);
        return;
    }
    sim_kernels()->copy_columns(n, m, m, x->x + p0 * v->c + m0, v->c, out, m);
    if (x->scale)
        sim_apply_read_norm(v, x, p0, n, m0, m, out, out);
}

/* Adds the contribution of pixels [p0, p0 + n) to sum [m][tile->n]. */
static void add_pixels(const weights_call *q, size_t p0, size_t n, const weights_tile *t,
                       float *patches, float *panel, float *sum)
{
    const sim_kernel_table *kernels = sim_kernels();
    size_t k = q->v->k;

    gather_columns(q->v, q->x, p0, n, t->m0, t->m, patches);
    for (size_t j = 0; j < t->n; j += PANEL) {
        size_t k0 = t->k0 + j, width = sim_min(PANEL, t->n - j);
        kernels->copy_columns(n, sim_min(width, k - k0), width, q->dy + p0 * k + k0, k,
                              panel, width);
        kernels->product_transposed(t->m, width, n, patches, t->m, panel, width, true,
                                    sum + j, t->n);
    }
}

/* Floats of the panels of a tile. */
static size_t panels_floats(size_t m)
{
    return PIXELS * (m + PANEL);
}

/* sum [m][n]: the tile of one leaf. */
static void leaf_tile(const weights_call *q, size_t leaf, const weights_tile *t,
                      float *panels, float *sum)
{
    size_t pixels = q->layout->images_per_leaf * q->v->oh * q->v->ow;

    memset(sum, 0, t->m * t->n * sizeof *sum);
    for (size_t p = 0; p < pixels; p += PIXELS)
        add_pixels(q, leaf * pixels + p, sim_min(PIXELS, pixels - p), t, panels,
                   panels + PIXELS * t->m, sum);
}

/* Writes a tile [m][n] to its place in dw [rows][padded]. */
static void store_tile(const weights_call *q, const weights_tile *t, const float *sum,
                       float *dw)
{
    for (size_t r = 0; r < t->m; r++)
        memcpy(dw + (t->m0 + r) * q->padded + t->k0, sum + r * t->n, t->n * sizeof *sum);
}

static void tile_item(size_t item, void *ctx)
{
    const weights_call *q = ctx;
    const weights_tile t = tile_at(q, item);
    size_t floats = t.m * t.n;
    float *partials =
        sim_scratch((q->depth * floats + panels_floats(t.m)) * sizeof(float));
    sim_tree_stack stack;

    sim_tree_stack_begin(&stack, floats, q->layout->n_leaves, q->layout->range, partials);
    for (size_t leaf = 0; leaf < leaves_of(q->layout); leaf++) {
        leaf_tile(q, leaf, &t, partials + q->depth * floats, sim_tree_stack_top(&stack));
        sim_tree_stack_push(&stack);
    }
    for (size_t j = 0; j < q->n_nodes; j++)
        store_tile(q, &t, partials + j * floats, q->native + j * q->rows * q->padded);
}

/* ---- small dW: leaves are separate items ---- */

static bool is_small(const weights_call *q)
{
    return q->rows * q->padded <= SMALL_FLOATS;
}

static void leaf_item(size_t item, void *ctx)
{
    const weights_call *q = ctx;
    size_t leaf = item / n_tiles(q);
    const weights_tile t = tile_at(q, item % n_tiles(q));
    float *sum = sim_scratch((t.m * t.n + panels_floats(t.m)) * sizeof *sum);

    leaf_tile(q, leaf, &t, sum + t.m * t.n, sum);
    store_tile(q, &t, sum, q->leaves + leaf * q->rows * q->padded);
}

/* The nodes are left at the bottom of the tree stack, which is `native`. */
static void reduce_leaves(const weights_call *q)
{
    size_t n = q->rows * q->padded;
    sim_tree_stack stack;
    sim_tree_stack_begin(&stack, n, q->layout->n_leaves, q->layout->range, q->native);
    for (size_t leaf = 0; leaf < leaves_of(q->layout); leaf++) {
        memcpy(sim_tree_stack_top(&stack), q->leaves + leaf * n, n * sizeof(float));
        sim_tree_stack_push(&stack);
    }
}

/* ---- permutation to the order of PyTorch ---- */

typedef struct {
    const sim_conv *v;
    const float *native; /* [taps][c][padded] */
    size_t padded;
    float *dw; /* [k][c][taps] */
} reorder_call;

/* Output channels per item and floats of each at a time.  The block fits in L1, so that both
 * reads and writes are contiguous. */
enum { REORDER_K = 16, REORDER_RUN = 128 };

/* Output channels [k0, k0 + n_k), input channels [c0, c0 + n_c). */
static void reorder_block(const reorder_call *q, size_t k0, size_t n_k, size_t c0,
                          size_t n_c)
{
    size_t taps = q->v->size * q->v->size;
    float block[REORDER_K][REORDER_RUN];

    for (size_t t = 0; t < taps; t++)
        for (size_t c = 0; c < n_c; c++) {
            const float *from = q->native + (t * q->v->c + c0 + c) * q->padded + k0;
            for (size_t k = 0; k < n_k; k++)
                block[k][c * taps + t] = from[k];
        }
    for (size_t k = 0; k < n_k; k++)
        memcpy(q->dw + ((k0 + k) * q->v->c + c0) * taps, block[k],
               n_c * taps * sizeof **block);
}

static void reorder_item(size_t item, void *ctx)
{
    const reorder_call *q = ctx;
    size_t k0 = item * REORDER_K, n_k = sim_min(REORDER_K, q->v->k - k0);
    size_t n_c = REORDER_RUN / (q->v->size * q->v->size);

    SIM_ASSERT(n_c > 0);
    for (size_t c0 = 0; c0 < q->v->c; c0 += n_c)
        reorder_block(q, k0, n_k, c0, sim_min(n_c, q->v->c - c0));
}

void sim_weights_to_torch(const sim_conv *v, size_t padded, const float *native,
                          float *dw)
{
    reorder_call q = {v, native, padded, dw};
    sim_for((v->k + REORDER_K - 1) / REORDER_K, reorder_item, &q);
}

static weights_call weights_call_of(const sim_conv *v, const sim_leaf_layout *layout)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t padded = sim_round_up(v->k, HALF_PANEL);
    return (weights_call){.v = v,
                          .layout = layout,
                          .rows = v->size * v->size * v->c,
                          .padded = padded,
                          .across = (padded + COLUMNS - 1) / COLUMNS,
                          .depth = sim_tree_depth(layout->n_leaves, layout->range),
                          .n_nodes =
                              sim_tree_nodes(layout->n_leaves, layout->range, nodes)};
}

/* Floats of the nodes, which share memory with the tree stack, and of the leaves. */
static size_t workspace_floats(const weights_call *q, size_t *leaves_offset)
{
    size_t n = q->rows * q->padded;
    *leaves_offset = n * (q->n_nodes > q->depth ? q->n_nodes : q->depth);
    return *leaves_offset + (is_small(q) ? n * leaves_of(q->layout) : 0);
}

void sim_direct_weights_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                                  sim_workspace_size *size)
{
    const weights_call q = weights_call_of(v, layout);
    size_t m = sim_min(ROWS, q.rows), leaves_offset = 0;
    size_t sums = (is_small(&q) ? 1 : q.depth) * m * sim_min(COLUMNS, q.padded);

    sim_raise(&size->shared, workspace_floats(&q, &leaves_offset) * sizeof(float));
    sim_raise(&size->thread, (sums + panels_floats(m)) * sizeof(float));
}

void sim_direct_weights(const sim_conv *v, const sim_leaf_layout *layout,
                        const sim_conv_input *x, const float *dy, float *dw,
                        size_t node_stride)
{
    weights_call q = weights_call_of(v, layout);
    size_t leaves_offset = 0, floats = workspace_floats(&q, &leaves_offset);
    q.x = x;
    q.dy = dy;
    q.native = sim_workspace(floats * sizeof *q.native);
    q.leaves = q.native + leaves_offset;
    if (is_small(&q)) {
        sim_for(n_tiles(&q) * leaves_of(layout), leaf_item, &q);
        reduce_leaves(&q);
    } else {
        sim_for(n_tiles(&q), tile_item, &q);
    }
    for (size_t j = 0; j < q.n_nodes; j++)
        sim_weights_to_torch(v, q.padded, q.native + j * q.rows * q.padded,
                             dw + j * node_stride);
}
