/*
 * common.c - the common part of all methods with one online encoder.
 *
 * images -> online encoder -> unit rows -> loss of the method, and backward.
 * Called by: simclr.c, siglip.c, moco.c, mocov3.c, nnclr.c, supervised.c, and through their rows by train.
 */
#include "common.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

sim_rows_shape sim_common_rows(const sim_method_env *env, size_t views)
{
    return (sim_rows_shape){.n = env->batch,
                            .unit = env->block,
                            .views = views,
                            .d = (size_t)env->encoder->projector_dim,
                            .gather = env->gather};
}

/* ---- creation, memory plan, destruction ---- */

enum { N_BUFFERS = 3 };

static void list_common_buffers(method_common *m, const method_spec *s,
                                sim_buffer list[N_BUFFERS])
{
    list[0] = (sim_buffer){&m->options, s->options_bytes, 1};
    list[1] = SIM_BUFFER(m->work, s->work_floats);
    list[2] = SIM_BUFFER(m->slots, s->n_slots);
}

static sim_queue_shape queue_shape(const sim_method_env *env, const method_spec *s)
{
    return (sim_queue_shape){.k = s->queue_size, .rows = sim_common_rows(env, 1)};
}

/* The logits of the global batch, as the loss describes them. */
static sim_rows_shape logits_shape(const sim_method_env *env, const method_spec *s)
{
    return (sim_rows_shape){
        .n = env->batch, .unit = env->block, .views = 1, .d = s->model.classes};
}

static size_t slots_of_rank(const sim_method_env *env)
{
    const sim_batch_shape one = sim_online_shape(env, 1);
    return sim_batch_images(&one);
}

static sim_status create_loss(const sim_method_env *env, const method_spec *s,
                              method_common *m)
{
    sim_status st = SIM_OK;
    const sim_rows_shape one = sim_common_rows(env, 1);
    const sim_rows_shape all = sim_common_rows(env, s->views + env->small.n);
    const sim_rows_shape logits = logits_shape(env, s);
    const sim_queue_shape queue = queue_shape(env, s);

    for (size_t i = 0; i < MAX_ROW_SETS && s->row_views[i] > 0; i++)
        SIM_TRY(sim_unit_rows_create(s->row_views[i], slots_of_rank(env), one.d,
                                     &m->rows[i]));
    if (s->contrast)
        SIM_TRY(sim_contrast_create(env->comm, &all, &m->contrast));
    if (s->cross)
        SIM_TRY(sim_cross_create(env->comm, &one, &m->cross));
    if (s->cross_entropy)
        SIM_TRY(sim_cross_entropy_create(env->comm, &logits, &m->cross_entropy));
    if (s->queue_size) {
        SIM_TRY(sim_queue_create(env->comm, &queue, &m->queue));
        sim_queue_draw(m->queue, env->seed);
    }
done:
    return st;
}

sim_status sim_common_create(const sim_method_env *env, const method_spec *s, void **self)
{
    sim_status st = SIM_OK;
    method_common *m = NULL;
    void *created = NULL;
    sim_buffer list[N_BUFFERS];

    SIM_TRY(sim_new(&m, "method/common"));
    created = m;
    m->comm = env->comm;
    m->batch = env->batch;
    m->scalars = s->scalars;
    list_common_buffers(m, s, list);
    SIM_TRY(sim_buffers_create(list, N_BUFFERS, "method/common"));
    memcpy(m->options, s->options, s->options_bytes);
    SIM_TRY(sim_online_create(env, &s->model, s->views, &m->online));
    if (s->momentum)
        SIM_TRY(sim_momentum_encoder_create(env, &s->model, s->views,
                                            s->averages_statistics, &m->momentum));
    SIM_TRY(create_loss(env, s, m));
    *self = created;
    created = NULL;
done:
    sim_common_destroy(&created);
    return st;
}

void sim_common_destroy(void **self)
{
    static const method_spec none = {0};
    method_common *m = *self;
    sim_buffer list[N_BUFFERS];

    if (!m)
        return;
    sim_online_destroy(&m->online);
    sim_momentum_encoder_destroy(&m->momentum);
    for (size_t i = 0; i < MAX_ROW_SETS; i++)
        sim_unit_rows_destroy(&m->rows[i]);
    sim_contrast_destroy(&m->contrast);
    sim_cross_destroy(&m->cross);
    sim_cross_entropy_destroy(&m->cross_entropy);
    sim_queue_destroy(&m->queue);
    list_common_buffers(m, &none, list);
    sim_buffers_destroy(list, N_BUFFERS);
    sim_free(m);
    *self = NULL;
}

/* Scratch memory per thread of the loss, which follows that of the layers. */
static void plan_scratch(const method_spec *s, size_t d, sim_plan_row *rows,
                         size_t n_rows)
{
    if (s->contrast || s->cross)
        sim_online_plan_scratch(sim_ntxent_scratch(d), rows, n_rows);
    if (s->queue_size)
        sim_online_plan_scratch(sim_queue_scratch(d), rows, n_rows);
}

static size_t row_sets_bytes(const sim_method_env *env, const method_spec *s)
{
    size_t bytes = 0;
    for (size_t i = 0; i < MAX_ROW_SETS && s->row_views[i] > 0; i++)
        bytes += sim_unit_rows_bytes(s->row_views[i] * slots_of_rank(env),
                                     (size_t)env->encoder->projector_dim);
    return bytes;
}

sim_status sim_common_plan(const sim_method_env *env, const method_spec *s,
                           sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_rows_shape one = sim_common_rows(env, 1);
    const sim_rows_shape all = sim_common_rows(env, s->views + env->small.n);
    const sim_rows_shape logits = logits_shape(env, s);
    const sim_queue_shape queue = queue_shape(env, s);
    method_common none = {0};
    sim_buffer list[N_BUFFERS];

    list_common_buffers(&none, s, list);
    SIM_TRY(sim_online_plan(env, &s->model, s->views, rows, n_rows));
    plan_scratch(s, one.d, rows, *n_rows);
    if (s->momentum)
        SIM_TRY(sim_momentum_encoder_plan(env, &s->model, s->views, rows, n_rows));
    sim_plan_add(rows, n_rows, "rows for the loss",
                 row_sets_bytes(env, s) + sim_buffers_bytes(list, N_BUFFERS));
    if (s->contrast)
        sim_plan_add(rows, n_rows, "loss", sim_contrast_bytes(env->partition, &all));
    if (s->cross)
        sim_plan_add(rows, n_rows, "loss", sim_cross_bytes(env->partition, &one));
    if (s->cross_entropy)
        sim_plan_add(rows, n_rows, "loss", sim_cross_entropy_bytes(&logits));
    if (s->queue_size)
        sim_plan_add(rows, n_rows, "queue", sim_queue_bytes(env->partition, &queue));
done:
    return st;
}

size_t sim_common_saved_bytes(const sim_method_env *env, const method_spec *s)
{
    size_t queue = s->queue_size * (size_t)env->encoder->projector_dim * sizeof(float);
    return queue + (s->momentum ? sim_momentum_encoder_saved_bytes(env, &s->model) : 0);
}

/* ---- a step ---- */

void sim_common_forward(void *self, const sim_method_batch *batch)
{
    sim_online_forward(((method_common *)self)->online, batch->x[0], batch->small_x);
}

double sim_common_momentum(const momentum_options *o, double progress)
{
    return o->schedule == MOMENTUM_COSINE ? sim_momentum_factor(o->m, o->final, progress)
                                          : o->m;
}

void sim_common_momentum_about(const momentum_options *o, char *out, size_t out_bytes)
{
    if (o->schedule == MOMENTUM_COSINE)
        (void)snprintf(out, out_bytes, "momentum %g, by cosine to %g", o->m, o->final);
    else
        (void)snprintf(out, out_bytes, "momentum %g", o->m);
}

void sim_common_forward_keys(method_common *m, const momentum_options *o, double progress,
                             const float *x)
{
    sim_momentum_encoder_update(m->momentum, m->online, sim_common_momentum(o, progress));
    sim_momentum_encoder_forward(m->momentum, x);
}

void sim_common_backward(void *self, const sim_loss_report *report, float *grads)
{
    const method_common *m = self;
    const sim_batch_shape *shape = &m->online->group[0].shape;
    size_t weights = sim_online_parameters(m->online), own = weights + m->scalars.n;
    size_t stride = own + (m->online->n_groups - 1) * weights;
    sim_range nodes[SIM_TREE_MAX_NODES];

    if (m->idle) {
        memset(grads, 0,
               sim_tree_nodes(shape->n_blocks, shape->blocks, nodes) * stride *
                   sizeof *grads);
        return;
    }
    sim_online_backward(m->online, grads, own, stride);
    sim_scalars_gradient(&m->scalars, shape, report, weights, grads, stride);
}

/* ---- the other functions of a row ---- */

sim_model_spec sim_common_model(const void *options)
{
    (void)options;
    return (sim_model_spec){.projector = true};
}

size_t sim_common_two_views(const void *options, sim_part parts[SIM_MAX_PARTS])
{
    (void)options;
    parts[0] = (sim_part){.n_views = 2, .views = {0, 1}};
    return 1;
}

void sim_common_started(void *self)
{
    method_common *m = self;
    sim_momentum_encoder_copy(m->momentum, m->online);
}

bool sim_common_idle(void *self)
{
    return ((method_common *)self)->idle;
}

size_t sim_common_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS])
{
    return sim_online_nets(((method_common *)self)->online, nets, groups);
}

const sim_model *sim_common_networks(void *self)
{
    return &((method_common *)self)->online->model;
}

size_t sim_common_momentum_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                                const char *groups[SIM_MAX_NETS])
{
    return sim_momentum_encoder_nets(((method_common *)self)->momentum, nets, groups);
}

size_t sim_common_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS])
{
    return sim_scalars_list(&((method_common *)self)->scalars, out);
}

sim_queue *sim_common_queue(void *self)
{
    return ((method_common *)self)->queue;
}

sim_embeddings sim_common_embeddings(void *self)
{
    const method_common *m = self;
    return (sim_embeddings){
        .z = m->rows[0].z, .views = m->rows[0].views, .dim = m->rows[0].d};
}

sim_status sim_common_visit(void *self, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    method_common *m = self;

    SIM_TRY(sim_online_visit(m->online, v));
    SIM_TRY(sim_scalars_visit(&m->scalars, v));
    if (m->momentum)
        SIM_TRY(sim_momentum_encoder_visit(m->momentum, v));
    if (m->queue)
        SIM_TRY(sim_queue_visit(m->queue, "queue", v));
done:
    return st;
}

void sim_common_advise_queue(int64_t queue_size, size_t n_images, const char *consequence)
{
    if ((size_t)queue_size > n_images / 8)
        sim_log_warn(
            "method.queue_size: %lld is more than an eighth of the data set (%zu "
            "images), so %s; recommended: at most %zu",
            (long long)queue_size, n_images, consequence, n_images / 8);
}
