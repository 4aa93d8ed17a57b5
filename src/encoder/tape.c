/*
 * tape.c - the passes: forward node by node, backward by the steps of the plan.
 */
#include "net.h"

#include "simile/heartbeat.h"
#include "simile/memory.h"

#include <string.h>

size_t sim_batch_images(const sim_batch_shape *b)
{
    return (b->blocks.hi - b->blocks.lo) * b->views * b->slots;
}

static sim_status create_tape(sim_net *net, const sim_batch_shape *shape,
                              const sim_reducer *reducer,
                              const sim_batchnorm_options *batchnorm, bool backward,
                              sim_tape **out)
{
    sim_status st = SIM_OK;
    sim_tape *t = NULL;

    SIM_TRY(sim_new(&t, "encoder/tape"));
    t->net = net;
    t->shape = *shape;
    t->reducer = *reducer;
    t->batchnorm = *batchnorm;
    t->backward = backward;
    t->n_images = sim_batch_images(shape);
    SIM_TRY(sim_plan_make(net, backward, &t->plan));
    SIM_TRY(sim_norm_prepare(t));
    SIM_TRY(sim_alloc(&t->arena, t->n_images * t->plan.arena, "encoder/activations"));
    SIM_TRY(sim_alloc(&t->saved, t->n_images * t->plan.saved_bytes_per_image,
                      "encoder/activations"));
    *out = t;
    t = NULL;
done:
    sim_tape_destroy(&t);
    return st;
}

sim_status sim_tape_create(sim_net *net, const sim_batch_shape *shape,
                           const sim_reducer *reducer, bool backward, sim_tape **out)
{
    return create_tape(net, shape, reducer, &net->batchnorm, backward, out);
}

void sim_tape_destroy(sim_tape **out)
{
    sim_tape *t = *out;
    if (!t)
        return;
    sim_norm_release(t);
    sim_plan_clear(&t->plan);
    sim_free(t->arena);
    sim_free(t->saved);
    sim_free(t);
    *out = NULL;
}

/* A buffer for reading. */
const float *sim_tape_read_at(const sim_tape *t, buffer_ref at)
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

/* A buffer for writing. */
float *sim_tape_write_at(const sim_tape *t, buffer_ref at)
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

uint8_t *sim_tape_saved(const sim_tape *t, int i)
{
    return t->saved + t->n_images * t->plan.saved[i];
}

bool sim_tape_needs_dx(const sim_tape *t, const backward_step *s)
{
    return t->dx || (s->dx != AT_DX && s->sum != AT_DX);
}

const node *sim_tape_input_node(const sim_tape *t, int i)
{
    return &t->net->nodes[t->net->nodes[i].in];
}

static const float *value(const sim_tape *t, int i)
{
    if (i == NET_INPUT)
        return t->x;
    return i == NO_NODE ? NULL : sim_tape_read_at(t, t->plan.value[i]);
}

void sim_net_forward(sim_tape *t, const float *x, float *y)
{
    t->x = x;
    t->y = y;
    if (!t->evaluation)
        sim_heartbeat_phase("forward");
    for (int i = 0; i < t->net->n_nodes; i++) {
        const node *n = &t->net->nodes[i];
        n->layer->forward(t, i, value(t, n->in), value(t, n->residual),
                          sim_tape_write_at(t, t->plan.value[i]));
    }
    if (!t->evaluation)
        sim_heartbeat_phase("loss"); /* another net's pass overrides it */
}

static void run_backward_step(sim_tape *t, const backward_step *s, float *grads,
                              size_t node_stride)
{
    const layer *l = t->net->nodes[s->node].layer;
    if (s->recompute)
        l->recompute(t, s->node, sim_tape_read_at(t, s->x), sim_tape_write_at(t, s->dx));
    else
        l->backward(t, s, grads, node_stride);
}

void sim_net_backward(sim_tape *t, const float *dy, float *dx, float *grads,
                      size_t node_stride)
{
    SIM_ASSERT(t->backward && t->net->packed_backward);
    t->dy = dy;
    t->dx = dx;
    sim_heartbeat_phase("backward");
    for (size_t i = 0; i < t->plan.n_steps; i++)
        run_backward_step(t, &t->plan.steps[i], grads, node_stride);
}

/* ---- evaluation ---- */

/* A tape for chunks of images, with running statistics. */
static sim_status prepare_evaluation(sim_net *net)
{
    sim_status st = SIM_OK;
    const sim_batch_shape shape = {
        .n_blocks = 1, .blocks = {0, 1}, .views = 1, .slots = EVALUATION_IMAGES};
    const sim_batchnorm_options one_leaf = {.group = 0};

    if (net->evaluation)
        goto done;
    SIM_TRY(
        create_tape(net, &shape, &sim_reducer_local, &one_leaf, false, &net->evaluation));
    net->evaluation->evaluation = true;
done:
    return st;
}

sim_status sim_net_evaluate(sim_net *net, size_t n_images, const float *x, float *y)
{
    sim_status st = SIM_OK;
    size_t in = sim_net_input(net), out = sim_net_dim(net);

    SIM_TRY(prepare_evaluation(net));
    sim_tape *t = net->evaluation;
    for (size_t at = 0; at < n_images; at += EVALUATION_IMAGES) {
        size_t n = n_images - at < EVALUATION_IMAGES ? n_images - at : EVALUATION_IMAGES;
        t->n_images = t->shape.slots = n;
        sim_net_forward(t, x + at * in, y + at * out);
    }
done:
    return st;
}

/* ---- the reducer of one process ---- */

/* Reduces `n` leaves into the first in the order of tree.h, without allocating. */
static void reduce_span(double *leaves, size_t n, size_t width, sim_merge_fn *merge)
{
    if (n < 2)
        return;
    size_t half = n / 2;
    double *right = leaves + half * width;
    reduce_span(leaves, half, width, merge);
    reduce_span(right, n - half, width, merge);
    merge(width, leaves, half, right, n - half);
}

static void reduce_local(void *ctx, size_t n_units, size_t leaves_per_unit,
                         size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                         double *leaves, double *out)
{
    size_t n = n_units * leaves_per_unit;
    size_t per_group = leaves_per_group ? leaves_per_group : n;
    (void)ctx;

    for (size_t g = 0; g * per_group < n; g++) {
        double *first = leaves + g * per_group * width;
        reduce_span(first, per_group, width, merge);
        memcpy(out + g * width, first, width * sizeof *out);
    }
}

const sim_reducer sim_reducer_local = {.reduce = reduce_local};
