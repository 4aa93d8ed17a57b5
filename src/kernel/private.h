/*
 * private.h - declarations shared by the files of this module.
 */
#ifndef SIMILE_KERNEL_PRIVATE_H
#define SIMILE_KERNEL_PRIVATE_H

#include "table.h"

#include <string.h>

/* sim_for is parallel; a BLAS of one thread gives the same bits at any number of threads. */
void sim_blas_use_one_thread(void);

/* The buffer that all threads of a call share, at least `bytes`; it only grows.
 * Valid until the next call.  Main thread only. */
void *sim_workspace(size_t bytes);

static inline size_t sim_round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline size_t sim_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/*
 * Stride in floats between the 36 frequencies of a transform that hold `floats`
 * each: an odd number of cache lines, so that 36 streams do not map to the same
 * cache set.
 */
static inline size_t sim_wino_stride(size_t floats)
{
    enum { LINE = 16 };
    return (((floats + LINE - 1) / LINE) | 1) * LINE;
}

/* Raises *value to at least n. */
static inline void sim_raise(size_t *value, size_t n)
{
    if (n > *value)
        *value = n;
}

/* Consecutive pixels (y, x), (y, x + 1), ... of one row of an image. */
typedef struct {
    size_t image, y, x, n;
} sim_pixel_run;

/* The first run of pixels [lo, hi), numbered over all images of h x w. */
static inline sim_pixel_run sim_pixel_run_at(size_t h, size_t w, size_t lo, size_t hi)
{
    size_t row = lo / w, x = lo % w;
    return (sim_pixel_run){
        .image = row / h, .y = row % h, .x = x, .n = sim_min(w - x, hi - lo)};
}

/* The norm through which image `image` of a convolution's input is read, for channels from c0 on. */
static inline read_norm sim_read_norm(const sim_conv *v, const sim_conv_input *x,
                                      size_t image, size_t c0)
{
    if (!x->scale)
        return (read_norm){0};
    size_t at = x->leaf[image] * v->c + c0;
    return (read_norm){.scale = x->scale + at, .shift = x->shift + at, .act = x->act};
}

/* The images of a convolution's input from image `first` on. */
static inline sim_conv_input sim_input_from(const sim_conv *v, const sim_conv_input *x,
                                            size_t first)
{
    sim_conv_input out = *x;
    out.x += first * v->h * v->w * v->c;
    if (out.leaf)
        out.leaf += first;
    return out;
}

/* Applies the norm of a 1 x 1 convolution's input to channels [c0, c0 + n) of its rows [row,
 * row + n_rows): from [n_rows][n] to `to`, which may be the same. */
void sim_apply_read_norm(const sim_conv *v, const sim_conv_input *x, size_t row,
                         size_t n_rows, size_t c0, size_t n, const float *from,
                         float *to);

/*
 * An algorithm of convolutions.  pack_forward and pack_backward write the number of floats that
 * *_floats return.
 */
typedef struct {
    size_t (*forward_floats)(const sim_conv *v);
    size_t (*backward_floats)(const sim_conv *v);
    void (*pack_forward)(const sim_conv *v, const float *oihw, float *panels);
    void (*pack_backward)(const sim_conv *v, const float *oihw, float *panels);
    bool (*reads_norm)(const sim_conv *v);
    void (*forward)(const sim_conv *v, const float *panels, size_t n,
                    const sim_conv_input *x, float *y);
    void (*backward_data)(const sim_conv *v, const float *panels, size_t n,
                          const float *dy, float *dx);
    void (*backward_weights)(const sim_conv *v, const sim_leaf_layout *layout,
                             const sim_conv_input *x, const float *dy, float *dw,
                             size_t node_stride);
    /* The passes for pixels [row, row + n) of the result, numbered over all images, of which
     * row and n are multiples of the unit; unit 0: not possible.  Serial; called inside
     * sim_for. */
    size_t (*forward_unit)(const sim_conv *v);
    void (*forward_rows)(const sim_conv *v, const float *panels, const sim_conv_input *x,
                         size_t row, size_t n, float *y);
    size_t (*data_unit)(const sim_conv *v);
    void (*data_rows)(const sim_conv *v, const float *panels, const float *dy, size_t row,
                      size_t n, float *dx);
    void (*workspace)(const sim_conv *v, size_t n, sim_workspace_size *size);
    void (*weights_workspace)(const sim_conv *v, const sim_leaf_layout *layout,
                              sim_workspace_size *size);
} sim_conv_algorithm;

extern const sim_conv_algorithm sim_conv_plain;    /* conv_plain.c: reference semantics */
extern const sim_conv_algorithm sim_conv_direct;   /* conv_direct.c: implicit GEMM */
extern const sim_conv_algorithm sim_conv_winograd; /* conv_winograd.c: F(4x4, 3x3) */

/* conv_patches.c: out [n][m] = columns [m0, m0 + m) of the patches [size][size][c] of output pixels
 * [p0, p0 + n), numbered over all images.  Serial; called inside sim_for. */
void sim_gather_patches(const sim_conv *v, const float *x, size_t p0, size_t n, size_t m0,
                        size_t m, float *out);

/* conv_plain.c: the passes of sim_conv_plain; w is [k][c][size][size], dw
 * [k][c][size][size] over n images. */
void sim_plain_forward(const sim_conv *v, const float *w, size_t n, const float *x,
                       float *y);
void sim_plain_backward_data(const sim_conv *v, const float *w, size_t n, const float *dy,
                             float *dx);
void sim_plain_weights(const sim_conv *v, size_t n, const float *x, const float *dy,
                       float *dw);

/* conv_weights.c, conv_weights_winograd.c: weight gradients over leaves */
void sim_direct_weights(const sim_conv *v, const sim_leaf_layout *layout,
                        const sim_conv_input *x, const float *dy, float *dw,
                        size_t node_stride);
void sim_direct_weights_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                                  sim_workspace_size *size);
void sim_winograd_weights(const sim_conv *v, const sim_leaf_layout *layout,
                          const sim_conv_input *x, const float *dy, float *dw,
                          size_t node_stride);
void sim_winograd_weights_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                                    sim_workspace_size *size);
/* Permutes [taps][c][padded] to [k][c][taps], the order of PyTorch. */
void sim_weights_to_torch(const sim_conv *v, size_t padded, const float *native,
                          float *dw);

/* norm.c: sim_norm_moments and sim_norm_backward_sums of rows that `producer` writes first, a
 * segment at a time; NULL: they are there. */
typedef struct {
    void (*rows)(const void *ctx, size_t row,
                 size_t n); /* serial; called inside sim_for */
    const void *ctx;
} sim_row_producer;
void sim_norm_moments_of(const sim_norm_leaves *leaves, const sim_row_producer *producer,
                         const float *x, double *out);
void sim_norm_sums_of(const sim_norm_leaves *leaves, const sim_row_producer *producer,
                      const float *x, const float *scale, const float *shift,
                      const float *mean, const float *residual, sim_activation act,
                      const float *dy, float *g, double *out);
/* True if segments consist of whole units of rows, and there are enough of them for all
 * threads. */
bool sim_norm_has_units(const sim_norm_leaves *leaves, size_t unit);

/* check.c: compares the result `actual` of a pass with `expected` of plain loops; NaN
 * differs. Errors: SIM_E_BUG naming the pass. */
SIM_MUST_USE sim_status sim_check_pass(const sim_conv *v, const char *pass, size_t n,
                                       const float *expected, const float *actual);

/* The part of the n x n window at (y0, x0) that is inside an h x w image. */
static inline wino_window sim_wino_window(ptrdiff_t y0, ptrdiff_t x0, int n, size_t h,
                                          size_t w)
{
    ptrdiff_t rows = (ptrdiff_t)h - y0, cols = (ptrdiff_t)w - x0;
    return (wino_window){.y_lo = y0 < 0 ? (int)-y0 : 0,
                         .y_hi = rows < n ? (int)rows : n,
                         .x_lo = x0 < 0 ? (int)-x0 : 0,
                         .x_hi = cols < n ? (int)cols : n};
}

#endif
