/*
 * context.c - CPC's context net: predicts rows of a grid from the rows above.
 *
 * Residual blocks y = x + act(conv3x3(shift(x)) + bias), then a 1 x 1: a row
 * depends on itself and 2 * layers rows above, never on one below.  Van den Oord et al. 2018,
 * arXiv 1807.03748, section 3.2; no batch norm, whose
 * statistics would leak rows below.
 */
#include "build.h"

#include <stdio.h>

enum { DEFAULT_LAYERS = 4, CONTEXT_DRAWS = 1 /* the backbone uses 0 */ };

static sim_status add_block(sim_net *net, const sim_context_spec *spec, int number,
                            int *at)
{
    sim_status st = SIM_OK;
    sim_activation act = spec->activation == SIM_NET_SILU ? SIM_ACT_SILU : SIM_ACT_RELU;
    char name[24];
    int in = *at;

    (void)snprintf(name, sizeof name, "%d", number);
    SIM_TRY(sim_net_add_shift(net, name, in, at));
    SIM_TRY(sim_net_add_conv(net, name, *at, spec->dim, 3, 1, at));
    net->nodes[*at].conv.exact_reach = true; /* no bit depends on rows below */
    SIM_TRY(sim_net_add_act(net, name, *at, true, act, at));
    SIM_TRY(sim_net_add_sum(net, name, *at, in, at));
done:
    return st;
}

sim_status sim_net_context_nodes(const sim_context_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    static const sim_batchnorm_options none = {0};
    int layers = spec->layers ? (int)spec->layers : DEFAULT_LAYERS, at = NET_INPUT;
    sim_net *net = NULL;
    char last[24];

    SIM_TRY(sim_net_begin(spec->grid, spec->grid, spec->dim, &none, &net));
    for (int i = 0; i < layers; i++)
        SIM_TRY(add_block(net, spec, i, &at));
    (void)snprintf(last, sizeof last, "%d", layers);
    SIM_TRY(sim_net_add_conv(net, last, at, spec->dim, 1, 1, &at));
    SIM_TRY(sim_net_count(net));
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}

sim_status sim_context_create(const sim_context_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    const initial_draws draws = {.draws = {.seed = spec->seed,
                                           .purpose = SIM_RANDOM_INIT,
                                           .view_op = CONTEXT_DRAWS}};
    sim_net *net = NULL;

    SIM_TRY(sim_net_context_nodes(spec, &net));
    SIM_TRY(sim_net_allocate(net, &draws));
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}
