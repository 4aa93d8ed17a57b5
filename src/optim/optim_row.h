/*
 * optim_row.h - the interface of an optimizer (opt_*.c), and helpers for it.
 */
#ifndef SIMILE_OPTIM_ROW_H
#define SIMILE_OPTIM_ROW_H

#include "simile/optim.h"

/* The update of one tensor; `v` and `second` are its persistent state. */
typedef struct {
    const sim_optimizer_options *options;
    const sim_parameter *p;
    const float *g;
    float *v;      /* momentum */
    float *second; /* second moment; NULL when n_arrays is 1 */
    double lr;
    int64_t updates; /* number of earlier updates */
} tensor_update;

enum { OPTIM_MAX_ARRAYS = 2 };
#define OPTIM_DIALECTS "simclr|mocov3|bolts|larc|lightly" /* of lars */

typedef struct {
    const char *name;
    int n_arrays;  /* arrays of state, each as large as the weights: momentum, second */
    bool adaptive; /* the step size does not depend on the gradient's magnitude */
    void (*update)(const tensor_update *u);
    /* One line for the log: name and hyperparameters. */
    void (*about)(const sim_optimizer_options *o, char *out, size_t out_bytes);
} sim_optim_row;

/* Weight decay of a tensor: 0 for BN and biases unless decay_bn_bias. */
double sim_optim_decay(const tensor_update *u);

/* Calls fn(u, more, lo, hi) for chunks [lo, hi) of the elements of the tensor, in parallel. */
void sim_optim_for(const tensor_update *u, const void *more,
                   void (*fn)(const tensor_update *u, const void *more, size_t lo,
                              size_t hi));

/*
 * sqrt of a sum of n squares in the order of sim_norm_l2: `squares` returns the sum over
 * elements [lo, hi) of one chunk, in ascending order.
 */
double sim_optim_norm(size_t n, const void *ctx,
                      double (*squares)(const void *ctx, size_t lo, size_t hi));

/* Cosine of x in [0, pi] by its series, because libm may differ between machines. */
double sim_optim_cos(double x);

#endif
