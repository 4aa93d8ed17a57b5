/*
 * build.c - builds nets from nodes: shapes, weights, names.
 *
 * resnet.c, head.c and context.c choose the nodes; each layer's file lists its tensors.  This
 * file assigns offsets in the weights and torch's names.
 */
#include "net.h"

#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>
#include <stdio.h>

enum { MAX_NODE_TENSORS = 2 }; /* trainable tensors per node */

const layer *const sim_net_layers[] = {
#define SIM_LAYER(name) &sim_layer_##name,
#include "layers.def"
#undef SIM_LAYER
};
const size_t sim_net_n_layers = sizeof sim_net_layers / sizeof sim_net_layers[0];

sim_status sim_net_begin(size_t h, size_t w, size_t c,
                         const sim_batchnorm_options *batchnorm, sim_net **out)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    SIM_TRY(sim_new(&net, "encoder/net"));
    net->in_h = h;
    net->in_w = w;
    net->in_c = c;
    net->batchnorm = *batchnorm;
    *out = net;
done:
    return st;
}

sim_status sim_net_add_node(sim_net *net, const layer *l, const char *name, int in,
                            int *out)
{
    sim_status st = SIM_OK;

    SIM_ASSERT(in >= 0 || l->reads_input);
    if (net->n_nodes == net->node_capacity) {
        net->node_capacity = net->node_capacity ? 2 * net->node_capacity : 32;
        SIM_TRY(sim_grow(&net->nodes, (size_t)net->node_capacity, "encoder/net"));
    }
    node *n = &net->nodes[net->n_nodes];
    *n = (node){.layer = l, .in = in, .residual = NO_NODE};
    n->h = in == NET_INPUT ? net->in_h : net->nodes[in].h;
    n->w = in == NET_INPUT ? net->in_w : net->nodes[in].w;
    n->c = in == NET_INPUT ? net->in_c : net->nodes[in].c;
    (void)snprintf(n->name, sizeof n->name, "%s", name);
    *out = net->n_nodes++;
done:
    return st;
}

size_t sim_net_add_tensor(sim_net *net, node *n, const char *part, int n_dims,
                          const size_t *dims, bool bn_or_bias)
{
    size_t i = net->n_tensors++, count = 1;
    sim_net_tensor *t = &net->tensors[i];

    SIM_ASSERT(n->n_tensors < MAX_NODE_TENSORS);
    n->n_tensors++;
    (void)snprintf(net->names[i], sizeof net->names[i], "%s.%s", n->name, part);
    for (int d = 0; d < n_dims; d++) {
        t->dims[d] = dims[d];
        count *= dims[d];
    }
    t->name = net->names[i];
    t->offset = net->n_weights;
    t->count = count;
    t->n_dims = n_dims;
    t->bn_or_bias = bn_or_bias;
    net->n_weights += count;
    return t->offset;
}

sim_status sim_net_count(sim_net *net)
{
    sim_status st = SIM_OK;
    size_t most = MAX_NODE_TENSORS * (size_t)net->n_nodes;

    SIM_TRY(sim_alloc(&net->tensors, most, "encoder/net"));
    SIM_TRY(sim_alloc(&net->names, most, "encoder/net"));
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        if (n->layer->list_tensors)
            n->layer->list_tensors(net, n);
        if (n->has_running) {
            n->running = net->n_running;
            net->n_running += 2 * n->c;
        }
    }
done:
    return st;
}

/* Batch norm starts as the identity: gamma 1 (or 0 if starts_at_zero), beta 0, variance 1. */
static void initialise_norm(sim_net *net, const node *n)
{
    for (size_t c = 0; c < n->c; c++) {
        net->running[n->running + n->c + c] = 1;
        if (n->affine)
            net->weights[n->weight + c] = n->starts_at_zero ? 0 : 1;
    }
}

sim_status sim_net_allocate(sim_net *net)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_alloc(&net->weights, net->n_weights, "encoder/weights"));
    SIM_TRY(sim_alloc(&net->running, net->n_running, "encoder/weights"));
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        if (n->conv.k)
            SIM_TRY(sim_filters_create(&n->conv, &n->filters));
        if (n->has_running)
            initialise_norm(net, n);
    }
done:
    return st;
}

typedef struct {
    sim_net *net;
    uint32_t seed, space;
} draw_call;

static void draw_conv(size_t i, void *ctx)
{
    const draw_call *d = ctx;
    const node *n = &d->net->nodes[i];
    const sim_conv *v = &n->conv;

    if (n->layer != &sim_layer_conv)
        return;
    float deviation = (float)sqrt(2.0 / (double)(v->k * v->size * v->size));
    sim_random r = {.seed = d->seed,
                    .purpose = SIM_RANDOM_INIT,
                    .sample = (uint32_t)i,
                    .view_op = d->space};
    for (size_t j = 0; j < v->k * v->c * v->size * v->size; j++)
        d->net->weights[n->weight + j] = deviation * sim_random_normal(&r);
}

void sim_net_init_convs(sim_net *net, uint32_t seed, uint32_t space)
{
    draw_call d = {net, seed, space};
    sim_for((size_t)net->n_nodes, draw_conv, &d);
}

size_t sim_net_filter_bytes(const sim_net *net)
{
    size_t bytes = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].conv.k)
            bytes += sim_filters_bytes(&net->nodes[i].conv);
    return bytes;
}

size_t sim_net_frame_bytes(const sim_net *net)
{
    size_t most = MAX_NODE_TENSORS * (size_t)net->n_nodes;
    return sizeof *net + (size_t)net->node_capacity * sizeof *net->nodes +
           most * (sizeof *net->tensors + sizeof *net->names);
}

void sim_net_destroy(sim_net **out)
{
    sim_net *net = *out;
    if (!net)
        return;
    sim_tape_destroy(&net->evaluation);
    for (int i = 0; i < net->n_nodes; i++)
        sim_filters_destroy(&net->nodes[i].filters);
    sim_free(net->nodes);
    sim_free(net->weights);
    sim_free(net->running);
    sim_free(net->tensors);
    sim_free(net->names);
    sim_free(net);
    *out = NULL;
}

size_t sim_net_dim(const sim_net *net)
{
    return node_floats(&net->nodes[net->n_nodes - 1]);
}

size_t sim_net_input(const sim_net *net)
{
    return net->in_h * net->in_w * net->in_c;
}

size_t sim_net_parameters(const sim_net *net)
{
    return net->n_weights;
}

float *sim_net_weights(sim_net *net)
{
    return net->weights;
}

size_t sim_net_tensors(const sim_net *net)
{
    return net->n_tensors;
}

const sim_net_tensor *sim_net_tensor_at(const sim_net *net, size_t i)
{
    SIM_ASSERT(i < net->n_tensors);
    return &net->tensors[i];
}

void sim_net_pack(sim_net *net, bool backward)
{
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        if (n->filters)
            sim_filters_pack(n->filters, net->weights + n->weight, backward);
    }
    net->packed_backward = backward;
}
