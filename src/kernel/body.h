/*
 * body.h - the vector kernels, compiled once per instruction set.
 *
 * Included by isa_<name>.c, which defines LANES (floats per vector), TILE_ROWS (rows of the
 * register tile), FMA, SPLAT, and
 *
 *   MIN(a, b)                     a < b ? a : b for a number a, so NaN if b is NaN
 *   SCALE_FROM(x, lo, p, n, t)    0 where x < lo, p * 2^n elsewhere; p and the product are
 *                                 normal numbers or NaN, and the lowest bits of t are n + 127
 *
 * Only operations with one IEEE result are used, and sums across lanes use 16 virtual lanes for
 * every LANES, so v3, v4 and neon produce the same bits.
 */
#include "body_pixels.h"
#include "table.h"

#include <string.h>

typedef float vec __attribute__((vector_size(LANES * 4)));
/* For loads and stores at addresses that are aligned only as floats. */
typedef float vec_unaligned
    __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

enum { VIRTUAL_LANES = 16, GROUP = VIRTUAL_LANES / LANES };

static inline vec load(const float *p)
{
    return *(const vec_unaligned *)p;
}

static inline void store(float *p, vec v)
{
    *(vec_unaligned *)p = v;
}

static inline vec splat(float x)
{
    return SPLAT(x);
}

static inline vec load_part(const float *p, size_t n)
{
    float buffer[LANES] = {0};
    memcpy(buffer, p, n * sizeof *p);
    return load(buffer);
}

static inline void store_part(float *p, size_t n, vec v)
{
    float buffer[LANES];
    store(buffer, v);
    memcpy(p, buffer, n * sizeof *p);
}

/* Per lane: a where the mask is set, b elsewhere. */
static inline vec select_lanes(ivec mask, vec a, vec b)
{
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

/* ---- products ---- */

/*
 * The register tile: rows x (vectors * LANES) outputs, each one chain of fma over ascending
 * k.  Callers pass constants for rows and vectors, so that the loops unroll completely.
 */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int vectors, size_t k, const float *restrict a, size_t lda,
    const float *restrict panel, size_t width, float *restrict c, size_t ldc)
{
    vec sum[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sum[i][j] = (vec){0};
    for (size_t p = 0; p < k; p++) {
        vec b[2];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            b[j] = load(panel + p * width + (size_t)j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            vec x = splat(a[(size_t)i * lda + p]);
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++)
                sum[i][j] = FMA(x, b[j], sum[i][j]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            store(c + (size_t)i * ldc + (size_t)j * LANES, sum[i][j]);
}

#define TILE_CASE(r)                                                                     \
    case r:                                                                              \
        tile(r, vectors, k, a, lda, panel, width, c, ldc);                               \
        break;

static inline __attribute__((always_inline)) void tile_of(size_t rows, const int vectors,
                                                          size_t k, const float *a,
                                                          size_t lda, const float *panel,
                                                          size_t width, float *c,
                                                          size_t ldc)
{
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
#if TILE_ROWS > 6
        TILE_CASE(7)
        TILE_CASE(8)
#endif
#if TILE_ROWS > 8
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
#endif
    default:
        break;
    }
}

/* vectors * LANES columns of all rows. */
static inline __attribute__((always_inline)) void columns(const int vectors, size_t m,
                                                          size_t k, const float *a,
                                                          size_t lda, const float *panel,
                                                          size_t width, float *c,
                                                          size_t ldc)
{
    size_t i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS)
        tile(TILE_ROWS, vectors, k, a + i * lda, lda, panel, width, c + i * ldc, ldc);
    if (i < m)
        tile_of(m - i, vectors, k, a + i * lda, lda, panel, width, c + i * ldc, ldc);
}

/* The last columns of a panel, which do not fill the vectors: computed in a buffer. */
static void part_columns(size_t m, size_t used, size_t k, const float *a, size_t lda,
                         const float *panel, size_t width, float *c, size_t ldc)
{
    float buffer[TILE_ROWS][2 * LANES];
    for (size_t i = 0; i < m; i += TILE_ROWS) {
        size_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
        if (used > LANES)
            tile_of(rows, 2, k, a + i * lda, lda, panel, width, buffer[0], 2 * LANES);
        else
            tile_of(rows, 1, k, a + i * lda, lda, panel, width, buffer[0], 2 * LANES);
        for (size_t r = 0; r < rows; r++)
            memcpy(c + (i + r) * ldc, buffer[r], used * sizeof *c);
    }
}

static void product(size_t m, size_t used, size_t k, const float *a, size_t lda,
                    const float *panel, size_t width, float *c, size_t ldc)
{
    for (size_t j = 0; j < used; j += 2 * LANES) {
        size_t n = used - j;
        if (n >= 2 * LANES)
            columns(2, m, k, a, lda, panel + j, width, c + j, ldc);
        else if (n == LANES)
            columns(1, m, k, a, lda, panel + j, width, c + j, ldc);
        else
            part_columns(m, n, k, a, lda, panel + j, width, c + j, ldc);
    }
}

static inline __attribute__((always_inline)) void tile_transposed(
    const int rows, const int vectors, size_t k, const float *restrict a, size_t lda,
    const float *restrict b, size_t ldb, bool add, float *restrict c, size_t ldc)
{
    vec sum[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? load(c + (size_t)i * ldc + (size_t)j * LANES) : (vec){0};
    for (size_t p = 0; p < k; p++) {
        vec y[2];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            y[j] = load(b + p * ldb + (size_t)j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            vec x = splat(a[p * lda + (size_t)i]);
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++)
                sum[i][j] = FMA(x, y[j], sum[i][j]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            store(c + (size_t)i * ldc + (size_t)j * LANES, sum[i][j]);
}

#define TRANSPOSED_CASE(r)                                                               \
    case r:                                                                              \
        tile_transposed(r, vectors, k, a, lda, b, ldb, add, c, ldc);                     \
        break;

static inline __attribute__((always_inline)) void columns_transposed(
    const int vectors, size_t m, size_t k, const float *a, size_t lda, const float *b,
    size_t ldb, bool add, float *c, size_t ldc)
{
    while (m >= TILE_ROWS) {
        tile_transposed(TILE_ROWS, vectors, k, a, lda, b, ldb, add, c, ldc);
        a += TILE_ROWS;
        c += TILE_ROWS * ldc;
        m -= TILE_ROWS;
    }
    switch (m) {
        TRANSPOSED_CASE(1)
        TRANSPOSED_CASE(2)
        TRANSPOSED_CASE(3)
        TRANSPOSED_CASE(4)
        TRANSPOSED_CASE(5)
#if TILE_ROWS > 6
        TRANSPOSED_CASE(6)
        TRANSPOSED_CASE(7)
#endif
#if TILE_ROWS > 8
        TRANSPOSED_CASE(8)
        TRANSPOSED_CASE(9)
        TRANSPOSED_CASE(10)
        TRANSPOSED_CASE(11)
#endif
    default:
        break;
    }
}

/* width is a multiple of 16. */
static void product_transposed(size_t m, size_t width, size_t k, const float *a,
                               size_t lda, const float *b, size_t ldb, bool add, float *c,
                               size_t ldc)
{
    size_t j = 0;
    for (; j + 2 * LANES <= width; j += 2 * LANES)
        columns_transposed(2, m, k, a, lda, b + j, ldb, add, c + j, ldc);
    for (; j < width; j += LANES)
        columns_transposed(1, m, k, a, lda, b + j, ldb, add, c + j, ldc);
}

static void copy_columns(size_t rows, size_t used, size_t width, const float *x,
                         size_t ldx, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * ldx;
        float *to = y + r * ldy;
        size_t j = 0;
        for (; j + LANES <= used; j += LANES)
            store(to + j, load(from + j));
        for (; j < used; j++)
            to[j] = from[j];
        for (; j + LANES <= width; j += LANES)
            store(to + j, (vec){0});
        for (; j < width; j++)
            to[j] = 0;
    }
}

/* ---- exp ---- */

/*
 * x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial for e^r; 2^n from its exponent bits.  0
 * below -87, exp(88) above 88, NaN for NaN.  Polynomial of Cephes, expf.  15
 * operations with AVX-512; measured on one core at 2.95 GHz: 5.5e9 values/s (v4), 3.0e9 (v3).
 */
static inline vec exp_vec(vec x)
{
    /* 1.5 * 2^23 + 127: a sum with it is rounded to an integer, and its lowest bits are the
     * exponent bits of 2^n. */
    const vec bias = splat(12582912.0f + 127);
    x = MIN(splat(88.0f), x);
    vec biased = FMA(x, splat(1.44269504f), bias), n = biased - bias;
    vec r = FMA(n, splat(-0.693359375f), x);
    r = FMA(n, splat(2.12194440e-4f), r);
    vec p = splat(1.9875691500e-4f);
    p = FMA(p, r, splat(1.3981999507e-3f));
    p = FMA(p, r, splat(8.3334519073e-3f));
    p = FMA(p, r, splat(4.1665795894e-2f));
    p = FMA(p, r, splat(1.6666665459e-1f));
    p = FMA(p, r, splat(5.0000001201e-1f));
    p = FMA(p, r * r, r) + splat(1.0f);
    return SCALE_FROM(x, splat(-87.0f), p, n, biased);
}

/* ---- norms and activations: element-wise over channels, rows in ascending order ---- */

static inline vec activate_vec(vec u, sim_activation act)
{
    if (act == SIM_ACT_RELU)
        return select_lanes(u <= (vec){0}, (vec){0}, u); /* NaN propagates */
    if (act == SIM_ACT_SILU)
        return u / (splat(1) + exp_vec(-u));
    return u;
}

/* Derivative of the activation at u. */
static inline vec derivative_vec(vec u, sim_activation act)
{
    if (act == SIM_ACT_RELU)
        return select_lanes(u > (vec){0}, splat(1), (vec){0});
    if (act == SIM_ACT_SILU) {
        vec s = splat(1) / (splat(1) + exp_vec(-u));
        return s * FMA(u, splat(1) - s, splat(1));
    }
    return splat(1);
}

static inline __attribute__((always_inline)) vec load_lanes(const float *p, size_t lanes)
{
    return lanes == LANES ? load(p) : load_part(p, lanes);
}

#include "body_winograd.h"

/* Loop over vectors of channels; the last one may have fewer than LANES. */
#define FOR_CHANNELS(c, c0, lanes)                                                       \
    for (size_t c0 = 0, lanes = 0; c0 < (c); c0 += LANES)                                \
        if ((lanes = (c)-c0 < LANES ? (c)-c0 : LANES) > 0)

static void moments(size_t rows, size_t c, const float *x, double *mean, double *m2)
{
    float inverse = 1.0f / (float)rows;
    FOR_CHANNELS(c, c0, lanes)
    {
        vec sum = {0}, squares = {0}, deviations = {0};
        for (size_t r = 0; r < rows; r++)
            sum += load_lanes(x + r * c + c0, lanes);
        vec m = sum * splat(inverse);
        for (size_t r = 0; r < rows; r++) {
            vec d = load_lanes(x + r * c + c0, lanes) - m;
            squares = FMA(d, d, squares);
            deviations += d;
        }
        /* m is rounded; the sum of deviations from it corrects the mean and the squares. */
        for (size_t i = 0; i < lanes; i++) {
            double shift = (double)deviations[i] / (double)rows;
            mean[c0 + i] = (double)m[i] + shift;
            m2[c0 + i] = (double)squares[i] - (double)rows * shift * shift;
        }
    }
}

/* Loop over groups of a few rows, all channels of each: a loop over many wide rows for each
 * vector would touch one page per row. */
#define FOR_ROW_GROUPS(rows, r0, end)                                                    \
    for (size_t r0 = 0, end = 0; r0 < (rows); r0 += ROW_GROUP)                           \
        if ((end = (rows)-r0 < ROW_GROUP ? (rows) : r0 + ROW_GROUP) > 0)

enum { ROW_GROUP = 16 };

static inline __attribute__((always_inline)) void apply_rows(
    const sim_activation act, size_t rows, size_t c, const float *x, const float *scale,
    const float *shift, const float *residual, float *y)
{
    FOR_ROW_GROUPS(rows, r0, end)
    FOR_CHANNELS(c, c0, lanes)
    {
        vec a = load_lanes(scale + c0, lanes), b = load_lanes(shift + c0, lanes);
        for (size_t r = r0; r < end; r++) {
            size_t at = r * c + c0;
            vec u = FMA(load_lanes(x + at, lanes), a, b);
            if (residual)
                u += load_lanes(residual + at, lanes);
            store_lanes(y + at, lanes, activate_vec(u, act));
        }
    }
}

static void norm_apply(size_t rows, size_t c, const float *x, const float *scale,
                       const float *shift, const float *residual, sim_activation act,
                       float *y)
{
    if (act == SIM_ACT_RELU)
        apply_rows(SIM_ACT_RELU, rows, c, x, scale, shift, residual, y);
    else if (act == SIM_ACT_SILU)
        apply_rows(SIM_ACT_SILU, rows, c, x, scale, shift, residual, y);
    else
        apply_rows(SIM_ACT_NONE, rows, c, x, scale, shift, residual, y);
}

static inline __attribute__((always_inline)) void sums_rows(
    const sim_activation act, size_t rows, size_t c, const float *x, const float *scale,
    const float *shift, const float *mean, const float *residual, const float *dy,
    float *g, float *sum_g, float *sum_gx)
{
    FOR_CHANNELS(c, c0, lanes)
    {
        vec a = load_lanes(scale + c0, lanes), b = load_lanes(shift + c0, lanes),
            m = load_lanes(mean + c0, lanes);
        vec s = {0}, sx = {0};
        for (size_t r = 0; r < rows; r++) {
            size_t at = r * c + c0;
            vec v = load_lanes(x + at, lanes), u = FMA(v, a, b);
            if (residual)
                u += load_lanes(residual + at, lanes);
            vec d = load_lanes(dy + at, lanes);
            if (act != SIM_ACT_NONE)
                d *= derivative_vec(u, act);
            store_lanes(g + at, lanes, d);
            s += d;
            sx = FMA(d, v - m, sx);
        }
        store_lanes(sum_g + c0, lanes, s);
        store_lanes(sum_gx + c0, lanes, sx);
    }
}

static void norm_sums(size_t rows, size_t c, const float *x, const float *scale,
                      const float *shift, const float *mean, const float *residual,
                      sim_activation act, const float *dy, float *g, float *sum_g,
                      float *sum_gx)
{
    if (act == SIM_ACT_RELU)
        sums_rows(SIM_ACT_RELU, rows, c, x, scale, shift, mean, residual, dy, g, sum_g,
                  sum_gx);
    else if (act == SIM_ACT_SILU)
        sums_rows(SIM_ACT_SILU, rows, c, x, scale, shift, mean, residual, dy, g, sum_g,
                  sum_gx);
    else
        sums_rows(SIM_ACT_NONE, rows, c, x, scale, shift, mean, residual, dy, g, sum_g,
                  sum_gx);
}

static void norm_backward(size_t rows, size_t c, const float *x, const float *g,
                          const float *a, const float *b, const float *d, float *dx)
{
    FOR_ROW_GROUPS(rows, r0, end)
    FOR_CHANNELS(c, c0, lanes)
    {
        vec va = load_lanes(a + c0, lanes), vb = load_lanes(b + c0, lanes),
            vd = load_lanes(d + c0, lanes);
        for (size_t r = r0; r < end; r++) {
            size_t at = r * c + c0;
            vec u = FMA(vb, load_lanes(x + at, lanes), vd);
            store_lanes(dx + at, lanes, FMA(va, load_lanes(g + at, lanes), u));
        }
    }
}

static void activate(size_t rows, size_t c, const float *x, const float *bias,
                     sim_activation act, float *y)
{
    FOR_CHANNELS(c, c0, lanes)
    {
        vec b = bias ? load_lanes(bias + c0, lanes) : (vec){0};
        for (size_t r = 0; r < rows; r++) {
            vec u = load_lanes(x + r * c + c0, lanes);
            store_lanes(y + r * c + c0, lanes, activate_vec(bias ? u + b : u, act));
        }
    }
}

static void activate_backward(size_t rows, size_t c, const float *x, const float *bias,
                              sim_activation act, const float *dy, float *dx)
{
    FOR_CHANNELS(c, c0, lanes)
    {
        vec b = bias ? load_lanes(bias + c0, lanes) : (vec){0};
        for (size_t r = 0; r < rows; r++) {
            vec u = load_lanes(x + r * c + c0, lanes);
            vec s = derivative_vec(bias ? u + b : u, act);
            store_lanes(dx + r * c + c0, lanes, load_lanes(dy + r * c + c0, lanes) * s);
        }
    }
}

static void add(size_t n, const float *x, float *y)
{
    FOR_CHANNELS(n, at, lanes)
    {
        store_lanes(y + at, lanes, load_lanes(y + at, lanes) + load_lanes(x + at, lanes));
    }
}

typedef uint8_t bytes __attribute__((vector_size(LANES)));

static void max_pool(size_t c, size_t n, const float *const *taps, const uint8_t *index,
                     float *y, uint8_t *at)
{
    FOR_CHANNELS(c, c0, lanes)
    {
        vec best = load_lanes(taps[0] + c0, lanes);
        ivec tap = (ivec){0} + index[0];
        for (size_t t = 1; t < n; t++) {
            vec v = load_lanes(taps[t] + c0, lanes);
            ivec take = (v > best) | (v != v);
            best = select_lanes(take, v, best);
            tap = (((ivec){0} + index[t]) & take) | (tap & ~take);
        }
        bytes of_lanes = __builtin_convertvector(tap, bytes);
        store_lanes(y + c0, lanes, best);
        memcpy(at + c0, &of_lanes, lanes);
    }
}

/* ---- rows of similarities, in 16 virtual lanes ---- */

/* Vector g of the 16 lanes that start at s; lanes from n on are `pad`. */
static inline vec load_padded(const float *s, size_t n, size_t g, float pad)
{
    float buffer[LANES];
    size_t lo = g * LANES;
    if (lo + LANES <= n)
        return load(s + lo);
    for (size_t i = 0; i < LANES; i++)
        buffer[i] = lo + i < n ? s[lo + i] : pad;
    return load(buffer);
}

/* Sum of 16 lanes, in the order 8, 4, 2, 1. */
static inline float reduce_lanes(const vec lane[GROUP])
{
    float v[VIRTUAL_LANES];
    for (int g = 0; g < GROUP; g++)
        store(v + g * LANES, lane[g]);
    for (int half = VIRTUAL_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            v[i] += v[i + half];
    return v[0];
}

static float row_max(size_t n, const float *s)
{
    float max = s[0]; /* the same result in any order */
    vec lane = splat(max);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(s + i);
        lane = select_lanes(v > lane, v, lane);
    }
    for (int l = 0; l < LANES; l++)
        max = lane[l] > max ? lane[l] : max;
    for (; i < n; i++)
        max = s[i] > max ? s[i] : max;
    return max;
}

static float row_exp_sum(size_t n, const float *s, float scale, float shift)
{
    vec lane[GROUP] = {0};
    size_t full = n / VIRTUAL_LANES * VIRTUAL_LANES;
    for (size_t i = 0; i < full; i += VIRTUAL_LANES)
#pragma GCC unroll 4
        for (size_t g = 0; g < GROUP; g++)
            lane[g] += exp_vec(FMA(load(s + i + g * LANES), splat(scale), splat(-shift)));
    for (size_t g = 0; full < n && g < GROUP; g++) {
        vec e = exp_vec(
            FMA(load_padded(s + full, n - full, g, 0), splat(scale), splat(-shift)));
        for (size_t i = 0; i < LANES; i++)
            if (full + g * LANES + i >= n)
                e[i] = 0;
        lane[g] += e;
    }
    return reduce_lanes(lane);
}

/*
 * log(1 + e^u) = max(u, 0) + log(1 + e), e = exp(-|u|) <= 1: 2 atanh(r) with r = e / (2 + e)
 * <= 1/3 by its series up to r^15, which is accurate for small e.
 */
static inline vec softplus_vec(vec u)
{
    ivec below = u < (vec){0};
    vec e = exp_vec(select_lanes(below, u, -u)), r = e / (splat(2) + e), q = r * r;
    vec p = splat(1.0f / 15);
    p = FMA(p, q, splat(1.0f / 13));
    p = FMA(p, q, splat(1.0f / 11));
    p = FMA(p, q, splat(1.0f / 9));
    p = FMA(p, q, splat(1.0f / 7));
    p = FMA(p, q, splat(1.0f / 5));
    p = FMA(p, q, splat(1.0f / 3));
    p = FMA(p * q, r, r);
    return p + p + select_lanes(below, (vec){0}, u);
}

static float row_softplus_sum(size_t n, const float *s, float scale, float bias)
{
    vec lane[GROUP] = {0};
    for (size_t at = 0; at < n; at += VIRTUAL_LANES)
#pragma GCC unroll 4
        for (size_t g = 0; g < GROUP; g++) {
            vec v = load_padded(s + at, n - at, g, 0);
            vec y = softplus_vec(FMA(v, splat(scale), splat(bias)));
            for (size_t i = 0; n - at < VIRTUAL_LANES && i < LANES; i++)
                if (at + g * LANES + i >= n)
                    y[i] = 0;
            lane[g] += y;
        }
    return reduce_lanes(lane);
}

static void row_softmax_two(size_t n, const float *s, float scale, float row,
                            const float *column, float *p)
{
    FOR_CHANNELS(n, at, lanes)
    {
        vec v = load_lanes(s + at, lanes);
        vec e = exp_vec(FMA(v, splat(scale), splat(-row)));
        if (column)
            e += exp_vec(FMA(v, splat(scale), -load_lanes(column + at, lanes)));
        store_lanes(p + at, lanes, e);
    }
}

static void row_shares(size_t n, const float *s, float scale, float shift, float row,
                       const float *column, float *p)
{
    FOR_CHANNELS(n, at, lanes)
    {
        vec e = exp_vec(FMA(load_lanes(s + at, lanes), splat(scale), splat(-shift)));
        vec w = column ? splat(row) + load_lanes(column + at, lanes) : splat(row);
        store_lanes(p + at, lanes, e * w);
    }
}

static void row_sigmoid(size_t n, const float *s, float scale, float bias, float *p)
{
    FOR_CHANNELS(n, at, lanes)
    {
        vec u = FMA(load_lanes(s + at, lanes), splat(scale), splat(bias));
        store_lanes(p + at, lanes, splat(1) / (splat(1) + exp_vec(-u)));
    }
}
