/*
 * act.c - bias and activation, for layers without a batch norm after them.
 */
#include "build.h"
#include "tape.h"

#include <math.h>

sim_status sim_net_add_act(sim_net *net, const char *name, int in, bool bias,
                           sim_activation act, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_add_node(net, &sim_layer_act, name, in, out));
    net->nodes[*out].has_bias = bias;
    net->nodes[*out].act = act;
done:
    return st;
}

static void act_list_tensors(sim_net *net, node *n)
{
    if (n->has_bias)
        n->bias = sim_net_add_tensor(net, n, "bias", 1, &n->c, true);
}

/* Uniform in +-gain/sqrt(fan in) of the layer whose bias it is, as torch.nn.Linear. */
static void act_initialise(sim_net *net, int i, const initial_draws *draws)
{
    const node *n = &net->nodes[i];
    sim_random r = draws->draws;

    if (!draws->draw_biases || !n->has_bias || n->in < 0)
        return;
    r.sample = (uint32_t)i;
    float bound = (float)(draws->gain / sqrt((double)net->nodes[n->in].conv.c));
    for (size_t j = 0; j < n->c; j++)
        net->weights[n->bias + j] = sim_random_between(&r, -bound, bound);
}

static const float *bias_of(const sim_net *net, const node *n)
{
    return n->has_bias ? net->weights + n->bias : NULL;
}

static void act_forward(sim_tape *t, int i, const float *x, const float *residual,
                        float *y)
{
    const node *n = &t->net->nodes[i];
    (void)residual;
    sim_activate(t->n_images * n->h * n->w, n->c, x, bias_of(t->net, n), n->act, y);
}

static void act_plan(planner *p, int i)
{
    const node *n = sim_plan_node(p, i);
    buffer_ref recomputed = AT_NONE, x = sim_plan_recompute(p, n->in, &recomputed);
    backward_step *s = sim_plan_push_step(p, i);

    s->x = x;
    s->dy = sim_plan_gradient(p, i);
    s->dx = s->dy == AT_DY ? sim_plan_acquire(p, node_floats(n)) : s->dy;
    s->sum = sim_plan_accumulate(p, n->in, s->dx);
    sim_plan_release(p, recomputed);
}

static void act_backward(sim_tape *t, const backward_step *s, float *grads,
                         size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    size_t pixels = n->h * n->w, rows = t->shape.views * t->shape.slots * pixels;
    float *dx = sim_tape_write_at(t, s->dx);

    sim_activate_backward(t->n_images * pixels, n->c, sim_tape_read_at(t, s->x),
                          bias_of(t->net, n), n->act, sim_tape_read_at(t, s->dy), dx);
    if (n->has_bias) {
        double *of_block = t->sums.sums;
        for (size_t b = 0; b < t->sums.shape.blocks; b++)
            sim_column_sums(rows, n->c, dx + b * rows * n->c, of_block + b * n->c);
        sim_batch_sums_reduce(&t->sums, &t->shape, n->c, of_block, grads + n->bias,
                              node_stride);
    }
    if (s->sum != AT_NONE)
        sim_add(t->n_images * node_floats(n), dx, sim_tape_write_at(t, s->sum));
}

static sim_status act_sample(sim_net *net, int in, int *out)
{
    return sim_net_add_act(net, "sample", in, true, SIM_ACT_SILU, out);
}

const layer sim_layer_act = {.name = "act",
                             .list_tensors = act_list_tensors,
                             .initialise = act_initialise,
                             .forward = act_forward,
                             .recompute = act_forward,
                             .plan = act_plan,
                             .backward = act_backward,
                             .sample = act_sample};
