/*
 * online_encoder.c - an encoder with its heads, forward and back.
 *
 * Called by the methods.  The leaf of a weight gradient is a block with all views that pass
 * together, so a branch takes them in one pass (DESIGN.md section 4).
 */
#include "online_encoder.h"

#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
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
    online_encoder *b = NULL;
    sim_model_layout layout;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    SIM_TRY(sim_new(&b, "method/branch"));
    b->shape = sim_online_shape(env, views);
    b->n_nets = layout.has[SIM_PREDICTOR] ? SIM_PREDICTOR + 1 : SIM_PREDICTOR;
    b->reducer = sim_reducer_of(env->comm);
    SIM_TRY(sim_model_create(&layout, SIM_ALL_NETS, &b->model));
    size_t images = sim_batch_images(&b->shape);
    for (size_t i = 0; i < b->n_nets; i++) {
        size_t n = images * sim_net_dim(b->model.net[i]);
        SIM_TRY(
            sim_tape_create(b->model.net[i], &b->shape, &b->reducer, true, &b->tape[i]));
        SIM_TRY(sim_alloc(&b->out[i], n, "method/embeddings"));
        SIM_TRY(sim_alloc(&b->dout[i], n, "method/embeddings"));
    }
    *out = b;
    b = NULL;
done:
    sim_online_destroy(&b);
    return st;
}

void sim_online_destroy(online_encoder **out)
{
    online_encoder *b = *out;
    if (!b)
        return;
    for (size_t i = 0; i < SIM_MODEL_NETS; i++) {
        sim_tape_destroy(&b->tape[i]);
        sim_free(b->out[i]);
        sim_free(b->dout[i]);
    }
    sim_model_destroy(&b->model);
    sim_free(b);
    *out = NULL;
}

size_t sim_online_dim(const online_encoder *b, int net)
{
    return sim_net_dim(b->model.net[net]);
}

size_t sim_online_parameters(const online_encoder *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_nets; i++)
        n += sim_net_parameters(b->model.net[i]);
    return n;
}

/* ---- passes ---- */

void sim_online_forward(online_encoder *b, const float *x)
{
    for (size_t i = 0; i < b->n_nets; i++)
        sim_net_forward(b->tape[i], i ? b->out[i - 1] : x, b->out[i]);
}

void sim_online_backward(online_encoder *b, float *grads, size_t stride)
{
    size_t at = sim_online_parameters(b);
    for (size_t i = b->n_nets; i-- > 0;) {
        at -= sim_net_parameters(b->model.net[i]);
        sim_net_backward(b->tape[i], b->dout[i], i ? b->dout[i - 1] : NULL, grads + at,
                         stride);
    }
}

void sim_online_updated(online_encoder *b)
{
    for (size_t i = 0; i < b->n_nets; i++)
        sim_net_pack(b->model.net[i], true);
}

size_t sim_online_nets(const online_encoder *b, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS])
{
    for (size_t i = 0; i < b->n_nets; i++) {
        nets[i] = b->model.net[i];
        groups[i] = sim_model_group((int)i);
    }
    return b->n_nets;
}

sim_status sim_online_visit(online_encoder *b, const sim_visitor *v)
{
    return sim_model_visit(&b->model, "weights", v);
}

/* ---- the plan ---- */

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

void sim_online_plan_scratch(size_t bytes_of_thread, sim_plan_row *rows, size_t n_rows)
{
    size_t bytes = sim_scratch_capacity(bytes_of_thread) * (size_t)sim_threads();
    for (size_t i = 0; i < n_rows; i++)
        if (strcmp(rows[i].item, "scratch") == 0 && rows[i].bytes < bytes)
            rows[i].bytes = bytes;
}

void sim_online_plan_loss(size_t d, sim_plan_row *rows, size_t n_rows)
{
    sim_online_plan_scratch(sim_ntxent_scratch(d), rows, n_rows);
}

/* ---- unit rows ---- */

sim_status sim_unit_rows_create(const sim_batch_shape *s, size_t d, unit_rows *out)
{
    sim_status st = SIM_OK;
    size_t n = sim_batch_images(s);

    *out = (unit_rows){.n = n, .d = d};
    SIM_TRY(sim_alloc(&out->raw, n * d, "method/rows"));
    SIM_TRY(sim_alloc(&out->z, n * d, "method/rows"));
    SIM_TRY(sim_alloc(&out->norm, n, "method/rows"));
    SIM_TRY(sim_alloc(&out->dz, n * d, "method/rows"));
done:
    return st; /* the owner releases what was made */
}

void sim_unit_rows_release(unit_rows *r)
{
    SIM_FREE(r->raw);
    SIM_FREE(r->z);
    SIM_FREE(r->norm);
    SIM_FREE(r->dz);
}

size_t sim_unit_rows_bytes(const sim_batch_shape *s, size_t d)
{
    return sim_batch_images(s) * (3 * d + 1) * sizeof(float);
}

void sim_unit_rows_load(unit_rows *r, const sim_batch_shape *s, const float *by_block)
{
    sim_rows_by_view(s, r->d, by_block, r->raw);
    sim_unit_rows(r->n, r->d, r->raw, r->z, r->norm);
}

void sim_unit_rows_store_gradient(unit_rows *r, const sim_batch_shape *s, float *by_block)
{
    sim_unit_rows_backward(r->n, r->d, r->z, r->norm, r->dz, r->raw);
    sim_rows_by_block(s, r->d, r->raw, by_block);
}
