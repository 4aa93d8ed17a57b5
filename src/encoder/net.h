/*
 * net.h - the types of a network: nodes with one value each, and layers as tables of functions.
 *
 * Private headers, each of which includes only those before it: net.h (types), leaves.h
 * (sums over the batch), planner.h (buffers of a pass), tape.h (passes).  build.h (adding
 * nodes) includes net.h only.
 */
#ifndef SIMILE_ENCODER_NET_H
#define SIMILE_ENCODER_NET_H

#include "simile/encoder.h"
#include "simile/random.h"

enum { NET_INPUT = SIM_LAYER_INPUT, NO_NODE = SIM_LAYER_NONE };

static const double bn_epsilon = 1e-5;

typedef struct layer layer;
typedef struct planner planner;
typedef struct backward_step backward_step;

/* A node of the graph.  Each layer uses the fields that it needs. */
typedef struct {
    const layer *layer;
    int in, residual; /* indices of the nodes whose values it reads */
    size_t h, w, c;   /* shape of its value */
    char name[48];    /* "layer1.0.conv1" */
    bool stored;      /* its value is saved for backward unless that of a block can be
                       * recomputed; otherwise it always is */
    size_t saved_bytes_per_image; /* saved for backward in addition to values */

    sim_conv conv; /* k = 0: no filters */
    sim_activation act;
    bool affine, starts_at_zero; /* norm: has gamma and beta; gamma is 0 at first */
    bool has_bias;
    size_t n_tensors;    /* trainable tensors, consecutive in the net's list */
    size_t tensor;       /* index of the first */
    size_t weight, bias; /* offsets in the net's weights */
    bool has_running;
    size_t running; /* offset in the net's running statistics */
    size_t counter; /* index of its count of batches */
} node;

struct sim_net {
    node *nodes;
    int n_nodes, node_capacity;
    size_t in_h, in_w, in_c;
    sim_batchnorm_options batchnorm;
    float *weights, *running; /* running [norm][2][c]: mean, variance */
    int64_t *batches;         /* [norm] that `running` has seen */
    bool is_shared;           /* weights, running and batches belong to another net */
    size_t n_weights, n_running, n_counters;
    sim_net_tensor *tensors;
    char (*names)[64];
    size_t n_tensors;
};

/* Floats per image of a node's value. */
static inline size_t node_floats(const node *n)
{
    return n->h * n->w * n->c;
}

/* How initial weights are drawn. */
typedef struct {
    sim_random draws;   /* `sample` is the node's index */
    sim_initial linear; /* of linear layers */
    double gain;        /* factor on their weights */
    bool draw_biases;   /* as torch.nn.Linear; otherwise biases are zero */
} initial_draws;

/* What the passes of a tape do. */
typedef enum {
    PASS_EVALUATE, /* forward with running statistics */
    PASS_FORWARD,  /* forward with batch statistics */
    PASS_TRAIN     /* forward with batch statistics, and backward */
} pass_kind;

/* ---- layers: a row each, layers.def; hooks are NULL where a layer has nothing to do ---- */

struct layer {
    const char *name;
    bool
        reads_input; /* its input may be the net's; it then uses sim_plan_acquire_gradient */

    /* Calls sim_net_add_tensor for each tensor, in torch's order. */
    void (*list_tensors)(sim_net *net, node *n);
    /* Sets the initial weights and statistics of node i.  Serial; called inside sim_for. */
    void (*initialise)(sim_net *net, int i, const initial_draws *draws);
    /* Floats of the filters that the forward or backward pass packs. */
    size_t (*packed_floats)(const node *n, bool backward);

    /* Sets the fields that only this layer has. */
    void (*describe)(const node *n, sim_net_layer *out);

    /* Errors: SIM_E_CONFIG if groups of this many images are too small for the node. */
    sim_status (*check)(const node *n, size_t images);
    /* Floats that a tape holds for the node in addition to values. */
    size_t (*state_floats)(const node *n, size_t leaves);
    /* Raises the kernels' workspace to what the passes need. */
    void (*workspace)(const node *n, const sim_batch_shape *shape,
                      const sim_batchnorm_options *batchnorm, pass_kind passes,
                      sim_workspace_size *workspace);

    void (*forward)(sim_tape *t, int i, const float *x, const float *residual, float *y);
    /* True if the passes of the node can read its input through a norm that is not stored. */
    bool (*reads_norm)(const node *n);
    /* Called for every node after the forward pass of all micro-batches of the rank, if the batch
     * passes in micro-batches. */
    void (*finish_forward)(sim_tape *t, int i);
    /* Recomputes the value from what forward saved.  NULL: the value is always stored. */
    void (*recompute)(sim_tape *t, int i, const float *x, const float *residual,
                      float *y);
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
extern const layer *const sim_layer_rows[];
extern const size_t sim_layer_n_rows;

#endif
