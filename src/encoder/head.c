/*
 * head.c - projector and predictor: linear layers, batch norm, activations.
 *
 * Layers are numbered as in torch.nn.Sequential: Linear 0, BN 1, activation 2, Linear 3;
 * without BN Linear 0, activation 1, Linear 2.  A linear layer has a bias where no BN
 * follows.
 */
#include "build.h"

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

sim_status sim_head_create(const sim_head_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    const initial_draws draws = {.draws = {.seed = spec->seed,
                                           .purpose = SIM_RANDOM_INIT,
                                           .epoch = 1 + spec->salt},
                                 .linear = spec->initial,
                                 .gain = spec->gain > 0 ? spec->gain : 1,
                                 .draw_biases = spec->initial == SIM_INITIAL_UNIFORM};
    sim_net *net = NULL;

    SIM_TRY(sim_net_head_nodes(spec, &net));
    SIM_TRY(sim_net_allocate(net, &draws));
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}
