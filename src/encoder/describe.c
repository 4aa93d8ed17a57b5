/*
 * describe.c - the layers of a net with their attributes, for exports; its multiply-adds.
 */
#include "net.h"

size_t sim_net_layers(const sim_net *net)
{
    return (size_t)net->n_nodes;
}

sim_net_layer sim_net_layer_at(const sim_net *net, size_t i)
{
    SIM_ASSERT(i < sim_net_layers(net));
    const node *n = &net->nodes[i];
    const float *running = n->has_running ? net->running + n->running : NULL;
    sim_net_layer out = {.kind = n->layer->name,
                         .name = n->name,
                         .input = n->in,
                         .residual = n->residual,
                         .h = n->h,
                         .w = n->w,
                         .c = n->c,
                         .activation = n->act,
                         .running_mean = running,
                         .running_var = running ? running + n->c : NULL,
                         .n_tensors = n->n_tensors,
                         .first_tensor = n->tensor};
    if (n->layer->describe)
        n->layer->describe(n, &out);
    return out;
}

double sim_net_multiply_adds(const sim_net *net)
{
    double sum = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].conv.k > 0)
            sum += sim_conv_flops(&net->nodes[i].conv) / 2;
    return sum;
}
