/*
 * net.h - a net as a list of nodes with one value each; layers, memory plan and tape.
 */
#ifndef SIMILE_ENCODER_NET_H
#define SIMILE_ENCODER_NET_H

#include "simile/encoder.h"

enum { NET_INPUT = -1, NO_NODE = -2 };

typedef struct layer layer;

/* A node of the graph.  Each layer uses the fields that it needs. */
typedef struct {
    const layer *layer;
    int in, residual; /* indices of the nodes whose values it reads */
    size_t h, w, c;   /* shape of its value */
    char name[48];    /* "layer1.0.conv1" */
    bool stored;      /* its value is saved for backward; otherwise it is recomputed */
    size_t saved_bytes_per_image; /* saved for backward in addition to values */

    sim_conv conv; /* k = 0: no filters */
    sim_filters *filters;
    sim_activation act;
    bool affine, starts_at_zero; /* norm: has gamma and beta; gamma is 0 at first */
    bool has_bias;
    size_t n_tensors;    /* trainable tensors, consecutive in the net's list */
    size_t weight, bias; /* offsets in the net's weights */
    bool has_running;
    size_t running; /* offset in the net's running statistics */
    int64_t batches;
} node;

struct sim_net {
    node *nodes;
    int n_nodes, node_capacity;
    size_t in_h, in_w, in_c;
    sim_batchnorm_options batchnorm;
    float *weights, *running; /* running [norm][2][c]: mean, variance */
    size_t n_weights, n_running;
    sim_net_tensor *tensors;
    char (*names)[64];
    size_t n_tensors;
    sim_tape *evaluation; /* created by the first sim_net_evaluate */
    bool packed_backward;
};

/* Floats per image of a node's value. */
static inline size_t node_floats(const node *n)
{
    return n->h * n->w * n->c;
}

/* ---- plan.c: the buffer of every value and gradient of a pass ---- */

/* A buffer: an offset in the tape's arena, in floats per image, or one of these. */
enum { AT_NONE = -1, AT_INPUT = -2, AT_OUTPUT = -3, AT_DY = -4, AT_DX = -5 };
typedef int64_t buffer_ref;

typedef struct {
    int node;
    bool recompute;      /* recompute the node's value into dx */
    buffer_ref x;        /* value of its input */
    buffer_ref residual; /* value of its residual */
    buffer_ref dy;       /* gradient of its value */
    buffer_ref g;        /* norm: dy through the activation */
    buffer_ref dx;       /* gradient of its input */
    buffer_ref sum;      /* dx is then added to this buffer unless it is AT_NONE */
    buffer_ref
        add_g; /* g is then added to this gradient of the residual unless it is AT_NONE */
} backward_step;

typedef struct {
    buffer_ref *value;    /* of every node, forward */
    size_t *saved;        /* of every node: offset of its saved bytes, per image */
    backward_step *steps; /* backward, in order */
    size_t n_steps;
    size_t arena;                 /* floats per image */
    size_t saved_bytes_per_image; /* bytes per image, all nodes */
} net_plan;

typedef struct planner planner;

SIM_MUST_USE sim_status sim_plan_make(const sim_net *net, bool backward, net_plan *out);
void sim_plan_clear(net_plan *p);

/* For a layer's `plan`: */
const node *sim_plan_node(const planner *p, int i);
buffer_ref sim_plan_acquire(planner *p, size_t floats);
void sim_plan_release(planner *p, buffer_ref at); /* no effect outside the arena */
backward_step *sim_plan_push_step(planner *p, int i);
/* A buffer for a gradient of node i's value; pass it to sim_plan_accumulate. */
buffer_ref sim_plan_acquire_gradient(planner *p, int i);
/* A node's value: saved, or recomputed into *recomputed, which the caller releases. */
buffer_ref sim_plan_recompute(planner *p, int i, buffer_ref *recomputed);
buffer_ref sim_plan_value(const planner *p, int i);
buffer_ref sim_plan_gradient(const planner *p, int i);
/*
 * Records that a step writes a gradient of node i's value to `at`.  If the value has a
 * gradient already, releases `at` and returns that gradient, to which the step adds; returns
 * AT_NONE otherwise.
 */
buffer_ref sim_plan_accumulate(planner *p, int i, buffer_ref at);

/* ---- layers: a row each, layers.def ---- */

struct layer {
    const char *name;
    bool
        reads_input; /* its input may be the net's; it then uses sim_plan_acquire_gradient */
    /* Calls sim_net_add_tensor for each tensor, in torch's order.  NULL: no tensors. */
    void (*list_tensors)(sim_net *net, node *n);
    void (*forward)(sim_tape *t, int i, const float *x, const float *residual, float *y);
    /* Recomputes the value from what forward saved.  NULL: the value is always stored. */
    void (*recompute)(sim_tape *t, int i, const float *x, float *y);
    /* Acquires the buffers of backward and pushes one step. */
    void (*plan)(planner *p, int i);
    void (*backward)(sim_tape *t, const backward_step *s, float *grads,
                     size_t node_stride);
    /* Adds a small instance that reads node `in`, for the table tests. */
    sim_status (*sample)(sim_net *net, int in, int *out);
};

#define SIM_LAYER(name) extern const layer sim_layer_##name;
#include "layers.def"
#undef SIM_LAYER
extern const layer *const sim_net_layers[];
extern const size_t sim_net_n_layers;

/* ---- building: each call appends a node and returns its index in *out ---- */

SIM_MUST_USE sim_status sim_net_begin(size_t h, size_t w, size_t c,
                                      const sim_batchnorm_options *batchnorm,
                                      sim_net **out);
/* A node whose value has the shape of its input's. */
SIM_MUST_USE sim_status sim_net_add_node(sim_net *net, const layer *l, const char *name,
                                         int in, int *out);
SIM_MUST_USE sim_status sim_net_add_conv(sim_net *net, const char *name, int in, size_t k,
                                         size_t size, size_t stride, int *out);
SIM_MUST_USE sim_status sim_net_add_linear(sim_net *net, const char *name, int in,
                                           size_t k, int *out);
SIM_MUST_USE sim_status sim_net_add_norm(sim_net *net, const char *name, int in,
                                         int residual, sim_activation act, bool affine,
                                         int *out);
SIM_MUST_USE sim_status sim_net_add_act(sim_net *net, const char *name, int in, bool bias,
                                        sim_activation act, int *out);
/* in + residual, of equal shapes. */
SIM_MUST_USE sim_status sim_net_add_sum(sim_net *net, const char *name, int in,
                                        int residual, int *out);
/* Shifts image rows down by one: the first becomes zero, the last is dropped. */
SIM_MUST_USE sim_status sim_net_add_shift(sim_net *net, const char *name, int in,
                                          int *out);
SIM_MUST_USE sim_status sim_net_add_max_pool(sim_net *net, int in, int *out);
SIM_MUST_USE sim_status sim_net_add_mean_pool(sim_net *net, int in, int *out);

/* For a layer's `list_tensors`: appends "<node>.<part>" to the weights; returns its
 * offset. */
size_t sim_net_add_tensor(sim_net *net, node *n, const char *part, int n_dims,
                          const size_t *dims, bool bn_or_bias);

/* The first lists tensors and counts weights; the second allocates weights, running
 * statistics and filters. */
SIM_MUST_USE sim_status sim_net_count(sim_net *net);
SIM_MUST_USE sim_status sim_net_allocate(sim_net *net);
/* Kaiming normal, fan out, as torchvision initialises convolutions.  `space` separates
 * the draws of nets with one seed. */
void sim_net_init_convs(sim_net *net, uint32_t seed, uint32_t space);
size_t sim_net_filter_bytes(const sim_net *net);
size_t sim_net_frame_bytes(const sim_net *net); /* nodes and names */

SIM_MUST_USE sim_status sim_net_backbone_nodes(const sim_net_spec *spec, sim_net **out);
SIM_MUST_USE sim_status sim_net_head_nodes(const sim_head_spec *spec, sim_net **out);
SIM_MUST_USE sim_status sim_net_context_nodes(const sim_context_spec *spec,
                                              sim_net **out);

/* ---- norm.c: batch norm over groups ---- */

/* How a batch divides into leaves and groups. */
typedef struct {
    size_t blocks; /* on this rank */
    size_t
        subs; /* leaves per block and set: more than one if groups are smaller than a block */
    size_t sets;             /* independent statistics: one per view, or one (joint) */
    size_t pieces;           /* per leaf: the number of views if joint, else 1 */
    size_t leaves;           /* on this rank: [block][set][sub] */
    size_t groups;           /* in the global batch */
    size_t leaves_per_group; /* per set */
    bool whole;              /* one group: the global batch */
} norm_shape;

/* Coefficients of a norm on this batch, [leaf][c] each. */
typedef struct {
    float *scale, *shift, *mean, *inverse;
} norm_state;

typedef struct {
    norm_shape shape;
    norm_state *states;  /* per node; used by norms only */
    size_t *start;       /* [leaf][piece] first rows, for the current node */
    double *sums;        /* [leaf][2][widest] */
    double *to_reduce;   /* the same in the reducer's layout */
    double *groups;      /* [group][2][set][widest] */
    float *coefficients; /* a, b, d of the backward pass, [3][leaf][widest] */
    float *partials;     /* tree stack of narrow gradients */
} norm_workspace;

/* Errors: SIM_E_CONFIG if the groups do not divide the batch. */
SIM_MUST_USE sim_status sim_norm_prepare(sim_tape *t);
size_t sim_norm_bytes(const sim_net *net, const sim_batch_shape *shape);
void sim_norm_workspace_of(const sim_net *net, const sim_batch_shape *shape,
                           sim_workspace_size *workspace);
void sim_norm_release(sim_tape *t);
/* Reduces gradients of_block [local block][n] to the maximal nodes of the blocks' tree. */
void sim_norm_reduce_narrow(sim_tape *t, size_t n, const double *of_block, float *grads,
                            size_t node_stride);

/* ---- tape.c ---- */

enum { EVALUATION_IMAGES = 64 }; /* per evaluation pass, at most */

struct sim_tape {
    sim_net *net;
    sim_batch_shape shape;
    sim_reducer reducer;
    sim_batchnorm_options batchnorm;
    net_plan plan;
    bool backward, evaluation;
    size_t n_images;
    float *arena;
    uint8_t *saved;
    const float *x, *dy;
    float *y, *dx;
    norm_workspace norm;
};

const float *sim_tape_read_at(const sim_tape *t, buffer_ref at);
float *sim_tape_write_at(const sim_tape *t, buffer_ref at);
uint8_t *sim_tape_saved(const sim_tape *t, int i);
/* False if the step's dx is that of the net's input and the caller passed NULL. */
bool sim_tape_needs_dx(const sim_tape *t, const backward_step *s);
/* The node that node i reads. */
const node *sim_tape_input_node(const sim_tape *t, int i);

#endif
