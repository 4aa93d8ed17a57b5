/*
 * net.h - how a net is held: nodes in order, one value each; layers, plan and tape.
 */
#ifndef SIMILE_ENCODER_NET_H
#define SIMILE_ENCODER_NET_H

#include "simile/encoder.h"

enum { NET_INPUT = -1, NO_NODE = -2 };

typedef struct layer layer;

/* A layer at its place in a net.  Each layer uses the fields that it needs. */
typedef struct {
    const layer *layer;
    int in, residual; /* nodes whose values it reads */
    size_t h, w, c;   /* of its value */
    char name[48];    /* "layer1.0.conv1" */
    bool stored;      /* its value is kept for backward; if not, it is computed again */
    size_t
        saved_bytes_per_image; /* bytes an image that forward leaves for backward, beside values */

    sim_conv conv; /* k = 0: it has no filters */
    sim_filters *filters;
    sim_activation act;
    bool affine, starts_at_zero; /* norm: has gamma and beta; gamma is 0 at first */
    bool has_bias;
    size_t n_tensors;    /* its trainable tensors: the next ones of the net's list */
    size_t weight, bias; /* offsets in the arena of weights */
    bool has_running;
    size_t running; /* offset in the arena of running statistics */
    int64_t batches;
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

/* ---- plan.c: where every value and gradient of a pass stands ---- */

/* A place: an offset in floats per image in the tape's arena, or outside of it. */
enum { AT_NONE = -1, AT_INPUT = -2, AT_OUTPUT = -3, AT_DY = -4, AT_DX = -5 };
typedef int64_t place;

typedef struct {
    int node;
    bool again;     /* compute the node's value again, into dx */
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
    size_t *saved;    /* of every node: bytes per image before its own */
    back_step *steps; /* backward, in order */
    size_t n_steps;
    size_t arena;                 /* floats per image */
    size_t saved_bytes_per_image; /* bytes per image, all nodes */
} net_plan;

typedef struct planner planner;

SIM_MUST_USE sim_status sim_plan_make(const sim_net *net, bool backward, net_plan *out);
void sim_plan_clear(net_plan *p);

/* For a layer's `plan`: */
const node *sim_plan_node(const planner *p, int i);
place sim_plan_acquire(planner *p, size_t floats);
void sim_plan_release(planner *p, place at); /* AT_NONE and places outside are fine */
back_step *sim_plan_push_step(planner *p, int i);
/* A place for a gradient of node i's value, to be delivered. */
place sim_plan_acquire_gradient(planner *p, int i);
/* A node's value: kept, or computed again into *again, which the caller gives back. */
place sim_plan_recompute(planner *p, int i, place *again);
place sim_plan_value(const planner *p, int i);
place sim_plan_gradient(const planner *p, int i);
/*
 * The gradient `at` of node i's value is there.  Where one stands already, `at` is to be
 * added to it: returns where, and gives `at` back; otherwise AT_NONE.
 */
place sim_plan_accumulate(planner *p, int i, place at);

/* ---- layers: a row each, layers.def ---- */

struct layer {
    const char *name;
    bool
        reads_input; /* it may stand first: its gradient goes by sim_plan_acquire_gradient */
    /* Names its tensors with sim_net_add_tensor, in torch's order.  NULL: it has none. */
    void (*list)(sim_net *net, node *n);
    void (*forward)(sim_tape *t, int i, const float *x, const float *residual, float *y);
    /* The same value again, with what forward left.  NULL: it is always stored. */
    void (*again)(sim_tape *t, int i, const float *x, float *y);
    /* Says what backward needs: pushes one step. */
    void (*plan)(planner *p, int i);
    void (*backward)(sim_tape *t, const back_step *s, float *grads, size_t node_stride);
    /* Adds a small one that reads node `in`: what the table tests try. */
    sim_status (*sample)(sim_net *net, int in, int *out);
};

#define SIM_LAYER(name) extern const layer sim_layer_##name;
#include "layers.def"
#undef SIM_LAYER
extern const layer *const sim_net_layers[];
extern const size_t sim_net_n_layers;

/* ---- building: nodes one after the other; each returns its index ---- */

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
/* in + residual, which have one shape. */
SIM_MUST_USE sim_status sim_net_add_sum(sim_net *net, const char *name, int in,
                                        int residual, int *out);
/* Every row one down: the first is zero, the last falls off. */
SIM_MUST_USE sim_status sim_net_add_shift(sim_net *net, const char *name, int in,
                                          int *out);
SIM_MUST_USE sim_status sim_net_add_max_pool(sim_net *net, int in, int *out);
SIM_MUST_USE sim_status sim_net_add_mean_pool(sim_net *net, int in, int *out);

/* For a layer's `list`: puts "<node>.<part>" at the arena's end; returns its offset. */
size_t sim_net_add_tensor(sim_net *net, node *n, const char *part, int n_dims,
                          const size_t *dims, bool bn_or_bias);

/* Counts weights and lists tensors; then memory for weights, statistics and filters. */
SIM_MUST_USE sim_status sim_net_count(sim_net *net);
SIM_MUST_USE sim_status sim_net_allocate(sim_net *net);
/* Kaiming normal, fan out, as torchvision draws convolutions; nets of one seed differ in
 * their draw space. */
void sim_net_init_convs(sim_net *net, uint32_t seed, uint32_t space);
size_t sim_net_filter_bytes(const sim_net *net);
size_t sim_net_frame_bytes(const sim_net *net); /* of nodes and names */

SIM_MUST_USE sim_status sim_net_backbone_nodes(const sim_net_spec *spec, sim_net **out);
SIM_MUST_USE sim_status sim_net_head_nodes(const sim_head_spec *spec, sim_net **out);
SIM_MUST_USE sim_status sim_net_context_nodes(const sim_context_spec *spec,
                                              sim_net **out);

/* ---- norm.c: batch norm over groups ---- */

/* How the leaves of a batch shape fall into groups. */
typedef struct {
    size_t blocks; /* on this rank */
    size_t subs;   /* leaves of a block and set: more than one where groups are small */
    size_t sets;   /* statistics beside each other: one a view, or one for all */
    size_t pieces; /* of a leaf: the views when joint */
    size_t leaves; /* on this rank: [block][set][sub] */
    size_t groups; /* of the whole batch */
    size_t leaves_per_group; /* of a set */
    bool whole;              /* one group: the whole batch */
} norm_shape;

/* Coefficients of a norm on this batch, [leaf][c] each. */
typedef struct {
    float *scale, *shift, *mean, *inverse;
} norm_state;

typedef struct {
    norm_shape shape;
    norm_state *states;  /* of every node; empty for others */
    size_t *start;       /* [leaf][piece] rows, for the node at hand */
    double *sums;        /* [leaf][2][widest] */
    double *fold;        /* the same, as the folder wants it */
    double *groups;      /* [group][2][set][widest] */
    float *coefficients; /* a, b, d of the backward pass, [3][leaf][widest] */
    float *partials;     /* tree stack of narrow gradients */
} norm_workspace;

/* Fails: SIM_E_CONFIG when the groups do not fit the batch. */
SIM_MUST_USE sim_status sim_norm_prepare(sim_tape *t);
size_t sim_norm_bytes(const sim_net *net, const sim_batch_shape *shape);
void sim_norm_workspace_of(const sim_net *net, const sim_batch_shape *shape,
                           sim_workspace_size *room);
void sim_norm_release(sim_tape *t);
/* Gradients [local block][n] doubles to the nodes of the blocks' tree. */
void sim_norm_reduce_narrow(sim_tape *t, size_t n, const double *of_block, float *grads,
                            size_t node_stride);

/* ---- tape.c ---- */

enum { EVALUATION_IMAGES = 64 }; /* of a pass, at most */

struct sim_tape {
    sim_net *net;
    sim_batch_shape shape;
    sim_reducer folder;
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

const float *sim_tape_read_at(const sim_tape *t, place at);
float *sim_tape_write_at(const sim_tape *t, place at);
uint8_t *sim_tape_saved(const sim_tape *t, int i);
/* Does anybody want the step's dx?  Not the net's input, where none was asked for. */
bool sim_tape_needs_dx(const sim_tape *t, const back_step *s);
/* Height and width of what node i reads. */
const node *sim_tape_input_node(const sim_tape *t, int i);

#endif
