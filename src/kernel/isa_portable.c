/*
 * isa_portable.c - the reference semantics of the kernels: plain loops for any processor.
 *
 * Every function computes in double and rounds each output once.  Sums run over ascending
 * indices and depend on nothing but the operands of the output, so the bits do not depend on
 * how rows are divided over calls, threads or ranks.  exp and log are those of rows.c.
 * The kernels of images are those of body_pixels.h, in float.
 */
#include "table.h"

enum { LANES = 4 }; /* of any processor that has vectors */
#include "body_pixels.h"

/* ---- matrix products ---- */

static void product(size_t m, size_t used, size_t k, const float *a, size_t lda,
                    const float *panel, size_t width, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < used; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)a[i * lda + p] * (double)panel[p * width + j];
            c[i * ldc + j] = (float)sum;
        }
}

static void product_transposed(size_t m, size_t width, size_t k, const float *a,
                               size_t lda, const float *b, size_t ldb, bool add, float *c,
                               size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < width; j++) {
            double sum = add ? (double)c[i * ldc + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)a[p * lda + i] * (double)b[p * ldb + j];
            c[i * ldc + j] = (float)sum;
        }
}

static void copy_columns(size_t rows, size_t used, size_t width, const float *x,
                         size_t ldx, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < width; j++)
            y[r * ldy + j] = j < used ? x[r * ldx + j] : 0;
}

/* ---- Winograd F(4x4, 3x3); Lavin and Gray 2015, arXiv 1509.09308 ---- */

static const double matrix_bt[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0},
                                       {0, 4, -4, -1, 1, 0}, {0, -2, -1, 2, 1, 0},
                                       {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
static const double matrix_g[6][3] = {{1.0 / 4, 0, 0},
                                      {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                      {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                      {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                      {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                      {0, 0, 1}};
static const double matrix_at[4][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

/* out [rows][rows] = L in L^T for L [rows][columns] and in [columns][columns]. */
static void transform(size_t rows, size_t columns, const double *l, const double *in,
                      double *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < rows; j++) {
            double sum = 0;
            for (size_t r = 0; r < columns; r++)
                for (size_t s = 0; s < columns; s++)
                    sum += l[i * columns + r] * in[r * columns + s] * l[j * columns + s];
            out[i * rows + j] = sum;
        }
}

/* out [columns][columns] = L^T in L for L [rows][columns] and in [rows][rows]. */
static void transform_adjoint(size_t rows, size_t columns, const double *l,
                              const double *in, double *out)
{
    double transposed[36];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            transposed[j * rows + i] = l[i * columns + j];
    transform(columns, rows, transposed, in, out);
}

static bool is_inside(wino_window w, size_t i, size_t j)
{
    return (int)i >= w.y_lo && (int)i < w.y_hi && (int)j >= w.x_lo && (int)j < w.x_hi;
}

static double activation(double u, sim_activation act);

static double read_through(double x, read_norm norm, size_t i)
{
    return norm.scale
               ? activation(x * (double)norm.scale[i] + (double)norm.shift[i], norm.act)
               : x;
}

/* out [n][n]: channel i of a tile, 0 outside the window. */
static void read_tile(size_t n, const float *x, size_t pixel, size_t row, size_t i,
                      wino_window in, read_norm norm, double *out)
{
    for (size_t r = 0; r < n; r++)
        for (size_t s = 0; s < n; s++) {
            ptrdiff_t at = (ptrdiff_t)(r * row + s * pixel + i);
            out[r * n + s] =
                is_inside(in, r, s) ? read_through((double)x[at], norm, i) : 0;
        }
}

static void wino_filters(const float *g, float *u, size_t f_stride)
{
    for (size_t i = 0; i < HALF_PANEL; i++) {
        double taps[9], frequencies[WINO_N];
        for (size_t t = 0; t < 9; t++)
            taps[t] = (double)g[t * HALF_PANEL + i];
        transform(6, 3, matrix_g[0], taps, frequencies);
        for (size_t f = 0; f < WINO_N; f++)
            u[f * f_stride + i] = (float)frequencies[f];
    }
}

static void wino_input(size_t c, const float *x, size_t pixel, size_t row, wino_window in,
                       read_norm norm, float *v, size_t f_stride)
{
    for (size_t i = 0; i < c; i++) {
        double tile[WINO_IN * WINO_IN], frequencies[WINO_N];
        read_tile(WINO_IN, x, pixel, row, i, in, norm, tile);
        transform(6, 6, matrix_bt[0], tile, frequencies);
        for (size_t f = 0; f < WINO_N; f++)
            v[f * f_stride + i] = (float)frequencies[f];
    }
}

static void wino_output(size_t k, const float *m, size_t f_stride, wino_window out,
                        float *y, size_t pixel, size_t row)
{
    for (size_t i = 0; i < k; i++) {
        double frequencies[WINO_N], tile[WINO_OUT * WINO_OUT];
        for (size_t f = 0; f < WINO_N; f++)
            frequencies[f] = (double)m[f * f_stride + i];
        transform(4, 6, matrix_at[0], frequencies, tile);
        for (size_t r = 0; r < WINO_OUT; r++)
            for (size_t s = 0; s < WINO_OUT; s++)
                if (is_inside(out, r, s))
                    y[r * row + s * pixel + i] = (float)tile[r * WINO_OUT + s];
    }
}

static void wino_gradient(size_t k, const float *dy, size_t pixel, size_t row,
                          wino_window in, float *v, size_t f_stride)
{
    for (size_t i = 0; i < k; i++) {
        double tile[WINO_OUT * WINO_OUT], frequencies[WINO_N];
        read_tile(WINO_OUT, dy, pixel, row, i, in, (read_norm){0}, tile);
        transform_adjoint(4, 6, matrix_at[0], tile, frequencies);
        for (size_t f = 0; f < WINO_N; f++)
            v[f * f_stride + i] = (float)frequencies[f];
    }
}

static void wino_filter(size_t n, const float *u, size_t f_stride, float *dw,
                        size_t tap_stride)
{
    for (size_t i = 0; i < n; i++) {
        double frequencies[WINO_N], taps[9];
        for (size_t f = 0; f < WINO_N; f++)
            frequencies[f] = (double)u[f * f_stride + i];
        transform_adjoint(6, 3, matrix_g[0], frequencies, taps);
        for (size_t t = 0; t < 9; t++)
            dw[t * tap_stride + i] = (float)taps[t];
    }
}

/* ---- exp and activations ---- */

/* exp(x); 0 below -87 and exp(88) above 88, so that no float over- or underflows. */
static double exp_clamped(double x)
{
    return x < -87 ? 0 : sim_exp_double(x > 88 ? 88 : x);
}

/* log(1 + e) for e >= 0, exact to rounding also for small e (Kahan). */
static double log1p_of(double e)
{
    double u = 1 + e;
    return u == 1 ? e : sim_ln(u) * (e / (u - 1));
}

static double sigmoid(double u)
{
    return 1 / (1 + exp_clamped(-u));
}

static double activation(double u, sim_activation act)
{
    if (act == SIM_ACT_RELU)
        return u <= 0 ? 0 : u; /* NaN propagates */
    if (act == SIM_ACT_SILU)
        return u * sigmoid(u);
    return u;
}

static double activation_derivative(double u, sim_activation act)
{
    if (act == SIM_ACT_RELU)
        return u > 0 ? 1 : 0;
    if (act == SIM_ACT_SILU)
        return sigmoid(u) * (1 + u * (1 - sigmoid(u)));
    return 1;
}

/* ---- batch norm ---- */

static void moments(size_t rows, size_t c, const float *x, double *mean, double *m2)
{
    for (size_t i = 0; i < c; i++) {
        double sum = 0, squares = 0;
        for (size_t r = 0; r < rows; r++)
            sum += (double)x[r * c + i];
        mean[i] = sum / (double)rows;
        for (size_t r = 0; r < rows; r++) {
            double d = (double)x[r * c + i] - mean[i];
            squares += d * d;
        }
        m2[i] = squares;
    }
}

/* Element `at` of u = x * scale + shift + residual, in channel i. */
static double normalized(const float *x, const float *scale, const float *shift,
                         const float *residual, size_t at, size_t i)
{
    double u = (double)x[at] * (double)scale[i] + (double)shift[i];
    return residual ? u + (double)residual[at] : u;
}

static void norm_apply(size_t rows, size_t c, const float *x, const float *scale,
                       const float *shift, const float *residual, sim_activation act,
                       float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i++) {
            size_t at = r * c + i;
            y[at] = (float)activation(normalized(x, scale, shift, residual, at, i), act);
        }
}

static void norm_sums(size_t rows, size_t c, const float *x, const float *scale,
                      const float *shift, const float *mean, const float *residual,
                      sim_activation act, const float *dy, float *g, float *sum_g,
                      float *sum_gx)
{
    for (size_t i = 0; i < c; i++) {
        double sum = 0, sum_x = 0;
        for (size_t r = 0; r < rows; r++) {
            size_t at = r * c + i;
            double u = normalized(x, scale, shift, residual, at, i);
            g[at] = (float)((double)dy[at] * activation_derivative(u, act));
            sum += (double)g[at];
            sum_x += (double)g[at] * ((double)x[at] - (double)mean[i]);
        }
        sum_g[i] = (float)sum;
        sum_gx[i] = (float)sum_x;
    }
}

static void norm_backward(size_t rows, size_t c, const float *x, const float *g,
                          const float *a, const float *b, const float *d, float *dx)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i++) {
            size_t at = r * c + i;
            dx[at] = (float)((double)a[i] * (double)g[at] + (double)b[i] * (double)x[at] +
                             (double)d[i]);
        }
}

/* ---- element-wise operations ---- */

static double biased(const float *x, const float *bias, size_t at, size_t i)
{
    return (double)x[at] + (bias ? (double)bias[i] : 0);
}

static void activate(size_t rows, size_t c, const float *x, const float *bias,
                     sim_activation act, float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i++)
            y[r * c + i] = (float)activation(biased(x, bias, r * c + i, i), act);
}

static void activate_backward(size_t rows, size_t c, const float *x, const float *bias,
                              sim_activation act, const float *dy, float *dx)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i++) {
            size_t at = r * c + i;
            dx[at] = (float)((double)dy[at] *
                             activation_derivative(biased(x, bias, at, i), act));
        }
}

static void add(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void max_pool(size_t c, size_t n, const float *const *taps, const uint8_t *index,
                     float *y, uint8_t *at)
{
    for (size_t i = 0; i < c; i++) {
        y[i] = taps[0][i];
        at[i] = index[0];
        for (size_t t = 1; t < n; t++)
            if (taps[t][i] > y[i] || taps[t][i] != taps[t][i]) {
                y[i] = taps[t][i];
                at[i] = index[t];
            }
    }
}

/* ---- rows of similarities ---- */

static float row_max(size_t n, const float *s)
{
    float max = s[0];
    for (size_t j = 1; j < n; j++)
        max = s[j] > max ? s[j] : max;
    return max;
}

static float row_exp_sum(size_t n, const float *s, float scale, float shift)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++)
        sum += exp_clamped((double)s[j] * (double)scale - (double)shift);
    return (float)sum;
}

static void row_softmax_two(size_t n, const float *s, float scale, float row,
                            const float *column, float *p)
{
    for (size_t j = 0; j < n; j++) {
        double logit = (double)s[j] * (double)scale;
        double of_row = exp_clamped(logit - (double)row);
        double of_column = column ? exp_clamped(logit - (double)column[j]) : 0;
        p[j] = (float)(of_row + of_column);
    }
}

static void row_shares(size_t n, const float *s, float scale, float shift, float row,
                       const float *column, float *p)
{
    for (size_t j = 0; j < n; j++) {
        double weight = (double)row + (column ? (double)column[j] : 0);
        p[j] =
            (float)(exp_clamped((double)s[j] * (double)scale - (double)shift) * weight);
    }
}

static void row_sigmoid(size_t n, const float *s, float scale, float bias, float *p)
{
    for (size_t j = 0; j < n; j++)
        p[j] = (float)sigmoid((double)s[j] * (double)scale + (double)bias);
}

static float row_softplus_sum(size_t n, const float *s, float scale, float bias)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        double u = (double)s[j] * (double)scale + (double)bias;
        sum += (u > 0 ? u : 0) + log1p_of(exp_clamped(u < 0 ? u : -u));
    }
    return (float)sum;
}

const sim_kernel_table sim_kernels_portable = {
    .name = "portable",
    .arithmetic = "portable-2",
    .plain = true,
#define SIM_KERNEL(result, name, parameters) .name = name,
#include "kernels.def"
#undef SIM_KERNEL
};
