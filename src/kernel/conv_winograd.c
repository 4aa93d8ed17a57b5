/*
 * conv_winograd.c - 3 x 3, stride 1, padding 1 by Winograd F(4x4, 3x3).
 *
 * An item takes a block of tiles through the input transform into [36][tiles][c], 36
 * products with the transformed filters, and the output transform.  A tile's result does
 * not depend on its block.  Lavin and Gray 2015, arXiv 1509.09308.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

/* Measured: 96 tiles amortise the filters' way through the cache; fewer lose 10 to 20 %. */
enum { TILES = 96 };

size_t sim_winograd_floats(size_t c, size_t k)
{
    return WINO_N * sim_panel_floats(c, k);
}

/* G g G^T of one 3 x 3 filter. */
static void transform_filter(const float g[9], float u[36])
{
    static const float rows[6][3] = {{0.25f, 0, 0},
                                     {-1.0f / 6, -1.0f / 6, -1.0f / 6},
                                     {-1.0f / 6, 1.0f / 6, -1.0f / 6},
                                     {1.0f / 24, 1.0f / 12, 1.0f / 6},
                                     {1.0f / 24, -1.0f / 12, 1.0f / 6},
                                     {0, 0, 1}};
    float t[6][3];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 3; j++)
            t[i][j] = rows[i][0] * g[j] + rows[i][1] * g[3 + j] + rows[i][2] * g[6 + j];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            u[6 * i + j] =
                t[i][0] * rows[j][0] + t[i][1] * rows[j][1] + t[i][2] * rows[j][2];
}

typedef struct {
    size_t c, k;
    const float *oihw;
    bool turned;
    float *panels;
} pack_call;

/* Input channel c of all outputs. */
static void pack_channel(size_t c, void *ctx)
{
    const pack_call *p = ctx;
    size_t panel_floats = sim_panel_floats(p->c, p->k);
    size_t padded = sim_round_up(p->k, HALF_PANEL);
    for (size_t k = 0; k < padded; k++) {
        size_t j = k / PANEL * PANEL, width = sim_smaller(PANEL, padded - j);
        float *out = p->panels + p->c * j + c * width + (k - j);
        float g[9] = {0}, u[36];
        for (size_t t = 0; t < 9 && k < p->k; t++)
            g[t] = p->turned ? p->oihw[(c * p->k + k) * 9 + 8 - t]
                             : p->oihw[(k * p->c + c) * 9 + t];
        transform_filter(g, u);
        for (size_t f = 0; f < WINO_N; f++)
            out[f * panel_floats] = u[f];
    }
}

void sim_winograd_pack(size_t c, size_t k, const float *oihw, bool turned, float *panels)
{
    pack_call p = {c, k, oihw, turned, panels};
    sim_for(c, pack_channel, &p);
}

wino_window sim_wino_window(ptrdiff_t y0, ptrdiff_t x0, int n, size_t h, size_t w)
{
    ptrdiff_t rows = (ptrdiff_t)h - y0, cols = (ptrdiff_t)w - x0;
    return (wino_window){.y_lo = y0 < 0 ? (int)-y0 : 0,
                         .y_hi = rows < n ? (int)rows : n,
                         .x_lo = x0 < 0 ? (int)-x0 : 0,
                         .x_hi = cols < n ? (int)cols : n};
}

typedef struct {
    size_t h, w, c, k, th, tw, n_tiles;
    const float *panels, *x;
    float *y;
} winograd_call;

/* Image, row and column where tile t's output begins. */
static void tile_at(const winograd_call *q, size_t t, size_t *image, size_t *y, size_t *x)
{
    *image = t / (q->th * q->tw);
    *y = t / q->tw % q->th * WINO_OUT;
    *x = t % q->tw * WINO_OUT;
}

static void read_tiles(const winograd_call *q, size_t t0, size_t n, float *v)
{
    const sim_kernel_table *t = sim_kernels();
    size_t row = q->w * q->c;
    for (size_t i = 0; i < n; i++) {
        size_t image, y, x;
        tile_at(q, t0 + i, &image, &y, &x);
        wino_window in =
            sim_wino_window((ptrdiff_t)y - 1, (ptrdiff_t)x - 1, WINO_IN, q->h, q->w);
        ptrdiff_t at =
            (((ptrdiff_t)(image * q->h + y) - 1) * (ptrdiff_t)q->w + (ptrdiff_t)x - 1) *
            (ptrdiff_t)q->c;
        t->wino_input(q->c, q->x + at, row, in, v + i * q->c, n * q->c);
    }
}

static void write_tiles(const winograd_call *q, size_t t0, size_t n, const float *m)
{
    const sim_kernel_table *t = sim_kernels();
    size_t row = q->w * q->k;
    for (size_t i = 0; i < n; i++) {
        size_t image, y, x;
        tile_at(q, t0 + i, &image, &y, &x);
        wino_window out =
            sim_wino_window((ptrdiff_t)y, (ptrdiff_t)x, WINO_OUT, q->h, q->w);
        t->wino_output(q->k, m + i * q->k, n * q->k, out,
                       q->y + ((image * q->h + y) * q->w + x) * q->k, row);
    }
}

static void tile_block(size_t item, void *ctx)
{
    const winograd_call *q = ctx;
    size_t t0 = item * TILES, n = sim_smaller(TILES, q->n_tiles - t0);
    float *v = sim_scratch(WINO_N * n * (q->c + q->k) * sizeof *v);
    float *m = v + WINO_N * n * q->c;

    read_tiles(q, t0, n, v);
    for (size_t f = 0; f < WINO_N; f++)
        sim_product(n, q->k, q->c, v + f * n * q->c, q->c,
                    q->panels + f * sim_panel_floats(q->c, q->k), false, m + f * n * q->k,
                    q->k);
    write_tiles(q, t0, n, m);
}

void sim_winograd_run(size_t h, size_t w, size_t c, size_t k, const float *panels,
                      size_t n, const float *x, float *y)
{
    winograd_call q = {.h = h, .w = w, .c = c, .k = k, .panels = panels, .x = x, .y = y};
    q.th = (h + WINO_OUT - 1) / WINO_OUT;
    q.tw = (w + WINO_OUT - 1) / WINO_OUT;
    q.n_tiles = n * q.th * q.tw;
    sim_for((q.n_tiles + TILES - 1) / TILES, tile_block, &q);
}
