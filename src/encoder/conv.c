/*
 * conv.c - convolutions and linear layers: the kernels do the work.
 *
 * A linear layer is a convolution of size 1 on images of 1 x 1; only its weight's dims
 * differ.  A bias stands in the activation that follows (act.c).
 */
#include "net.h"

static sim_status add(sim_net *net, const layer *l, const char *name, int in, size_t k,
                      size_t size, size_t stride, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(net_add(net, l, name, in, out));
    node *n = &net->nodes[*out];
    n->conv = (sim_conv){.c = n->c,
                         .k = k,
                         .size = size,
                         .stride = stride,
                         .pad = size / 2,
                         .h = n->h,
                         .w = n->w};
    SIM_TRY(sim_conv_shape(&n->conv));
    n->stored = true;
    n->h = n->conv.oh;
    n->w = n->conv.ow;
    n->c = k;
done:
    return st;
}

sim_status net_conv(sim_net *net, const char *name, int in, size_t k, size_t size,
                    size_t stride, int *out)
{
    return add(net, &layer_conv, name, in, k, size, stride, out);
}

sim_status net_linear(sim_net *net, const char *name, int in, size_t k, int *out)
{
    SIM_ASSERT(in == NET_INPUT ? net->in_h * net->in_w == 1
                               : net->nodes[in].h * net->nodes[in].w == 1);
    return add(net, &layer_linear, name, in, k, 1, 1, out);
}

static void list_conv(sim_net *net, node *n)
{
    const sim_conv *v = &n->conv;
    const size_t dims[4] = {v->k, v->c, v->size, v->size};
    n->weight = net_tensor(net, n, "weight", 4, dims, false);
}

static void list_linear(sim_net *net, node *n)
{
    const size_t dims[2] = {n->conv.k, n->conv.c};
    n->weight = net_tensor(net, n, "weight", 2, dims, false);
}

static void forward(sim_tape *t, int i, const float *x, const float *residual, float *y)
{
    (void)residual;
    sim_conv_forward(t->net->nodes[i].filters, t->n_images, x, y);
}

static void plan(planner *p, int i)
{
    const node *n = plan_node(p, i);
    place again = AT_NONE, x = plan_bring(p, n->in, &again);
    back_step *s = plan_push(p, i);

    s->x = x;
    s->dy = plan_gradient(p, i);
    s->dx = plan_take_gradient(p, n->in);
    s->sum = plan_deliver(p, n->in, s->dx);
    plan_give(p, s->dy);
    plan_give(p, again);
}

static void backward(sim_tape *t, const back_step *s, float *grads, size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    const sim_leaf_walk walk = {.n_leaves = t->shape.n_blocks,
                                .range = t->shape.blocks,
                                .images_per_leaf = t->shape.views * t->shape.slots};
    const float *dy = tape_reading(t, s->dy);
    float *dx = tape_writing(t, s->dx);

    sim_conv_backward_weights(&n->conv, &walk, tape_reading(t, s->x), dy,
                              grads + n->weight, node_stride);
    if (!tape_asked(t, s))
        return;
    sim_conv_backward_data(n->filters, t->n_images, dy, dx);
    if (s->sum != AT_NONE)
        sim_add(t->n_images * n->conv.h * n->conv.w * n->conv.c, dx,
                tape_writing(t, s->sum));
}

static sim_status sample_conv(sim_net *net, int in, int *out)
{
    return net_conv(net, "sample", in, 16, 3, 2, out);
}

static sim_status sample_linear(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;
    SIM_TRY(net_mean_pool(net, in, out));
    SIM_TRY(net_linear(net, "sample", *out, 24, out));
done:
    return st;
}

const layer layer_conv = {.name = "conv",
                          .reads_input = true,
                          .list = list_conv,
                          .forward = forward,
                          .plan = plan,
                          .backward = backward,
                          .sample = sample_conv};

const layer layer_linear = {.name = "linear",
                            .reads_input = true,
                            .list = list_linear,
                            .forward = forward,
                            .plan = plan,
                            .backward = backward,
                            .sample = sample_linear};
