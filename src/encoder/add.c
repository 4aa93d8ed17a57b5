/*
 * add.c - the sum of two values: a residual connection without a batch norm.
 *
 * Both inputs receive the gradient unchanged, so backward needs no value.
 */
#include "build.h"
#include "tape.h"

sim_status sim_net_add_sum(sim_net *net, const char *name, int in, int residual, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_add_node(net, &sim_layer_add, name, in, out));
    node *n = &net->nodes[*out];
    n->residual = residual;
    n->stored = true; /* a block's output */
done:
    return st;
}

static void add_forward(sim_tape *t, int i, const float *x, const float *residual,
                        float *y)
{
    size_t floats = t->n_images * node_floats(&t->net->nodes[i]);
    sim_copy(floats, x, y);
    sim_add(floats, residual, y);
}

/* dx and sum belong to the input, g and add_g to the residual. */
static void add_plan(planner *p, int i)
{
    const node *n = sim_plan_node(p, i);
    backward_step *s = sim_plan_push_step(p, i);

    s->dy = sim_plan_gradient(p, i);
    s->dx = sim_plan_acquire_gradient(p, n->in);
    s->sum = sim_plan_accumulate(p, n->in, s->dx);
    s->g = sim_plan_acquire_gradient(p, n->residual);
    s->add_g = sim_plan_accumulate(p, n->residual, s->g);
    sim_plan_release(p, s->dy);
}

/* Copies the gradient to a new buffer or adds it to an existing one. */
static void add_propagate(const sim_tape *t, size_t floats, const float *dy,
                          buffer_ref fresh, buffer_ref there)
{
    float *to = sim_tape_write_at(t, there == AT_NONE ? fresh : there);
    if (!to)
        return; /* the net's input, whose gradient was not requested */
    if (there == AT_NONE)
        sim_copy(floats, dy, to);
    else
        sim_add(floats, dy, to);
}

static void add_backward(sim_tape *t, const backward_step *s, float *grads,
                         size_t node_stride)
{
    size_t floats = t->n_images * node_floats(&t->net->nodes[s->node]);
    const float *dy = sim_tape_read_at(t, s->dy);
    (void)grads;
    (void)node_stride;
    add_propagate(t, floats, dy, s->dx, s->sum);
    add_propagate(t, floats, dy, s->g, s->add_g);
}

static sim_status add_sample(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_add_act(net, "sample", in, true, SIM_ACT_SILU, out));
    SIM_TRY(sim_net_add_sum(net, "sample", *out, in, out));
done:
    return st;
}

const layer sim_layer_add = {.name = "add",
                             .reads_input = true,
                             .forward = add_forward,
                             .plan = add_plan,
                             .backward = add_backward,
                             .sample = add_sample};
