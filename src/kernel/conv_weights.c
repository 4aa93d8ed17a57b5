/*
 * conv_weights.c - weight gradients by matrix products over pixels, per leaf.
 *
 * dW[(tap, c)][k] = sum over the pixels of a leaf of patch[(tap, c)] dy[k], one chain of fma
 * over ascending pixels.  An item of sim_for computes some rows of dW for all leaves, so its
 * tree stack stays in cache and items share no data.  If dW is small, an item computes some
 * rows of one leaf, which provides enough items for all threads; the leaves are summed by
 * the tree at the end.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { ROWS = 48, PIXELS = 256 }; /* rows of dW per item; pixels gathered at a time */
enum { SMALL_FLOATS = 1 << 15 };  /* largest dW whose leaves are stored separately */

typedef struct {
    const sim_conv *v;
    const sim_leaf_layout *layout;
    const float *x, *dy;
    float *native; /* [nodes][taps * c][padded] */
    float *leaves; /* [leaves][taps * c][padded], if dW is small */
    size_t rows;   /* taps * c */
    size_t padded; /* k rounded up to 16 */
    size_t depth, n_nodes, images_at_once;
} weights_call;

/* Number of leaves of this rank. */
static size_t leaves_of(const sim_leaf_layout *layout)
{
    return layout->range.hi - layout->range.lo;
}

/*
 * out [pixels][m]: columns [m0, m0 + m) of the patches of the output pixels of an image.
 * Columns of one filter row are contiguous in the image.
 */
static void gather_columns(const sim_conv *v, const float *image, size_t m0, size_t m,
                           float *out)
{
    size_t of_row = v->size * v->c;
    for (size_t at = 0, run = 0; at < m; at += run) {
        size_t r = (m0 + at) / of_row, first = (m0 + at) % of_row;
        run = sim_min(of_row - first, m - at);
        for (size_t o = 0; o < v->oh * v->ow; o++) {
            ptrdiff_t y = (ptrdiff_t)(o / v->ow * v->stride + r) - (ptrdiff_t)v->pad;
            ptrdiff_t x = (ptrdiff_t)(o % v->ow * v->stride) - (ptrdiff_t)v->pad;
            sim_gather_run(v, image, y, x * (ptrdiff_t)v->c + (ptrdiff_t)first, run,
                           out + o * m + at);
        }
    }
}

/* dy of some pixels with rows padded to a multiple of 16; dy itself if k is one. */
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

/* Adds the contribution of n images to sum [m][padded]. */
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

/* sum [m][padded]: rows [m0, m0 + m) of dW of one leaf. */
static void leaf_rows(const weights_call *q, size_t leaf, size_t m0, size_t m,
                      float *buffer, float *sum)
{
    size_t pixels = q->images_at_once * q->v->oh * q->v->ow;
    size_t images = q->layout->images_per_leaf, step = q->images_at_once;

    memset(sum, 0, m * q->padded * sizeof *sum);
    for (size_t i = 0; i < images; i += step)
        add_images(q, leaf * images + i, sim_min(step, images - i), m0, m, buffer,
                   buffer + pixels * m, sum);
}

static size_t buffer_floats(const weights_call *q, size_t m)
{
    return q->images_at_once * q->v->oh * q->v->ow * (m + q->padded);
}

static size_t row_items(const weights_call *q)
{
    return (q->rows + ROWS - 1) / ROWS;
}

static void rows_item(size_t item, void *ctx)
{
    const weights_call *q = ctx;
    size_t m0 = item * ROWS, m = sim_min(ROWS, q->rows - m0), n = m * q->padded;
    float *partials = sim_scratch((q->depth * n + buffer_floats(q, m)) * sizeof(float));
    sim_tree_stack stack;

    sim_tree_stack_begin(&stack, n, q->layout->n_leaves, q->layout->range, partials);
    for (size_t leaf = 0; leaf < leaves_of(q->layout); leaf++) {
        leaf_rows(q, leaf, m0, m, partials + q->depth * n, sim_tree_stack_top(&stack));
        sim_tree_stack_push(&stack);
    }
    for (size_t j = 0; j < q->n_nodes; j++)
        memcpy(q->native + (j * q->rows + m0) * q->padded, partials + j * n,
               n * sizeof *partials);
}

/* ---- small dW: leaves are separate items ---- */

static bool is_small(const weights_call *q)
{
    return q->rows * q->padded <= SMALL_FLOATS;
}

static void leaf_item(size_t item, void *ctx)
{
    const weights_call *q = ctx;
    size_t leaf = item / row_items(q), m0 = item % row_items(q) * ROWS;
    size_t m = sim_min(ROWS, q->rows - m0);
    leaf_rows(q, leaf, m0, m, sim_scratch(buffer_floats(q, m) * sizeof(float)),
              q->leaves + (leaf * q->rows + m0) * q->padded);
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
    size_t out = v->oh * v->ow;
    return (weights_call){.v = v,
                          .layout = layout,
                          .rows = v->size * v->size * v->c,
                          .padded = sim_round_up(v->k, HALF_PANEL),
                          .depth = sim_tree_depth(layout->n_leaves, layout->range),
                          .n_nodes =
                              sim_tree_nodes(layout->n_leaves, layout->range, nodes),
                          .images_at_once = out < PIXELS ? PIXELS / out : 1};
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
    size_t stack_floats = is_small(&q) ? 0 : q.depth * m * q.padded;

    sim_raise(&size->shared, workspace_floats(&q, &leaves_offset) * sizeof(float));
    sim_raise(&size->thread, (stack_floats + buffer_floats(&q, m)) * sizeof(float));
}

void sim_direct_weights(const sim_conv *v, const sim_leaf_layout *layout, const float *x,
                        const float *dy, float *dw, size_t node_stride)
{
    weights_call q = weights_call_of(v, layout);
    size_t leaves_offset = 0, floats = workspace_floats(&q, &leaves_offset);
    q.x = x;
    q.dy = dy;
    q.native = sim_workspace(floats * sizeof *q.native);
    q.leaves = q.native + leaves_offset;
    if (is_small(&q)) {
        sim_for(row_items(&q) * leaves_of(layout), leaf_item, &q);
        reduce_leaves(&q);
    } else {
        sim_for(row_items(&q), rows_item, &q);
    }
    for (size_t j = 0; j < q.n_nodes; j++)
        sim_weights_to_torch(v, q.padded, q.native + j * q.rows * q.padded,
                             dw + j * node_stride);
}
