/*
 * net.h - how a net is held: nodes in order, one value each, and the plan of a pass.
 */
#ifndef SIMILE_ENCODER_NET_H
#define SIMILE_ENCODER_NET_H

#include "simile/encoder.h"

typedef enum {
    NODE_CONV,     /* also linear layers: 1 x 1 images */
    NODE_NORM,     /* batch norm, maybe with a residual, and an activation */
    NODE_ACT,      /* bias and activation */
    NODE_MAX_POOL, /* 3 x 3, stride 2 */
    NODE_MEAN_POOL
} node_kind;

enum { NET_INPUT = -1, NO_NODE = -2, NO_OFFSET = -1 };

typedef struct {
    node_kind kind;
    int in, residual; /* nodes whose values it reads */
    size_t h, w, c;   /* of its value */
    char name[48];    /* "layer1.0.conv1" */

    sim_conv conv;
    sim_filters *filters;
    sim_activation act;
    bool affine, last_zero; /* norm: has weights; starts at zero */
    bool has_bias;          /* act */
    size_t weight, bias;    /* offsets in the arena of weights */
    size_t running;         /* norm: offset in the arena of running statistics */
    int64_t batches;        /* norm: num_batches_tracked */
} node;

struct sim_net {
    node *nodes;
    int n_nodes, room;
    size_t in_h, in_w, in_c;
    sim_batchnorm_options batchnorm;
    float *weights, *running; /* running [norm][2][c]: mean, variance */
    size_t n_weights, n_running;
    sim_net_tensor *tensors;
    char (*names)[64];
    size_t n_tensors;
    sim_tape *evaluation; /* made at the first sim_net_evaluate */
    bool packed_backward;
};

/* Value of a node per image. */
static inline size_t node_floats(const node *n)
{
    return n->h * n->w * n->c;
}

/* ---- build.c: nodes one after the other; each returns its index ---- */
SIM_MUST_USE sim_status net_begin(size_t h, size_t w, size_t c,
                                  const sim_batchnorm_options *batchnorm, sim_net **out);
SIM_MUST_USE sim_status net_conv(sim_net *net, const char *name, int in, size_t k,
                                 size_t size, size_t stride, int *out);
SIM_MUST_USE sim_status net_norm(sim_net *net, const char *name, int in, int residual,
                                 sim_activation act, bool affine, bool zero, int *out);
SIM_MUST_USE sim_status net_act(sim_net *net, const char *name, int in, bool bias,
                                sim_activation act, int *out);
SIM_MUST_USE sim_status net_max_pool(sim_net *net, int in, int *out);
SIM_MUST_USE sim_status net_mean_pool(sim_net *net, int in, int *out);
/* Counts weights and lists tensors; then memory for weights, statistics and filters. */
SIM_MUST_USE sim_status net_count(sim_net *net);
SIM_MUST_USE sim_status net_allocate(sim_net *net);
SIM_MUST_USE sim_status net_backbone_nodes(const sim_net_spec *spec, sim_net **out);
SIM_MUST_USE sim_status net_head_nodes(const sim_head_spec *spec, sim_net **out);
size_t net_filter_bytes(const sim_net *net);

/* ---- plan.c: where every value and gradient of a pass stands ---- */

/* A place: an offset in floats per image in the tape's arena, or outside of it. */
enum { AT_NONE = -1, AT_INPUT = -2, AT_OUTPUT = -3, AT_DY = -4, AT_DX = -5 };
typedef int64_t place;

typedef struct {
    int node;
    bool again;     /* recompute the node's value into `x` */
    place x;        /* value of its input */
    place residual; /* value of its residual */
    place dy;       /* gradient of its value */
    place g;        /* norm: dy through the activation */
    place dx;       /* gradient of its input */
    place sum;      /* dx is then added to this one (AT_NONE: it stands alone) */
    place add_g;    /* g is then added to the residual's gradient here */
} back_step;

typedef struct {
    place *value;     /* of every node, forward */
    back_step *steps; /* backward, in order */
    size_t n_steps;
    size_t arena;      /* floats per image */
    size_t pool_bytes; /* bytes per image that max pools remember */
} net_plan;

SIM_MUST_USE sim_status plan_make(const sim_net *net, bool backward, bool input_gradient,
                                  net_plan *out);
void plan_clear(net_plan *p);

/* ---- tape.c, norm.c ---- */

/* Coefficients of a norm on this batch, [leaf][c] each. */
typedef struct {
    float *scale, *shift, *mean, *inverse;
} norm_state;

struct sim_tape {
    sim_net *net;
    sim_batch_shape shape;
    sim_folder folder;
    net_plan plan;
    bool backward, evaluation;
    size_t n_images;
    float *arena;
    uint8_t *pools;
    norm_state *norms; /* of every node; empty for others */
    const float *x, *dy;
    float *y, *dx;
    /* batch norm: leaves of the batch, and room for their sums */
    size_t subs; /* leaves of a block (and view) */
    size_t n_leaves, n_pieces, n_groups;
    size_t leaves_per_group; /* 0: all */
    double leaves_in_group;  /* blocks' leaves a group folds, on all ranks */
    size_t *start;           /* [n_leaves][n_pieces] rows for the node at hand */
    size_t widest;           /* channels */
    double *sums, *fold, *groups;
    float *coefficients; /* a, b, d of the backward pass, [3][leaf][widest] */
    float *partials;     /* tree stack of narrow gradients */
};

SIM_MUST_USE sim_status norm_prepare(sim_tape *t);
size_t norm_bytes(const sim_net *net, const sim_batch_shape *shape);
void norm_release(sim_tape *t);
void norm_forward(sim_tape *t, int i, const float *x, const float *residual, float *y);
/* The value again, with the coefficients of the forward pass. */
void norm_again(sim_tape *t, int i, const float *x, const float *residual, float *y);
void norm_backward(sim_tape *t, int i, const float *x, const float *residual,
                   const float *dy, float *g, float *dx, float *grads,
                   size_t node_stride);
/* Gradients [local block][n] doubles to the nodes of the blocks' tree. */
void fold_narrow(sim_tape *t, size_t n, const double *of_block, float *grads,
                 size_t node_stride);

#endif
