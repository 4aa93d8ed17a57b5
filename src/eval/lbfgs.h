/*
 * lbfgs.h - minimization of a smooth function of many variables by L-BFGS.
 */
#ifndef SIMILE_EVAL_LBFGS_H
#define SIMILE_EVAL_LBFGS_H

#include "simile/status.h"

#include <stddef.h>
#include <stdint.h>

/* The value at x [n]; writes the gradient [n]. May be collective: every rank calls it equally
 * often if all values and gradients are equal on all ranks. */
typedef double sim_lbfgs_function(void *ctx, const float *x, float *gradient);

typedef struct {
    size_t n; /* variables */
    sim_lbfgs_function *function;
    void *ctx;
    /* [n] estimate of the diagonal of the inverse Hessian, > 0; the preconditioner */
    const float *inverse_hessian;
    double tolerance; /* ends when the expected decrease of the value is smaller */
    int64_t max_iterations;
} sim_lbfgs_problem;

typedef struct {
    double value;
    int64_t iterations;
    bool converged;
} sim_lbfgs_result;

typedef struct sim_lbfgs sim_lbfgs;

/* Workspace for n variables. */
SIM_MUST_USE sim_status sim_lbfgs_create(size_t n, sim_lbfgs **out);
void sim_lbfgs_destroy(sim_lbfgs **l);
size_t sim_lbfgs_bytes(size_t n);

/*
 * Minimizes from x [n], which is overwritten by the minimum. Serial but for the function.
 * Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 7.4 and 7.5, with a
 * backtracking line search (3.1).
 */
void sim_lbfgs_minimize(sim_lbfgs *l, const sim_lbfgs_problem *p, float *x,
                        sim_lbfgs_result *out);

#endif
