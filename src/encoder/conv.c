/*
 * conv.c - convolution and linear layers.
 *
 * A linear layer is a convolution of size 1 on images of 1 x 1; only its weight's dims
 * differ.  The activation that follows holds the bias (act.c).
 */
#include "build.h"
#include "tape.h"

#include <math.h>

static sim_status add_conv_node(sim_net *net, const layer *l, const char *name, int in,
                                size_t k, size_t size, size_t stride, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_add_node(net, l, name, in, out));
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

sim_status sim_net_add_conv(sim_net *net, const char *name, int in, size_t k, size_t size,
                            size_t stride, int *out)
{
    return add_conv_node(net, &sim_layer_conv, name, in, k, size, stride, out);
}

sim_status sim_net_add_linear(sim_net *net, const char *name, int in, size_t k, int *out)
{
    SIM_ASSERT(in == NET_INPUT ? net->in_h * net->in_w == 1
                               : net->nodes[in].h * net->nodes[in].w == 1);
    return add_conv_node(net, &sim_layer_linear, name, in, k, 1, 1, out);
}

static void list_conv(sim_net *net, node *n)
{
    const sim_conv *v = &n->conv;
    const size_t dims[4] = {v->k, v->c, v->size, v->size};
    n->weight = sim_net_add_tensor(net, n, "weight", 4, dims, false);
}

static void list_linear(sim_net *net, node *n)
{
    const size_t dims[2] = {n->conv.k, n->conv.c};
    n->weight = sim_net_add_tensor(net, n, "weight", 2, dims, false);
}

static size_t weights_of(const sim_conv *v)
{
    return v->k * v->c * v->size * v->size;
}

/* Kaiming normal, fan out, as torchvision initialises convolutions. */
static void initialise_conv(sim_net *net, int i, const initial_draws *draws)
{
    const node *n = &net->nodes[i];
    const sim_conv *v = &n->conv;
    float deviation = (float)sqrt(2.0 / (double)(v->k * v->size * v->size));
    sim_random r = draws->draws;

    r.sample = (uint32_t)i;
    for (size_t j = 0; j < weights_of(v); j++)
        net->weights[n->weight + j] = deviation * sim_random_normal(&r);
}

static float draw_linear(const initial_draws *draws, size_t fan_in, sim_random *r)
{
    const float deviation = 0.01F;
    const float bound = (float)(draws->gain / sqrt((double)fan_in));

    switch (draws->linear) {
    case SIM_INITIAL_UNIFORM:
        return sim_random_between(r, -bound, bound);
    case SIM_INITIAL_NORMAL:
        return deviation * sim_random_normal(r);
    case SIM_INITIAL_ZERO:
        break;
    }
    return 0;
}

static void initialise_linear(sim_net *net, int i, const initial_draws *draws)
{
    const node *n = &net->nodes[i];
    sim_random r = draws->draws;

    r.sample = (uint32_t)i;
    for (size_t j = 0; j < weights_of(&n->conv); j++)
        net->weights[n->weight + j] = draw_linear(draws, n->conv.c, &r);
}

static size_t packed_floats(const node *n, bool backward)
{
    return backward ? sim_conv_backward_floats(&n->conv)
                    : sim_conv_forward_floats(&n->conv);
}

static void conv_describe(const node *n, sim_net_layer *out)
{
    out->kernel = n->conv.size;
    out->stride = n->conv.stride;
    out->padding = n->conv.pad;
}

static sim_leaf_layout blocks_of(const sim_batch_shape *shape)
{
    return (sim_leaf_layout){.n_leaves = shape->n_blocks,
                             .range = shape->blocks,
                             .images_per_leaf = shape->views * shape->slots};
}

static void conv_workspace(const node *n, const sim_batch_shape *shape,
                           const sim_batchnorm_options *batchnorm, pass_kind passes,
                           sim_workspace_size *size)
{
    const sim_leaf_layout blocks = blocks_of(shape);
    (void)batchnorm;
    if (passes == PASS_TRAIN)
        sim_conv_workspace(&n->conv, &blocks, size);
    else
        sim_conv_forward_workspace(&n->conv, sim_batch_images(shape), size);
}

/* The input of node i; x: the stored value that it reads. */
static sim_conv_input input_of(const sim_tape *t, int i, const float *x)
{
    int in = t->net->nodes[i].in;
    if (in >= 0 && t->plan.inlined[in])
        return sim_tape_norm_input(t, in, x);
    return (sim_conv_input){.x = x};
}

/* The packed filters of node i. */
static const float *filters_of(const sim_tape *t, int i, bool backward)
{
    const node *n = &t->net->nodes[i];
    const float *weights = t->net->weights + n->weight;
    float *panels = sim_tape_panels(t, i, backward);

    if (t->packs && backward)
        sim_conv_pack_backward(&n->conv, weights, panels);
    else if (t->packs)
        sim_conv_pack_forward(&n->conv, weights, panels);
    return panels;
}

static void conv_forward(sim_tape *t, int i, const float *x, const float *residual,
                         float *y)
{
    const float *panels = filters_of(t, i, false);
    const sim_conv_input in = input_of(t, i, x);

    (void)residual;
    if (sim_tape_wants_moments(t, i))
        sim_tape_conv_moments(t, i, panels, &in, y);
    else
        sim_conv_forward(&t->net->nodes[i].conv, panels, t->n_images, &in, y);
}

static bool conv_reads_norm(const node *n)
{
    return sim_conv_reads_norm(&n->conv);
}

static void conv_plan(planner *p, int i)
{
    const node *n = sim_plan_node(p, i);
    buffer_ref recomputed = AT_NONE, x = sim_plan_recompute(p, n->in, &recomputed);
    backward_step *s = sim_plan_push_step(p, i);

    s->x = x;
    s->dy = sim_plan_gradient(p, i);
    s->dx = sim_plan_acquire_gradient(p, n->in);
    s->sum = sim_plan_accumulate(p, n->in, s->dx);
    sim_plan_release(p, s->dy);
    sim_plan_release(p, recomputed);
}

static void conv_backward(sim_tape *t, const backward_step *s, float *grads,
                          size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    const sim_leaf_layout leaves = blocks_of(&t->shape);
    const float *dy = sim_tape_read_at(t, s->dy), *x = sim_tape_read_at(t, s->x);
    const sim_conv_input in = input_of(t, s->node, x);
    float *dx = sim_tape_write_at(t, s->dx);

    sim_conv_backward_weights(&n->conv, &leaves, &in, dy, grads + n->weight, node_stride);
    if (!sim_tape_needs_dx(t, s))
        return;
    const float *panels = filters_of(t, s->node, true);
    if (in.scale) {
        sim_tape_conv_sums(t, s->node, panels, x, dy, dx);
        return; /* the norm has no other reader */
    }
    sim_conv_backward_data(&n->conv, panels, t->n_images, dy, dx);
    if (s->sum != AT_NONE)
        sim_add(t->n_images * n->conv.h * n->conv.w * n->conv.c, dx,
                sim_tape_write_at(t, s->sum));
}

static sim_status sample_conv(sim_net *net, int in, int *out)
{
    return sim_net_add_conv(net, "sample", in, 16, 3, 2, out);
}

static sim_status sample_linear(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_net_add_mean_pool(net, in, out));
    SIM_TRY(sim_net_add_linear(net, "sample", *out, 24, out));
done:
    return st;
}

const layer sim_layer_conv = {.name = "conv",
                              .reads_input = true,
                              .list_tensors = list_conv,
                              .initialise = initialise_conv,
                              .packed_floats = packed_floats,
                              .describe = conv_describe,
                              .workspace = conv_workspace,
                              .reads_norm = conv_reads_norm,
                              .forward = conv_forward,
                              .plan = conv_plan,
                              .backward = conv_backward,
                              .sample = sample_conv};

const layer sim_layer_linear = {.name = "linear",
                                .reads_input = true,
                                .list_tensors = list_linear,
                                .initialise = initialise_linear,
                                .packed_floats = packed_floats,
                                .describe = conv_describe,
                                .workspace = conv_workspace,
                                .reads_norm = conv_reads_norm,
                                .forward = conv_forward,
                                .plan = conv_plan,
                                .backward = conv_backward,
                                .sample = sample_linear};
