/*
 * online_encoder.c - the trained encoder with its heads, forward and backward.
 *
 * In: views of the local blocks.  Out: outputs of all networks, gradients of all weights.
 * Called by common.c; momentum_encoder.c and cpc.c use its shapes.
 * Invariant: the leaf of a weight gradient is a block with all views of a pass
 * (src/DESIGN.md), so all views pass together.
 */
#include "online_encoder.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

sim_batch_shape sim_online_shape(const sim_method_env *env, size_t views)
{
    size_t n_blocks = env->batch / env->block;
    return (sim_batch_shape){.n_blocks = n_blocks,
                             .blocks = sim_partition_range(env->partition, n_blocks),
                             .views = views,
                             .slots = env->block,
                             .micro_blocks = sim_method_micro_blocks(env)};
}

sim_status sim_online_lay_out(const sim_method_env *env, const sim_model_spec *spec,
                              sim_model_layout *out)
{
    const sim_net_spec image = {.encoder = env->encoder,
                                .batchnorm = env->batchnorm,
                                .h = env->h,
                                .w = env->w,
                                .c = env->c,
                                .seed = env->seed};
    return sim_model_lay_out(spec, &image, out);
}

/* The networks of a layout in the order of a pass; returns their number. */
static size_t list_chain(const sim_model_layout *layout, int chain[SIM_MODEL_NETS])
{
    static const int order[] = {SIM_BACKBONE, SIM_PROJECTOR, SIM_PREDICTOR,
                                SIM_CLASSIFIER};
    size_t n = 0;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (layout->has[order[i]])
            chain[n++] = order[i];
    return n;
}

static sim_status create_passes(online_encoder *e, view_group *g, size_t position)
{
    sim_status st = SIM_OK;
    const int i = e->chain[position];
    sim_net *net = i == SIM_BACKBONE ? g->backbone : e->model.net[i];
    const size_t n = sim_batch_images(&g->shape) * sim_net_dim(net);

    SIM_TRY(sim_alloc(&g->out[i], n, "method/embeddings"));
    if (position < e->first_trained) {
        SIM_TRY(sim_evaluator_create(net, &e->frozen));
        goto done;
    }
    SIM_TRY(sim_tape_create(net, &g->shape, &e->reducer, true, &g->tape[i]));
    SIM_TRY(sim_alloc(&g->dout[i], n, "method/embeddings"));
done:
    return st;
}

static void destroy_passes(view_group *g)
{
    for (size_t i = 0; i < SIM_MODEL_NETS; i++) {
        sim_tape_destroy(&g->tape[i]);
        sim_free(g->out[i]);
        sim_free(g->dout[i]);
    }
}

/* The env of views of the small size. */
static sim_method_env small_env(const sim_method_env *env)
{
    sim_method_env small = *env;
    small.h = env->small.h;
    small.w = env->small.w;
    return small;
}

static sim_status create_small_group(const sim_method_env *env,
                                     const sim_model_spec *spec, online_encoder *e)
{
    sim_status st = SIM_OK;
    view_group *g = &e->group[SMALL_VIEWS];
    const sim_method_env small = small_env(env);
    sim_model_layout layout;

    SIM_TRY(sim_online_lay_out(&small, spec, &layout));
    g->shape = sim_online_shape(env, env->small.n);
    SIM_TRY(
        sim_backbone_share(&layout.backbone, e->model.net[SIM_BACKBONE], &g->backbone));
    e->n_groups++;
done:
    return st;
}

sim_status sim_online_create(const sim_method_env *env, const sim_model_spec *spec,
                             size_t views, online_encoder **out)
{
    sim_status st = SIM_OK;
    online_encoder *e = NULL;
    sim_model_layout layout;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    SIM_TRY(sim_new(&e, "method/online"));
    e->n_nets = list_chain(&layout, e->chain);
    e->first_trained = env->encoder->freeze ? 1 : 0;
    e->reducer = sim_reducer_of(env->comm);
    SIM_TRY(sim_model_create(&layout, SIM_ALL_NETS, &e->model));
    e->group[LARGE_VIEWS] = (view_group){.shape = sim_online_shape(env, views),
                                         .backbone = e->model.net[SIM_BACKBONE]};
    e->n_groups = 1;
    if (env->small.n > 0)
        SIM_TRY(create_small_group(env, spec, e));
    for (view_group *g = e->group; g < e->group + e->n_groups; g++)
        for (size_t i = 0; i < e->n_nets; i++)
            SIM_TRY(create_passes(e, g, i));
    *out = e;
    e = NULL;
done:
    sim_online_destroy(&e);
    return st;
}

void sim_online_destroy(online_encoder **out)
{
    online_encoder *e = *out;
    if (!e)
        return;
    for (size_t i = 0; i < MAX_VIEW_GROUPS; i++)
        destroy_passes(&e->group[i]);
    sim_net_destroy(&e->group[SMALL_VIEWS].backbone);
    sim_evaluator_destroy(&e->frozen);
    sim_model_destroy(&e->model);
    sim_free(e);
    *out = NULL;
}

static sim_net *net_at(const online_encoder *e, size_t position)
{
    return e->model.net[e->chain[position]];
}

size_t sim_online_parameters(const online_encoder *e)
{
    size_t n = 0;
    for (size_t i = e->first_trained; i < e->n_nets; i++)
        n += sim_net_parameters(net_at(e, i));
    return n;
}

/* ---- passes ---- */

static void group_forward(const online_encoder *e, const view_group *g, const float *x)
{
    for (size_t i = 0; i < e->n_nets; i++) {
        float *out = g->out[e->chain[i]];
        if (i < e->first_trained)
            sim_evaluator_run(e->frozen, sim_batch_images(&g->shape), x, out);
        else
            sim_net_forward(g->tape[e->chain[i]], x, out);
        x = out;
    }
}

void sim_online_forward(online_encoder *e, const float *x, const float *small_x)
{
    group_forward(e, &e->group[LARGE_VIEWS], x);
    if (e->n_groups > SMALL_VIEWS)
        group_forward(e, &e->group[SMALL_VIEWS], small_x);
}

void sim_online_load(const online_encoder *e, int net, unit_rows *r)
{
    size_t at = 0; /* rows so far */
    for (const view_group *g = e->group; at < r->n; g++) {
        SIM_ASSERT(g < e->group + e->n_groups);
        sim_rows_by_view(&g->shape, r->d, g->out[net], r->raw + at * r->d);
        at += sim_batch_images(&g->shape);
    }
    SIM_ASSERT(at == r->n);
    sim_unit_rows_normalize(r);
}

void sim_online_store_gradient(online_encoder *e, int net, unit_rows *r)
{
    size_t at = 0;
    sim_unit_rows_differentiate(r);
    for (view_group *g = e->group; g < e->group + e->n_groups; g++) {
        sim_rows_by_block(&g->shape, r->d, r->raw + at * r->d, g->dout[net]);
        at += sim_batch_images(&g->shape);
    }
    SIM_ASSERT(at == r->n);
}

static void group_backward(const online_encoder *e, const view_group *g, float *grads,
                           size_t stride)
{
    size_t at = sim_online_parameters(e);
    for (size_t i = e->n_nets; i-- > e->first_trained;) {
        float *input_gradient = i > e->first_trained ? g->dout[e->chain[i - 1]] : NULL;
        at -= sim_net_parameters(net_at(e, i));
        sim_net_backward(g->tape[e->chain[i]], g->dout[e->chain[i]], input_gradient,
                         grads + at, stride);
    }
}

void sim_online_backward(online_encoder *e, float *grads, size_t small, size_t stride)
{
    group_backward(e, &e->group[LARGE_VIEWS], grads, stride);
    if (e->n_groups > SMALL_VIEWS)
        group_backward(e, &e->group[SMALL_VIEWS], grads + small, stride);
}

size_t sim_online_nets(const online_encoder *e, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS])
{
    for (size_t i = e->first_trained; i < e->n_nets; i++) {
        nets[i - e->first_trained] = net_at(e, i);
        groups[i - e->first_trained] = sim_model_group(e->chain[i]);
    }
    return e->n_nets - e->first_trained;
}

sim_status sim_online_visit(online_encoder *e, const sim_visitor *v)
{
    return sim_model_visit(&e->model, "weights", v);
}

/* ---- memory plan ---- */

void sim_plan_add(sim_plan_row rows[32], size_t *n_rows, const char *item, size_t bytes)
{
    SIM_ASSERT(*n_rows < 32);
    rows[(*n_rows)++] = (sim_plan_row){item, bytes};
}

/* Networks, tapes and workspaces. */
static sim_status plan_networks(const sim_model_layout *layout,
                                const sim_head_spec *heads, size_t n_heads,
                                const sim_batch_shape *shape, sim_plan_row rows[32],
                                size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_net_spec *backbone = &layout->backbone;
    sim_workspace_size workspace = {0};
    sim_evaluator_bytes frozen;

    if (!backbone->encoder->freeze) {
        SIM_TRY(sim_net_plan(backbone, heads, n_heads, shape, rows, n_rows));
        goto done;
    }
    SIM_TRY(sim_heads_plan(heads, n_heads, shape, rows, n_rows));
    SIM_TRY(sim_evaluator_plan(backbone, &frozen, &workspace));
    sim_plan_raise(rows, *n_rows, &workspace);
    sim_plan_add(rows, n_rows, SIM_FROZEN_STATE, frozen.state);
    sim_plan_add(rows, n_rows, "frozen encoder", frozen.net + frozen.evaluator);
done:
    return st;
}

sim_status sim_online_plan(const sim_method_env *env, const sim_model_spec *spec,
                           size_t views, sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_batch_shape shape = sim_online_shape(env, views);
    const sim_batch_shape small = sim_online_shape(env, env->small.n);
    const size_t first_trained = env->encoder->freeze ? 1 : 0;
    sim_model_layout layout;
    sim_head_spec heads[SIM_MODEL_NETS];
    int chain[SIM_MODEL_NETS];

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    const size_t n_nets = list_chain(&layout, chain);
    size_t floats = (2 - first_trained) * sim_backbone_dim(env->encoder);
    for (size_t i = 1; i < n_nets; i++) {
        heads[i - 1] = *sim_model_head(&layout, chain[i]);
        floats += 2 * heads[i - 1].dim; /* outputs and gradients */
    }
    SIM_TRY(plan_networks(&layout, heads, n_nets - 1, &shape, rows, n_rows));
    if (env->small.n > 0) {
        const sim_method_env of_small = small_env(env);
        SIM_TRY(sim_online_lay_out(&of_small, spec, &layout));
        SIM_TRY(sim_net_plan_shared(&layout.backbone, heads, n_nets - 1, &small, rows,
                                    *n_rows));
    }
    sim_plan_add(rows, n_rows, "embeddings",
                 sizeof(float) * (sim_batch_images(&shape) + sim_batch_images(&small)) *
                     floats);
done:
    return st;
}

void sim_online_plan_scratch(size_t bytes_per_thread, sim_plan_row *rows, size_t n_rows)
{
    size_t bytes = sim_scratch_capacity(bytes_per_thread) * (size_t)sim_threads();
    for (size_t i = 0; i < n_rows; i++)
        if (strcmp(rows[i].item, "scratch") == 0 && rows[i].bytes < bytes)
            rows[i].bytes = bytes;
}
