/*
 * build.c - builds nets from nodes: shapes, weights, names.
 *
 * resnet.c, head.c and context.c choose the nodes; each layer's file lists its tensors.  This
 * file assigns offsets in the weights and torch's names.
 */
#include "build.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>

enum { MAX_NODE_TENSORS = 2 }; /* trainable tensors per node */

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

enum { TENSOR_BUFFERS = 2, WEIGHT_BUFFERS = 3 };

/* Buffers that sim_net_count creates. */
static void list_tensor_buffers(sim_net *net, sim_buffer list[TENSOR_BUFFERS])
{
    size_t most = MAX_NODE_TENSORS * (size_t)net->n_nodes;
    list[0] = SIM_BUFFER(net->tensors, most);
    list[1] = SIM_BUFFER(net->names, most);
}

/* Buffers that sim_net_allocate creates. */
static void list_weight_buffers(sim_net *net, sim_buffer list[WEIGHT_BUFFERS])
{
    list[0] = SIM_BUFFER(net->weights, net->n_weights);
    list[1] = SIM_BUFFER(net->running, net->n_running);
    list[2] = SIM_BUFFER(net->batches, net->n_counters);
}

sim_status sim_net_count(sim_net *net)
{
    sim_status st = SIM_OK;
    sim_buffer list[TENSOR_BUFFERS];

    list_tensor_buffers(net, list);
    SIM_TRY(sim_buffers_create(list, TENSOR_BUFFERS, "encoder/net"));
    for (int i = 0; i < net->n_nodes; i++) {
        node *n = &net->nodes[i];
        n->tensor = net->n_tensors;
        if (n->layer->list_tensors)
            n->layer->list_tensors(net, n);
        if (n->has_running) {
            n->running = net->n_running;
            n->counter = net->n_counters++;
            net->n_running += 2 * n->c;
        }
    }
done:
    return st;
}

typedef struct {
    sim_net *net;
    const initial_draws *draws;
} initialise_call;

static void initialise_node(size_t i, void *ctx)
{
    const initialise_call *c = ctx;
    const layer *l = c->net->nodes[i].layer;
    if (l->initialise)
        l->initialise(c->net, (int)i, c->draws);
}

sim_status sim_net_allocate(sim_net *net, const initial_draws *draws)
{
    sim_status st = SIM_OK;
    sim_buffer list[WEIGHT_BUFFERS];
    initialise_call call = {net, draws};

    list_weight_buffers(net, list);
    SIM_TRY(sim_buffers_create(list, WEIGHT_BUFFERS, "encoder/weights"));
    sim_for((size_t)net->n_nodes, initialise_node, &call);
done:
    return st;
}

void sim_net_share(sim_net *net, const sim_net *owner)
{
    SIM_ASSERT(net->n_weights == owner->n_weights && net->n_running == owner->n_running &&
               net->n_counters == owner->n_counters);
    net->weights = owner->weights;
    net->running = owner->running;
    net->batches = owner->batches;
    net->is_shared = true;
}

size_t sim_net_running_bytes(const sim_net *net)
{
    return net->n_running * sizeof *net->running + net->n_counters * sizeof *net->batches;
}

size_t sim_net_structure_bytes(const sim_net *net)
{
    sim_net none = *net; /* only its counts are read */
    sim_buffer list[TENSOR_BUFFERS];

    list_tensor_buffers(&none, list);
    return sizeof *net + (size_t)net->node_capacity * sizeof *net->nodes +
           sim_buffers_bytes(list, TENSOR_BUFFERS);
}

void sim_net_destroy(sim_net **out)
{
    sim_net *net = *out;
    sim_buffer tensors[TENSOR_BUFFERS], weights[WEIGHT_BUFFERS];

    if (!net)
        return;
    list_tensor_buffers(net, tensors);
    list_weight_buffers(net, weights);
    sim_buffers_destroy(tensors, TENSOR_BUFFERS);
    if (!net->is_shared)
        sim_buffers_destroy(weights, WEIGHT_BUFFERS);
    sim_free(net->nodes);
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
