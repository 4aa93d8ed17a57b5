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
                             .slots = env->block};
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

sim_status sim_online_create(const sim_method_env *env, const sim_model_spec *spec,
                             size_t views, online_encoder **out)
{
    sim_status st = SIM_OK;
    online_encoder *e = NULL;
    sim_model_layout layout;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    SIM_TRY(sim_new(&e, "method/online"));
    e->shape = sim_online_shape(env, views);
    e->n_nets = layout.has[SIM_PREDICTOR] ? SIM_PREDICTOR + 1 : SIM_PREDICTOR;
    e->reducer = sim_reducer_of(env->comm);
    SIM_TRY(sim_model_create(&layout, SIM_ALL_NETS, &e->model));
    size_t images = sim_batch_images(&e->shape);
    for (size_t i = 0; i < e->n_nets; i++) {
        size_t n = images * sim_net_dim(e->model.net[i]);
        SIM_TRY(
            sim_tape_create(e->model.net[i], &e->shape, &e->reducer, true, &e->tape[i]));
        SIM_TRY(sim_alloc(&e->out[i], n, "method/embeddings"));
        SIM_TRY(sim_alloc(&e->dout[i], n, "method/embeddings"));
    }
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
    for (size_t i = 0; i < SIM_MODEL_NETS; i++) {
        sim_tape_destroy(&e->tape[i]);
        sim_free(e->out[i]);
        sim_free(e->dout[i]);
    }
    sim_model_destroy(&e->model);
    sim_free(e);
    *out = NULL;
}

size_t sim_online_parameters(const online_encoder *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->n_nets; i++)
        n += sim_net_parameters(e->model.net[i]);
    return n;
}

/* ---- passes ---- */

void sim_online_forward(online_encoder *e, const float *x)
{
    for (size_t i = 0; i < e->n_nets; i++)
        sim_net_forward(e->tape[i], i ? e->out[i - 1] : x, e->out[i]);
}

void sim_online_backward(online_encoder *e, float *grads, size_t stride)
{
    size_t at = sim_online_parameters(e);
    for (size_t i = e->n_nets; i-- > 0;) {
        at -= sim_net_parameters(e->model.net[i]);
        sim_net_backward(e->tape[i], e->dout[i], i ? e->dout[i - 1] : NULL, grads + at,
                         stride);
    }
}

void sim_online_updated(online_encoder *e)
{
    for (size_t i = 0; i < e->n_nets; i++)
        sim_net_pack(e->model.net[i], true);
}

size_t sim_online_nets(const online_encoder *e, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS])
{
    for (size_t i = 0; i < e->n_nets; i++) {
        nets[i] = e->model.net[i];
        groups[i] = sim_model_group((int)i);
    }
    return e->n_nets;
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

sim_status sim_online_plan(const sim_method_env *env, const sim_model_spec *spec,
                           size_t views, sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_batch_shape shape = sim_online_shape(env, views);
    sim_model_layout layout;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    const sim_head_spec heads[] = {layout.projector, layout.predictor};
    size_t n_heads = layout.has[SIM_PREDICTOR] ? 2 : 1;
    SIM_TRY(sim_net_plan(&layout.backbone, heads, n_heads, &shape, rows, n_rows));
    sim_plan_add(rows, n_rows, "embeddings",
                 2 * sizeof(float) * sim_batch_images(&shape) *
                     (heads[0].in + n_heads * heads[0].dim));
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
