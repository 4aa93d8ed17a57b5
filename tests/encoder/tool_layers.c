/*
 * tool_layers.c - prints the layers of a backbone, one per line, for test_structure.py.
 *
 *   tool_layers arch stem width activation h w c
 * A line: kind name input residual h w c kernel stride padding activation eps, then
 * name=dim,dim for each trainable tensor.
 */
#include "simile/encoder.h"

#include <stdio.h>
#include <stdlib.h>

static void print_layer(const sim_net *net, size_t i)
{
    const sim_net_layer l = sim_net_layer_at(net, i);

    (void)printf("%s %s %d %d %zu %zu %zu %zu %zu %zu %d %.17g", l.kind, l.name, l.input,
                 l.residual, l.h, l.w, l.c, l.kernel, l.stride, l.padding,
                 (int)l.activation, l.eps);
    for (size_t t = 0; t < l.n_tensors; t++) {
        const sim_net_tensor *w = sim_net_tensor_at(net, l.first_tensor + t);
        (void)printf(" %s=", w->name);
        for (int d = 0; d < w->n_dims; d++)
            (void)printf("%s%zu", d ? "," : "", w->dims[d]);
    }
    (void)printf("\n");
}

int main(int argc, char **argv)
{
    sim_net *net = NULL;

    if (argc != 8)
        return 64;
    const sim_encoder_options e = {.arch = atoi(argv[1]),
                                   .stem = atoi(argv[2]),
                                   .width = atof(argv[3]),
                                   .activation = atoi(argv[4])};
    const sim_batchnorm_options bn = {0};
    const sim_net_spec spec = {.encoder = &e,
                               .batchnorm = &bn,
                               .h = (size_t)atoi(argv[5]),
                               .w = (size_t)atoi(argv[6]),
                               .c = (size_t)atoi(argv[7])};
    sim_status st = sim_backbone_create(&spec, &net);
    if (st != SIM_OK)
        (void)fprintf(stderr, "tool_layers: %s\n", sim_error_message());
    for (size_t i = 0; st == SIM_OK && i < sim_net_layers(net); i++)
        print_layer(net, i);
    sim_net_destroy(&net);
    return (int)st;
}
