/*
 * kernel.h - matrix products, convolutions, norms, activations, exp and log, images.
 *
 * Module: kernel
 * `portable` is the reference implementation: plain loops that run on any processor.  v3
 * (AVX2), v4 (AVX-512) and neon (AArch64) are the fast implementations; they produce the same
 * bits as each other and match the reference within the bounds of tests/kernel.  Every output
 * is summed in one fixed order that depends on the shape alone, not on the number of threads,
 * the number of rows in the call, or which of them runs.  Arrays are float32 in C order;
 * images are NHWC; pointers need only the alignment of float.
 *
 * Functions run in parallel (sim_for) and may use the scratch of sim_thread, unless the
 * comment says "Serial; may be called inside sim_for".
 */
#ifndef SIMILE_KERNEL_H
#define SIMILE_KERNEL_H

#include "simile/status.h"
#include "simile/tree.h"

#include <stdint.h>

/* ---- selection ---- */

/*
 * Selects the kernels of this process: "auto", or a name of isa.def such as "v4".  The
 * environment variable SIMILE_KERNELS replaces "auto".
 * Errors: SIM_E_CONFIG if the name is unknown or this machine cannot run it.
 */
SIM_MUST_USE sim_status sim_kernels_pick(const char *name);
/* Name of the selected kernels; the first use of a kernel, in any thread, selects "auto" if nothing
 * is selected. */
const char *sim_kernels_name(void);
/* Name and version, such as "fast-1".  Kernels of equal arithmetic produce equal bits.  Part of the
 * identity of a run. */
const char *sim_kernels_arithmetic(void);
/* Version and core type of OpenBLAS, for --version. */
const char *sim_kernels_blas(void);

/*
 * Compares every selected kernel, the convolutions and exp with plain loops on small shapes;
 * takes about 15 ms.
 * Errors: SIM_E_BUG naming the instruction set and the kernel or pass.
 */
SIM_MUST_USE sim_status sim_kernels_check(void);

/* ---- matrix products ---- */

/* Number of floats of B [k][n] packed in panels. */
size_t sim_panel_floats(size_t k, size_t n);
/* Packs B [k][n] with row stride ldb; if `transposed`, b is [n][k] with row stride ldb.
 * Serial; may be called inside sim_for. */
void sim_panel_pack(size_t k, size_t n, const float *b, size_t ldb, bool transposed,
                    float *panel);
/* C [m][n] = A [m][k] B; each output is one chain of fma over ascending k.
 * Serial; may be called inside sim_for. */
void sim_product(size_t m, size_t n, size_t k, const float *a, size_t lda,
                 const float *panel, float *c, size_t ldc);
/* The same, parallel over the rows of A. */
void sim_product_for(size_t m, size_t n, size_t k, const float *a, size_t lda,
                     const float *panel, float *c, size_t ldc);

/* ---- convolutions; a linear layer is a convolution of size 1 on 1 x 1 images ---- */

typedef struct {
    size_t c, k;   /* channels in, out */
    size_t size;   /* filter height and width: 1, 3 or 7 */
    size_t stride; /* 1 or 2 */
    size_t pad;    /* zero padding on each side */
    size_t h, w;   /* input */
    size_t oh, ow; /* output: (h + 2 pad - size) / stride + 1 */
    /* Excludes Winograd: its tiles read pixels outside the receptive field, which may
     * change the last bits of an output. */
    bool exact_reach;
} sim_conv;

/* Sets oh and ow.  Errors: SIM_E_CONFIG if the filter exceeds the padded image. */
SIM_MUST_USE sim_status sim_conv_shape(sim_conv *conv);
/* Algorithm of the fast kernels, "winograd" or "direct"; depends on shape and exact_reach alone. */
const char *sim_conv_path(const sim_conv *conv);
/* Two per multiply-add of the direct algorithm, for one image. */
double sim_conv_flops(const sim_conv *conv);

/* Floats of the filters packed for sim_conv_forward, and for sim_conv_backward_data. */
size_t sim_conv_forward_floats(const sim_conv *conv);
size_t sim_conv_backward_floats(const sim_conv *conv);
/* Packs filters oihw [k][c][size][size], the order of PyTorch, into `panels`. */
void sim_conv_pack_forward(const sim_conv *conv, const float *oihw, float *panels);
void sim_conv_pack_backward(const sim_conv *conv, const float *oihw, float *panels);

typedef enum { SIM_ACT_NONE, SIM_ACT_RELU, SIM_ACT_SILU } sim_activation;

/*
 * The input of a convolution: x [n][h][w][c], or act(x * scale[leaf] + shift[leaf]), the output of
 * a batch norm that is computed where it is read and never stored.  Padding is 0 either way.
 */
typedef struct {
    const float *x;
    const float *scale, *shift; /* [n_leaves][c], or NULL: x itself */
    const uint32_t *leaf;       /* [n]: of each image */
    sim_activation act;         /* none or ReLU */
} sim_conv_input;
/* True if the passes of this shape can read through a norm. */
bool sim_conv_reads_norm(const sim_conv *conv);

/* x -> y [n][oh][ow][k], overwritten. */
void sim_conv_forward(const sim_conv *conv, const float *panels, size_t n_images,
                      const sim_conv_input *x, float *y);
/* dy [n][oh][ow][k] -> dx [n][h][w][c], overwritten. */
void sim_conv_backward_data(const sim_conv *conv, const float *panels, size_t n_images,
                            const float *dy, float *dx);

/*
 * The leaves of this rank: `range` of the n_leaves leaves of the global batch.  A leaf is
 * images_per_leaf consecutive images (a block with all its views).
 */
typedef struct {
    size_t n_leaves;
    sim_range range;
    size_t images_per_leaf;
} sim_leaf_layout;

/*
 * Weight gradients, summed within each leaf in a fixed order and over leaves by the tree of
 * tree.h.
 *
 *   x   of the images of the range
 *   dy  [images of the range][oh][ow][k]
 *   dw  [nodes][k][c][size][size], node_stride floats per node; node j of sim_tree_nodes.
 *       Not written if the range is empty.
 */
void sim_conv_backward_weights(const sim_conv *conv, const sim_leaf_layout *layout,
                               const sim_conv_input *x, const float *dy, float *dw,
                               size_t node_stride);

/*
 * Bytes of workspace in addition to the operands: one buffer shared by all threads, and one
 * scratch buffer per thread.  Passes reuse both buffers, so several passes need the maximum
 * over the passes: the functions below raise each field to at least what the pass needs.
 */
typedef struct {
    size_t shared, thread;
} sim_workspace_size;
void sim_conv_workspace(const sim_conv *conv, const sim_leaf_layout *layout,
                        sim_workspace_size *size);
/* The same without sim_conv_backward_weights. */
void sim_conv_forward_workspace(const sim_conv *conv, size_t n_images,
                                sim_workspace_size *size);

/* ---- batch norm ---- */

/*
 * Rows (pixels) of batch-norm leaves.  Leaf l consists of `n_pieces` pieces of `rows` rows
 * of c floats; piece p starts at row start[l * n_pieces + p].
 */
typedef struct {
    size_t n_leaves, n_pieces, rows, c;
    const size_t *start; /* [n_leaves][n_pieces], borrowed */
} sim_norm_leaves;
void sim_norm_workspace(const sim_norm_leaves *leaves,
                        sim_workspace_size *size); /* does not read start */

/* out [n_leaves][2][c]: mean and biased variance, in double, merged by fixed chunks. */
void sim_norm_moments(const sim_norm_leaves *leaves, const float *x, double *out);
/* sim_conv_forward, and sim_norm_moments of y, whose rows are those of `leaves`: where the shape
 * allows it, the moments are taken while a part of y is in cache. */
void sim_conv_forward_moments(const sim_conv *conv, const float *panels, size_t n_images,
                              const sim_conv_input *x, float *y,
                              const sim_norm_leaves *leaves, double *out);

/*
 * y = act(x * scale[l] + shift[l] + residual); scale and shift are [n_leaves][c].
 * residual may be NULL; y may alias x or residual.
 */
void sim_norm_apply(const sim_norm_leaves *leaves, const float *x, const float *scale,
                    const float *shift, const float *residual, sim_activation act,
                    float *y);

/*
 * Writes g = dy * act'(u) with u = x * scale[l] + shift[l] + residual, and its sums.
 *
 *   scale, shift, mean  [n_leaves][c]
 *   residual            may be NULL
 *   g                   as dy; may alias dy
 *   out                 [n_leaves][2][c] sum of g and sum of g * (x - mean[l]), in double
 */
void sim_norm_backward_sums(const sim_norm_leaves *leaves, const float *x,
                            const float *scale, const float *shift, const float *mean,
                            const float *residual, sim_activation act, const float *dy,
                            float *g, double *out);

/* sim_conv_backward_data into g, and sim_norm_backward_sums of it in place, without a residual:
 * g becomes the gradient of the norm's input u. */
void sim_conv_backward_data_sums(const sim_conv *conv, const float *panels,
                                 size_t n_images, const float *dy,
                                 const sim_norm_leaves *leaves, const float *x,
                                 const float *scale, const float *shift,
                                 const float *mean, sim_activation act, float *g,
                                 double *out);

/* dx = a[l] * g + b[l] * x + d[l]; a, b and d are [n_leaves][c]; dx may alias g. */
void sim_norm_backward(const sim_norm_leaves *leaves, const float *x, const float *g,
                       const float *a, const float *b, const float *d, float *dx);

/* ---- element-wise operations and pooling ---- */

/* y = act(x + bias); x and y are [rows][c], bias is [c] or NULL. */
void sim_activate(size_t rows, size_t c, const float *x, const float *bias,
                  sim_activation act, float *y);
/* dx = dy * act'(x + bias). */
void sim_activate_backward(size_t rows, size_t c, const float *x, const float *bias,
                           sim_activation act, const float *dy, float *dx);
/* out [c]: column sums of x [rows][c] over ascending rows.
 * Serial; may be called inside sim_for. */
void sim_column_sums(size_t rows, size_t c, const float *x, double *out);
/* y += x, n floats. */
void sim_add(size_t n, const float *x, float *y);
/* y = x, n floats; x and y do not overlap. */
void sim_copy(size_t n, const float *x, float *y);

/* 3 x 3, stride 2, padding 1.  `at` [n][oh][ow][c] is the tap (0 to 8) of the maximum,
 * saved for backward; the first in row order among equals, as in PyTorch. */
void sim_max_pool(size_t n, size_t h, size_t w, size_t c, const float *x, float *y,
                  uint8_t *at);
void sim_max_pool_backward(size_t n, size_t h, size_t w, size_t c, const float *dy,
                           const uint8_t *at, float *dx);
/* Mean over pixels, x [n][pixels][c] to y [n][c], and its gradient. */
void sim_mean_pool(size_t n, size_t pixels, size_t c, const float *x, float *y);
void sim_mean_pool_backward(size_t n, size_t pixels, size_t c, const float *dy,
                            float *dx);

/* ---- spectra, by OpenBLAS on one thread ---- */

enum { SIM_GRAM_ROWS = 64 };
/* Rows [SIM_GRAM_ROWS block, ...) of Z^T Z for Z [n][d], out [<= SIM_GRAM_ROWS][d].  A block has
 * the same bits whoever computes it.  Serial; may be called inside sim_for. */
void sim_gram_block(size_t n, size_t d, const double *z, size_t block, double *out);
/* Eigenvalues [d], ascending, of a symmetric matrix [d][d], which is overwritten.
 *   work  [sim_eigenvalues_work(d)]
 * Errors: SIM_E_BUG if the iteration does not converge. */
size_t sim_eigenvalues_work(size_t d);
SIM_MUST_USE sim_status sim_eigenvalues(size_t d, double *matrix, double *work,
                                        double *values);

/* ---- embeddings and rows of similarities ---- */

/* z = x / max(|x|, 1e-12) per row of x [rows][d]; norm [rows] receives |x|, from sim_dot. */
void sim_unit_rows(size_t rows, size_t d, const float *x, float *z, float *norm);
/* dx = (dz - z <z, dz>) / max(norm, 1e-12). */
void sim_unit_rows_backward(size_t rows, size_t d, const float *z, const float *norm,
                            const float *dz, float *dx);

/* The functions below are serial and may be called inside sim_for. */

/* Maximum of n floats; n >= 1.  NaN after the first element is ignored. */
float sim_row_max(size_t n, const float *s);
/* Sum over j of exp(s_j * scale - shift). */
float sim_row_exp_sum(size_t n, const float *s, float scale, float shift);
/*
 * p_j = exp(s_j * scale - row) + exp(s_j * scale - column[j]).  A row of +INFINITY or a
 * NULL column drops the respective term.  p may alias s.
 */
void sim_row_softmax_two(size_t n, const float *s, float scale, float row,
                         const float *column, float *p);
/* p_j = exp(s_j * scale - shift) * (row + column[j]); a NULL column is 0.  p may alias s. */
void sim_row_shares(size_t n, const float *s, float scale, float shift, float row,
                    const float *column, float *p);
/* p_j = 1 / (1 + exp(-(s_j * scale + bias))).  p may alias s. */
void sim_row_sigmoid(size_t n, const float *s, float scale, float bias, float *p);
/* Sum over j of log(1 + exp(s_j * scale + bias)); an s_j of -INFINITY contributes 0. */
float sim_row_softplus_sum(size_t n, const float *s, float scale, float bias);
/* <a, b> in 16 lanes of double, reduced 8, 4, 2, 1; the same bits for all kernels. */
double sim_dot(size_t d, const float *a, const float *b);

/* exp as the row functions compute it: error at most 2 ulp for x in [-87, 88] (measured over all
 * floats: 1.02); 0 below, exp(88) above; NaN of NaN. */
float sim_exp(float x);
/* exp in double, error at most 2 ulp; the same bits for all kernels. */
double sim_exp_double(double x);
/* Natural logarithm, error at most 2 ulp; the same bits for all kernels.  (sim_log writes
 * log lines.) */
double sim_ln(double x);

/* ---- images: planes of floats, usually in [0, 1] ---- */

/*
 * Serial; may be called inside sim_for.  All kernels, also portable, produce the same bits: every
 * operation is rounded to float, and sums run over ascending terms.
 */

/* y = x / 255, n values. */
void sim_pixels_from_bytes(size_t n, const uint8_t *x, float *y);
/* y [columns][rows] = the transpose of x [rows][columns]; ldx and ldy are the row strides. */
void sim_pixels_transpose(size_t rows, size_t columns, const float *x, size_t ldx,
                          float *y, size_t ldy);
/* y_j = sum over t of weights[t] * x[t * stride + j], for n outputs.  stride 1 is a convolution
 * along a row, the stride of rows one along columns. */
void sim_pixels_sum(size_t n, size_t terms, const float *weights, const float *x,
                    size_t stride, float *y);
/* x = x * scale + offset, n values, clamped to [0, 1]. */
void sim_pixels_scale(size_t n, float scale, float offset, float *x);
/* y [n] = the gray values, ITU-R 601, of x [3][n]. */
void sim_pixels_gray(size_t n, const float *x, float *y);
/* x [3][n] = factor * x + (1 - factor) * gray value, clamped to [0, 1]. */
void sim_pixels_saturate(size_t n, float factor, float *x);
/* Shifts the hue of x [3][n] by `shift` turns, |shift| <= 1, as torchvision's adjust_hue. */
void sim_pixels_hue(size_t n, float shift, float *x);
/* y [n][c] = (x - mean[channel]) * scale[channel] for x [c][n]. */
void sim_pixels_normalize(size_t n, size_t c, const float *x, const float *mean,
                          const float *scale, float *y);

#endif
