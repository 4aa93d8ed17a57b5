/*
 * pass.c - the passes of a rank: all blocks together, or in micro-batches.
 *
 * Micro-batches keep the activations of one of them at a time.  The forward pass runs from the
 * last to the first, whose activations remain for backward; the others pass forward a second
 * time before their backward pass.  Their weight gradients are merged by the tree over all
 * blocks, and running statistics are updated once, after the forward pass of all.
 */
#include "tape.h"

#include "simile/heartbeat.h"

#include <string.h>

/* The first image of the selected micro-batch within the rank's. */
static size_t first_image(const sim_tape *t)
{
    return (t->shape.blocks.lo - t->rank.blocks.lo) * t->rank.views * t->rank.slots;
}

/* x and y are those of the rank. */
static void pass_forward(sim_tape *t, size_t k, const float *x, float *y)
{
    sim_tape_select(t, k);
    size_t first = first_image(t);
    sim_tape_forward(t, x + first * sim_net_input(t->net),
                     y + first * sim_net_dim(t->net));
}

static void finish_forward(sim_tape *t)
{
    for (int i = 0; i < t->net->n_nodes; i++)
        if (t->net->nodes[i].layer->finish_forward)
            t->net->nodes[i].layer->finish_forward(t, i);
}

void sim_net_forward(sim_tape *t, const float *x, float *y)
{
    t->rank_x = x;
    t->rank_y = y;
    if (!t->evaluation) {
        sim_heartbeat_phase("forward");
        t->packs = true;
    }
    for (size_t k = sim_micro_batches(&t->rank); k-- > 0;) {
        pass_forward(t, k, x, y);
        t->packs = !t->keeps_panels;
    }
    if (t->rank.micro_blocks)
        finish_forward(t);
    if (!t->evaluation)
        sim_heartbeat_phase("loss"); /* another net's pass overrides it */
}

/* dy and dx are those of the rank; grads [nodes of the micro-batch][weights]. */
static void pass_backward(sim_tape *t, size_t k, const float *dy, float *dx, float *grads)
{
    if (t->micro_batch != k)
        pass_forward(t, k, t->rank_x, t->rank_y);
    size_t first = first_image(t);
    sim_tape_backward(t, dy + first * sim_net_dim(t->net),
                      dx ? dx + first * sim_net_input(t->net) : NULL, grads,
                      t->net->n_weights);
}

static void backward_in_micro_batches(sim_tape *t, const float *dy, float *dx,
                                      float *grads, size_t node_stride)
{
    size_t n = t->net->n_weights;
    sim_tree_stack sum;

    sim_tree_stack_begin(&sum, n, t->rank.n_blocks, t->rank.blocks, t->gradients);
    for (size_t k = 0; k < sim_micro_batches(&t->rank); k++) {
        pass_backward(t, k, dy, dx, sim_tree_stack_top(&sum));
        sim_tree_stack_push_nodes(&sum, t->shape.blocks.hi);
        t->packs = false;
    }
    for (size_t j = 0; j < sum.height; j++)
        memcpy(grads + j * node_stride, t->gradients + j * n, n * sizeof *grads);
}

void sim_net_backward(sim_tape *t, const float *dy, float *dx, float *grads,
                      size_t node_stride)
{
    sim_heartbeat_phase("backward");
    t->packs = true;
    if (t->rank.micro_blocks)
        backward_in_micro_batches(t, dy, dx, grads, node_stride);
    else
        sim_tape_backward(t, dy, dx, grads, node_stride);
}
