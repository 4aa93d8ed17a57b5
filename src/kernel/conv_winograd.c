/*
 * conv_winograd.c - 3 x 3, stride 1, padding 1 by Winograd F(4x4, 3x3).
 *
 * An item of sim_for transforms a block of input tiles to [36][tiles][c]. Then,
 * for each stripe of output channels, it computes 36 products with the
 * transformed filters and applies the output transform.  The result of a tile
 * does not depend on its block. Lavin and Gray 2015, arXiv 1509.09308.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

/*
 * Upper bound of the tiles per item.  Measured at width 0.25: 24 tiles keep
 * narrow layers in L2; a step takes 4 % less time than with 48 and 8 % less
 * than with 96.  Wide layers read their filters from the last-level cache or
 * memory, which many tiles amortize.
 */
enum { NARROW = 256 }; /* channels in and out */

static size_t max_tiles(size_t c, size_t k)
{
    enum { FEW = 24, MANY = 96 };
    return c + k <= NARROW ? FEW : MANY;
}

/* All items of a call have the same size; their number is a multiple of the
 * threads. */
static size_t tiles_per_item(size_t c, size_t k, size_t n_tiles)
{
    size_t max = max_tiles(c, k), threads = (size_t)sim_threads();
    size_t items = sim_round_up((n_tiles + max - 1) / max, threads);
    return items ? (n_tiles + items - 1) / items : 1;
}

/* Maximum of tiles_per_item over calls with up to n_tiles; it does not grow
 * monotonically. */
static size_t max_tiles_per_item(size_t c, size_t k, size_t n_tiles)
{
    size_t threads = (size_t)sim_threads();
    return sim_min(max_tiles(c, k), (n_tiles + threads - 1) / threads);
}

/* Output channels at a time: the products of a stripe are transformed to y
 * while L2 holds them.  Measured: 1.03 times the rate at C = 512. */
static size_t stripe_of(size_t k)
{
    enum { STRIPE = 2 * PANEL };
    return sim_min(STRIPE, k);
}

static size_t panels_floats(size_t c, size_t k)
{
    return WINO_N * sim_wino_stride(sim_panel_floats(c, k));
}

/* Input channels per item of packing. */
enum { PACK_CHANNELS = 8 };

typedef struct {
    size_t c, k;
    const float *oihw;
    bool rotated;
    float *panels;
} pack_call;

typedef float filter_group[9][HALF_PANEL]; /* [tap][output channel] */

/* Input channels [c0, c0 + n), output channels [k0, k0 + HALF_PANEL), 0 beyond
 * the last. */
static void gather_filters(const pack_call *p, size_t c0, size_t n, size_t k0,
                           filter_group *g)
{
    size_t n_k = sim_min(HALF_PANEL, p->k - k0);

    if (n_k < HALF_PANEL)
        memset(g, 0, n * sizeof *g);
    for (size_t l = 0; l < n_k; l++)
        for (size_t i = 0; i < n; i++) {
            size_t c = c0 + i, k = k0 + l;
            const float *from = p->oihw + (p->rotated ? c * p->k + k : k * p->c + c) * 9;
            for (size_t t = 0; t < 9; t++)
                g[i][t][l] = from[p->rotated ? 8 - t : t];
        }
}

static void pack_channels(size_t item, void *ctx)
{
    const pack_call *p = ctx;
    size_t f_stride = sim_wino_stride(sim_panel_floats(p->c, p->k));
    size_t c0 = item * PACK_CHANNELS, n = sim_min(PACK_CHANNELS, p->c - c0);
    filter_group g[PACK_CHANNELS];

    for (size_t k0 = 0; k0 < p->k; k0 += HALF_PANEL) {
        size_t j = k0 / PANEL * PANEL;
        size_t width = sim_min(PANEL, sim_round_up(p->k, HALF_PANEL) - j);
        float *out = p->panels + p->c * j + c0 * width + (k0 - j);

        gather_filters(p, c0, n, k0, g);
        for (size_t i = 0; i < n; i++)
            sim_kernels()->wino_filters(g[i][0], out + i * width, f_stride);
    }
}

static void pack_filters(size_t c, size_t k, const float *oihw, bool rotated,
                         float *panels)
{
    pack_call p = {c, k, oihw, rotated, panels};
    sim_for((c + PACK_CHANNELS - 1) / PACK_CHANNELS, pack_channels, &p);
}

typedef struct {
    sim_conv v; /* of the pass: backward-data exchanges c and k */
    size_t th, tw, n_tiles, per_item, stripe;
    const float *panels;
    const sim_conv_input *x;
    float *y;
} winograd_call;

/* Image, row and column of the first output of tile t. */
static void tile_at(const winograd_call *q, size_t t, size_t *image, size_t *y, size_t *x)
{
    *image = t / (q->th * q->tw);
    *y = t / q->tw % q->th * WINO_OUT;
    *x = t % q->tw * WINO_OUT;
}

/*
 * Prefetches the pixels of the next tile that this tile does not contain.
 * Measured: 1.12 times the rate at C = 16 and 1.08 at 32; from 64 channels on,
 * the hardware prefetcher suffices and software prefetching costs time.
 */
static void prefetch_tile(const sim_conv *v, const float *x)
{
    enum { LINE = 16, WIDE = 64 };
    size_t row = v->w * v->c, run = v->c < WIDE ? WINO_OUT * v->c : 0;
    for (size_t r = 0; r < WINO_OUT; r++)
        for (size_t at = 0; at < run; at += LINE)
            __builtin_prefetch(x + r * row + at);
}

static void read_tiles(const winograd_call *q, size_t t0, size_t n, float *to)
{
    const sim_kernel_table *t = sim_kernels();
    const sim_conv *v = &q->v;
    size_t row = v->w * v->c;
    for (size_t i = 0; i < n; i++) {
        size_t image, y, x;
        tile_at(q, t0 + i, &image, &y, &x);
        wino_window in =
            sim_wino_window((ptrdiff_t)y - 1, (ptrdiff_t)x - 1, WINO_IN, v->h, v->w);
        ptrdiff_t at =
            (((ptrdiff_t)(image * v->h + y) - 1) * (ptrdiff_t)v->w + (ptrdiff_t)x - 1) *
            (ptrdiff_t)v->c;
        prefetch_tile(v, q->x->x + at + 2 * row + WINO_IN * v->c);
        t->wino_input(v->c, q->x->x + at, v->c, row, in, sim_read_norm(v, q->x, image, 0),
                      to + i * v->c, sim_wino_stride(n * v->c));
    }
}

static void write_tiles(const winograd_call *q, size_t t0, size_t n, size_t k0,
                        size_t n_k, const float *m)
{
    const sim_kernel_table *t = sim_kernels();
    const sim_conv *v = &q->v;
    size_t row = v->w * v->k;
    for (size_t i = 0; i < n; i++) {
        size_t image, y, x;
        tile_at(q, t0 + i, &image, &y, &x);
        wino_window out =
            sim_wino_window((ptrdiff_t)y, (ptrdiff_t)x, WINO_OUT, v->h, v->w);
        t->wino_output(n_k, m + i * q->stripe, sim_wino_stride(n * q->stripe), out,
                       q->y + ((image * v->h + y) * v->w + x) * v->k + k0, v->k, row);
    }
}

/* Tiles [t0, t0 + n).  Serial; called inside sim_for. */
static void tile_block(const winograd_call *q, size_t t0, size_t n)
{
    size_t c = q->v.c, k = q->v.k;
    size_t v_stride = sim_wino_stride(n * c), m_stride = sim_wino_stride(n * q->stripe);
    size_t panel_stride = sim_wino_stride(sim_panel_floats(c, k));
    float *v = sim_scratch(WINO_N * (v_stride + m_stride) * sizeof *v);
    float *m = v + WINO_N * v_stride;

    read_tiles(q, t0, n, v);
    for (size_t k0 = 0; k0 < k; k0 += q->stripe) {
        size_t n_k = sim_min(q->stripe, k - k0);
        for (size_t f = 0; f < WINO_N; f++)
            sim_product(n, n_k, c, v + f * v_stride, c,
                        q->panels + f * panel_stride + c * k0, m + f * m_stride,
                        q->stripe);
        write_tiles(q, t0, n, k0, n_k, m);
    }
}

static void tile_item(size_t item, void *ctx)
{
    const winograd_call *q = ctx;
    size_t t0 = item * q->per_item;
    tile_block(q, t0, sim_min(q->per_item, q->n_tiles - t0));
}

/* Scratch of convolve for up to n_tiles tiles. */
static size_t scratch_bytes(size_t c, size_t k, size_t n_tiles)
{
    size_t n = max_tiles_per_item(c, k, n_tiles);
    return WINO_N * (sim_wino_stride(n * c) + sim_wino_stride(n * stripe_of(k))) *
           sizeof(float);
}

static void winograd_workspace(const sim_conv *v, size_t n, sim_workspace_size *size)
{
    size_t n_tiles =
        n * ((v->h + WINO_OUT - 1) / WINO_OUT) * ((v->w + WINO_OUT - 1) / WINO_OUT);
    sim_raise(&size->thread, scratch_bytes(v->c, v->k, n_tiles));
    sim_raise(&size->thread, scratch_bytes(v->k, v->c, n_tiles));
}

static winograd_call call_of(const sim_conv *v, const float *panels,
                             const sim_conv_input *x, float *y)
{
    return (winograd_call){.v = *v,
                           .th = (v->h + WINO_OUT - 1) / WINO_OUT,
                           .tw = (v->w + WINO_OUT - 1) / WINO_OUT,
                           .stripe = stripe_of(v->k),
                           .panels = panels,
                           .x = x,
                           .y = y};
}

static void convolve(const sim_conv *v, const float *panels, size_t n,
                     const sim_conv_input *x, float *y)
{
    winograd_call q = call_of(v, panels, x, y);
    q.n_tiles = n * q.th * q.tw;
    q.per_item = tiles_per_item(v->c, v->k, q.n_tiles);
    sim_for((q.n_tiles + q.per_item - 1) / q.per_item, tile_item, &q);
}

/* Pixels [row, row + n) of the result, whole images. */
static void convolve_rows(const sim_conv *v, const float *panels, const sim_conv_input *x,
                          size_t row, size_t n, float *y)
{
    const winograd_call q = call_of(v, panels, x, y);
    size_t tiles = q.th * q.tw, of_image = v->h * v->w, max = max_tiles(v->c, v->k);
    size_t hi = (row + n) / of_image * tiles;

    for (size_t t = row / of_image * tiles; t < hi; t += max)
        tile_block(&q, t, sim_min(max, hi - t));
}

/* Whole images, in narrow layers: in wide ones, a segment has too few tiles to amortize reading the
 * filters. */
static size_t unit_of(const sim_conv *v)
{
    return v->c + v->k <= NARROW ? v->h * v->w : 0;
}

/* ---- the passes; backward-data exchanges c and k and rotates the filters by
 * 180 degrees ---- */

static size_t forward_floats(const sim_conv *v)
{
    return panels_floats(v->c, v->k);
}

static size_t backward_floats(const sim_conv *v)
{
    return panels_floats(v->k, v->c);
}

static void pack_forward(const sim_conv *v, const float *oihw, float *panels)
{
    pack_filters(v->c, v->k, oihw, false, panels);
}

static void pack_backward(const sim_conv *v, const float *oihw, float *panels)
{
    pack_filters(v->k, v->c, oihw, true, panels);
}

static sim_conv exchanged(const sim_conv *v)
{
    sim_conv out = *v;
    out.c = v->k;
    out.k = v->c;
    return out;
}

static void winograd_backward_data(const sim_conv *v, const float *panels, size_t n,
                                   const float *dy, float *dx)
{
    const sim_conv backward = exchanged(v);
    const sim_conv_input in = {.x = dy};
    convolve(&backward, panels, n, &in, dx);
}

static void winograd_data_rows(const sim_conv *v, const float *panels, const float *dy,
                               size_t row, size_t n, float *dx)
{
    const sim_conv backward = exchanged(v);
    const sim_conv_input in = {.x = dy};
    convolve_rows(&backward, panels, &in, row, n, dx);
}

static bool reads_norm(const sim_conv *v)
{
    (void)v;
    return true;
}

const sim_conv_algorithm sim_conv_winograd = {
    .forward_floats = forward_floats,
    .backward_floats = backward_floats,
    .pack_forward = pack_forward,
    .pack_backward = pack_backward,
    .reads_norm = reads_norm,
    .forward = convolve,
    .backward_data = winograd_backward_data,
    .backward_weights = sim_winograd_weights,
    .forward_unit = unit_of,
    .forward_rows = convolve_rows,
    .data_unit = unit_of,
    .data_rows = winograd_data_rows,
    .workspace = winograd_workspace,
    .weights_workspace = sim_winograd_weights_workspace,
};
