/*
 * isa_v4.c - x86-64-v4: AVX-512, vectors of 16.
 */
#include <immintrin.h>

#define LANES        16
#define TILE_ROWS    12
#define FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define SPLAT(x)     ((vec)_mm512_set1_ps(x))
#define MIN(a, b)    ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define SCALE_FROM(x, lo, p, n, t)                                                       \
    ((vec)_mm512_maskz_scalef_ps(                                                        \
        _mm512_cmp_ps_mask((__m512)(x), (__m512)(lo), _CMP_NLT_UQ), (__m512)(p),         \
        (__m512)(n)))
#include "body.h"

const sim_kernel_table sim_kernels_v4 = {
    .name = "v4",
    .arithmetic = "fast-1",
#define SIM_KERNEL(result, name, parameters) .name = name,
#include "kernels.def"
#undef SIM_KERNEL
};
