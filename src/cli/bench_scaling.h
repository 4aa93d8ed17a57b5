/*
 * bench_scaling.h - the model of a step on many nodes, for `simile bench scaling`.
 */
#ifndef SIMILE_CLI_BENCH_SCALING_H
#define SIMILE_CLI_BENCH_SCALING_H

#include "simile/train.h"

/* A step of `batch` images on one rank, as measured. */
typedef struct {
    double batch;
    double encoder_s, loss_s, update_s;
    double addition_s;     /* of adding one gradient to another */
    double gradient_bytes; /* of one gradient */
    /* All-gathers of rows and of nodes of reductions, and the bytes of this rank in all of them. */
    double gathers, gathered_bytes, reductions, reduced_bytes;
} sim_scaling_node;

typedef struct {
    double latency_s,
        bytes_per_s; /* of a message; each node sends and receives at this rate */
} sim_scaling_network;

/* A step of a global batch of `images` on n nodes, a power of two, of one rank each. */
sim_step_parts sim_scaling_predict(const sim_scaling_node *one,
                                   const sim_scaling_network *net, size_t n,
                                   double images);

/* Seconds of all parts. */
double sim_scaling_step_s(const sim_step_parts *parts);

#endif
