/*
 * shift.c - shifts image rows down by one, which makes a convolution causal.
 *
 * A 3 x 3 filter with padding 1 at row y then covers rows y - 2 to y and none below, so that
 * a context can predict the rows below (van den Oord et al. 2018,
 * arXiv 1807.03748, section 3.2).
 */
#include "build.h"
#include "tape.h"

#include "simile/thread.h"

#include <string.h>

sim_status sim_net_add_shift(sim_net *net, const char *name, int in, int *out)
{
    return sim_net_add_node(net, &sim_layer_shift, name, in, out);
}

typedef struct {
    size_t row, kept; /* floats in one row; in all rows but one */
    const float *x;
    float *y;
} shift_call;

static shift_call call_of(const node *n, const float *x, float *y)
{
    size_t row = n->w * n->c;
    return (shift_call){.row = row, .kept = (n->h - 1) * row, .x = x, .y = y};
}

static void shift_down(size_t i, void *ctx)
{
    const shift_call *q = ctx;
    const float *x = q->x + i * (q->kept + q->row);
    float *y = q->y + i * (q->kept + q->row);
    memset(y, 0, q->row * sizeof *y);
    memcpy(y + q->row, x, q->kept * sizeof *y);
}

static void shift_up(size_t i, void *ctx)
{
    const shift_call *q = ctx;
    const float *x = q->x + i * (q->kept + q->row);
    float *y = q->y + i * (q->kept + q->row);
    memcpy(y, x + q->row, q->kept * sizeof *y);
    memset(y + q->kept, 0, q->row * sizeof *y);
}

static void shift_forward(sim_tape *t, int i, const float *x, const float *residual,
                          float *y)
{
    shift_call q = call_of(&t->net->nodes[i], x, y);
    (void)residual;
    sim_for(t->n_images, shift_down, &q);
}

static void shift_plan(planner *p, int i)
{
    const node *n = sim_plan_node(p, i);
    backward_step *s = sim_plan_push_step(p, i);

    s->dy = sim_plan_gradient(p, i);
    s->dx = sim_plan_acquire_gradient(p, n->in);
    s->sum = sim_plan_accumulate(p, n->in, s->dx);
    sim_plan_release(p, s->dy);
}

static void shift_backward(sim_tape *t, const backward_step *s, float *grads,
                           size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    (void)grads;
    (void)node_stride;

    if (!sim_tape_needs_dx(t, s))
        return;
    shift_call q = call_of(n, sim_tape_read_at(t, s->dy), sim_tape_write_at(t, s->dx));
    sim_for(t->n_images, shift_up, &q);
    if (s->sum != AT_NONE)
        sim_add(t->n_images * node_floats(n), q.y, sim_tape_write_at(t, s->sum));
}

static sim_status shift_sample(sim_net *net, int in, int *out)
{
    return sim_net_add_shift(net, "sample", in, out);
}

const layer sim_layer_shift = {.name = "shift",
                               .reads_input = true,
                               .forward = shift_forward,
                               .recompute = shift_forward,
                               .plan = shift_plan,
                               .backward = shift_backward,
                               .sample = shift_sample};
