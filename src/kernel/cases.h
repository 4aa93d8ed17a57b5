/*
 * cases.h - runs of every kernel on generic operands, for comparisons of two tables.
 *
 * Used by the start-up check and by tests/kernel.
 */
#ifndef SIMILE_KERNEL_CASES_H
#define SIMILE_KERNEL_CASES_H

#include "table.h"

/* Largest size of a shape; floats of the operands and of the results of a run. */
enum { SIM_CASE_MAX = 70, SIM_CASE_FLOATS = 1 << 15 };
enum { SIM_CASE_TAPS = 9 }; /* of a max pool */

/* Sizes and options of a run; each kernel uses those that it has. */
typedef struct {
    size_t m, n, k; /* 0 to SIM_CASE_MAX; rows, columns or channels, terms of a sum */
    sim_activation act;
    bool option;        /* pass the optional operand; product_transposed: add to C */
    bool alias;         /* the output aliases an operand, where the kernel allows it */
    float scale;        /* of similarities: exponents reach +-(scale + 2) */
    wino_window window; /* within 4 x 4 */
} sim_kernel_shape;

/* Scalar operands of the row functions. */
static const float sim_case_shift = 2, sim_case_row = 1.5f;

/* Scalar operands of the functions of images.  The operands' absolute values are the pixels. */
static const float sim_case_factor = 1.4f, sim_case_offset = -0.1f, sim_case_turn = 0.3f;

/* Panel width, columns of a product, taps of a max pool, and rows of a norm chunk for a
 * shape. */
size_t sim_case_width(const sim_kernel_shape *s);
size_t sim_case_columns(const sim_kernel_shape *s);
size_t sim_case_taps(const sim_kernel_shape *s);
size_t sim_case_rows(const sim_kernel_shape *s); /* at least 1 */

/* Operands of the norm kernels in `in`: x, residual, dy [m][n], then six rows of n. */
typedef struct {
    const float *x, *residual, *dy;
    const float *scale, *shift, *mean; /* norm_backward: a, b, d */
} sim_case_norm;
sim_case_norm sim_case_norm_operands(const sim_kernel_shape *s, const float *in);

/* Outputs of a run, and the magnitude of the terms that cancel in them. */
typedef struct {
    size_t n;
    double magnitude;
} sim_case_result;

typedef struct {
    const char *name; /* of the kernel */
    /*
     * Runs the kernel of the table.
     *
     *   in    [SIM_CASE_FLOATS]; the operands in the order of the parameters, rows of
     *         matrices one float longer than needed
     *   work  [SIM_CASE_FLOATS], zeroed; receives the outputs
     *   out   [SIM_CASE_FLOATS]; the n outputs in double
     */
    sim_case_result (*run)(const sim_kernel_table *t, const sim_kernel_shape *s,
                           const float *in, float *work, double *out);
} sim_kernel_case;

enum {
    SIM_N_KERNELS = 0
#define SIM_KERNEL(result, name, parameters) +1
#include "kernels.def"
#undef SIM_KERNEL
};

/* One case per row of kernels.def. */
extern const sim_kernel_case sim_kernel_cases[SIM_N_KERNELS];

/*
 * Compares the n outputs of a run with the expected ones; NaN differs.
 * Errors: SIM_E_BUG naming the instruction set and the kernel.
 */
SIM_MUST_USE sim_status sim_case_compare(const char *isa, const char *kernel,
                                         sim_case_result r, const double *expected,
                                         const double *actual);

#endif
