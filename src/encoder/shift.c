/*
 * shift.c - every row of an image one down: what makes a convolution causal.
 *
 * A 3 x 3 filter of padding 1 at row y then sees rows y - 2 to y and none below, so that
 * a context may be asked to predict the rows below (van den Oord et al. 2018,
 * arXiv 1807.03748, section 3.2).
 */
#include "net.h"

#include "simile/thread.h"

#include <string.h>

sim_status net_shift(sim_net *net, const char *name, int in, int *out)
{
    return net_add(net, &layer_shift, name, in, out);
}

typedef struct {
    size_t row, kept; /* floats: of a row, of all rows but one */
    const float *x;
    float *y;
} shift_call;

static shift_call call_of(const node *n, const float *x, float *y)
{
    size_t row = n->w * n->c;
    return (shift_call){.row = row, .kept = (n->h - 1) * row, .x = x, .y = y};
}

static void down(size_t i, void *ctx)
{
    const shift_call *q = ctx;
    const float *x = q->x + i * (q->kept + q->row);
    float *y = q->y + i * (q->kept + q->row);
    memset(y, 0, q->row * sizeof *y);
    memcpy(y + q->row, x, q->kept * sizeof *y);
}

static void up(size_t i, void *ctx)
{
    const shift_call *q = ctx;
    const float *x = q->x + i * (q->kept + q->row);
    float *y = q->y + i * (q->kept + q->row);
    memcpy(y, x + q->row, q->kept * sizeof *y);
    memset(y + q->kept, 0, q->row * sizeof *y);
}

static void again(sim_tape *t, int i, const float *x, float *y)
{
    shift_call q = call_of(&t->net->nodes[i], x, y);
    sim_for(t->n_images, down, &q);
}

static void forward(sim_tape *t, int i, const float *x, const float *residual, float *y)
{
    (void)residual;
    again(t, i, x, y);
}

static void plan(planner *p, int i)
{
    const node *n = plan_node(p, i);
    back_step *s = plan_push(p, i);

    s->dy = plan_gradient(p, i);
    s->dx = plan_take_gradient(p, n->in);
    s->sum = plan_deliver(p, n->in, s->dx);
    plan_give(p, s->dy);
}

static void backward(sim_tape *t, const back_step *s, float *grads, size_t node_stride)
{
    const node *n = &t->net->nodes[s->node];
    (void)grads;
    (void)node_stride;

    if (!tape_asked(t, s))
        return;
    shift_call q = call_of(n, tape_reading(t, s->dy), tape_writing(t, s->dx));
    sim_for(t->n_images, up, &q);
    if (s->sum != AT_NONE)
        sim_add(t->n_images * node_floats(n), q.y, tape_writing(t, s->sum));
}

static sim_status sample(sim_net *net, int in, int *out)
{
    return net_shift(net, "sample", in, out);
}

const layer layer_shift = {.name = "shift",
                           .reads_input = true,
                           .forward = forward,
                           .again = again,
                           .plan = plan,
                           .backward = backward,
                           .sample = sample};
