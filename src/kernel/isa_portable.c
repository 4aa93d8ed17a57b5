/*
 * isa_portable.c - any x86-64: no fused multiply-add, convolutions by plain loops.
 *
 * The meaning that the others must match; equal in bits to itself over ranks and threads.
 */
#define LANES        4
#define TILE_ROWS    6
#define FMA(a, b, c) ((a) * (b) + (c))
#define SPLAT(x)     ((vec){(x), (x), (x), (x)})
#include "body.h"

const sim_kernel_table sim_kernels_portable = TABLE("portable", "portable", true);
