/*
 * kernel.h - the inner loops: products, convolutions, norms, activations, exp.
 *
 * Module: kernel
 * A plain reference (`portable`) is the meaning; an overlay per instruction set (v3, v4)
 * replaces what it does faster.  v3 and v4 give the same bits as each other; portable
 * agrees with them within DESIGN.md section 7.  Every output is summed in one fixed
 * order that depends on shapes alone, never on threads, rows in the call or instruction
 * set.  Arrays are float32, C order, images NHWC, aligned as floats are.
 *
 * Functions without a note run in parallel (sim_for) and may use scratch; those marked
 * "item" are serial and meant to be called from inside a sim_for item.
 */
#ifndef SIMILE_KERNEL_H
#define SIMILE_KERNEL_H

#include "simile/status.h"
#include "simile/tree.h"

#include <stdint.h>

/* ---- choosing ---- */

/* "auto|portable|v3|v4": picks the row for the process.  SIMILE_KERNELS overrides auto.
 * Fails: SIM_E_CONFIG when this machine cannot run it. */
SIM_MUST_USE sim_status sim_kernels_pick(const char *name);
const char *sim_kernels_name(void);       /* "v4"; picks auto when nobody has picked */
const char *sim_kernels_arithmetic(void); /* "fast" or "portable": part of identity */
const char *sim_kernels_blas(void);       /* OpenBLAS's version and core, for --version */

/* Compares the picked kernels' convolutions, forward and backward, and their exp with plain
 * loops on small shapes; milliseconds.  Fails: SIM_E_BUG naming kernels and pass. */
SIM_MUST_USE sim_status sim_kernels_check(void);

/* ---- products, for the loss, kNN and whoever has plain matrices ---- */

/* Floats of B [k][n] packed in panels. */
size_t sim_panel_floats(size_t k, size_t n);
/* Packs B [k][n] with row stride ldb; transposed: given as [n][k] with row stride ldb. Item. */
void sim_panel_pack(size_t k, size_t n, const float *b, size_t ldb, bool transposed,
                    float *panel);
/* C [m][n] = A [m][k] B; each output is one fma chain over ascending k.  Item. */
void sim_product(size_t m, size_t n, size_t k, const float *a, size_t lda,
                 const float *panel, float *c, size_t ldc);
/* The same, rows of A in parallel. */
void sim_product_for(size_t m, size_t n, size_t k, const float *a, size_t lda,
                     const float *panel, float *c, size_t ldc);

/* ---- convolutions (a linear layer is one of size 1 on 1 x 1 images) ---- */

typedef struct {
    size_t c, k;   /* channels in, out */
    size_t size;   /* filter side: 1, 3 or 7 */
    size_t stride; /* 1 or 2 */
    size_t pad;    /* zeros around */
    size_t h, w;   /* input */
    size_t oh, ow; /* output: (h + 2 pad - size) / stride + 1 */
    /* Never by Winograd, whose tiles let pixels outside of a filter's reach change an
     * output's last bits. */
    bool exact_reach;
} sim_conv;

/* Fills oh and ow.  Fails: SIM_E_CONFIG when the filter does not fit. */
SIM_MUST_USE sim_status sim_conv_shape(sim_conv *conv);
/* "winograd" or "direct": by shape and exact_reach alone. */
const char *sim_conv_path(const sim_conv *conv);
double sim_conv_flops(const sim_conv *conv); /* multiply-adds x 2 of one image, direct */

/* Filters in the forms that the passes read.  Opaque; pack after every update. */
typedef struct sim_filters sim_filters;
SIM_MUST_USE sim_status sim_filters_create(const sim_conv *conv, sim_filters **out);
void sim_filters_destroy(sim_filters **f);
size_t sim_filters_bytes(const sim_conv *conv); /* that create takes */
/* From torch's order, oihw [k][c][size][size]; backward: also the form that
 * sim_conv_backward_data reads. */
void sim_filters_pack(sim_filters *f, const float *oihw, bool backward);

/* x [n][h][w][c] -> y [n][oh][ow][k], overwritten. */
void sim_conv_forward(const sim_filters *f, size_t n_images, const float *x, float *y);
/* dy [n][oh][ow][k] -> dx [n][h][w][c], overwritten. */
void sim_conv_backward_data(const sim_filters *f, size_t n_images, const float *dy,
                            float *dx);

/*
 * Whose leaves a call walks: this rank's, of n_leaves in the global batch, each of
 * images_per_leaf consecutive images (a block with all its views).
 */
typedef struct {
    size_t n_leaves;
    sim_range range;
    size_t images_per_leaf;
} sim_leaf_layout;

/*
 * Weight gradients: per leaf in a fixed order, then the tree of tree.h over the layout's
 * leaves.  Node j of sim_tree_nodes is written to dw + j * node_stride, in torch's order
 * [k][c][size][size].  Nothing is written for an empty range.
 *   x [images of the range][h][w][c], dy [same][oh][ow][k]
 */
void sim_conv_backward_weights(const sim_conv *conv, const sim_leaf_layout *layout,
                               const float *x, const float *dy, float *dw,
                               size_t node_stride);

/*
 * Bytes that passes take besides their operands: of a buffer that all threads share, and
 * of one that each thread has.  Both only grow, so what passes need in all is the most
 * that one of them needs: the functions below raise what is there.
 */
typedef struct {
    size_t shared, thread;
} sim_workspace_size;
void sim_conv_workspace(const sim_conv *conv, const sim_leaf_layout *layout,
                        sim_workspace_size *size);
/* The same for passes without sim_conv_backward_weights. */
void sim_conv_forward_workspace(const sim_conv *conv, size_t n_images,
                                sim_workspace_size *size);

/* ---- per-channel work over leaves ---- */

typedef enum { SIM_ACT_NONE, SIM_ACT_RELU, SIM_ACT_SILU } sim_activation;

/*
 * Rows (pixels) of batch-norm leaves: leaf l is `n_pieces` pieces of `rows` rows of c
 * floats; piece p starts at row start[l * n_pieces + p].
 */
typedef struct {
    size_t n_leaves, n_pieces, rows, c;
    const size_t *start; /* [n_leaves][n_pieces], borrowed */
} sim_norm_leaves;
void sim_norm_workspace(const sim_norm_leaves *leaves,
                        sim_workspace_size *size); /* start: unused */

/* out [n_leaves][2][c]: mean, then biased variance, by fixed chunks; double. */
void sim_norm_moments(const sim_norm_leaves *leaves, const float *x, double *out);

/*
 * y = act(x * scale[l] + shift[l] + residual), scale and shift [n_leaves][c];
 * residual may be NULL, and y may be x or residual.
 */
void sim_norm_apply(const sim_norm_leaves *leaves, const float *x, const float *scale,
                    const float *shift, const float *residual, sim_activation act,
                    float *y);

/*
 * With u = x * scale + shift (+ residual) and g = dy * act'(u):
 *   out [n_leaves][2][c]: sum of g, then sum of g * (x - mean[l]) ; double.
 * g is written to `g` (may be dy) for the second pass.  mean [n_leaves][c].
 */
void sim_norm_backward_sums(const sim_norm_leaves *leaves, const float *x,
                            const float *scale, const float *shift, const float *mean,
                            const float *residual, sim_activation act, const float *dy,
                            float *g, double *out);

/* dx = a[l] * g + b[l] * x + d[l], coefficients [n_leaves][c]; dx may be g. */
void sim_norm_backward(const sim_norm_leaves *leaves, const float *x, const float *g,
                       const float *a, const float *b, const float *d, float *dx);

/* ---- elementwise and pooling ---- */

/* y = act(x + bias) on [rows][c]; bias may be NULL. */
void sim_activate(size_t rows, size_t c, const float *x, const float *bias,
                  sim_activation act, float *y);
/* dx = dy * act'(x + bias). */
void sim_activate_backward(size_t rows, size_t c, const float *x, const float *bias,
                           sim_activation act, const float *dy, float *dx);
/* out [c] doubles: column sums of x [rows][c] in a fixed order.  Item. */
void sim_column_sums(size_t rows, size_t c, const float *x, double *out);
/* y += x, n floats. */
void sim_add(size_t n, const float *x, float *y);
/* y = x, n floats, which do not overlap. */
void sim_copy(size_t n, const float *x, float *y);

/* 3 x 3, stride 2, padding 1; `at` [n][oh][ow][c] remembers which input won (first of
 * equals in row order, as torch). */
void sim_max_pool(size_t n, size_t h, size_t w, size_t c, const float *x, float *y,
                  uint8_t *at);
void sim_max_pool_backward(size_t n, size_t h, size_t w, size_t c, const float *dy,
                           const uint8_t *at, float *dx);
/* [n][h*w][c] <-> [n][c]: mean over pixels, and its gradient. */
void sim_mean_pool(size_t n, size_t pixels, size_t c, const float *x, float *y);
void sim_mean_pool_backward(size_t n, size_t pixels, size_t c, const float *dy,
                            float *dx);

/* ---- rows of embeddings and tiles of similarities ---- */

/* z = x / max(|x|, 1e-12) per row; norm [rows] receives |x|.  |x| in 16 lanes, double fold. */
void sim_unit_rows(size_t rows, size_t d, const float *x, float *z, float *norm);
/* dx = (dz - z (z . dz)) / max(norm, 1e-12). */
void sim_unit_rows_backward(size_t rows, size_t d, const float *z, const float *norm,
                            const float *dz, float *dx);

/* Largest of n floats (n >= 1).  Item. */
float sim_row_max(size_t n, const float *s);
/* Sum over j of exp(s_j * scale - shift) in 16 lanes folded 8, 4, 2, 1.  Item. */
float sim_row_exp_sum(size_t n, const float *s, float scale, float shift);
/*
 * p_j = exp(s_j * scale - row) + exp(s_j * scale - column[j]); column NULL leaves out
 * the second, row +INFINITY the first.  p may be s.  Item.
 */
void sim_row_softmax_two(size_t n, const float *s, float scale, float row,
                         const float *column, float *p);
/* p_j = exp(s_j * scale - shift) * (row + column[j]); column NULL: * row.  p may be s.  Item. */
void sim_row_shares(size_t n, const float *s, float scale, float shift, float row,
                    const float *column, float *p);
/* p_j = 1 / (1 + exp(-(s_j * scale + bias))).  Item. */
void sim_row_sigmoid(size_t n, const float *s, float scale, float bias, float *p);
/* Sum over j of log(1 + exp(s_j * scale + bias)) in 16 lanes folded 8, 4, 2, 1; s_j of
 * -INFINITY adds 0.  Item. */
float sim_row_softplus_sum(size_t n, const float *s, float scale, float bias);
/* a . b in 16 lanes of double folded 8, 4, 2, 1: same bits for every instruction set.  Item. */
double sim_dot(size_t d, const float *a, const float *b);
float sim_exp(float x); /* own exp, same bits everywhere; relative error <= 2e-7 */
double sim_exp_double(double x); /* the same in double, <= 2 ulp */
double sim_ln(double x); /* own natural logarithm, <= 2 ulp; not sim_log, which speaks */

#endif
