/*
 * build.h - building a network: each call appends a node and returns its index in *out.
 */
#ifndef SIMILE_ENCODER_BUILD_H
#define SIMILE_ENCODER_BUILD_H

#include "net.h"

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

/* Lists the tensors and counts the weights. */
SIM_MUST_USE sim_status sim_net_count(sim_net *net);
/* Allocates weights and running statistics, and sets the initial values. */
SIM_MUST_USE sim_status sim_net_allocate(sim_net *net, const initial_draws *draws);

/* Uses weights and running statistics of `owner`, a net of the same layers, instead. */
void sim_net_share(sim_net *net, const sim_net *owner);

/* Bytes of running statistics and their counters. */
size_t sim_net_running_bytes(const sim_net *net);
/* Bytes of nodes and names. */
size_t sim_net_structure_bytes(const sim_net *net);

/* ---- networks: a row each, nets.def ---- */

typedef struct network network;
struct network {
    /* Appends the nodes; the last value is the features. */
    sim_status (*build)(const network *self, const sim_net_spec *spec, sim_net *net);
    /* Floats per feature. */
    size_t (*dim)(const network *self, const sim_encoder_options *options);
    const void *variant; /* the family's constants, such as block counts */
};

#define SIM_NET(name) extern const network sim_network_##name;
#include "nets.def"
#undef SIM_NET

size_t sim_backbones_count(void); /* rows of nets.def */

/* Nodes without weights, for plans. */
SIM_MUST_USE sim_status sim_net_backbone_nodes(const sim_net_spec *spec, sim_net **out);
SIM_MUST_USE sim_status sim_net_head_nodes(const sim_head_spec *spec, sim_net **out);
SIM_MUST_USE sim_status sim_net_context_nodes(const sim_context_spec *spec,
                                              sim_net **out);

#endif
