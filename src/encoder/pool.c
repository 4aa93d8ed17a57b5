/*
 * pool.c - max pool (3 x 3, stride 2, the ImageNet stem's) and mean over all pixels.
 *
 * The max pool saves one byte per output: the index of the largest input in the window.
 */
#include "build.h"
#include "tape.h"

sim_status sim_net_add_max_pool(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_add_node(net, &sim_layer_max_pool, "maxpool", in, out));
    node *n = &net->nodes[*out];
    n->h = (n->h - 1) / 2 + 1;
    n->w = (n->w - 1) / 2 + 1;
    n->stored = true;
    n->saved_bytes_per_image = node_floats(n);
done:
    return st;
}

sim_status sim_net_add_mean_pool(sim_net *net, int in, int *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_net_add_node(net, &sim_layer_mean_pool, "avgpool", in, out));
    net->nodes[*out].h = net->nodes[*out].w = 1;
done:
    return st;
}

static void forward_max(sim_tape *t, int i, const float *x, const float *residual,
                        float *y)
{
    const node *below = sim_tape_input_node(t, i);
    (void)residual;
    sim_max_pool(t->n_images, below->h, below->w, below->c, x, y, sim_tape_saved(t, i));
}

static void forward_mean(sim_tape *t, int i, const float *x, const float *residual,
                         float *y)
{
    const node *below = sim_tape_input_node(t, i);
    (void)residual;
    sim_mean_pool(t->n_images, below->h * below->w, below->c, x, y);
}

static void describe_max(const node *n, sim_net_layer *out)
{
    (void)n;
    out->kernel = 3;
    out->stride = 2;
    out->padding = 1;
}

/* The gradients depend on no value. */
static void plan_pool(planner *p, int i)
{
    const node *n = sim_plan_node(p, i);
    backward_step *s = sim_plan_push_step(p, i);

    s->dy = sim_plan_gradient(p, i);
    s->dx = sim_plan_acquire(p, node_floats(sim_plan_node(p, n->in)));
    s->sum = sim_plan_accumulate(p, n->in, s->dx);
    sim_plan_release(p, s->dy);
}

static void accumulate_dx(sim_tape *t, const backward_step *s, const float *dx)
{
    if (s->sum != AT_NONE)
        sim_add(t->n_images * node_floats(sim_tape_input_node(t, s->node)), dx,
                sim_tape_write_at(t, s->sum));
}

static void backward_max(sim_tape *t, const backward_step *s, float *grads,
                         size_t node_stride)
{
    const node *below = sim_tape_input_node(t, s->node);
    float *dx = sim_tape_write_at(t, s->dx);
    (void)grads;
    (void)node_stride;
    sim_max_pool_backward(t->n_images, below->h, below->w, below->c,
                          sim_tape_read_at(t, s->dy), sim_tape_saved(t, s->node), dx);
    accumulate_dx(t, s, dx);
}

static void backward_mean(sim_tape *t, const backward_step *s, float *grads,
                          size_t node_stride)
{
    const node *below = sim_tape_input_node(t, s->node);
    float *dx = sim_tape_write_at(t, s->dx);
    (void)grads;
    (void)node_stride;
    sim_mean_pool_backward(t->n_images, below->h * below->w, below->c,
                           sim_tape_read_at(t, s->dy), dx);
    accumulate_dx(t, s, dx);
}

const layer sim_layer_max_pool = {.name = "max_pool",
                                  .describe = describe_max,
                                  .forward = forward_max,
                                  .plan = plan_pool,
                                  .backward = backward_max,
                                  .sample = sim_net_add_max_pool};

const layer sim_layer_mean_pool = {.name = "mean_pool",
                                   .forward = forward_mean,
                                   .recompute = forward_mean,
                                   .plan = plan_pool,
                                   .backward = backward_mean,
                                   .sample = sim_net_add_mean_pool};
