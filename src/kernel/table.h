/*
 * table.h - what an instruction set provides: the inner loops behind the door.
 *
 * Every entry is serial ("item").  v3 and v4 are one source (body.h) at two vector widths
 * and give equal bits; portable is the same elementwise loops, and plain products.
 */
#ifndef SIMILE_KERNEL_TABLE_H
#define SIMILE_KERNEL_TABLE_H

#include "simile/kernel.h"

/* Columns of a panel: 32, and 16 for a last one that needs no more. */
enum { PANEL = 32, HALF_PANEL = 16 };

/* Winograd F(4x4, 3x3): tiles of 6 x 6 inputs give 4 x 4 outputs; 36 frequencies. */
enum { WINO_IN = 6, WINO_OUT = 4, WINO_N = 36 };

/* Where a Winograd tile reads or writes: rows [y_lo, y_hi) x columns [x_lo, x_hi) of the
 * tile are inside the image; the pointer is at tile position (0, 0), maybe outside. */
typedef struct {
    int y_lo, y_hi, x_lo, x_hi;
} wino_window;

typedef struct {
    const char *name, *arithmetic;
    bool plain; /* convolutions by plain loops, no packing */

    /* C [m][used] = A [m][k] times one panel [k][width]. */
    void (*product)(size_t m, size_t used, size_t k, const float *a, size_t lda,
                    const float *panel, size_t width, float *c, size_t ldc);
    /* C [m][width] (+)= A^T B: A [k][m], stride lda, B [k][width], stride ldb. */
    void (*product_transposed)(size_t m, size_t width, size_t k, const float *a,
                               size_t lda, const float *b, size_t ldb, bool add, float *c,
                               size_t ldc);

    /* HALF_PANEL filters side by side, g [9][HALF_PANEL], into frequency f at
     * u + f * f_stride. */
    void (*wino_filters)(const float *g, float *u, size_t f_stride);
    /* One tile of c channels, pixel stride c, row stride `row`, into frequency f at
     * v + f * f_stride. */
    void (*wino_input)(size_t c, const float *x, size_t row, wino_window in, float *v,
                       size_t f_stride);
    /* The inverse transform: 36 frequencies of k channels to 4 x 4 outputs, `pixel` and
     * `row` floats apart. */
    void (*wino_output)(size_t k, const float *m, size_t f_stride, wino_window out,
                        float *y, size_t pixel, size_t row);
    /* Gradient side of the weight gradient: 4 x 4 of dy to 36 frequencies. */
    void (*wino_gradient)(size_t k, const float *dy, size_t row, wino_window in, float *v,
                          size_t f_stride);
    /* 36 frequencies [f][n] to [3][3][n] filter gradients. */
    void (*wino_filter)(size_t n, const float *u, size_t f_stride, float *dw,
                        size_t tap_stride);

    /* Rows of a norm chunk: sums in fp32 over at most NORM_CHUNK rows, given in double. */
    void (*moments)(size_t rows, size_t c, const float *x, double *mean, double *m2);
    void (*norm_apply)(size_t rows, size_t c, const float *x, const float *scale,
                       const float *shift, const float *residual, sim_activation act,
                       float *y);
    void (*norm_sums)(size_t rows, size_t c, const float *x, const float *scale,
                      const float *shift, const float *mean, const float *residual,
                      sim_activation act, const float *dy, float *g, float *sum_g,
                      float *sum_gx);
    void (*norm_backward)(size_t rows, size_t c, const float *x, const float *g,
                          const float *a, const float *b, const float *d, float *dx);
    void (*activate)(size_t rows, size_t c, const float *x, const float *bias,
                     sim_activation act, float *y);
    void (*activate_backward)(size_t rows, size_t c, const float *x, const float *bias,
                              sim_activation act, const float *dy, float *dx);
    void (*add)(size_t n, const float *x, float *y);

    float (*row_max)(size_t n, const float *s);
    float (*row_exp_sum)(size_t n, const float *s, float scale, float shift);
    void (*row_softmax_two)(size_t n, const float *s, float scale, float row,
                            const float *column, float *p);
    void (*row_shares)(size_t n, const float *s, float scale, float shift, float row,
                       const float *column, float *p);
    void (*row_sigmoid)(size_t n, const float *s, float scale, float bias, float *p);
    float (*row_softplus_sum)(size_t n, const float *s, float scale, float bias);
} sim_kernel_table;

/* Rows that a chunk of the norm kernels sums in fp32: short enough for 1e-6. */
enum { NORM_CHUNK = 64 };

/* The picked row. */
const sim_kernel_table *sim_kernels(void);

#define SIM_ISA(name, flags, runs) extern const sim_kernel_table sim_kernels_##name;
#include "isa.def"
#undef SIM_ISA

#endif
