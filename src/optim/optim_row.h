/*
 * optim_row.h - what an optimizer's file provides.
 */
#ifndef SIMILE_OPTIM_ROW_H
#define SIMILE_OPTIM_ROW_H

#include "simile/optim.h"

/* One tensor's update: `v` is its momentum, kept between steps. */
typedef struct {
    const sim_optimizer_options *options;
    const sim_parameter *p;
    const float *g;
    float *v;
    double lr;
    bool first; /* nothing was updated before */
} tensor_update;

typedef struct {
    const char *name;
    void (*update)(const tensor_update *u);
} sim_optim_row;

/* Weight decay of a tensor: none for BN and biases unless asked for. */
double optim_decay(const tensor_update *u);

/* Calls fn(u, lo, hi) for chunks of the tensor's elements, in parallel. */
void optim_for(const tensor_update *u, const void *more,
               void (*fn)(const tensor_update *u, const void *more, size_t lo,
                          size_t hi));

/*
 * sqrt of a sum of n squares in the order of sim_norm_l2: `squares` gives the sum over
 * elements [lo, hi), a chunk, in ascending order.
 */
double optim_norm(size_t n, const void *ctx,
                  double (*squares)(const void *ctx, size_t lo, size_t hi));

#endif
