/*
 * planner.c - liveness: assigns a buffer to every value and gradient of a pass.
 *
 * It simulates the passes without data.  Values and gradients are placed in one arena by
 * first fit and released after their last use.  Saved for backward: outputs of
 * convolutions, of every second residual block and of max pools.  A norm inside a block is
 * inlined: the convolution after it reads through it; where that is not possible, its output is
 * recomputed.  The outputs of the other blocks are recomputed from the block before.
 */
#include "planner.h"

#include "simile/memory.h"

enum { UNIT = 16 }; /* floats; aligns every buffer to 64 bytes */

typedef struct {
    buffer_ref at;
    size_t n;
} slot;

struct planner {
    const sim_net *net;
    net_plan *plan;
    slot *live; /* by offset, ascending */
    size_t n_live;
    buffer_ref *grad, input_grad;
    int *last_use;    /* forward: last node that reads a value */
    bool *saved;      /* the value is saved for backward */
    buffer_ref *held; /* backward: where the value is; AT_NONE: it has to be recomputed */
    bool backward;
};

buffer_ref sim_plan_acquire(planner *p, size_t n)
{
    buffer_ref at = 0;
    size_t i = 0;

    n = (n + UNIT - 1) / UNIT * UNIT;
    for (; i < p->n_live; i++) {
        if (p->live[i].at - at >= (buffer_ref)n)
            break;
        at = p->live[i].at + (buffer_ref)p->live[i].n;
    }
    for (size_t j = p->n_live; j > i; j--)
        p->live[j] = p->live[j - 1];
    p->live[i] = (slot){at, n};
    p->n_live++;
    if ((size_t)at + n > p->plan->arena)
        p->plan->arena = (size_t)at + n;
    return at;
}

void sim_plan_release(planner *p, buffer_ref at)
{
    size_t i = 0;
    if (at < 0)
        return;
    while (i < p->n_live && p->live[i].at != at)
        i++;
    SIM_ASSERT(i < p->n_live);
    for (p->n_live--; i < p->n_live; i++)
        p->live[i] = p->live[i + 1];
}

const node *sim_plan_node(const planner *p, int i)
{
    return &p->net->nodes[i];
}

bool sim_plan_is_inlined(const planner *p, int i)
{
    return i >= 0 && p->plan->inlined[i];
}

/* The node whose stored value a reader of node i reads. */
static int source_of(const planner *p, int i)
{
    return sim_plan_is_inlined(p, i) ? p->net->nodes[i].in : i;
}

buffer_ref sim_plan_value(const planner *p, int i)
{
    return i == NET_INPUT ? AT_INPUT : i == NO_NODE ? AT_NONE : p->plan->value[i];
}

/* ---- norms that are computed where they are read ---- */

static int count_readers(const sim_net *net, int i)
{
    int readers = 0;
    for (int j = 0; j < net->n_nodes; j++)
        readers += (net->nodes[j].in == i) + (net->nodes[j].residual == i);
    return readers;
}

static bool is_inlinable(const sim_net *net, int i)
{
    const node *n = &net->nodes[i], *reader = n + 1;

    return i + 1 < net->n_nodes && n->layer == &sim_layer_batchnorm &&
           n->residual == NO_NODE && n->in >= 0 && n->act != SIM_ACT_SILU &&
           reader->in == i && reader->layer->reads_norm &&
           reader->layer->reads_norm(reader) && count_readers(net, i) == 1;
}

static void find_inlined(planner *p)
{
    for (int i = 0; i < p->net->n_nodes; i++)
        p->plan->inlined[i] = is_inlinable(p->net, i);
}

/* ---- values that are saved for backward ---- */

/* Floats per image up to which the output of a block is saved rather than recomputed: little memory
 * for the time. */
enum { SMALL_VALUE = 1 << 14 };

/* The values that recomputing it needs are saved, or one step from those that are. */
static bool is_recomputable_block(const planner *p, int i)
{
    const node *n = &p->net->nodes[i];
    if (n->residual < 0 || !n->layer->recompute || !p->saved[n->in])
        return false;
    const node *residual = &p->net->nodes[n->residual];
    return p->saved[n->residual] ||
           (residual->residual < 0 && residual->in >= 0 && p->saved[residual->in]);
}

static void find_saved(planner *p)
{
    for (int i = 0; i < p->net->n_nodes; i++) {
        const node *n = &p->net->nodes[i];
        bool large = node_floats(n) > SMALL_VALUE;
        p->saved[i] = p->backward && n->stored && !(large && is_recomputable_block(p, i));
    }
}

/* ---- forward ---- */

static void count_uses(planner *p)
{
    for (int i = 0; i < p->net->n_nodes; i++) {
        const node *n = &p->net->nodes[i];
        if (n->in >= 0)
            p->last_use[source_of(p, n->in)] = i;
        if (n->residual >= 0)
            p->last_use[n->residual] = i;
    }
}

static buffer_ref plan_value(planner *p, int i)
{
    if (i == p->net->n_nodes - 1)
        return AT_OUTPUT;
    return p->plan->inlined[i] ? AT_NONE
                               : sim_plan_acquire(p, node_floats(&p->net->nodes[i]));
}

static void release_after(planner *p, int user, int reads)
{
    const int value = source_of(p, reads);
    if (value >= 0 && p->last_use[value] == user && !p->saved[value])
        sim_plan_release(p, p->plan->value[value]);
}

static void plan_forward(planner *p)
{
    const sim_net *net = p->net;
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        p->plan->value[i] = plan_value(p, i);
        release_after(p, i, n->in);
        if (n->residual != n->in)
            release_after(p, i, n->residual);
        p->plan->saved[i] = p->plan->saved_bytes_per_image;
        p->plan->saved_bytes_per_image += n->saved_bytes_per_image;
    }
}

/* ---- backward ---- */

backward_step *sim_plan_push_step(planner *p, int i)
{
    backward_step *s = &p->plan->steps[p->plan->n_steps++];
    *s = (backward_step){.node = i,
                         .x = AT_NONE,
                         .residual = AT_NONE,
                         .dy = AT_NONE,
                         .g = AT_NONE,
                         .dx = AT_NONE,
                         .sum = AT_NONE,
                         .add_g = AT_NONE};
    return s;
}

/* A value with several readers is held until the step of its node. */
buffer_ref sim_plan_recompute(planner *p, int i, buffer_ref *recomputed)
{
    *recomputed = AT_NONE;
    i = source_of(p, i);
    if (i < 0)
        return sim_plan_value(p, i);
    if (p->held[i] != AT_NONE)
        return p->held[i];
    const node *n = &p->net->nodes[i];
    buffer_ref of_residual = AT_NONE;
    buffer_ref residual = sim_plan_recompute(p, n->residual, &of_residual);
    buffer_ref at = sim_plan_acquire(p, node_floats(n));
    backward_step *s = sim_plan_push_step(p, i);

    SIM_ASSERT(n->layer->recompute);
    SIM_ASSERT(n->in == NET_INPUT || p->held[n->in] != AT_NONE);
    s->recompute = true;
    s->x = n->in == NET_INPUT ? AT_INPUT : p->held[n->in];
    s->residual = residual;
    s->dx = at;
    sim_plan_release(p, of_residual);
    *(count_readers(p->net, i) > 1 ? &p->held[i] : recomputed) = at;
    return at;
}

buffer_ref sim_plan_gradient(const planner *p, int i)
{
    SIM_ASSERT(p->grad[i] != AT_NONE); /* every value has a reader */
    return p->grad[i];
}

static buffer_ref *gradient_at(planner *p, int i)
{
    return i == NET_INPUT ? &p->input_grad : &p->grad[i];
}

/* The first gradient of the net's input is written to the caller's dx. */
buffer_ref sim_plan_acquire_gradient(planner *p, int i)
{
    const sim_net *net = p->net;
    if (i != NET_INPUT)
        return sim_plan_acquire(p, node_floats(&net->nodes[i]));
    return p->input_grad == AT_NONE
               ? AT_DX
               : sim_plan_acquire(p, net->in_h * net->in_w * net->in_c);
}

buffer_ref sim_plan_accumulate(planner *p, int i, buffer_ref at)
{
    buffer_ref *grad = gradient_at(p, i), existing = *grad;
    if (existing == AT_NONE)
        *grad = at;
    else
        sim_plan_release(p, at);
    return existing;
}

static void plan_backward(planner *p)
{
    for (int i = 0; i < p->net->n_nodes; i++)
        p->held[i] = p->saved[i] ? p->plan->value[i] : AT_NONE;
    p->grad[p->net->n_nodes - 1] = AT_DY;
    for (int i = p->net->n_nodes - 1; i >= 0; i--) {
        p->net->nodes[i].layer->plan(p, i);
        sim_plan_release(p, p->held[i]); /* no later step reads it */
    }
}

/* A node's own step and at most two recomputed values, each of which may read another. */
static size_t max_backward_steps(const sim_net *net)
{
    return 5 * (size_t)net->n_nodes;
}

enum { PLAN_BUFFERS = 4, PLANNER_BUFFERS = 5 };

static void list_plan_buffers(net_plan *p, const sim_net *net,
                              sim_buffer list[PLAN_BUFFERS])
{
    list[0] = SIM_BUFFER(p->value, (size_t)net->n_nodes);
    list[1] = SIM_BUFFER(p->saved, (size_t)net->n_nodes);
    list[2] = SIM_BUFFER(p->steps, max_backward_steps(net));
    list[3] = SIM_BUFFER(p->inlined, (size_t)net->n_nodes);
}

static void list_planner_buffers(planner *p, sim_buffer list[PLANNER_BUFFERS])
{
    size_t n = (size_t)p->net->n_nodes;
    list[0] = SIM_BUFFER(p->live, 4 * n);
    list[1] = SIM_BUFFER(p->grad, n);
    list[2] = SIM_BUFFER(p->last_use, n);
    list[3] = SIM_BUFFER(p->saved, n);
    list[4] = SIM_BUFFER(p->held, n);
}

sim_status sim_plan_make(const sim_net *net, bool backward, net_plan *out)
{
    sim_status st = SIM_OK;
    net_plan plan = {0};
    planner p = {.net = net, .plan = &plan, .input_grad = AT_NONE, .backward = backward};
    sim_buffer result[PLAN_BUFFERS], transient[PLANNER_BUFFERS];

    list_plan_buffers(&plan, net, result);
    list_planner_buffers(&p, transient);
    SIM_TRY(sim_buffers_create(result, PLAN_BUFFERS, "encoder/plan"));
    SIM_TRY(sim_buffers_create(transient, PLANNER_BUFFERS, "encoder/plan"));
    for (int i = 0; i < net->n_nodes; i++)
        p.grad[i] = AT_NONE;
    find_inlined(&p);
    find_saved(&p);
    count_uses(&p);
    plan_forward(&p);
    if (backward)
        plan_backward(&p);
    *out = plan;
    plan = (net_plan){0};
done:
    sim_buffers_destroy(result, PLAN_BUFFERS);
    sim_buffers_destroy(transient, PLANNER_BUFFERS);
    return st;
}

size_t sim_plan_bytes(const sim_net *net)
{
    net_plan none = {0};
    sim_buffer list[PLAN_BUFFERS];

    list_plan_buffers(&none, net, list);
    return sim_buffers_bytes(list, PLAN_BUFFERS);
}

void sim_plan_clear(const sim_net *net, net_plan *p)
{
    sim_buffer list[PLAN_BUFFERS];

    list_plan_buffers(p, net, list);
    sim_buffers_destroy(list, PLAN_BUFFERS);
}
