/*
 * isa_neon.c - AArch64: NEON, which every such processor has; vectors of 4.
 *
 * The register tile has 16 sums, enough for four pipelines of a latency of 4, and no spills.  gcc and
 * clang read a splat in FMA as an element of a register, without an instruction.
 */
#include <arm_neon.h>

#define LANES     4
#define TILE_ROWS 8
#define FMA(a, b, c)                                                                     \
    ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define SPLAT(x)  ((vec)vdupq_n_f32(x))
#define MIN(a, b) ((vec)vminq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define SCALE_FROM(x, lo, p, n, t)                                                       \
    ((vec)((ivec)((p) * (vec)((ivec)(t) << 23)) & ~((x) < (lo))))
#include "body.h"

const sim_kernel_table sim_kernels_neon = {
    .name = "neon",
    .arithmetic = "fast-1",
#define SIM_KERNEL(result, name, parameters) .name = name,
#include "kernels.def"
#undef SIM_KERNEL
};
