/*
 * table.h - the table of kernels, one per instruction set.
 *
 * portable (isa_portable.c) is the reference.  The others are one source (body.h) compiled
 * for several vector widths and produce the same bits.
 */
#ifndef SIMILE_KERNEL_TABLE_H
#define SIMILE_KERNEL_TABLE_H

#include "simile/kernel.h"

/* Columns of a panel: 32, or 16 in the last panel if that is enough. */
enum { PANEL = 32, HALF_PANEL = 16 };

/* Winograd F(4x4, 3x3): tiles of 6 x 6 inputs produce 4 x 4 outputs; 36 frequencies. */
enum { WINO_IN = 6, WINO_OUT = 4, WINO_N = 36 };

/* Rows that the norm kernels sum in float; few enough for a relative error of 1e-6. */
enum { NORM_CHUNK = 64 };

/* Rows [y_lo, y_hi) and columns [x_lo, x_hi) of a Winograd tile are inside the image. */
typedef struct {
    int y_lo, y_hi, x_lo, x_hi;
} wino_window;

/* What is read is act(x * scale + shift), per channel; scale is NULL: x itself.  The activation
 * is none or ReLU. */
typedef struct {
    const float *scale, *shift;
    sim_activation act;
} read_norm;

typedef struct {
    const char *name, *arithmetic;
    bool plain; /* convolutions are those of conv_plain.c; filters are not packed */
#define SIM_KERNEL(result, name, parameters) result(*name) parameters;
#include "kernels.def"
#undef SIM_KERNEL
} sim_kernel_table;

/* The selected table. */
const sim_kernel_table *sim_kernels(void);

/* Selects a table that need not be one of isa.def; for tests. */
void sim_kernels_use(const sim_kernel_table *table);

#define SIM_ISA(name, flags, runs) extern const sim_kernel_table sim_kernels_##name;
#include "isa.def"
#undef SIM_ISA

#endif
