/*
 * head.c - projector and predictor: linear layers, batch norm, activations.
 *
 * Layers are numbered as in torch.nn.Sequential: Linear 0, BN 1, activation 2, Linear 3;
 * without BN Linear 0, activation 1, Linear 2.  A linear layer has a bias where no BN
 * follows.
 */
#include "net.h"

#include "simile/random.h"

#include <math.h>
#include <stdio.h>

/* Adds Linear `*number`, then BN or bias, then the activation unless last; advances
 * *number. */
static sim_status add_layer(sim_net *net, const sim_head_spec *spec, bool last,
                            int *number, int *at)
{
    sim_status st = SIM_OK;
    char name[24];
    bool bn = last ? spec->last_bn : spec->bn;
    size_t width = last ? spec->dim : spec->hidden;
    sim_activation act = last                               ? SIM_ACT_NONE
                         : spec->activation == SIM_NET_SILU ? SIM_ACT_SILU
                                                            : SIM_ACT_RELU;

    (void)snprintf(name, sizeof name, "%d", *number);
    SIM_TRY(sim_net_add_linear(net, name, *at, width, at));
    if (bn) {
        (void)snprintf(name, sizeof name, "%d", *number + 1);
        SIM_TRY(sim_net_add_norm(net, name, *at, NO_NODE, act, !last || spec->last_affine,
                                 at));
    } else if (!spec->no_bias || act != SIM_ACT_NONE) {
        SIM_TRY(sim_net_add_act(net, name, *at, !spec->no_bias, act, at));
    }
    *number += bn ? 3 : 2;
done:
    return st;
}

sim_status sim_net_head_nodes(const sim_head_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;
    int at = NET_INPUT, number = (int)spec->number;

    SIM_TRY(sim_net_begin(1, 1, spec->in, spec->batchnorm, &net));
    for (int64_t i = 0; i < spec->layers; i++)
        SIM_TRY(add_layer(net, spec, i == spec->layers - 1, &number, &at));
    SIM_TRY(sim_net_count(net));
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}

/* Weights and biases uniform in +-1/sqrt(fan in), as torch.nn.Linear. */
static void initialise_head(sim_net *net, const sim_head_spec *spec)
{
    double gain = spec->gain > 0 ? spec->gain : 1;
    float bound = 1;
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        sim_random r = {.seed = spec->seed,
                        .purpose = SIM_RANDOM_INIT,
                        .sample = (uint32_t)i,
                        .epoch = 1 + spec->salt};
        if (n->layer == &sim_layer_linear) {
            bound = (float)(gain / sqrt((double)n->conv.c));
            for (size_t j = 0; j < n->conv.k * n->conv.c; j++)
                net->weights[n->weight + j] = sim_random_between(&r, -bound, bound);
        } else if (n->has_bias) {
            for (size_t j = 0; j < n->c; j++)
                net->weights[n->bias + j] = sim_random_between(&r, -bound, bound);
        }
    }
}

sim_status sim_head_create(const sim_head_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    SIM_TRY(sim_net_head_nodes(spec, &net));
    SIM_TRY(sim_net_allocate(net));
    initialise_head(net, spec);
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}
