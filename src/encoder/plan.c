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
#include "simile/thread.h"

enum { UNIT = 16 }; /* floats: keeps every place aligned to 64 bytes */

typedef struct {
    place at;
    size_t n;
} slot;

struct planner {
    const sim_net *net;
    net_plan *plan;
    slot *live; /* by place, ascending */
    size_t n_live;
    place *grad;
    int *last_use; /* forward: last node that reads a value */
    bool backward;
};

place plan_take(planner *p, size_t n)
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

void plan_give(planner *p, place at)
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

const node *plan_node(const planner *p, int i)
{
    return &p->net->nodes[i];
}

static bool is_stored(const planner *p, int i)
{
    return p->backward && p->net->nodes[i].stored;
}

place plan_value(const planner *p, int i)
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
        plan_give(p, p->plan->value[value]);
}

static void plan_forward(planner *p)
{
    const sim_net *net = p->net;
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        p->plan->value[i] =
            i == net->n_nodes - 1 ? AT_OUTPUT : plan_take(p, node_floats(n));
        release_after(p, i, n->in);
        if (n->residual != n->in)
            release_after(p, i, n->residual);
        p->plan->remembered[i] = p->plan->remembers;
        p->plan->remembers += n->remembers;
    }
}

/* ---- backward ---- */

back_step *plan_push(planner *p, int i)
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

place plan_bring(planner *p, int i, place *again)
{
    *again = AT_NONE;
    if (i < 0 || is_stored(p, i))
        return plan_value(p, i);
    const node *n = &p->net->nodes[i];
    SIM_ASSERT(n->layer->again && n->residual == NO_NODE && is_stored(p, n->in));
    *again = plan_take(p, node_floats(n));
    back_step *s = plan_push(p, i);
    s->again = true;
    s->x = plan_value(p, n->in);
    s->dx = *again;
    return *again;
}

place plan_gradient(const planner *p, int i)
{
    SIM_ASSERT(p->grad[i] != AT_NONE); /* somebody reads every value */
    return p->grad[i];
}

place plan_deliver(planner *p, int i, place at)
{
    place there = p->grad[i];
    if (there == AT_NONE)
        p->grad[i] = at;
    else
        plan_give(p, at);
    return there;
}

static void plan_backward(planner *p)
{
    p->grad[p->net->n_nodes - 1] = AT_DY;
    for (int i = p->net->n_nodes - 1; i >= 0; i--) {
        p->net->nodes[i].layer->plan(p, i);
        if (is_stored(p, i))
            plan_give(p, p->plan->value[i]); /* its readers are done */
    }
}

/* A node's own step, and at most two values that it has computed again. */
static size_t most_steps(const sim_net *net)
{
    return 3 * (size_t)net->n_nodes;
}

sim_status plan_make(const sim_net *net, bool backward, net_plan *out)
{
    sim_status st = SIM_OK;
    size_t n = (size_t)net->n_nodes;
    net_plan plan = {0};
    planner p = {.net = net, .plan = &plan, .backward = backward};

    SIM_TRY(sim_alloc(&plan.value, n, "encoder/plan"));
    SIM_TRY(sim_alloc(&plan.remembered, n, "encoder/plan"));
    SIM_TRY(sim_alloc(&plan.steps, most_steps(net), "encoder/plan"));
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
    SIM_FREE(p->remembered);
    SIM_FREE(p->steps);
}

/* ---- the ledger of a net and its tape, for `simile plan` ---- */

static size_t frame_bytes(const sim_net *net, const net_plan *p)
{
    return net_frame_bytes(net) + sizeof(sim_tape) +
           (size_t)net->n_nodes * (sizeof *p->value + sizeof *p->remembered) +
           most_steps(net) * sizeof *p->steps;
}

enum { WEIGHTS, RUNNING, FILTERS, ACTIVATIONS, NORMS, FRAME, N_ITEMS };

static void raise_room(const sim_net *net, const sim_batch_shape *shape, sim_room *room)
{
    const sim_leaf_walk walk = {.n_leaves = shape->n_blocks,
                                .range = shape->blocks,
                                .images_per_leaf = shape->views * shape->slots};
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].conv.k)
            sim_conv_room(&net->nodes[i].conv, &walk, room);
    norm_room_of(net, shape, room);
}

static sim_status plan_one(const sim_net *net, const sim_batch_shape *shape,
                           bool backward, size_t bytes[N_ITEMS], sim_room *room)
{
    sim_status st = SIM_OK;
    net_plan plan = {0};

    SIM_TRY(plan_make(net, backward, &plan));
    bytes[WEIGHTS] += net->n_weights * sizeof(float);
    bytes[RUNNING] += net->n_running * sizeof(float);
    bytes[FILTERS] += net_filter_bytes(net);
    bytes[ACTIVATIONS] +=
        sim_batch_images(shape) * (plan.arena * sizeof(float) + plan.remembers);
    bytes[NORMS] += norm_bytes(net, shape);
    bytes[FRAME] += frame_bytes(net, &plan);
    raise_room(net, shape, room);
done:
    plan_clear(&plan);
    return st;
}

static sim_status plan_nets(const sim_net_spec *backbone, const sim_head_spec *heads,
                            size_t n_heads, const sim_batch_shape *shape, bool backward,
                            sim_plan_row rows[16], size_t *n_rows)
{
    sim_status st = SIM_OK;
    static const char *const items[N_ITEMS] = {"weights",         "running statistics",
                                               "packed filters",  "activations",
                                               "batch-norm sums", "layers"};
    sim_net *net = NULL;
    size_t bytes[N_ITEMS] = {0};
    sim_room room = {0};

    SIM_TRY(net_backbone_nodes(backbone, &net));
    SIM_TRY(plan_one(net, shape, backward, bytes, &room));
    for (size_t i = 0; i < n_heads; i++) {
        sim_net_destroy(&net);
        SIM_TRY(net_head_nodes(&heads[i], &net));
        SIM_TRY(plan_one(net, shape, backward, bytes, &room));
    }
    for (*n_rows = 0; *n_rows < N_ITEMS; ++*n_rows)
        rows[*n_rows] = (sim_plan_row){items[*n_rows], bytes[*n_rows]};
    rows[(*n_rows)++] = (sim_plan_row){"workspace", room.shared};
    rows[(*n_rows)++] =
        (sim_plan_row){"scratch", sim_scratch_room(room.thread) * (size_t)sim_threads()};
done:
    sim_net_destroy(&net);
    return st;
}

sim_status sim_net_plan(const sim_net_spec *backbone, const sim_head_spec *heads,
                        size_t n_heads, const sim_batch_shape *shape,
                        sim_plan_row rows[16], size_t *n_rows)
{
    return plan_nets(backbone, heads, n_heads, shape, true, rows, n_rows);
}

sim_status sim_net_plan_forward(const sim_net_spec *backbone, const sim_head_spec *heads,
                                size_t n_heads, const sim_batch_shape *shape,
                                sim_plan_row rows[16], size_t *n_rows)
{
    return plan_nets(backbone, heads, n_heads, shape, false, rows, n_rows);
}

sim_status sim_net_evaluation_plan(const sim_net_spec *backbone, size_t *bytes)
{
    sim_status st = SIM_OK;
    static const sim_batchnorm_options running = {0};
    const sim_batch_shape shape = {
        .n_blocks = 1, .blocks = {0, 1}, .views = 1, .slots = EVALUATION_IMAGES};
    sim_net_spec spec = *backbone;
    sim_net *net = NULL;
    net_plan plan = {0};

    spec.batchnorm = &running;
    SIM_TRY(net_backbone_nodes(&spec, &net));
    SIM_TRY(plan_make(net, false, &plan));
    *bytes = EVALUATION_IMAGES * (plan.arena * sizeof(float) + plan.remembers) +
             norm_bytes(net, &shape);
done:
    plan_clear(&plan);
    sim_net_destroy(&net);
    return st;
}
