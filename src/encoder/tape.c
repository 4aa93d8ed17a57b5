/*
 * tape.c - the passes of a micro-batch: forward node by node, backward by the steps of the plan.
 */
#include "tape.h"

#include "simile/memory.h"

#include <string.h>

size_t sim_batch_images(const sim_batch_shape *b)
{
    return (b->blocks.hi - b->blocks.lo) * b->views * b->slots;
}

/* A node's state begins at a multiple of 64 bytes. */
enum { STATE_UNIT = 16 };

static size_t state_floats(const node *n, size_t leaves)
{
    size_t floats = n->layer->state_floats ? n->layer->state_floats(n, leaves) : 0;
    return (floats + STATE_UNIT - 1) / STATE_UNIT * STATE_UNIT;
}

static size_t all_state_floats(const sim_net *net, size_t leaves)
{
    size_t floats = 0;
    for (int i = 0; i < net->n_nodes; i++)
        floats += state_floats(&net->nodes[i], leaves);
    return floats;
}

static size_t packed_floats(const node *n, bool backward)
{
    return n->layer->packed_floats ? n->layer->packed_floats(n, backward) : 0;
}

/* Micro-batches and the batches of an evaluation have the same weights. */
static bool keeps_panels(const sim_batch_shape *rank, pass_kind passes)
{
    return rank->micro_blocks > 0 || passes == PASS_EVALUATE;
}

/* Floats of the packed filters of all nodes before `end`. */
static size_t kept_floats(const sim_net *net, bool backward, int end)
{
    size_t floats = 0;
    for (int i = 0; i < end; i++)
        floats += packed_floats(&net->nodes[i], false) +
                  (backward ? packed_floats(&net->nodes[i], true) : 0);
    return floats;
}

/* Floats of the largest packed filters. */
static size_t largest_floats(const sim_net *net, bool backward)
{
    size_t floats = 0;
    for (int i = 0; i < net->n_nodes; i++)
        for (int b = 0; b <= (int)backward; b++) {
            size_t of_node = packed_floats(&net->nodes[i], b);
            floats = of_node > floats ? of_node : floats;
        }
    return floats;
}

static size_t panels_floats(const sim_net *net, const sim_batch_shape *rank,
                            pass_kind passes)
{
    bool backward = passes == PASS_TRAIN;
    return keeps_panels(rank, passes) ? kept_floats(net, backward, net->n_nodes)
                                      : largest_floats(net, backward);
}

enum { ACTIVATION_BUFFERS = 2, STATE_BUFFERS = 2, MICRO_BATCH_BUFFERS = 2 };

static void list_activation_buffers(sim_tape *t, const net_plan *plan, size_t images,
                                    sim_buffer list[ACTIVATION_BUFFERS])
{
    list[0] = SIM_BUFFER(t->arena, images * plan->arena);
    list[1] = SIM_BUFFER(t->saved, images * plan->saved_bytes_per_image);
}

static void list_state_buffers(sim_tape *t, const sim_net *net, size_t leaves,
                               sim_buffer list[STATE_BUFFERS])
{
    list[0] = SIM_BUFFER(t->state, all_state_floats(net, leaves));
    list[1] = SIM_BUFFER(t->state_offsets, (size_t)net->n_nodes);
}

static void list_micro_batch_buffers(sim_tape *t, size_t moments, size_t gradients,
                                     sim_buffer list[MICRO_BATCH_BUFFERS])
{
    list[0] = SIM_BUFFER(t->moments, moments);
    list[1] = SIM_BUFFER(t->gradients, gradients);
}

/* Moments of the batch norm groups of the rank. */
static size_t moments_of_rank(const sim_net *net, const leaf_shape *leaves,
                              const sim_batch_shape *rank)
{
    if (rank->micro_blocks == 0 || net->n_running == 0)
        return 0;
    sim_range groups = sim_leaves_groups(leaves, rank->blocks);
    return (groups.hi - groups.lo) * leaves->sets * net->n_running;
}

/* Floats of the tree stack of the gradients of micro-batches. */
static size_t stacked_gradients(const sim_net *net, const sim_batch_shape *rank)
{
    if (rank->micro_blocks == 0)
        return 0;
    return net->n_weights *
           sim_tree_depth_in_steps(rank->n_blocks, rank->blocks, rank->micro_blocks);
}

static void set_state_offsets(sim_tape *t)
{
    size_t at = 0;
    for (int i = 0; i < t->net->n_nodes; i++) {
        t->state_offsets[i] = at;
        at += state_floats(&t->net->nodes[i], t->sums.shape.leaves);
    }
}

/* Reduces groups that lie within the micro-batch; fills their part of `out`. */
static void reduce_micro_batch(void *ctx, size_t n_units, size_t leaves_per_unit,
                               size_t leaves_per_group, size_t width, sim_merge_fn *merge,
                               double *leaves, double *out)
{
    const sim_tape *t = ctx;
    const sim_range blocks = t->shape.blocks;
    sim_range groups = sim_leaves_groups(&t->sums.shape, blocks);

    (void)n_units;
    sim_reducer_local.reduce(NULL, blocks.hi - blocks.lo, leaves_per_unit,
                             leaves_per_group, width, merge, leaves,
                             out + groups.lo * width);
}

static sim_status create_buffers(sim_tape *t, pass_kind passes)
{
    sim_status st = SIM_OK;
    sim_buffer activations[ACTIVATION_BUFFERS], states[STATE_BUFFERS],
        micro_batch[MICRO_BATCH_BUFFERS];

    SIM_TRY(sim_batch_sums_create(t->net, &t->batchnorm, &t->rank, &t->sums));
    list_state_buffers(t, t->net, t->sums.shape.leaves, states);
    SIM_TRY(sim_buffers_create(states, STATE_BUFFERS, "encoder/norm"));
    set_state_offsets(t);
    list_activation_buffers(t, &t->plan, t->n_images, activations);
    SIM_TRY(sim_buffers_create(activations, ACTIVATION_BUFFERS, "encoder/activations"));
    SIM_TRY(sim_alloc(&t->panels, panels_floats(t->net, &t->rank, passes),
                      "encoder/filters"));
    list_micro_batch_buffers(t, moments_of_rank(t->net, &t->sums.shape, &t->rank),
                             t->backward ? stacked_gradients(t->net, &t->rank) : 0,
                             micro_batch);
    SIM_TRY(
        sim_buffers_create(micro_batch, MICRO_BATCH_BUFFERS, "encoder/micro-batches"));
done:
    return st;
}

sim_status sim_tape_create_with(sim_net *net, const sim_batch_shape *rank,
                                const sim_reducer *reducer,
                                const sim_batchnorm_options *batchnorm, pass_kind passes,
                                sim_tape **out)
{
    sim_status st = SIM_OK;
    sim_tape *t = NULL;

    SIM_TRY(sim_leaves_check(net, batchnorm, rank));
    SIM_TRY(sim_new(&t, "encoder/tape"));
    t->net = net;
    t->batchnorm = *batchnorm;
    t->rank = *rank;
    t->shape = sim_micro_batch(rank, 0);
    t->n_images = sim_batch_images(&t->shape);
    t->all_ranks = *reducer;
    t->reducer = rank->micro_blocks ? (sim_reducer){reduce_micro_batch, t} : t->all_ranks;
    t->backward = passes == PASS_TRAIN;
    t->evaluation = passes == PASS_EVALUATE;
    t->keeps_panels = keeps_panels(rank, passes);
    t->packs = true;
    SIM_TRY(sim_plan_make(net, t->backward, &t->plan));
    SIM_TRY(create_buffers(t, passes));
    *out = t;
    t = NULL;
done:
    sim_tape_destroy(&t);
    return st;
}

sim_status sim_tape_create(sim_net *net, const sim_batch_shape *shape,
                           const sim_reducer *reducer, bool backward, sim_tape **out)
{
    return sim_tape_create_with(net, shape, reducer, &net->batchnorm,
                                backward ? PASS_TRAIN : PASS_FORWARD, out);
}

void sim_tape_destroy(sim_tape **out)
{
    sim_tape *t = *out;
    sim_buffer activations[ACTIVATION_BUFFERS], states[STATE_BUFFERS],
        micro_batch[MICRO_BATCH_BUFFERS];

    if (!t)
        return;
    list_activation_buffers(t, &t->plan, t->n_images, activations);
    list_state_buffers(t, t->net, t->sums.shape.leaves, states);
    list_micro_batch_buffers(t, 0, 0, micro_batch);
    sim_buffers_destroy(activations, ACTIVATION_BUFFERS);
    sim_buffers_destroy(states, STATE_BUFFERS);
    sim_buffers_destroy(micro_batch, MICRO_BATCH_BUFFERS);
    sim_batch_sums_destroy(t->net, &t->rank, &t->sums);
    sim_free(t->panels);
    sim_plan_clear(t->net, &t->plan);
    sim_free(t);
    *out = NULL;
}

static void raise_workspace(const sim_net *net, const sim_batch_shape *shape,
                            pass_kind passes, sim_workspace_size *workspace)
{
    for (int i = 0; i < net->n_nodes; i++) {
        const node *n = &net->nodes[i];
        if (n->layer->workspace)
            n->layer->workspace(n, shape, &net->batchnorm, passes, workspace);
    }
}

sim_status sim_tape_plan(const sim_net *net, const sim_batch_shape *rank,
                         pass_kind passes, tape_bytes *bytes,
                         sim_workspace_size *workspace)
{
    sim_status st = SIM_OK;
    net_plan plan = {0};
    sim_tape none = {0};
    const sim_batch_shape largest = sim_micro_batch(rank, 0);
    const leaf_shape leaves = sim_leaves_of(&net->batchnorm, &largest);
    sim_buffer activations[ACTIVATION_BUFFERS], states[STATE_BUFFERS];

    SIM_TRY(sim_plan_make(net, passes == PASS_TRAIN, &plan));
    list_activation_buffers(&none, &plan, sim_batch_images(&largest), activations);
    list_state_buffers(&none, net, leaves.leaves, states);
    *bytes =
        (tape_bytes){.activations = sim_buffers_bytes(activations, ACTIVATION_BUFFERS),
                     .panels = panels_floats(net, rank, passes) * sizeof *none.panels,
                     .sums = sim_batch_sums_bytes(net, &net->batchnorm, rank) +
                             sim_buffers_bytes(states, STATE_BUFFERS) +
                             moments_of_rank(net, &leaves, rank) * sizeof *none.moments,
                     .gradients = passes == PASS_TRAIN ? stacked_gradients(net, rank) *
                                                             sizeof *none.gradients
                                                       : 0,
                     .structure = sizeof none + sim_plan_bytes(net)};
    for (size_t k = 0; k < sim_micro_batches(rank); k++) {
        const sim_batch_shape shape = sim_micro_batch(rank, k);
        raise_workspace(net, &shape, passes, workspace);
    }
done:
    sim_plan_clear(net, &plan);
    return st;
}

/* A buffer for reading. */
const float *sim_tape_read_at(const sim_tape *t, buffer_ref at)
{
    switch (at) {
    case AT_NONE:
        return NULL;
    case AT_INPUT:
        return t->x;
    case AT_DY:
        return t->dy;
    default:
        SIM_ASSERT(at >= 0);
        return t->arena + (size_t)at * t->n_images;
    }
}

/* A buffer for writing. */
float *sim_tape_write_at(const sim_tape *t, buffer_ref at)
{
    switch (at) {
    case AT_NONE:
        return NULL;
    case AT_OUTPUT:
        return t->y;
    case AT_DX:
        return t->dx;
    default:
        SIM_ASSERT(at >= 0);
        return t->arena + (size_t)at * t->n_images;
    }
}

uint8_t *sim_tape_saved(const sim_tape *t, int i)
{
    return t->saved + t->n_images * t->plan.saved[i];
}

float *sim_tape_state(const sim_tape *t, int i)
{
    return t->state + t->state_offsets[i];
}

float *sim_tape_panels(const sim_tape *t, int i, bool backward)
{
    if (!t->keeps_panels)
        return t->panels;
    return t->panels + kept_floats(t->net, t->backward, i) +
           (backward ? packed_floats(&t->net->nodes[i], false) : 0);
}

bool sim_tape_needs_dx(const sim_tape *t, const backward_step *s)
{
    return t->dx || (s->dx != AT_DX && s->sum != AT_DX);
}

const node *sim_tape_input_node(const sim_tape *t, int i)
{
    return &t->net->nodes[t->net->nodes[i].in];
}

static const float *tape_value(const sim_tape *t, int i)
{
    if (i == NET_INPUT)
        return t->x;
    if (i == NO_NODE)
        return NULL;
    if (t->plan.inlined[i])
        i = t->net->nodes[i].in;
    return sim_tape_read_at(t, t->plan.value[i]);
}

void sim_tape_select(sim_tape *t, size_t k)
{
    t->micro_batch = k;
    t->shape = sim_micro_batch(&t->rank, k);
    t->sums.shape = sim_leaves_of(&t->batchnorm, &t->shape);
    t->n_images = sim_batch_images(&t->shape);
}

void sim_tape_forward(sim_tape *t, const float *x, float *y)
{
    t->x = x;
    t->y = y;
    for (int i = 0; i < t->net->n_nodes; i++) {
        const node *n = &t->net->nodes[i];
        n->layer->forward(t, i, tape_value(t, n->in), tape_value(t, n->residual),
                          sim_tape_write_at(t, t->plan.value[i]));
    }
}

static void run_backward_step(sim_tape *t, const backward_step *s, float *grads,
                              size_t node_stride)
{
    const layer *l = t->net->nodes[s->node].layer;
    if (s->recompute)
        l->recompute(t, s->node, sim_tape_read_at(t, s->x),
                     sim_tape_read_at(t, s->residual), sim_tape_write_at(t, s->dx));
    else
        l->backward(t, s, grads, node_stride);
}

void sim_tape_backward(sim_tape *t, const float *dy, float *dx, float *grads,
                       size_t node_stride)
{
    SIM_ASSERT(t->backward);
    t->dy = dy;
    t->dx = dx;
    for (size_t i = 0; i < t->plan.n_steps; i++)
        run_backward_step(t, &t->plan.steps[i], grads, node_stride);
}
