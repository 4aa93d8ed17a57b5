/*
 * pixels.c - the kernels of images.
 */
#include "table.h"

void sim_pixels_from_bytes(size_t n, const uint8_t *x, float *y)
{
    sim_kernels()->pixels_from_bytes(n, x, y);
}

void sim_pixels_transpose(size_t rows, size_t columns, const float *x, size_t ldx,
                          float *y, size_t ldy)
{
    sim_kernels()->pixels_transpose(rows, columns, x, ldx, y, ldy);
}

void sim_pixels_sum(size_t n, size_t terms, const float *weights, const float *x,
                    size_t stride, float *y)
{
    sim_kernels()->pixels_sum(n, terms, weights, x, stride, y);
}

void sim_pixels_scale(size_t n, float scale, float offset, float *x)
{
    sim_kernels()->pixels_scale(n, scale, offset, x);
}

void sim_pixels_gray(size_t n, const float *x, float *y)
{
    sim_kernels()->pixels_gray(n, x, y);
}

void sim_pixels_saturate(size_t n, float factor, float *x)
{
    sim_kernels()->pixels_saturate(n, factor, x);
}

void sim_pixels_hue(size_t n, float shift, float *x)
{
    sim_kernels()->pixels_hue(n, shift, x);
}

void sim_pixels_normalize(size_t n, size_t c, const float *x, const float *mean,
                          const float *scale, float *y)
{
    sim_kernels()->pixels_normalize(n, c, x, mean, scale, y);
}
