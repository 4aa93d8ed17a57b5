/*
 * plan.c - liveness planner: assigns a buffer to every value and gradient of a pass.
 *
 * It simulates the passes without data.  Values and gradients are placed in one arena by
 * first fit and released after their last use.  Saved for backward: outputs of
 * convolutions, of blocks and of max pools.  Outputs of norms inside a block are recomputed.
 */
#include "net.h"

#include "simile/memory.h"
#include "simile/thread.h"

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
    int *last_use; /* forward: last node that reads a value */
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

static bool is_stored(const planner *p, int i)
{
    return p->backward && p->net->nodes[i].stored;
}

buffer_ref sim_plan_value(const planner *p, int i)
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
        sim_plan_release(p, p->plan->value[value]);
}

static void plan_forward(planner *p)
{
    const sim_net *net = p->net;
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        p->plan->value[i] =
            i == net->n_nodes - 1 ? AT_OUTPUT : sim_plan_acquire(p, node_floats(n));
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

buffer_ref sim_plan_recompute(planner *p, int i, buffer_ref *recomputed)
{
    *recomputed = AT_NONE;
    if (i < 0 || is_stored(p, i))
        return sim_plan_value(p, i);
    const node *n = &p->net->nodes[i];
    SIM_ASSERT(n->layer->recompute && n->residual == NO_NODE);
    SIM_ASSERT(n->in == NET_INPUT || is_stored(p, n->in));
    *recomputed = sim_plan_acquire(p, node_floats(n));
    backward_step *s = sim_plan_push_step(p, i);
    s->recompute = true;
    s->x = sim_plan_value(p, n->in);
    s->dx = *recomputed;
    return *recomputed;
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
    p->grad[p->net->n_nodes - 1] = AT_DY;
    for (int i = p->net->n_nodes - 1; i >= 0; i--) {
        p->net->nodes[i].layer->plan(p, i);
        if (is_stored(p, i))
            sim_plan_release(p, p->plan->value[i]); /* no later step reads it */
    }
}

/* A node's own step and at most two recomputed values. */
static size_t max_backward_steps(const sim_net *net)
{
    return 3 * (size_t)net->n_nodes;
}

sim_status sim_plan_make(const sim_net *net, bool backward, net_plan *out)
{
    sim_status st = SIM_OK;
    size_t n = (size_t)net->n_nodes;
    net_plan plan = {0};
    planner p = {.net = net, .plan = &plan, .input_grad = AT_NONE, .backward = backward};

    SIM_TRY(sim_alloc(&plan.value, n, "encoder/plan"));
    SIM_TRY(sim_alloc(&plan.saved, n, "encoder/plan"));
    SIM_TRY(sim_alloc(&plan.steps, max_backward_steps(net), "encoder/plan"));
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
    sim_plan_clear(&plan);
    sim_free(p.live);
    sim_free(p.grad);
    sim_free(p.last_use);
    return st;
}

void sim_plan_clear(net_plan *p)
{
    SIM_FREE(p->value);
    SIM_FREE(p->saved);
    SIM_FREE(p->steps);
}

/* ---- bytes of a net and its tape, for `simile plan` ---- */

static size_t structure_bytes(const sim_net *net, const net_plan *p)
{
    return sim_net_frame_bytes(net) + sizeof(sim_tape) +
           (size_t)net->n_nodes * (sizeof *p->value + sizeof *p->saved) +
           max_backward_steps(net) * sizeof *p->steps;
}

enum {
    WEIGHTS,
    RUNNING,
    FILTERS,
    ACTIVATIONS,
    NORMS,
    FRAME,
    N_ITEMS,
    WORKSPACE = N_ITEMS, /* rows shared by all nets */
    SCRATCH,
    N_ROWS
};

static void raise_workspace(const sim_net *net, const sim_batch_shape *shape,
                            sim_workspace_size *workspace)
{
    const sim_leaf_layout leaves = {.n_leaves = shape->n_blocks,
                                    .range = shape->blocks,
                                    .images_per_leaf = shape->views * shape->slots};
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].conv.k)
            sim_conv_workspace(&net->nodes[i].conv, &leaves, workspace);
    sim_norm_workspace_of(net, shape, workspace);
}

static sim_status plan_one(const sim_net *net, const sim_batch_shape *shape,
                           bool backward, size_t bytes[N_ITEMS],
                           sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    net_plan plan = {0};

    SIM_TRY(sim_plan_make(net, backward, &plan));
    bytes[WEIGHTS] += net->n_weights * sizeof(float);
    bytes[RUNNING] += net->n_running * sizeof(float);
    bytes[FILTERS] += sim_net_filter_bytes(net);
    bytes[ACTIVATIONS] += sim_batch_images(shape) *
                          (plan.arena * sizeof(float) + plan.saved_bytes_per_image);
    bytes[NORMS] += sim_norm_bytes(net, shape);
    bytes[FRAME] += structure_bytes(net, &plan);
    raise_workspace(net, shape, workspace);
done:
    sim_plan_clear(&plan);
    return st;
}

/* Bytes add up, except for the shared workspace and scratch: the maximum counts. */
static void add_rows(const size_t bytes[N_ITEMS], const sim_workspace_size *workspace,
                     sim_plan_row *rows)
{
    size_t scratch = sim_scratch_capacity(workspace->thread) * (size_t)sim_threads();
    for (size_t i = 0; i < N_ITEMS; i++)
        rows[i].bytes += bytes[i];
    if (rows[WORKSPACE].bytes < workspace->shared)
        rows[WORKSPACE].bytes = workspace->shared;
    if (rows[SCRATCH].bytes < scratch)
        rows[SCRATCH].bytes = scratch;
}

static size_t begin_rows(sim_plan_row *rows)
{
    static const char *const items[N_ROWS] = {"weights",         "running statistics",
                                              "packed filters",  "activations",
                                              "batch-norm sums", "layers",
                                              "workspace",       "scratch"};
    for (size_t i = 0; i < N_ROWS; i++)
        rows[i] = (sim_plan_row){items[i], 0};
    return N_ROWS;
}

/* Consumes the net. */
static sim_status add_net(sim_net **net, const sim_batch_shape *shape, bool backward,
                          sim_plan_row *rows)
{
    sim_status st = SIM_OK;
    size_t bytes[N_ITEMS] = {0};
    sim_workspace_size workspace = {0};

    SIM_TRY(plan_one(*net, shape, backward, bytes, &workspace));
    add_rows(bytes, &workspace, rows);
done:
    sim_net_destroy(net);
    return st;
}

static sim_status plan_nets(const sim_net_spec *backbone, const sim_head_spec *heads,
                            size_t n_heads, const sim_batch_shape *shape, bool backward,
                            sim_plan_row rows[16], size_t *n_rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    *n_rows = begin_rows(rows);
    SIM_TRY(sim_net_backbone_nodes(backbone, &net));
    SIM_TRY(add_net(&net, shape, backward, rows));
    for (size_t i = 0; i < n_heads; i++) {
        SIM_TRY(sim_net_head_nodes(&heads[i], &net));
        SIM_TRY(add_net(&net, shape, backward, rows));
    }
done:
    return st;
}

sim_status sim_head_plan(const sim_head_spec *head, const sim_batch_shape *shape,
                         sim_plan_row *rows, size_t n_rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    SIM_ASSERT(n_rows >= N_ROWS);
    SIM_TRY(sim_net_head_nodes(head, &net));
    SIM_TRY(add_net(&net, shape, true, rows));
done:
    return st;
}

sim_status sim_context_plan(const sim_context_spec *spec, const sim_batch_shape *shape,
                            sim_plan_row *rows, size_t n_rows)
{
    sim_status st = SIM_OK;
    sim_net *net = NULL;

    SIM_ASSERT(n_rows >= N_ROWS);
    SIM_TRY(sim_net_context_nodes(spec, &net));
    SIM_TRY(add_net(&net, shape, true, rows));
done:
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
    SIM_TRY(sim_net_backbone_nodes(&spec, &net));
    SIM_TRY(sim_plan_make(net, false, &plan));
    *bytes =
        EVALUATION_IMAGES * (plan.arena * sizeof(float) + plan.saved_bytes_per_image) +
        sim_norm_bytes(net, &shape);
done:
    sim_plan_clear(&plan);
    sim_net_destroy(&net);
    return st;
}
