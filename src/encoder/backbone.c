/*
 * backbone.c - creates the network that encoder.arch names.
 */
#include "build.h"

static const network *const networks[] = {
#define SIM_NET(name) &sim_network_##name,
#include "nets.def"
#undef SIM_NET
};

size_t sim_backbones_count(void)
{
    return sizeof networks / sizeof networks[0];
}

static const network *network_of(const sim_encoder_options *options)
{
    SIM_ASSERT(options->arch >= 0 &&
               (size_t)options->arch < sizeof networks / sizeof networks[0]);
    return networks[options->arch];
}

size_t sim_backbone_dim(const sim_encoder_options *options)
{
    const network *n = network_of(options);
    return n->dim(n, options);
}

sim_status sim_net_backbone_nodes(const sim_net_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    const network *n = network_of(spec->encoder);
    sim_net *net = NULL;

    SIM_TRY(sim_net_begin(spec->h, spec->w, spec->c, spec->batchnorm, &net));
    SIM_TRY(n->build(n, spec, net));
    SIM_TRY(sim_net_count(net));
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}

sim_status sim_backbone_share(const sim_net_spec *spec, const sim_net *owner,
                              sim_net **out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_backbone_nodes(spec, out));
    sim_net_share(*out, owner);
done:
    return st;
}

sim_status sim_backbone_create(const sim_net_spec *spec, sim_net **out)
{
    sim_status st = SIM_OK;
    const initial_draws draws = {
        .draws = {.seed = spec->seed, .purpose = SIM_RANDOM_INIT}};
    sim_net *net = NULL;

    SIM_TRY(sim_net_backbone_nodes(spec, &net));
    SIM_TRY(sim_net_allocate(net, &draws));
    *out = net;
    net = NULL;
done:
    sim_net_destroy(&net);
    return st;
}
