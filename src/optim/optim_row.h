/*
 * optim_row.h - what an optimizer's file provides, and what it may use.
 */
#ifndef SIMILE_OPTIM_ROW_H
#define SIMILE_OPTIM_ROW_H

#include "simile/optim.h"

/* One tensor's update: `v` and `second` are its arrays of state, kept between steps. */
typedef struct {
    const sim_optimizer_options *options;
    const sim_parameter *p;
    const float *g;
    float *v;      /* momentum */
    float *second; /* of rows with two arrays, else NULL */
    double lr;
    int64_t updates; /* done before this one */
} tensor_update;

enum { OPTIM_MAX_ARRAYS = 2 };
#define OPTIM_DIALECTS "simclr|mocov3|bolts|larc" /* of lars */

typedef struct {
    const char *name;
    int n_arrays;  /* of state, each as large as the weights: momentum, second */
    bool adaptive; /* a step's size does not depend on the gradient's */
    void (*update)(const tensor_update *u);
    /* The row and its numbers for the log's head, in one line. */
    void (*about)(const sim_optimizer_options *o, char *out, size_t out_bytes);
} sim_optim_row;

/* Weight decay of a tensor: none for BN and biases unless asked for. */
double sim_optim_decay(const tensor_update *u);

/* Calls fn(u, lo, hi) for chunks of the tensor's elements, in parallel. */
void sim_optim_for(const tensor_update *u, const void *more,
                   void (*fn)(const tensor_update *u, const void *more, size_t lo,
                              size_t hi));

/*
 * sqrt of a sum of n squares in the order of sim_norm_l2: `squares` gives the sum over
 * elements [lo, hi), a chunk, in ascending order.
 */
double sim_optim_norm(size_t n, const void *ctx,
                      double (*squares)(const void *ctx, size_t lo, size_t hi));

/* Cosine of x in [0, pi] by its series: no libm in the bits. */
double sim_optim_cos(double x);

#endif
