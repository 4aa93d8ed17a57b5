/*
 * plan.c - where every value and gradient of a pass stands, before anything is computed.
 *
 * The passes are walked once without numbers; values and gradients get places in one arena
 * by first fit, and give them back when nobody needs them any more.  Kept for backward:
 * outputs of convolutions, of blocks and of max pools; the outputs of norms inside a block
 * are computed again.
 */
#include "net.h"

#include "simile/memory.h"

enum { UNIT = 16 }; /* floats: keeps every place aligned to 64 bytes */

typedef struct {
    place at;
    size_t n;
} slot;

typedef struct {
    const sim_net *net;
    net_plan *plan;
    slot *live; /* by place, ascending */
    size_t n_live;
    place *grad;
    int *last_use; /* forward: last node that reads a value */
    bool backward, input_gradient;
} planner;

static place take(planner *p, size_t n)
{
    place at = 0;
    size_t i = 0;

    n = (n + UNIT - 1) / UNIT * UNIT;
    for (; i < p->n_live; i++) {
        if (p->live[i].at - at >= (place)n)
            break;
        at = p->live[i].at + (place)p->live[i].n;
    }
    for (size_t j = p->n_live; j > i; j--)
        p->live[j] = p->live[j - 1];
    p->live[i] = (slot){at, n};
    p->n_live++;
    if ((size_t)at + n > p->plan->arena)
        p->plan->arena = (size_t)at + n;
    return at;
}

static void give(planner *p, place at)
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

static bool is_stored(const planner *p, int i)
{
    const node *n = &p->net->nodes[i];
    return p->backward && (n->kind == NODE_CONV || n->kind == NODE_MAX_POOL ||
                           (n->kind == NODE_NORM && n->residual != NO_NODE));
}

static place value_of(const planner *p, int i)
{
    return i == NET_INPUT ? AT_INPUT : i == NO_NODE ? AT_NONE : p->plan->value[i];
}

/* ---- forward ---- */

static void count_uses(planner *p)
{
    for (int i = 0; i < p->net->n_nodes; i++) {
        const node *n = &p->net->nodes[i];
        if (n->in >= 0)
            p->last_use[n->in] = i;
        if (n->residual >= 0)
            p->last_use[n->residual] = i;
    }
}

static void release_after(planner *p, int user, int value)
{
    if (value >= 0 && p->last_use[value] == user && !is_stored(p, value))
        give(p, p->plan->value[value]);
}

static void plan_forward(planner *p)
{
    const sim_net *net = p->net;
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        p->plan->value[i] = i == net->n_nodes - 1 ? AT_OUTPUT : take(p, node_floats(n));
        release_after(p, i, n->in);
        if (n->residual != n->in)
            release_after(p, i, n->residual);
        if (n->kind == NODE_MAX_POOL)
            p->plan->pool_bytes += node_floats(n);
    }
}

/* ---- backward ---- */

static back_step *push(planner *p, int i)
{
    back_step *s = &p->plan->steps[p->plan->n_steps++];
    *s = (back_step){.node = i,
                     .x = AT_NONE,
                     .residual = AT_NONE,
                     .dy = AT_NONE,
                     .g = AT_NONE,
                     .dx = AT_NONE,
                     .sum = AT_NONE,
                     .add_g = AT_NONE};
    return s;
}

/* A value for a step: kept, or computed again into a place that the caller gives back. */
static place bring(planner *p, int i, place *again)
{
    *again = AT_NONE;
    if (i < 0 || is_stored(p, i))
        return value_of(p, i);
    const node *n = &p->net->nodes[i];
    SIM_ASSERT(n->residual == NO_NODE && n->in >= 0 && is_stored(p, n->in));
    *again = take(p, node_floats(n));
    back_step *s = push(p, i);
    s->again = true;
    s->x = value_of(p, n->in);
    s->dx = *again;
    return *again;
}

static void plan_norm(planner *p, int i)
{
    const node *n = &p->net->nodes[i];
    place again, residual = bring(p, n->residual, &again);
    back_step *s = push(p, i);

    s->x = value_of(p, n->in);
    s->residual = residual;
    s->dy = p->grad[i];
    s->g = s->dy == AT_DY ? take(p, node_floats(n)) : s->dy;
    if (n->residual == NO_NODE) {
        s->dx = s->g;
    } else {
        s->dx = take(p, node_floats(n));
        if (p->grad[n->residual] == AT_NONE) {
            p->grad[n->residual] = s->g;
        } else {
            s->add_g = p->grad[n->residual];
            give(p, s->g);
        }
    }
    p->grad[n->in] = s->dx;
    give(p, again);
}

static void plan_conv(planner *p, int i)
{
    const node *n = &p->net->nodes[i];
    place again, x = bring(p, n->in, &again);
    back_step *s = push(p, i);

    s->x = x;
    s->dy = p->grad[i];
    if (n->in == NET_INPUT) {
        s->dx = p->input_gradient ? AT_DX : AT_NONE;
    } else {
        s->dx = take(p, node_floats(&p->net->nodes[n->in]));
        if (p->grad[n->in] == AT_NONE) {
            p->grad[n->in] = s->dx;
        } else {
            s->sum = p->grad[n->in];
            give(p, s->dx);
        }
    }
    give(p, s->dy);
    give(p, again);
}

static void plan_act(planner *p, int i)
{
    const node *n = &p->net->nodes[i];
    back_step *s = push(p, i);

    s->x = value_of(p, n->in);
    s->dy = p->grad[i];
    s->dx = s->dy == AT_DY ? take(p, node_floats(n)) : s->dy;
    p->grad[n->in] = s->dx;
}

static void plan_pool(planner *p, int i)
{
    const node *n = &p->net->nodes[i];
    back_step *s = push(p, i);

    s->dy = p->grad[i];
    s->dx = take(p, node_floats(&p->net->nodes[n->in]));
    p->grad[n->in] = s->dx;
    give(p, s->dy);
}

static void plan_backward(planner *p)
{
    p->grad[p->net->n_nodes - 1] = AT_DY;
    for (int i = p->net->n_nodes - 1; i >= 0; i--) {
        switch (p->net->nodes[i].kind) {
        case NODE_CONV:
            plan_conv(p, i);
            break;
        case NODE_NORM:
            plan_norm(p, i);
            break;
        case NODE_ACT:
            plan_act(p, i);
            break;
        case NODE_MAX_POOL:
        case NODE_MEAN_POOL:
            plan_pool(p, i);
            break;
        }
        if (is_stored(p, i))
            give(p, p->plan->value[i]); /* its readers are done */
    }
}

sim_status plan_make(const sim_net *net, bool backward, bool input_gradient,
                     net_plan *out)
{
    sim_status st = SIM_OK;
    size_t n = (size_t)net->n_nodes;
    net_plan plan = {0};
    planner p = {.net = net,
                 .plan = &plan,
                 .backward = backward,
                 .input_gradient = input_gradient};

    SIM_TRY(sim_alloc(&plan.value, n, "encoder/plan"));
    SIM_TRY(sim_alloc(&plan.steps, 3 * n, "encoder/plan"));
    SIM_TRY(sim_alloc(&p.live, 4 * n, "encoder/plan"));
    SIM_TRY(sim_alloc(&p.grad, n, "encoder/plan"));
    SIM_TRY(sim_alloc(&p.last_use, n, "encoder/plan"));
    for (size_t i = 0; i < n; i++)
        p.grad[i] = AT_NONE;
    count_uses(&p);
    plan_forward(&p);
    if (backward)
        plan_backward(&p);
    *out = plan;
    plan = (net_plan){0};
done:
    plan_clear(&plan);
    sim_free(p.live);
    sim_free(p.grad);
    sim_free(p.last_use);
    return st;
}

void plan_clear(net_plan *p)
{
    SIM_FREE(p->value);
    SIM_FREE(p->steps);
}

/* ---- the ledger of a net and its tape, for `simile plan` ---- */

static size_t tape_bytes(const net_plan *plan, const sim_batch_shape *shape)
{
    size_t images = sim_batch_images(shape);
    return images * (plan->arena * sizeof(float) + plan->pool_bytes);
}

static sim_status plan_one(sim_net *net, const sim_batch_shape *shape,
                           bool input_gradient, size_t bytes[4])
{
    sim_status st = SIM_OK;
    net_plan plan = {0};

    SIM_TRY(plan_make(net, true, input_gradient, &plan));
    bytes[0] += net->n_weights * sizeof(float);
    bytes[1] += net->n_running * sizeof(float) + net_filter_bytes(net);
    bytes[2] += tape_bytes(&plan, shape);
    bytes[3] += norm_bytes(net, shape);
done:
    plan_clear(&plan);
    return st;
}

sim_status sim_net_plan(const sim_net_spec *backbone, const sim_head_spec *head,
                        const sim_batch_shape *shape, sim_plan_row rows[16],
                        size_t *n_rows)
{
    sim_status st = SIM_OK;
    static const char *const items[] = {"weights", "packed filters", "activations",
                                        "batch-norm sums"};
    sim_net *net = NULL;
    size_t bytes[4] = {0};

    SIM_TRY(net_backbone_nodes(backbone, &net));
    SIM_TRY(plan_one(net, shape, false, bytes));
    sim_net_destroy(&net);
    SIM_TRY(net_head_nodes(head, &net));
    SIM_TRY(plan_one(net, shape, true, bytes));
    for (*n_rows = 0; *n_rows < 4; ++*n_rows)
        rows[*n_rows] = (sim_plan_row){items[*n_rows], bytes[*n_rows]};
done:
    sim_net_destroy(&net);
    return st;
}
