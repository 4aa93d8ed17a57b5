/*
 * tape.c - the passes: forward node by node, backward as the plan lists it.
 */
#include "net.h"

#include "simile/memory.h"

#include <string.h>

size_t sim_batch_images(const sim_batch_shape *b)
{
    return (b->blocks.hi - b->blocks.lo) * b->views * b->slots;
}

sim_status sim_tape_create(sim_net *net, const sim_batch_shape *shape,
                           const sim_folder *folder, bool backward, sim_tape **out)
{
    sim_status st = SIM_OK;
    sim_tape *t = NULL;

    SIM_TRY(sim_new(&t, "encoder/tape"));
    t->net = net;
    t->shape = *shape;
    t->folder = *folder;
    t->backward = backward;
    t->n_images = sim_batch_images(shape);
    /* Only an image is without a gradient: a head gives one to what is below it. */
    SIM_TRY(plan_make(net, backward, net->in_h * net->in_w == 1, &t->plan));
    SIM_TRY(sim_alloc(&t->arena, t->n_images * t->plan.arena, "encoder/activations"));
    SIM_TRY(
        sim_alloc(&t->pools, t->n_images * t->plan.pool_bytes, "encoder/activations"));
    SIM_TRY(norm_prepare(t));
    *out = t;
    t = NULL;
done:
    sim_tape_destroy(&t);
    return st;
}

void sim_tape_destroy(sim_tape **out)
{
    sim_tape *t = *out;
    if (!t)
        return;
    norm_release(t);
    plan_clear(&t->plan);
    sim_free(t->arena);
    sim_free(t->pools);
    sim_free(t);
    *out = NULL;
}

/* A place that is read. */
static const float *reading(const sim_tape *t, place at)
{
    switch (at) {
    case AT_NONE:
        return NULL;
    case AT_INPUT:
        return t->x;
    case AT_DY:
        return t->dy;
    default:
        SIM_ASSERT(at >= 0);
        return t->arena + (size_t)at * t->n_images;
    }
}

/* A place that is written. */
static float *writing(const sim_tape *t, place at)
{
    switch (at) {
    case AT_NONE:
        return NULL;
    case AT_OUTPUT:
        return t->y;
    case AT_DX:
        return t->dx;
    default:
        SIM_ASSERT(at >= 0);
        return t->arena + (size_t)at * t->n_images;
    }
}

static const float *value(const sim_tape *t, int i)
{
    if (i == NET_INPUT)
        return t->x;
    return i == NO_NODE ? NULL : reading(t, t->plan.value[i]);
}

/* Where max pool i remembers its winners. */
static uint8_t *pool_of(const sim_tape *t, int i)
{
    uint8_t *at = t->pools;
    for (int j = 0; j < i; j++)
        if (t->net->nodes[j].kind == NODE_MAX_POOL)
            at += t->n_images * node_floats(&t->net->nodes[j]);
    return at;
}

static const float *bias_of(const sim_net *net, const node *n)
{
    return n->has_bias ? net->weights + n->bias : NULL;
}

static void forward_node(sim_tape *t, int i)
{
    const sim_net *net = t->net;
    const node *n = &net->nodes[i];
    const float *x = value(t, n->in);
    float *y = writing(t, t->plan.value[i]);
    const node *below = n->in >= 0 ? &net->nodes[n->in] : NULL;

    switch (n->kind) {
    case NODE_CONV:
        sim_conv_forward(n->filters, t->n_images, x, y);
        break;
    case NODE_NORM:
        norm_forward(t, i, x, value(t, n->residual), y);
        break;
    case NODE_ACT:
        sim_activate(t->n_images, n->c, x, bias_of(net, n), n->act, y);
        break;
    case NODE_MAX_POOL:
        sim_max_pool(t->n_images, below->h, below->w, n->c, x, y, pool_of(t, i));
        break;
    case NODE_MEAN_POOL:
        sim_mean_pool(t->n_images, below->h * below->w, n->c, x, y);
        break;
    }
}

void sim_net_forward(sim_tape *t, const float *x, float *y)
{
    t->x = x;
    t->y = y;
    for (int i = 0; i < t->net->n_nodes; i++)
        forward_node(t, i);
}

/* A value that was not kept, into the place where the plan wants it. */
static void compute_again(sim_tape *t, const back_step *s)
{
    const node *n = &t->net->nodes[s->node];
    const float *x = reading(t, s->x);
    float *y = writing(t, s->dx);
    if (n->kind == NODE_NORM)
        norm_again(t, s->node, x, NULL, y);
    else
        sim_activate(t->n_images, n->c, x, bias_of(t->net, n), n->act, y);
}

static void backward_conv(sim_tape *t, const back_step *s, float *grads,
                          size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    const sim_leaf_walk walk = {.n_leaves = t->shape.n_blocks,
                                .range = t->shape.blocks,
                                .images_per_leaf = t->shape.views * t->shape.slots};
    const float *dy = reading(t, s->dy);

    sim_conv_backward_weights(&n->conv, &walk, reading(t, s->x), dy, grads + n->weight,
                              node_stride);
    float *dx = writing(t, s->dx);
    if (dx)
        sim_conv_backward_data(n->filters, t->n_images, dy, dx);
    if (s->sum != AT_NONE)
        sim_add(t->n_images * n->conv.h * n->conv.w * n->conv.c, dx, writing(t, s->sum));
}

static void backward_norm(sim_tape *t, const back_step *s, float *grads,
                          size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    float *g = writing(t, s->g);

    norm_backward(t, s->node, reading(t, s->x), reading(t, s->residual),
                  reading(t, s->dy), g, writing(t, s->dx), grads, node_stride);
    if (s->add_g != AT_NONE)
        sim_add(t->n_images * node_floats(n), g, writing(t, s->add_g));
}

static void backward_act(sim_tape *t, const back_step *s, float *grads,
                         size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    size_t blocks = t->shape.blocks.hi - t->shape.blocks.lo;
    size_t rows = t->shape.views * t->shape.slots;
    float *dx = writing(t, s->dx);

    sim_activate_backward(t->n_images, n->c, reading(t, s->x), bias_of(t->net, n), n->act,
                          reading(t, s->dy), dx);
    if (!n->has_bias)
        return;
    for (size_t b = 0; b < blocks; b++)
        sim_column_sums(rows, n->c, dx + b * rows * n->c, t->sums + b * n->c);
    fold_narrow(t, n->c, t->sums, grads + n->bias, node_stride);
}

static void backward_pool(sim_tape *t, const back_step *s)
{
    const node *n = &t->net->nodes[s->node];
    const node *below = &t->net->nodes[n->in];
    const float *dy = reading(t, s->dy);
    float *dx = writing(t, s->dx);

    if (n->kind == NODE_MAX_POOL)
        sim_max_pool_backward(t->n_images, below->h, below->w, n->c, dy,
                              pool_of(t, s->node), dx);
    else
        sim_mean_pool_backward(t->n_images, below->h * below->w, n->c, dy, dx);
}

static void backward_step(sim_tape *t, const back_step *s, float *grads,
                          size_t node_stride)
{
    if (s->again) {
        compute_again(t, s);
        return;
    }
    switch (t->net->nodes[s->node].kind) {
    case NODE_CONV:
        backward_conv(t, s, grads, node_stride);
        break;
    case NODE_NORM:
        backward_norm(t, s, grads, node_stride);
        break;
    case NODE_ACT:
        backward_act(t, s, grads, node_stride);
        break;
    case NODE_MAX_POOL:
    case NODE_MEAN_POOL:
        backward_pool(t, s);
        break;
    }
}

void sim_net_backward(sim_tape *t, const float *dy, float *dx, float *grads,
                      size_t node_stride)
{
    SIM_ASSERT(t->backward && t->net->packed_backward);
    t->dy = dy;
    t->dx = dx;
    for (size_t i = 0; i < t->plan.n_steps; i++)
        backward_step(t, &t->plan.steps[i], grads, node_stride);
}

/* ---- evaluation ---- */

enum { EVALUATION_IMAGES = 64 };

sim_status sim_net_evaluate(sim_net *net, size_t n_images, const float *x, float *y)
{
    sim_status st = SIM_OK;
    const sim_batch_shape shape = {
        .n_blocks = 1, .blocks = {0, 1}, .views = 1, .slots = EVALUATION_IMAGES};
    size_t in = sim_net_input(net), out = sim_net_dim(net);
    sim_batchnorm_options training = net->batchnorm;

    if (!net->evaluation) {
        net->batchnorm = (sim_batchnorm_options){0}; /* one leaf: the chunk */
        st = sim_tape_create(net, &shape, &sim_folder_local, false, &net->evaluation);
        net->batchnorm = training;
        SIM_TRY(st);
        net->evaluation->evaluation = true;
    }
    sim_tape *t = net->evaluation;
    net->batchnorm = (sim_batchnorm_options){0};
    for (size_t at = 0; at < n_images; at += EVALUATION_IMAGES) {
        size_t n = n_images - at < EVALUATION_IMAGES ? n_images - at : EVALUATION_IMAGES;
        t->n_images = t->shape.slots = n;
        sim_net_forward(t, x + at * in, y + at * out);
    }
    net->batchnorm = training;
done:
    return st;
}

/* ---- the folder of one process ---- */

static void fold_local(void *ctx, size_t n_units, size_t leaves_per_unit,
                       size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                       double *leaves, double *out)
{
    size_t n = n_units * leaves_per_unit,
           per_group = leaves_per_group ? leaves_per_group : n;
    sim_range *ranges = NULL;
    (void)ctx;

    if (sim_alloc(&ranges, per_group, "encoder/fold") != SIM_OK)
        sim_assert_failed("there is memory for a fold", __FILE__, __LINE__);
    for (size_t i = 0; i < per_group; i++)
        ranges[i] = (sim_range){i, i + 1};
    for (size_t g = 0; g * per_group < n; g++)
        sim_tree_fold_doubles(per_group, width, ranges, per_group,
                              leaves + g * per_group * width, merge, out + g * width);
    sim_free(ranges);
}

const sim_folder sim_folder_local = {.fold = fold_local};
