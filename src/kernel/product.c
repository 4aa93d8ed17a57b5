/*
 * product.c - matrix products with a right operand packed in panels.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

size_t sim_panel_floats(size_t k, size_t n)
{
    return k * sim_round_up(n, HALF_PANEL);
}

/* Width of the panel that begins at column j. */
static size_t panel_width(size_t n, size_t j)
{
    return sim_min(PANEL, sim_round_up(n - j, HALF_PANEL));
}

/* panel [k][width]: the transpose of b [used][k], 0 beyond it; a cache line of each row at a time. */
static void pack_transposed(size_t k, size_t used, size_t width, const float *b,
                            size_t ldb, float *panel)
{
    enum { LINE = 16 };
    for (size_t p0 = 0; p0 < k; p0 += LINE) {
        size_t end = sim_min(k, p0 + LINE);
        for (size_t i = 0; i < used; i++)
            for (size_t p = p0; p < end; p++)
                panel[p * width + i] = b[i * ldb + p];
    }
    for (size_t p = 0; used < width && p < k; p++)
        memset(panel + p * width + used, 0, (width - used) * sizeof *panel);
}

void sim_panel_pack(size_t k, size_t n, const float *b, size_t ldb, bool transposed,
                    float *panel)
{
    for (size_t j = 0; j < n; j += PANEL) {
        size_t width = panel_width(n, j), used = sim_min(width, n - j);
        if (transposed)
            pack_transposed(k, used, width, b + j * ldb, ldb, panel + k * j);
        else
            sim_kernels()->copy_columns(k, used, width, b + j, ldb, panel + k * j, width);
    }
}

void sim_product(size_t m, size_t n, size_t k, const float *a, size_t lda,
                 const float *panel, float *c, size_t ldc)
{
    const sim_kernel_table *t = sim_kernels();
    for (size_t j = 0; j < n; j += PANEL)
        t->product(m, sim_min(PANEL, n - j), k, a, lda, panel + k * j, panel_width(n, j),
                   c + j, ldc);
}

enum { ROWS_PER_ITEM = 96 };

typedef struct {
    size_t m, n, k, lda, ldc;
    const float *a, *panel;
    float *c;
} product_call;

static void product_item(size_t i, void *ctx)
{
    const product_call *p = ctx;
    size_t lo = i * ROWS_PER_ITEM, rows = sim_min(ROWS_PER_ITEM, p->m - lo);
    sim_product(rows, p->n, p->k, p->a + lo * p->lda, p->lda, p->panel,
                p->c + lo * p->ldc, p->ldc);
}

void sim_product_for(size_t m, size_t n, size_t k, const float *a, size_t lda,
                     const float *panel, float *c, size_t ldc)
{
    product_call p = {m, n, k, lda, ldc, a, panel, c};
    sim_for((m + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, product_item, &p);
}
