/*
 * test_table.c - every kernel of every instruction set of this machine against double loops,
 * and the refusal of faulty kernels at start-up.
 *
 * The lists below are generated from kernels.def: a kernel without an expectation or without
 * a faulty version does not compile.
 */
#include "simile_test.h"

#include "cases.h"
#include "isas.h"
#include "random_shape.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>

/* ---- expectations: double loops over the operands of cases.c ---- */

static double product_of(float a, float b)
{
    return (double)a * (double)b;
}

static void expect_product(const sim_kernel_shape *s, const float *in, double *out)
{
    size_t used = sim_case_columns(s), lda = s->k + 1;
    const float *b = in + s->m * lda;
    for (size_t p = 0; p < s->k; p++)
        for (size_t i = 0; i < s->m; i++)
            for (size_t j = 0; j < used; j++)
                out[i * (used + 1) + j] +=
                    product_of(in[i * lda + p], b[p * sim_case_width(s) + j]);
}

static void expect_product_transposed(const sim_kernel_shape *s, const float *in,
                                      double *out)
{
    size_t width = (s->n + 15) / 16 * 16, lda = s->m + 1, ldb = width + 1;
    for (size_t i = 0; s->option && i < s->m * ldb; i++)
        out[i] = (double)in[i];
    for (size_t p = 0; p < s->k; p++)
        for (size_t i = 0; i < s->m; i++)
            for (size_t j = 0; j < width; j++)
                out[i * ldb + j] +=
                    product_of(in[p * lda + i], in[s->k * lda + p * ldb + j]);
}

static void expect_copy_columns(const sim_kernel_shape *s, const float *in, double *out)
{
    size_t used = sim_case_columns(s);
    for (size_t r = 0; r < s->m; r++)
        for (size_t j = 0; j < used; j++)
            out[r * (sim_case_width(s) + 1) + j] = (double)in[r * (used + 1) + j];
}

/*
 * The matrices of F(4x4, 3x3) by the construction of Cook and Toom: polynomials are
 * evaluated at the points 0, 1, -1, 2, -2 and infinity, and interpolated.
 */
typedef struct {
    double at[4][6], g[6][3], bt[6][6];
} winograd_matrices;

static winograd_matrices derive_matrices(void)
{
    static const double point[5] = {0, 1, -1, 2, -2};
    winograd_matrices w = {0};
    for (size_t j = 0; j < 6; j++) {
        double *poly = w.bt[j],
               scale = 1; /* poly: product of (x - point) except point j */
        poly[0] = 1;
        for (size_t l = 0; l < 5; l++) {
            if (l == j)
                continue;
            for (size_t d = 5; d > 0; d--)
                poly[d] = poly[d - 1] - point[l] * poly[d];
            poly[0] *= -point[l];
            scale *= j < 5 ? point[j] - point[l] : 1;
        }
        for (int d = 0; d < 4; d++)
            w.at[d][j] = j < 5 ? pow(point[j], d) : d == 3;
        for (int d = 0; d < 3; d++)
            w.g[j][d] = j < 5 ? pow(point[j], d) / scale : d == 2;
    }
    return w;
}

/* Element (i, j) of L in L^T, where L(i, r) = l[i * rows + r * columns], in [n][n]. */
static double sandwich(const double *l, size_t rows, size_t columns, size_t n,
                       const double *in, size_t i, size_t j)
{
    double sum = 0;
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < n; c++)
            sum += l[i * rows + r * columns] * in[r * n + c] * l[j * rows + c * columns];
    return sum;
}

static void expect_wino_filters(const sim_kernel_shape *s, const float *in, double *out)
{
    const winograd_matrices w = derive_matrices();
    (void)s;
    for (size_t i = 0; i < 16; i++) {
        double taps[9];
        for (size_t t = 0; t < 9; t++)
            taps[t] = (double)in[t * 16 + i];
        for (size_t f = 0; f < 36; f++)
            out[f * 17 + i] = sandwich(w.g[0], 3, 1, 3, taps, f / 6, f % 6);
    }
}

/* tile [n][n]: channel i of the tile, 0 outside the window. */
static void window_of(const float *x, size_t channels, size_t row, size_t i,
                      wino_window window, int n, double *tile)
{
    for (int y = 0; y < n; y++)
        for (int c = 0; c < n; c++) {
            bool inside = y >= window.y_lo && y < window.y_hi && c >= window.x_lo &&
                          c < window.x_hi;
            tile[y * n + c] =
                inside ? (double)x[(size_t)y * row + (size_t)c * channels + i] : 0;
        }
}

static void expect_wino_input(const sim_kernel_shape *s, const float *in, double *out)
{
    const winograd_matrices w = derive_matrices();
    const size_t row = 6 * s->n + 1;
    const float *scale = in + 6 * row, *shift = scale + s->n;
    wino_window window = s->window;
    window.y_hi += 2;
    window.x_hi += 2;
    for (size_t i = 0; i < s->n; i++) {
        double tile[36];
        window_of(in, s->n, row, i, window, 6, tile);
        for (int p = 0; s->option && p < 36; p++) {
            double u = tile[p] * (double)scale[i] + (double)shift[i];
            bool inside = p / 6 >= window.y_lo && p / 6 < window.y_hi &&
                          p % 6 >= window.x_lo && p % 6 < window.x_hi;
            tile[p] = !inside ? 0 : s->act == SIM_ACT_RELU ? fmax(u, 0) : u;
        }
        for (size_t f = 0; f < 36; f++)
            out[f * (s->n + 1) + i] = sandwich(w.bt[0], 6, 1, 6, tile, f / 6, f % 6);
    }
}

static void expect_wino_output(const sim_kernel_shape *s, const float *in, double *out)
{
    const winograd_matrices w = derive_matrices();
    size_t pixel = s->n + 1, row = 4 * pixel + 1;
    for (size_t i = 0; i < s->n; i++) {
        double m[36];
        for (size_t f = 0; f < 36; f++)
            m[f] = (double)in[f * pixel + i];
        for (int y = s->window.y_lo; y < s->window.y_hi; y++)
            for (int x = s->window.x_lo; x < s->window.x_hi; x++)
                out[(size_t)y * row + (size_t)x * pixel + i] =
                    sandwich(w.at[0], 6, 1, 6, m, (size_t)y, (size_t)x);
    }
}

static void expect_wino_gradient(const sim_kernel_shape *s, const float *in, double *out)
{
    const winograd_matrices w = derive_matrices();
    for (size_t i = 0; i < s->n; i++) {
        double tile[16];
        window_of(in, s->n, 4 * s->n + 1, i, s->window, 4, tile);
        for (size_t f = 0; f < 36; f++)
            out[f * (s->n + 1) + i] = sandwich(w.at[0], 1, 6, 4, tile, f / 6, f % 6);
    }
}

static void expect_wino_filter(const sim_kernel_shape *s, const float *in, double *out)
{
    const winograd_matrices w = derive_matrices();
    for (size_t i = 0; i < s->n; i++) {
        double u[36];
        for (size_t f = 0; f < 36; f++)
            u[f] = (double)in[f * (s->n + 1) + i];
        for (size_t t = 0; t < 9; t++)
            out[t * (s->n + 1) + i] = sandwich(w.g[0], 1, 3, 6, u, t / 3, t % 3);
    }
}

/* Mean by accumulation, then squares: E[x^2] - mean^2 cancels little for |x| < 1 in double. */
static void expect_moments(const sim_kernel_shape *s, const float *in, double *out)
{
    double rows = (double)sim_case_rows(s);
    for (size_t r = 0; r < sim_case_rows(s); r++)
        for (size_t i = 0; i < s->n; i++) {
            double x = (double)in[r * s->n + i];
            out[i] += x / rows;
            out[s->n + i] += x * x;
        }
    for (size_t i = 0; i < s->n; i++)
        out[s->n + i] -= rows * out[i] * out[i];
}

static double act_of(double u, sim_activation act)
{
    static const double one = 1;
    return act == SIM_ACT_RELU   ? fmax(u, 0)
           : act == SIM_ACT_SILU ? u / (one + exp(-u))
                                 : u;
}

/* d/du u / (1 + e^-u) = (1 + e^-u + u e^-u) / (1 + e^-u)^2 */
static double derivative_of(double u, sim_activation act)
{
    double e = exp(-u);
    if (act == SIM_ACT_RELU)
        return u > 0;
    return act == SIM_ACT_SILU ? (1 + e + u * e) / ((1 + e) * (1 + e)) : 1;
}

static double norm_input(const sim_kernel_shape *s, const sim_case_norm *q, size_t at)
{
    size_t i = at % s->n;
    return product_of(q->x[at], q->scale[i]) + (double)q->shift[i] +
           (s->option ? (double)q->residual[at] : 0);
}

static void expect_norm_apply(const sim_kernel_shape *s, const float *in, double *out)
{
    const sim_case_norm q = sim_case_norm_operands(s, in);
    for (size_t at = 0; at < sim_case_rows(s) * s->n; at++)
        out[at] = act_of(norm_input(s, &q, at), s->act);
}

static void expect_norm_sums(const sim_kernel_shape *s, const float *in, double *out)
{
    const sim_case_norm q = sim_case_norm_operands(s, in);
    size_t floats = sim_case_rows(s) * s->n;
    double *sum = out + floats;
    for (size_t at = 0; at < floats; at++) {
        size_t i = at % s->n;
        out[at] = (double)q.dy[at] * derivative_of(norm_input(s, &q, at), s->act);
        sum[i] += out[at];
        sum[s->n + i] += out[at] * ((double)q.x[at] - (double)q.mean[i]);
    }
}

static void expect_norm_backward(const sim_kernel_shape *s, const float *in, double *out)
{
    const sim_case_norm q = sim_case_norm_operands(s, in);
    for (size_t at = 0; at < sim_case_rows(s) * s->n; at++) {
        size_t i = at % s->n;
        out[at] = product_of(q.scale[i], q.dy[at]) + product_of(q.shift[i], q.x[at]) +
                  (double)q.mean[i];
    }
}

static double biased_input(const sim_kernel_shape *s, const float *in, size_t at)
{
    return (double)in[at] + (s->option ? (double)in[s->m * s->n + at % s->n] : 0);
}

static void expect_activate(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t at = 0; at < s->m * s->n; at++)
        out[at] = act_of(biased_input(s, in, at), s->act);
}

static void expect_activate_backward(const sim_kernel_shape *s, const float *in,
                                     double *out)
{
    const float *dy = in + (s->m + 1) * s->n;
    for (size_t at = 0; at < s->m * s->n; at++)
        out[at] = (double)dy[at] * derivative_of(biased_input(s, in, at), s->act);
}

static void expect_add(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = (double)in[i] + (double)in[s->n + i];
}

static void expect_max_pool(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t best = 0;
        for (size_t t = 1; t < sim_case_taps(s); t++)
            if (in[t * s->n + i] > in[best * s->n + i])
                best = t;
        out[i] = (double)in[best * s->n + i];
        out[s->n + i] = (double)best;
    }
}

static void expect_row_max(const sim_kernel_shape *s, const float *in, double *out)
{
    out[0] = (double)in[0];
    for (size_t i = 1; i < s->n; i++)
        out[0] = fmax(out[0], (double)in[i]);
}

static double logit(const sim_kernel_shape *s, float similarity)
{
    return product_of(similarity, s->scale);
}

static void expect_row_exp_sum(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[0] += exp(logit(s, in[i]) - (double)sim_case_shift);
}

static void expect_row_softmax_two(const sim_kernel_shape *s, const float *in,
                                   double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = exp(logit(s, in[i]) - (double)sim_case_row) +
                 (s->option ? exp(logit(s, in[i]) - (double)in[s->n + i]) : 0);
}

static void expect_row_shares(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = exp(logit(s, in[i]) - (double)sim_case_shift) *
                 ((double)sim_case_row + (s->option ? (double)in[s->n + i] : 0));
}

static void expect_row_sigmoid(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = 1 / (1 + exp(-logit(s, in[i]) - (double)sim_case_shift));
}

static void expect_row_softplus_sum(const sim_kernel_shape *s, const float *in,
                                    double *out)
{
    for (size_t i = 0; i < s->n; i++) {
        double u = logit(s, in[i]) + (double)sim_case_shift;
        out[0] += fmax(u, 0) + log1p(exp(-fabs(u)));
    }
}

/* Value i of an image; see cases.h. */
static double pixel_of(const float *in, size_t i)
{
    return fabs((double)in[i]);
}

static double clamped(double x)
{
    return fmin(fmax(x, 0), 1);
}

static double luma(double r, double g, double b)
{
    return 0.2989 * r + 0.587 * g + 0.114 * b;
}

static void expect_pixels_from_bytes(const sim_kernel_shape *s, const float *in,
                                     double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = ((const uint8_t *)in)[i] / 255.0;
}

static void expect_pixels_transpose(const sim_kernel_shape *s, const float *in,
                                    double *out)
{
    for (size_t i = 0; i < s->m; i++)
        for (size_t j = 0; j < s->n; j++)
            out[j * (s->m + 1) + i] = (double)in[i * (s->n + 1) + j];
}

static void expect_pixels_sum(const sim_kernel_shape *s, const float *in, double *out)
{
    const size_t stride = s->option ? 1 : s->n + 1;
    for (size_t j = 0; j < s->n; j++)
        for (size_t t = 0; t < s->k; t++)
            out[j] += product_of(in[t], in[s->k + t * stride + j]);
}

static void expect_pixels_scale(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] =
            clamped(pixel_of(in, i) * (double)sim_case_factor + (double)sim_case_offset);
}

static void expect_pixels_gray(const sim_kernel_shape *s, const float *in, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = luma((double)in[i], (double)in[s->n + i], (double)in[2 * s->n + i]);
}

static void expect_pixels_saturate(const sim_kernel_shape *s, const float *in,
                                   double *out)
{
    const size_t n = s->n;
    for (size_t i = 0; i < 3 * n; i++) {
        double gray = luma(pixel_of(in, i % n), pixel_of(in, n + i % n),
                           pixel_of(in, 2 * n + i % n));
        double mixed = (double)sim_case_factor * pixel_of(in, i) +
                       (1 - (double)sim_case_factor) * gray;
        out[i] = clamped(mixed);
    }
}

/* Hue in sixths of a turn: the angle in the hexagon of colours. */
static double hexagon_hue(double r, double g, double b, double max, double chroma)
{
    if (chroma <= 0)
        return 0;
    if (max <= r)
        return (g - b) / chroma;
    return max <= g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
}

/* By the formula without sectors: value - chroma * max(0, min(k, 4 - k, 1)), k = 5, 3, 1 + hue. */
static void expect_pixels_hue(const sim_kernel_shape *s, const float *in, double *out)
{
    const double turn = (double)(s->option ? sim_case_turn : -sim_case_turn);
    for (size_t i = 0; i < s->n; i++) {
        double p[3];
        for (size_t c = 0; c < 3; c++)
            p[c] = pixel_of(in, c * s->n + i);
        double max = fmax(p[0], fmax(p[1], p[2]));
        double chroma = max - fmin(p[0], fmin(p[1], p[2]));
        double hue = hexagon_hue(p[0], p[1], p[2], max, chroma) + 6 * turn + 12;
        for (size_t c = 0; c < 3; c++) {
            double k = fmod(hue + 5 - 2 * (double)c, 6);
            out[c * s->n + i] = max - chroma * fmax(0, fmin(fmin(k, 4 - k), 1));
        }
    }
}

static void expect_pixels_normalize(const sim_kernel_shape *s, const float *in,
                                    double *out)
{
    const size_t c = s->option ? 3 : 1;
    for (size_t i = 0; i < s->n * c; i++) {
        double x = (double)in[6 + i % c * s->n + i / c];
        out[i] = (x - (double)in[i % c]) * (double)in[3 + i % c];
    }
}

static void (*const expectations[SIM_N_KERNELS])(const sim_kernel_shape *s,
                                                 const float *in, double *out) = {
#define SIM_KERNEL(result, name, parameters) expect_##name,
#include "kernels.def"
#undef SIM_KERNEL
};

/* ---- runs over random shapes ---- */

typedef struct {
    float *in, *work;
    double *expected, *actual;
} buffers;

static buffers buffers_create(void)
{
    buffers b = {0};
    ASSERT_OK(sim_alloc(&b.in, SIM_CASE_FLOATS, "test/table"));
    ASSERT_OK(sim_alloc(&b.work, SIM_CASE_FLOATS, "test/table"));
    ASSERT_OK(sim_alloc(&b.expected, SIM_CASE_FLOATS, "test/table"));
    ASSERT_OK(sim_alloc(&b.actual, SIM_CASE_FLOATS, "test/table"));
    return b;
}

static void buffers_destroy(buffers *b)
{
    sim_free(b->in);
    sim_free(b->work);
    sim_free(b->expected);
    sim_free(b->actual);
}

/* A shape and its operands. */
static sim_kernel_shape random_case(uint32_t sample, float *in)
{
    sim_random r = {.seed = 9, .purpose = SIM_RANDOM_TEST, .sample = sample};
    sim_kernel_shape s = random_shape(&r);
    for (size_t i = 0; i < SIM_CASE_FLOATS; i++)
        in[i] = sim_random_between(&r, -1, 1);
    return s;
}

static sim_case_result run_kernel(size_t kernel, const sim_kernel_shape *s, buffers *b,
                                  double *out)
{
    memset(b->work, 0, SIM_CASE_FLOATS * sizeof *b->work);
    memset(out, 0, SIM_CASE_FLOATS * sizeof *out);
    return sim_kernel_cases[kernel].run(sim_kernels(), s, b->in, b->work, out);
}

static void check_kernel(size_t kernel, uint32_t sample, buffers *b)
{
    const char *name = sim_kernel_cases[kernel].name;
    const sim_kernel_shape s = random_case(sample, b->in);
    sim_case_result r = run_kernel(kernel, &s, b, b->actual);

    memset(b->expected, 0, SIM_CASE_FLOATS * sizeof *b->expected);
    expectations[kernel](&s, b->in, b->expected);
    if (sim_case_compare(sim_kernels_name(), name, r, b->expected, b->actual) != SIM_OK)
        fail_msg("shape %u (m %zu n %zu k %zu act %d option %d alias %d scale %g): %s",
                 sample, s.m, s.n, s.k, (int)s.act, s.option, s.alias, (double)s.scale,
                 sim_error_message());
    for (size_t i = r.n; i < SIM_CASE_FLOATS; i++)
        if (b->actual[i] != 0 || (i >= r.n && b->work[i] != 0))
            fail_msg("%s %s, shape %u: output %zu beyond the %zu outputs is written",
                     sim_kernels_name(), name, sample, i, r.n);
}

static void every_kernel_matches_double_loops(void **state)
{
    (void)state;
    buffers b = buffers_create();
    for (size_t i = 0; i < N_ISAS; i++) {
        if (sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++)
            for (uint32_t sample = 0; sample < N_SHAPES; sample++)
                check_kernel(kernel, sample, &b);
    }
    buffers_destroy(&b);
}

/* Bits of two instruction sets, of the kernels whose names start with a prefix. */
static void compare_bits(const char *prefix, const char *first, const char *second,
                         buffers *b)
{
    for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++)
        for (uint32_t sample = 0; sample < N_SHAPES; sample++) {
            if (strncmp(sim_kernel_cases[kernel].name, prefix, strlen(prefix)) != 0)
                continue;
            const sim_kernel_shape s = random_case(sample, b->in);
            ASSERT_OK(sim_kernels_pick(first));
            run_kernel(kernel, &s, b, b->expected);
            ASSERT_OK(sim_kernels_pick(second));
            sim_case_result r = run_kernel(kernel, &s, b, b->actual);
            if (memcmp(b->expected, b->actual, r.n * sizeof *b->actual) != 0)
                fail_msg("%s, shape %u: %s and %s differ in bits",
                         sim_kernel_cases[kernel].name, sample, first, second);
        }
}

static void kernels_of_equal_arithmetic_produce_equal_bits(void **state)
{
    (void)state;
    buffers b = buffers_create();
    for (size_t i = 0; i < N_ISAS; i++)
        for (size_t j = i + 1; j < N_ISAS; j++) {
            if (sim_kernels_pick(isas[i]) != SIM_OK)
                continue;
            const char *arithmetic = sim_kernels_arithmetic();
            if (sim_kernels_pick(isas[j]) == SIM_OK &&
                strcmp(arithmetic, sim_kernels_arithmetic()) == 0)
                compare_bits("", isas[i], isas[j], &b);
        }
    buffers_destroy(&b);
}

static void kernels_of_images_produce_equal_bits_on_any_machine(void **state)
{
    (void)state;
    buffers b = buffers_create();
    for (size_t i = 0; i < N_ISAS; i++)
        if (sim_kernels_pick(isas[i]) == SIM_OK)
            compare_bits("pixels_", "portable", isas[i], &b);
    buffers_destroy(&b);
}

/* ---- faulty kernels ---- */

static const sim_kernel_table *real;
static const float slightly = 1.001f;

static void wrong_product(size_t m, size_t used, size_t k, const float *a, size_t lda,
                          const float *panel, size_t width, float *c, size_t ldc)
{
    real->product(m, used, k - 1, a, lda, panel, width, c, ldc);
}

static void wrong_product_transposed(size_t m, size_t width, size_t k, const float *a,
                                     size_t lda, const float *b, size_t ldb, bool add,
                                     float *c, size_t ldc)
{
    real->product_transposed(m, width, k - 1, a, lda, b, ldb, add, c, ldc);
}

static void wrong_copy_columns(size_t rows, size_t used, size_t width, const float *x,
                               size_t ldx, float *y, size_t ldy)
{
    real->copy_columns(rows, used - 1, width, x, ldx, y, ldy);
}

static void wrong_wino_filters(const float *g, float *u, size_t f_stride)
{
    real->wino_filters(g, u, f_stride);
    u[7 * f_stride + HALF_PANEL - 1] *= slightly;
}

static void wrong_wino_input(size_t c, const float *x, size_t pixel, size_t row,
                             wino_window in, read_norm norm, float *v, size_t f_stride)
{
    in.x_hi--;
    real->wino_input(c, x, pixel, row, in, norm, v, f_stride);
}

static void wrong_wino_output(size_t k, const float *m, size_t f_stride, wino_window out,
                              float *y, size_t pixel, size_t row)
{
    out.y_hi--;
    real->wino_output(k, m, f_stride, out, y, pixel, row);
}

static void wrong_wino_gradient(size_t k, const float *dy, size_t pixel, size_t row,
                                wino_window in, float *v, size_t f_stride)
{
    in.y_lo++;
    real->wino_gradient(k, dy, pixel, row, in, v, f_stride);
}

static void wrong_wino_filter(size_t n, const float *u, size_t f_stride, float *dw,
                              size_t tap_stride)
{
    real->wino_filter(n - 1, u, f_stride, dw, tap_stride);
}

static void wrong_moments(size_t rows, size_t c, const float *x, double *mean, double *m2)
{
    real->moments(rows, c, x, mean, m2);
    m2[c - 1] *= (double)slightly;
}

static void wrong_norm_apply(size_t rows, size_t c, const float *x, const float *scale,
                             const float *shift, const float *residual,
                             sim_activation act, float *y)
{
    (void)residual;
    real->norm_apply(rows, c, x, scale, shift, NULL, act, y);
}

static void wrong_norm_sums(size_t rows, size_t c, const float *x, const float *scale,
                            const float *shift, const float *mean, const float *residual,
                            sim_activation act, const float *dy, float *g, float *sum_g,
                            float *sum_gx)
{
    real->norm_sums(rows, c, x, scale, shift, mean, residual, act, dy, g, sum_g, sum_gx);
    sum_gx[c - 1] *= slightly;
}

static void wrong_norm_backward(size_t rows, size_t c, const float *x, const float *g,
                                const float *a, const float *b, const float *d, float *dx)
{
    real->norm_backward(rows, c, x, g, a, b, d, dx);
    dx[rows * c - 1] *= slightly;
}

static void wrong_activate(size_t rows, size_t c, const float *x, const float *bias,
                           sim_activation act, float *y)
{
    (void)bias;
    real->activate(rows, c, x, NULL, act, y);
}

static void wrong_activate_backward(size_t rows, size_t c, const float *x,
                                    const float *bias, sim_activation act,
                                    const float *dy, float *dx)
{
    real->activate_backward(rows, c, x, bias, act, dy, dx);
    dx[rows * c - 1] *= slightly;
}

static void wrong_add(size_t n, const float *x, float *y)
{
    real->add(n - 1, x, y);
}

static void wrong_max_pool(size_t c, size_t n, const float *const *taps,
                           const uint8_t *index, float *y, uint8_t *at)
{
    real->max_pool(c, n - 1, taps, index, y, at);
}

static float wrong_row_max(size_t n, const float *s)
{
    return real->row_max(n, s) * slightly;
}

static float wrong_row_exp_sum(size_t n, const float *s, float scale, float shift)
{
    return real->row_exp_sum(n - 1, s, scale, shift);
}

static void wrong_row_softmax_two(size_t n, const float *s, float scale, float row,
                                  const float *column, float *p)
{
    (void)column;
    real->row_softmax_two(n, s, scale, row, NULL, p);
}

static void wrong_row_shares(size_t n, const float *s, float scale, float shift,
                             float row, const float *column, float *p)
{
    real->row_shares(n, s, scale, shift, row * slightly, column, p);
}

static void wrong_row_sigmoid(size_t n, const float *s, float scale, float bias, float *p)
{
    real->row_sigmoid(n, s, scale, bias * slightly, p);
}

static float wrong_row_softplus_sum(size_t n, const float *s, float scale, float bias)
{
    return real->row_softplus_sum(n - 1, s, scale, bias);
}

static void wrong_pixels_from_bytes(size_t n, const uint8_t *x, float *y)
{
    real->pixels_from_bytes(n - 1, x, y);
}

static void wrong_pixels_transpose(size_t rows, size_t columns, const float *x,
                                   size_t ldx, float *y, size_t ldy)
{
    real->pixels_transpose(rows, columns - 1, x, ldx, y, ldy);
}

static void wrong_pixels_sum(size_t n, size_t terms, const float *weights, const float *x,
                             size_t stride, float *y)
{
    real->pixels_sum(n, terms - 1, weights, x, stride, y);
}

static void wrong_pixels_scale(size_t n, float scale, float offset, float *x)
{
    real->pixels_scale(n, scale * slightly, offset, x);
}

static void wrong_pixels_gray(size_t n, const float *x, float *y)
{
    real->pixels_gray(n, x, y);
    y[n - 1] *= slightly;
}

static void wrong_pixels_saturate(size_t n, float factor, float *x)
{
    real->pixels_saturate(n, factor * slightly, x);
}

static void wrong_pixels_hue(size_t n, float shift, float *x)
{
    real->pixels_hue(n, shift * slightly, x);
}

static void wrong_pixels_normalize(size_t n, size_t c, const float *x, const float *mean,
                                   const float *scale, float *y)
{
    real->pixels_normalize(n - 1, c, x, mean, scale, y);
}

#define SIM_KERNEL(result, name, parameters)                                             \
    static void break_##name(sim_kernel_table *t)                                        \
    {                                                                                    \
        t->name = wrong_##name;                                                          \
    }
#include "kernels.def"
#undef SIM_KERNEL

static void (*const breaks[SIM_N_KERNELS])(sim_kernel_table *t) = {
#define SIM_KERNEL(result, name, parameters) break_##name,
#include "kernels.def"
#undef SIM_KERNEL
};

static void check_refusals(void)
{
    char text[64];
    real = sim_kernels();
    for (size_t kernel = 0; kernel < SIM_N_KERNELS; kernel++) {
        sim_kernel_table broken = *real;
        breaks[kernel](&broken);
        sim_kernels_use(&broken);
        (void)snprintf(text, sizeof text, "%s: %s: ", real->name,
                       sim_kernel_cases[kernel].name);
        ASSERT_REFUSED(sim_kernels_check(), SIM_E_BUG, text);
    }
    sim_kernels_use(real);
}

static void the_start_up_check_refuses_any_faulty_kernel(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ISAS; i++)
        if (sim_kernels_pick(isas[i]) == SIM_OK) {
            ASSERT_OK(sim_kernels_check());
            check_refusals();
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_matches_double_loops),
        cmocka_unit_test(kernels_of_equal_arithmetic_produce_equal_bits),
        cmocka_unit_test(kernels_of_images_produce_equal_bits_on_any_machine),
        cmocka_unit_test(the_start_up_check_refuses_any_faulty_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
