/*
 * isa_v3.c - x86-64-v3: AVX2 and FMA, vectors of 8.
 */
#include <immintrin.h>

#define LANES        8
#define TILE_ROWS    6
#define FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define SPLAT(x)     ((vec)_mm256_set1_ps(x))
#define MIN(a, b)    ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define SCALE_FROM(x, lo, p, n, t)                                                       \
    ((vec)((ivec)((p) * (vec)((ivec)(t) << 23)) & ~((x) < (lo))))
#include "body.h"

const sim_kernel_table sim_kernels_v3 = {
    .name = "v3",
    .arithmetic = "fast-1",
#define SIM_KERNEL(result, name, parameters) .name = name,
#include "kernels.def"
#undef SIM_KERNEL
};
