/*
 * cases.c - runs of every kernel on generic operands.
 */
#include "cases.h"

#include "private.h"

#include <math.h>

size_t sim_case_columns(const sim_kernel_shape *s)
{
    return s->n % (PANEL + 1);
}

size_t sim_case_width(const sim_kernel_shape *s)
{
    return sim_case_columns(s) <= HALF_PANEL ? HALF_PANEL : PANEL;
}

size_t sim_case_taps(const sim_kernel_shape *s)
{
    return s->m % SIM_CASE_TAPS + 1;
}

size_t sim_case_rows(const sim_kernel_shape *s)
{
    return s->m % NORM_CHUNK + 1;
}

sim_case_norm sim_case_norm_operands(const sim_kernel_shape *s, const float *in)
{
    size_t floats = sim_case_rows(s) * s->n;
    const float *channels = in + 3 * floats;
    return (sim_case_norm){.x = in,
                           .residual = in + floats,
                           .dy = in + 2 * floats,
                           .scale = channels,
                           .shift = channels + s->n,
                           .mean = channels + 2 * s->n};
}

/* Converts the n outputs in `work`. */
static sim_case_result outputs(const float *work, size_t n, double magnitude, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (double)work[i];
    return (sim_case_result){n, magnitude};
}

/* The operand, or its copy in the output if the shape requests aliasing. */
static const float *operand(const sim_kernel_shape *s, const float *x, size_t n,
                            float *output)
{
    if (!s->alias)
        return x;
    memcpy(output, x, n * sizeof *x);
    return output;
}

/* Terms are products of values below 1: their sum is rounded relative to about 1. */
static const double unit = 1;
/* Coefficients of the Winograd transforms add up to several hundred. */
static const double winograd = 20;
/* Sums of positive terms: the error is relative to the result.  Denormals are 0. */
static const double positive = 1e-30;

static sim_case_result run_product(const sim_kernel_table *t, const sim_kernel_shape *s,
                                   const float *in, float *work, double *out)
{
    size_t used = sim_case_columns(s), lda = s->k + 1, ldc = used + 1;
    t->product(s->m, used, s->k, in, lda, in + s->m * lda, sim_case_width(s), work, ldc);
    return outputs(work, s->m * ldc, unit, out);
}

static sim_case_result run_product_transposed(const sim_kernel_table *t,
                                              const sim_kernel_shape *s, const float *in,
                                              float *work, double *out)
{
    size_t width = sim_round_up(s->n, HALF_PANEL), lda = s->m + 1, ldb = width + 1;
    if (s->option)
        memcpy(work, in, s->m * ldb * sizeof *in);
    t->product_transposed(s->m, width, s->k, in, lda, in + s->k * lda, ldb, s->option,
                          work, ldb);
    return outputs(work, s->m * ldb, unit, out);
}

static sim_case_result run_copy_columns(const sim_kernel_table *t,
                                        const sim_kernel_shape *s, const float *in,
                                        float *work, double *out)
{
    size_t used = sim_case_columns(s), width = sim_case_width(s);
    t->copy_columns(s->m, used, width, in, used + 1, work, width + 1);
    return outputs(work, s->m * (width + 1), unit, out);
}

static sim_case_result run_wino_filters(const sim_kernel_table *t,
                                        const sim_kernel_shape *s, const float *in,
                                        float *work, double *out)
{
    (void)s;
    t->wino_filters(in, work, HALF_PANEL + 1);
    return outputs(work, WINO_N * (size_t)(HALF_PANEL + 1), unit, out);
}

static sim_case_result run_wino_input(const sim_kernel_table *t,
                                      const sim_kernel_shape *s, const float *in,
                                      float *work, double *out)
{
    size_t f_stride = s->n + 1, row = WINO_IN * s->n + 1;
    wino_window window = s->window;
    window.y_hi += WINO_IN - WINO_OUT;
    window.x_hi += WINO_IN - WINO_OUT;
    const float *scale = in + WINO_IN * row;
    read_norm norm = {.scale = s->option ? scale : NULL,
                      .shift = scale + s->n,
                      .act = s->act == SIM_ACT_RELU ? SIM_ACT_RELU : SIM_ACT_NONE};
    t->wino_input(s->n, in, s->n, row, window, norm, work, f_stride);
    return outputs(work, WINO_N * f_stride, winograd, out);
}

static sim_case_result run_wino_output(const sim_kernel_table *t,
                                       const sim_kernel_shape *s, const float *in,
                                       float *work, double *out)
{
    size_t pixel = s->n + 1, row = WINO_OUT * pixel + 1;
    t->wino_output(s->n, in, s->n + 1, s->window, work, pixel, row);
    return outputs(work, WINO_OUT * row, winograd, out);
}

static sim_case_result run_wino_gradient(const sim_kernel_table *t,
                                         const sim_kernel_shape *s, const float *in,
                                         float *work, double *out)
{
    size_t f_stride = s->n + 1, row = WINO_OUT * s->n + 1;
    t->wino_gradient(s->n, in, s->n, row, s->window, work, f_stride);
    return outputs(work, WINO_N * f_stride, winograd, out);
}

static sim_case_result run_wino_filter(const sim_kernel_table *t,
                                       const sim_kernel_shape *s, const float *in,
                                       float *work, double *out)
{
    size_t stride = s->n + 1;
    t->wino_filter(s->n, in, stride, work, stride);
    return outputs(work, 9 * stride, unit, out);
}

static sim_case_result run_moments(const sim_kernel_table *t, const sim_kernel_shape *s,
                                   const float *in, float *work, double *out)
{
    (void)work;
    t->moments(sim_case_rows(s), s->n, in, out, out + s->n);
    return (sim_case_result){2 * s->n, unit};
}

static sim_case_result run_norm_apply(const sim_kernel_table *t,
                                      const sim_kernel_shape *s, const float *in,
                                      float *work, double *out)
{
    const sim_case_norm q = sim_case_norm_operands(s, in);
    size_t rows = sim_case_rows(s), n = rows * s->n;
    t->norm_apply(rows, s->n, operand(s, q.x, n, work), q.scale, q.shift,
                  s->option ? q.residual : NULL, s->act, work);
    return outputs(work, n, unit, out);
}

static sim_case_result run_norm_sums(const sim_kernel_table *t, const sim_kernel_shape *s,
                                     const float *in, float *work, double *out)
{
    const sim_case_norm q = sim_case_norm_operands(s, in);
    size_t rows = sim_case_rows(s), n = rows * s->n;
    t->norm_sums(rows, s->n, q.x, q.scale, q.shift, q.mean, s->option ? q.residual : NULL,
                 s->act, operand(s, q.dy, n, work), work, work + n, work + n + s->n);
    return outputs(work, n + 2 * s->n, unit, out);
}

static sim_case_result run_norm_backward(const sim_kernel_table *t,
                                         const sim_kernel_shape *s, const float *in,
                                         float *work, double *out)
{
    const sim_case_norm q = sim_case_norm_operands(s, in);
    size_t rows = sim_case_rows(s), n = rows * s->n;
    t->norm_backward(rows, s->n, q.x, operand(s, q.dy, n, work), q.scale, q.shift, q.mean,
                     work);
    return outputs(work, n, unit, out);
}

static sim_case_result run_activate(const sim_kernel_table *t, const sim_kernel_shape *s,
                                    const float *in, float *work, double *out)
{
    size_t n = s->m * s->n;
    t->activate(s->m, s->n, operand(s, in, n, work), s->option ? in + n : NULL, s->act,
                work);
    return outputs(work, n, unit, out);
}

static sim_case_result run_activate_backward(const sim_kernel_table *t,
                                             const sim_kernel_shape *s, const float *in,
                                             float *work, double *out)
{
    size_t n = s->m * s->n;
    t->activate_backward(s->m, s->n, in, s->option ? in + n : NULL, s->act,
                         operand(s, in + n + s->n, n, work), work);
    return outputs(work, n, unit, out);
}

static sim_case_result run_add(const sim_kernel_table *t, const sim_kernel_shape *s,
                               const float *in, float *work, double *out)
{
    memcpy(work, in + s->n, s->n * sizeof *in);
    t->add(s->n, in, work);
    return outputs(work, s->n, unit, out);
}

static sim_case_result run_max_pool(const sim_kernel_table *t, const sim_kernel_shape *s,
                                    const float *in, float *work, double *out)
{
    const float *taps[SIM_CASE_TAPS];
    uint8_t index[SIM_CASE_TAPS], at[SIM_CASE_MAX];
    size_t n = sim_case_taps(s);

    for (size_t i = 0; i < n; i++) {
        taps[i] = in + i * s->n;
        index[i] = (uint8_t)i;
    }
    t->max_pool(s->n, n, taps, index, work, at);
    for (size_t i = 0; i < s->n; i++)
        work[s->n + i] = (float)at[i];
    return outputs(work, 2 * s->n, unit, out);
}

static sim_case_result run_row_max(const sim_kernel_table *t, const sim_kernel_shape *s,
                                   const float *in, float *work, double *out)
{
    work[0] = t->row_max(s->n ? s->n : 1, in);
    return outputs(work, 1, unit, out);
}

static sim_case_result run_row_exp_sum(const sim_kernel_table *t,
                                       const sim_kernel_shape *s, const float *in,
                                       float *work, double *out)
{
    work[0] = t->row_exp_sum(s->n, in, s->scale, sim_case_shift);
    return outputs(work, 1, positive, out);
}

static sim_case_result run_row_softmax_two(const sim_kernel_table *t,
                                           const sim_kernel_shape *s, const float *in,
                                           float *work, double *out)
{
    t->row_softmax_two(s->n, operand(s, in, s->n, work), s->scale, sim_case_row,
                       s->option ? in + s->n : NULL, work);
    return outputs(work, s->n, positive, out);
}

static sim_case_result run_row_shares(const sim_kernel_table *t,
                                      const sim_kernel_shape *s, const float *in,
                                      float *work, double *out)
{
    t->row_shares(s->n, operand(s, in, s->n, work), s->scale, sim_case_shift,
                  sim_case_row, s->option ? in + s->n : NULL, work);
    return outputs(work, s->n, positive, out);
}

static sim_case_result run_row_sigmoid(const sim_kernel_table *t,
                                       const sim_kernel_shape *s, const float *in,
                                       float *work, double *out)
{
    t->row_sigmoid(s->n, operand(s, in, s->n, work), s->scale, sim_case_shift, work);
    return outputs(work, s->n, positive, out);
}

static sim_case_result run_row_softplus_sum(const sim_kernel_table *t,
                                            const sim_kernel_shape *s, const float *in,
                                            float *work, double *out)
{
    work[0] = t->row_softplus_sum(s->n, in, s->scale, sim_case_shift);
    return outputs(work, 1, positive, out);
}

/* Copies n operands as values of an image, in [0, 1]. */
static void copy_pixels(const float *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = fabsf(in[i]);
}

static sim_case_result run_pixels_from_bytes(const sim_kernel_table *t,
                                             const sim_kernel_shape *s, const float *in,
                                             float *work, double *out)
{
    t->pixels_from_bytes(s->n, (const uint8_t *)in, work);
    return outputs(work, s->n, unit, out);
}

static sim_case_result run_pixels_transpose(const sim_kernel_table *t,
                                            const sim_kernel_shape *s, const float *in,
                                            float *work, double *out)
{
    t->pixels_transpose(s->m, s->n, in, s->n + 1, work, s->m + 1);
    return outputs(work, s->n * (s->m + 1), unit, out);
}

static sim_case_result run_pixels_sum(const sim_kernel_table *t,
                                      const sim_kernel_shape *s, const float *in,
                                      float *work, double *out)
{
    t->pixels_sum(s->n, s->k, in, in + s->k, s->option ? 1 : s->n + 1, work);
    return outputs(work, s->n, unit, out);
}

static sim_case_result run_pixels_scale(const sim_kernel_table *t,
                                        const sim_kernel_shape *s, const float *in,
                                        float *work, double *out)
{
    copy_pixels(in, s->n, work);
    t->pixels_scale(s->n, sim_case_factor, sim_case_offset, work);
    return outputs(work, s->n, unit, out);
}

static sim_case_result run_pixels_gray(const sim_kernel_table *t,
                                       const sim_kernel_shape *s, const float *in,
                                       float *work, double *out)
{
    t->pixels_gray(s->n, in, work);
    return outputs(work, s->n, unit, out);
}

static sim_case_result run_pixels_saturate(const sim_kernel_table *t,
                                           const sim_kernel_shape *s, const float *in,
                                           float *work, double *out)
{
    copy_pixels(in, 3 * s->n, work);
    t->pixels_saturate(s->n, sim_case_factor, work);
    return outputs(work, 3 * s->n, unit, out);
}

static sim_case_result run_pixels_hue(const sim_kernel_table *t,
                                      const sim_kernel_shape *s, const float *in,
                                      float *work, double *out)
{
    copy_pixels(in, 3 * s->n, work);
    t->pixels_hue(s->n, s->option ? sim_case_turn : -sim_case_turn, work);
    return outputs(work, 3 * s->n, unit, out);
}

static sim_case_result run_pixels_normalize(const sim_kernel_table *t,
                                            const sim_kernel_shape *s, const float *in,
                                            float *work, double *out)
{
    const size_t c = s->option ? 3 : 1;
    t->pixels_normalize(s->n, c, in + 6, in, in + 3, work);
    return outputs(work, s->n * c, unit, out);
}

const sim_kernel_case sim_kernel_cases[SIM_N_KERNELS] = {
#define SIM_KERNEL(result, name, parameters) {#name, run_##name},
#include "kernels.def"
#undef SIM_KERNEL
};

/* An exponent of 80 is rounded to 3.8e-6, which is the relative error of its exp. */
static const double tolerance = 1e-5;

sim_status sim_case_compare(const char *isa, const char *kernel, sim_case_result r,
                            const double *expected, const double *actual)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < r.n; i++)
        SIM_CHECK(
            fabs(actual[i] - expected[i]) <=
                tolerance * (fabs(expected[i]) + r.magnitude),
            SIM_E_BUG, /* also if either is NaN */
            "kernels %s: %s: output %zu of %zu is %.9g, expected %.9g; the build or "
            "the processor is faulty, run with kernels=portable",
            isa, kernel, i, r.n, actual[i], expected[i]);
done:
    return st;
}
