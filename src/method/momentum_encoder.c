/*
 * momentum_encoder.c - the momentum encoder of MoCo: w <- m w + (1 - m) w_online.
 *
 * In: the online encoder and views.  Out: keys before normalization.
 * Called by common.c between the forward passes of queries and keys.
 * Paper: He et al. 2020, arXiv 1911.05722, equation 2.
 */
#include "momentum_encoder.h"

#include "simile/memory.h"

#include <string.h>

static const char *const momentum_groups[MOMENTUM_NETS] = {"momentum/encoder",
                                                           "momentum/projector"};

/* ---- running statistics, which are accessible through visitors only ---- */

/* The next tensor of the copy `statistics`. */
typedef struct {
    char *next;
    double factor;
} statistics_cursor;

static size_t tensor_bytes(const sim_tensor *t)
{
    return sim_tensor_count(t) * sim_type_bytes(t->type);
}

static sim_status count_bytes(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    *(size_t *)ctx += tensor_bytes(t);
    return SIM_OK;
}

static sim_status save_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    statistics_cursor *c = ctx;
    (void)group;
    memcpy(c->next, t->data, tensor_bytes(t));
    c->next += tensor_bytes(t);
    return SIM_OK;
}

static sim_status load_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    statistics_cursor *c = ctx;
    (void)group;
    memcpy(t->data, c->next, tensor_bytes(t));
    c->next += tensor_bytes(t);
    return SIM_OK;
}

/* Batch counters are integers: they are copied. */
static sim_status average_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    statistics_cursor *c = ctx;
    if (t->type != SIM_F32)
        return load_tensor(ctx, group, t);
    sim_momentum_update(sim_tensor_count(t), c->factor,
                        (const float *)(const void *)c->next, t->data);
    c->next += tensor_bytes(t);
    return SIM_OK;
}

typedef sim_status tensor_fn(void *ctx, const char *group, const sim_tensor *t);

/* Calls fn for every running statistic of the networks, in the order of m->statistics. */
static void for_each_statistic(momentum_encoder *m, sim_net *const *nets, tensor_fn *fn,
                               double factor)
{
    statistics_cursor c = {.next = m->statistics, .factor = factor};
    const sim_visitor v = {.visit = fn, .ctx = &c};
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        sim_status st = sim_net_visit_buffers(nets[i], "", &v);
        SIM_ASSERT(st == SIM_OK);
    }
}

static sim_status count_statistics_bytes(const momentum_encoder *m, size_t *n_bytes)
{
    sim_status st = SIM_OK;
    const sim_visitor v = {.visit = count_bytes, .ctx = n_bytes};
    *n_bytes = 0;
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        SIM_TRY(sim_net_visit_buffers(m->model.net[i], "", &v));
done:
    return st;
}

/* ---- creation ---- */

sim_status sim_momentum_encoder_create(const sim_method_env *env,
                                       const sim_model_spec *spec, size_t views,
                                       bool averages_statistics, momentum_encoder **out)
{
    sim_status st = SIM_OK;
    momentum_encoder *m = NULL;
    sim_model_layout layout;
    size_t n_bytes = 0;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    SIM_TRY(sim_new(&m, "method/momentum"));
    m->averages_statistics = averages_statistics;
    m->shape = sim_online_shape(env, views);
    m->reducer = sim_reducer_of(env->comm);
    SIM_TRY(sim_model_create(&layout, SIM_MOMENTUM_NETS, &m->model));
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        size_t n = sim_batch_images(&m->shape) * sim_net_dim(m->model.net[i]);
        SIM_TRY(
            sim_tape_create(m->model.net[i], &m->shape, &m->reducer, false, &m->tape[i]));
        SIM_TRY(sim_alloc(&m->out[i], n, "method/keys"));
    }
    SIM_TRY(count_statistics_bytes(m, &n_bytes));
    SIM_TRY(sim_alloc(&m->statistics, n_bytes, "method/momentum"));
    *out = m;
    m = NULL;
done:
    sim_momentum_encoder_destroy(&m);
    return st;
}

void sim_momentum_encoder_destroy(momentum_encoder **out)
{
    momentum_encoder *m = *out;
    if (!m)
        return;
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        sim_tape_destroy(&m->tape[i]);
        sim_free(m->out[i]);
    }
    sim_model_destroy(&m->model);
    sim_free(m->statistics);
    sim_free(m);
    *out = NULL;
}

/* ---- updates and forward passes ---- */

void sim_momentum_encoder_copy(momentum_encoder *m, const online_encoder *online)
{
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        memcpy(sim_net_weights(m->model.net[i]), sim_net_weights(online->model.net[i]),
               sim_net_parameters(online->model.net[i]) * sizeof(float));
    for_each_statistic(m, online->model.net, save_tensor, 0);
    for_each_statistic(m, m->model.net, load_tensor, 0);
}

void sim_momentum_encoder_update(momentum_encoder *m, const online_encoder *online,
                                 double factor)
{
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        sim_momentum_update(sim_net_parameters(online->model.net[i]), factor,
                            sim_net_weights(online->model.net[i]),
                            sim_net_weights(m->model.net[i]));
    if (!m->averages_statistics)
        return;
    for_each_statistic(m, online->model.net, save_tensor, 0);
    for_each_statistic(m, m->model.net, average_tensor, factor);
}

void sim_momentum_encoder_forward(momentum_encoder *m, const float *x)
{
    if (m->averages_statistics)
        for_each_statistic(m, m->model.net, save_tensor, 0);
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        sim_net_forward(m->tape[i], i ? m->out[i - 1] : x, m->out[i]);
    if (m->averages_statistics)
        for_each_statistic(m, m->model.net, load_tensor, 0);
}

size_t sim_momentum_encoder_nets(const momentum_encoder *m, sim_net *nets[SIM_MAX_NETS],
                                 const char *groups[SIM_MAX_NETS])
{
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        nets[i] = m->model.net[i];
        groups[i] = momentum_groups[i];
    }
    return MOMENTUM_NETS;
}

sim_status sim_momentum_encoder_visit(momentum_encoder *m, const sim_visitor *v)
{
    return sim_model_visit(&m->model, "momentum", v);
}

/* ---- memory plan ---- */

/* Items of the encoder's plan, and their names for the momentum encoder. */
static const char *const plan_items[][2] = {
    {"weights", "momentum weights"},        {"running statistics", "momentum statistics"},
    {"packed filters", "momentum filters"}, {"activations", "momentum activations"},
    {"batch-norm sums", "momentum sums"},   {"layers", "momentum layers"}};
enum { N_ITEMS = sizeof plan_items / sizeof plan_items[0] };

static sim_status plan_momentum_nets(const sim_method_env *env,
                                     const sim_model_spec *spec,
                                     const sim_batch_shape *shape, size_t bytes[N_ITEMS])
{
    sim_status st = SIM_OK;
    sim_model_layout layout;
    sim_plan_row rows[16];
    size_t n = 0;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    SIM_TRY(
        sim_net_plan_forward(&layout.backbone, &layout.projector, 1, shape, rows, &n));
    for (size_t i = 0; i < N_ITEMS; i++) {
        bytes[i] = 0;
        for (size_t k = 0; k < n; k++)
            if (strcmp(rows[k].item, plan_items[i][0]) == 0)
                bytes[i] += rows[k].bytes;
    }
done:
    return st;
}

sim_status sim_momentum_encoder_plan(const sim_method_env *env,
                                     const sim_model_spec *spec, size_t views,
                                     sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_batch_shape shape = sim_online_shape(env, views);
    size_t bytes[N_ITEMS];

    SIM_TRY(plan_momentum_nets(env, spec, &shape, bytes));
    for (size_t i = 0; i < N_ITEMS; i++)
        sim_plan_add(rows, n_rows, plan_items[i][1], bytes[i]);
    size_t dims = sim_backbone_dim(env->encoder) + (size_t)env->encoder->projector_dim;
    sim_plan_add(rows, n_rows, "momentum copy",
                 bytes[1] + sim_batch_images(&shape) * dims * sizeof(float));
done:
    return st;
}

size_t sim_momentum_encoder_saved_bytes(const sim_method_env *env,
                                        const sim_model_spec *spec)
{
    const sim_batch_shape shape = sim_online_shape(env, 1);
    size_t bytes[N_ITEMS];
    return plan_momentum_nets(env, spec, &shape, bytes) == SIM_OK ? bytes[0] + bytes[1]
                                                                  : 0;
}
