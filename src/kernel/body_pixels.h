/*
 * body_pixels.h - the kernels of images, compiled once per instruction set.
 *
 * Included by isa_portable.c and body.h, which define LANES (floats per vector).  Outputs are
 * computed in float, element by element, with one rounding per operation and sums over ascending
 * terms.  So all instruction sets, the portable one too, produce the same bits.  Loops without
 * vector types are vectorized by the compiler: they compute every branch and select, and divide
 * only by divisors that are not 0.
 */
#include "table.h"

#include <string.h>

typedef float pixel_vec
    __attribute__((vector_size(LANES * 4), aligned(4), may_alias)); /* at any float */
typedef int32_t pixel_mask __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float pixel_vec4 __attribute__((vector_size(16), aligned(4), may_alias));

static inline float clamp_pixel(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static void pixels_from_bytes(size_t n, const uint8_t *restrict x, float *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)x[i] * (1.0f / 255);
}

/* ---- transpose ---- */

/* Transposes 4 x 4 floats. */
static inline void transpose_block(const float *x, size_t ldx, float *y, size_t ldy)
{
    const pixel_vec4 *const a = (const pixel_vec4 *)x, *b = (const pixel_vec4 *)(x + ldx),
                            *c = (const pixel_vec4 *)(x + 2 * ldx),
                            *d = (const pixel_vec4 *)(x + 3 * ldx);
    pixel_vec4 ab_lo = __builtin_shufflevector(*a, *b, 0, 4, 1, 5);
    pixel_vec4 ab_hi = __builtin_shufflevector(*a, *b, 2, 6, 3, 7);
    pixel_vec4 cd_lo = __builtin_shufflevector(*c, *d, 0, 4, 1, 5);
    pixel_vec4 cd_hi = __builtin_shufflevector(*c, *d, 2, 6, 3, 7);
    *(pixel_vec4 *)y = __builtin_shufflevector(ab_lo, cd_lo, 0, 1, 4, 5);
    *(pixel_vec4 *)(y + ldy) = __builtin_shufflevector(ab_lo, cd_lo, 2, 3, 6, 7);
    *(pixel_vec4 *)(y + 2 * ldy) = __builtin_shufflevector(ab_hi, cd_hi, 0, 1, 4, 5);
    *(pixel_vec4 *)(y + 3 * ldy) = __builtin_shufflevector(ab_hi, cd_hi, 2, 3, 6, 7);
}

static void pixels_transpose(size_t rows, size_t columns, const float *x, size_t ldx,
                             float *y, size_t ldy)
{
    const size_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;

    for (size_t j = 0; j < whole_columns; j += 4)
        for (size_t i = 0; i < whole_rows; i += 4)
            transpose_block(x + i * ldx + j, ldx, y + j * ldy + i, ldy);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
            y[j * ldy + i] = x[i * ldx + j];
}

/* ---- weighted sums ---- */

/* vectors * LANES outputs.  Callers pass a constant, so that the loops unroll. */
static inline __attribute__((always_inline)) void sum_vectors(const int vectors,
                                                              size_t terms,
                                                              const float *weights,
                                                              const float *x,
                                                              size_t stride, float *y)
{
    pixel_vec sum[4] = {{0}};
    for (size_t t = 0; t < terms; t++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] += weights[t] * *(const pixel_vec *)(x + t * stride + v * LANES);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        *(pixel_vec *)(y + v * LANES) = sum[v];
}

static void pixels_sum(size_t n, size_t terms, const float *restrict weights,
                       const float *restrict x, size_t stride, float *restrict y)
{
    size_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES)
        sum_vectors(4, terms, weights, x + j, stride, y + j);
    for (; j + LANES <= n; j += LANES)
        sum_vectors(1, terms, weights, x + j, stride, y + j);
    if (j < n && n >= LANES) /* the last vector overlaps the one before it */
        sum_vectors(1, terms, weights, x + n - LANES, stride, y + n - LANES);
    for (; j < n && n < LANES; j++) {
        float sum = 0;
        for (size_t t = 0; t < terms; t++)
            sum += weights[t] * x[t * stride + j];
        y[j] = sum;
    }
}

/* ---- colours ---- */

static void pixels_scale(size_t n, float scale, float offset, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = clamp_pixel(x[i] * scale + offset);
}

/* Gray value, ITU-R 601 as torchvision. */
static inline float gray_of(float r, float g, float b)
{
    return 0.2989f * r + 0.587f * g + 0.114f * b;
}

static void pixels_gray(size_t n, const float *restrict x, float *restrict y)
{
    const float *restrict r = x, *restrict g = x + n, *restrict b = x + 2 * n;
    for (size_t i = 0; i < n; i++)
        y[i] = gray_of(r[i], g[i], b[i]);
}

static void pixels_saturate(size_t n, float factor, float *x)
{
    float *restrict r = x, *restrict g = x + n, *restrict b = x + 2 * n;
    for (size_t i = 0; i < n; i++) {
        float rest = (1 - factor) * gray_of(r[i], g[i], b[i]);
        r[i] = clamp_pixel(factor * r[i] + rest);
        g[i] = clamp_pixel(factor * g[i] + rest);
        b[i] = clamp_pixel(factor * b[i] + rest);
    }
}

/* Per lane: a where the mask is set, b elsewhere. */
static inline pixel_vec choose(pixel_mask mask, pixel_vec a, pixel_vec b)
{
    return (pixel_vec)(((pixel_mask)a & mask) | ((pixel_mask)b & ~mask));
}

static inline pixel_vec constant(float x)
{
    return (pixel_vec){0} + x;
}

static inline pixel_vec clamp_lanes(pixel_vec x)
{
    return choose(x < 0, constant(0), choose(x > 1, constant(1), x));
}

/* Largest integer that does not exceed a small x. */
static inline pixel_vec floor_lanes(pixel_vec x)
{
    pixel_vec truncated =
        __builtin_convertvector(__builtin_convertvector(x, pixel_mask), pixel_vec);
    return truncated - choose(truncated > x, constant(1), constant(0));
}

/* Hue in [0, 1) of pixels with their maximum and chroma, as torchvision's _rgb2hsv. */
static inline pixel_vec hue_of(const pixel_vec rgb[3], pixel_vec max, pixel_vec chroma)
{
    const pixel_vec divisor = choose(chroma > 0, chroma, constant(1));
    const pixel_vec r = max - rgb[0], g = max - rgb[1], b = max - rgb[2];
    const pixel_mask is_red = r == 0, is_green = g == 0;
    pixel_vec plus = choose(is_red, b, choose(is_green, r, g));
    pixel_vec minus = choose(is_red, g, choose(is_green, b, r));
    pixel_vec sector =
        choose(is_red, constant(0), choose(is_green, constant(2), constant(4)));
    pixel_vec h = (sector + plus / divisor - minus / divisor) / 6 + 1;
    return h - floor_lanes(h);
}

/* Shifts the hue by way of HSV, as torchvision's _rgb2hsv and _hsv2rgb. */
static inline void shift_hue(pixel_vec rgb[3], float shift)
{
    pixel_vec v = choose(rgb[0] > rgb[1], rgb[0], rgb[1]);
    pixel_vec min = choose(rgb[0] < rgb[1], rgb[0], rgb[1]);
    v = choose(v > rgb[2], v, rgb[2]);
    min = choose(min < rgb[2], min, rgb[2]);
    pixel_vec s = (v - min) / choose(v > 0, v, constant(1));
    pixel_vec h = hue_of(rgb, v, v - min) + shift;
    h -= floor_lanes(h);
    pixel_vec i = floor_lanes(h * 6), f = h * 6 - i;
    pixel_vec a = clamp_lanes(v * (1 - s)), q = clamp_lanes(v * (1 - s * f));
    pixel_vec t = clamp_lanes(v * (1 - s * (1 - f)));
    i = choose(i > 5, constant(0), i);
    rgb[0] = choose(i < 1, v, choose(i < 2, q, choose(i < 4, a, choose(i < 5, t, v))));
    rgb[1] = choose(i < 1, t, choose(i < 3, v, choose(i < 4, q, a)));
    rgb[2] = choose(i < 2, a, choose(i < 3, t, choose(i < 5, v, q)));
}

static void pixels_hue(size_t n, float shift, float *x)
{
    const size_t whole = n / LANES * LANES;
    pixel_vec rgb[3] = {{0}};

    for (size_t p = 0; p < whole; p += LANES) {
        for (size_t k = 0; k < 3; k++)
            rgb[k] = *(const pixel_vec *)(x + k * n + p);
        shift_hue(rgb, shift);
        for (size_t k = 0; k < 3; k++)
            *(pixel_vec *)(x + k * n + p) = rgb[k];
    }
    for (size_t k = 0; k < 3; k++)
        memcpy(&rgb[k], x + k * n + whole, (n - whole) * sizeof *x);
    shift_hue(rgb, shift);
    for (size_t k = 0; k < 3; k++)
        memcpy(x + k * n + whole, &rgb[k], (n - whole) * sizeof *x);
}

static void pixels_normalize(size_t n, size_t c, const float *restrict x,
                             const float *mean, const float *scale, float *restrict y)
{
    if (c == 3) {
        for (size_t i = 0; i < n; i++) {
            y[3 * i] = (x[i] - mean[0]) * scale[0];
            y[3 * i + 1] = (x[n + i] - mean[1]) * scale[1];
            y[3 * i + 2] = (x[2 * n + i] - mean[2]) * scale[2];
        }
        return;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < c; k++)
            y[i * c + k] = (x[k * n + i] - mean[k]) * scale[k];
}
