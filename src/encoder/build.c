/*
 * build.c - nodes into nets: shapes, weights, names.
 *
 * resnet.c and head.c say which nodes there are; here they get their places in the arenas
 * and torch's names.
 */
#include "net.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

sim_status net_begin(size_t h, size_t w, size_t c, const sim_batchnorm_options *batchnorm,
                     sim_net **out)
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

/* A node whose value has the shape of its input's. */
static sim_status add(sim_net *net, node_kind kind, const char *name, int in, int *out)
{
    sim_status st = SIM_OK;

    if (net->n_nodes == net->room) {
        net->room = net->room ? 2 * net->room : 32;
        SIM_TRY(sim_grow(&net->nodes, (size_t)net->room, "encoder/net"));
    }
    node *n = &net->nodes[net->n_nodes];
    *n = (node){.kind = kind, .in = in, .residual = NO_NODE};
    n->h = in == NET_INPUT ? net->in_h : net->nodes[in].h;
    n->w = in == NET_INPUT ? net->in_w : net->nodes[in].w;
    n->c = in == NET_INPUT ? net->in_c : net->nodes[in].c;
    (void)snprintf(n->name, sizeof n->name, "%s", name);
    *out = net->n_nodes++;
done:
    return st;
}

sim_status net_conv(sim_net *net, const char *name, int in, size_t k, size_t size,
                    size_t stride, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(add(net, NODE_CONV, name, in, out));
    node *n = &net->nodes[*out];
    n->conv = (sim_conv){.c = n->c,
                         .k = k,
                         .size = size,
                         .stride = stride,
                         .pad = size / 2,
                         .h = n->h,
                         .w = n->w};
    SIM_TRY(sim_conv_shape(&n->conv));
    n->h = n->conv.oh;
    n->w = n->conv.ow;
    n->c = k;
done:
    return st;
}

sim_status net_norm(sim_net *net, const char *name, int in, int residual,
                    sim_activation act, bool affine, bool zero, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(add(net, NODE_NORM, name, in, out));
    node *n = &net->nodes[*out];
    n->residual = residual;
    n->act = act;
    n->affine = affine;
    n->last_zero = zero;
done:
    return st;
}

sim_status net_act(sim_net *net, const char *name, int in, bool bias, sim_activation act,
                   int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(add(net, NODE_ACT, name, in, out));
    net->nodes[*out].has_bias = bias;
    net->nodes[*out].act = act;
done:
    return st;
}

sim_status net_max_pool(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(add(net, NODE_MAX_POOL, "maxpool", in, out));
    node *n = &net->nodes[*out];
    n->h = (n->h - 1) / 2 + 1;
    n->w = (n->w - 1) / 2 + 1;
done:
    return st;
}

sim_status net_mean_pool(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(add(net, NODE_MEAN_POOL, "avgpool", in, out));
    net->nodes[*out].h = net->nodes[*out].w = 1;
done:
    return st;
}

/* Lists one tensor at the end of the arena; returns its offset. */
static size_t list_tensor(sim_net *net, const char *layer, const char *part, int n_dims,
                          const size_t *dims, bool bn_or_bias)
{
    size_t i = net->n_tensors++, count = 1;
    sim_net_tensor *t = &net->tensors[i];

    (void)snprintf(net->names[i], sizeof net->names[i], "%s.%s", layer, part);
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

static void count_conv(sim_net *net, node *n)
{
    const sim_conv *v = &n->conv;
    const size_t dims[4] = {v->k, v->c, v->size, v->size};
    bool linear = v->h == 1 && v->w == 1 && v->size == 1;
    n->weight = list_tensor(net, n->name, "weight", linear ? 2 : 4, dims, false);
}

static void count_norm(sim_net *net, node *n)
{
    n->running = net->n_running;
    net->n_running += 2 * n->c;
    if (!n->affine)
        return;
    n->weight = list_tensor(net, n->name, "weight", 1, &n->c, true);
    n->bias = list_tensor(net, n->name, "bias", 1, &n->c, true);
}

sim_status net_count(sim_net *net)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_alloc(&net->tensors, 2 * (size_t)net->n_nodes, "encoder/net"));
    SIM_TRY(sim_alloc(&net->names, 2 * (size_t)net->n_nodes, "encoder/net"));
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        if (n->kind == NODE_CONV)
            count_conv(net, n);
        else if (n->kind == NODE_NORM)
            count_norm(net, n);
        else if (n->kind == NODE_ACT && n->has_bias)
            n->bias = list_tensor(net, n->name, "bias", 1, &n->c, true);
    }
done:
    return st;
}

sim_status net_allocate(sim_net *net)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_alloc(&net->weights, net->n_weights, "encoder/weights"));
    SIM_TRY(sim_alloc(&net->running, net->n_running, "encoder/weights"));
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        if (n->kind == NODE_CONV)
            SIM_TRY(sim_filters_create(&n->conv, &n->filters));
        for (size_t c = 0; n->kind == NODE_NORM && c < n->c; c++)
            net->running[n->running + n->c + c] = 1;
        for (size_t c = 0; n->kind == NODE_NORM && n->affine && c < n->c; c++)
            net->weights[n->weight + c] = n->last_zero ? 0 : 1;
    }
done:
    return st;
}

size_t net_filter_bytes(const sim_net *net)
{
    size_t bytes = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].kind == NODE_CONV)
            bytes += sim_filters_bytes(&net->nodes[i].conv);
    return bytes;
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

double sim_net_flops(const sim_net *net)
{
    double flops = 0;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].kind == NODE_CONV)
            flops += sim_conv_flops(&net->nodes[i].conv);
    return flops;
}

void sim_net_pack(sim_net *net, bool backward)
{
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        if (n->kind == NODE_CONV)
            sim_filters_pack(n->filters, net->weights + n->weight, backward);
    }
    net->packed_backward = backward;
}
