/*
 * momentum_encoder.c - the momentum encoder: a copy of encoder and projector that follows slowly.
 *
 * In: the trained branch and views.  Out: keys before normalisation.
 * Called by: moco.c and the other methods with such a copy, between the pass of the queries
 * and that of the keys.  Paper: He et al. 2020, arXiv 1911.05722, equation 2.
 */
#include "momentum_encoder.h"

#include "simile/memory.h"

#include <string.h>

static const char *const groups_of[MOMENTUM_NETS] = {"momentum/encoder",
                                                     "momentum/projector"};

/* ---- running statistics, which only visitors see ---- */

typedef struct {
    char *at;
    double m;
} walker;

static size_t bytes_of(const sim_tensor *t)
{
    return sim_tensor_count(t) * sim_type_bytes(t->type);
}

static sim_status count(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    *(size_t *)ctx += bytes_of(t);
    return SIM_OK;
}

static sim_status take_out(void *ctx, const char *group, const sim_tensor *t)
{
    walker *w = ctx;
    (void)group;
    memcpy(w->at, t->data, bytes_of(t));
    w->at += bytes_of(t);
    return SIM_OK;
}

static sim_status put_in(void *ctx, const char *group, const sim_tensor *t)
{
    walker *w = ctx;
    (void)group;
    memcpy(t->data, w->at, bytes_of(t));
    w->at += bytes_of(t);
    return SIM_OK;
}

/* Counts of batches are taken over as they are. */
static sim_status average_in(void *ctx, const char *group, const sim_tensor *t)
{
    walker *w = ctx;
    if (t->type != SIM_F32)
        return put_in(ctx, group, t);
    sim_momentum_update(sim_tensor_count(t), w->m, (const float *)(const void *)w->at,
                        t->data);
    w->at += bytes_of(t);
    return SIM_OK;
}

typedef sim_status see_fn(void *ctx, const char *group, const sim_tensor *t);

/* `see` walks the statistics of the nets, and t->kept beside them. */
static void walk(momentum_encoder *t, sim_net *const *nets, see_fn *see, double m)
{
    walker w = {.at = t->kept, .m = m};
    const sim_visitor v = {.see = see, .ctx = &w};
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        sim_status st = sim_net_visit_buffers(nets[i], "", &v);
        SIM_ASSERT(st == SIM_OK);
    }
}

static sim_status count_statistics(const momentum_encoder *t, size_t *n_bytes)
{
    sim_status st = SIM_OK;
    const sim_visitor v = {.see = count, .ctx = n_bytes};
    *n_bytes = 0;
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        SIM_TRY(sim_net_visit_buffers(t->model.net[i], "", &v));
done:
    return st;
}

/* ---- what it is ---- */

sim_status sim_momentum_encoder_create(const sim_method_env *env,
                                       const sim_model_spec *spec, size_t views,
                                       bool averages_statistics, momentum_encoder **out)
{
    sim_status st = SIM_OK;
    momentum_encoder *t = NULL;
    sim_model_layout layout;
    size_t n_bytes = 0;

    SIM_TRY(sim_online_lay_out(env, spec, &layout));
    SIM_TRY(sim_new(&t, "method/target"));
    t->averages_statistics = averages_statistics;
    t->shape = sim_online_shape(env, views);
    t->reducer = sim_reducer_of(env->comm);
    SIM_TRY(sim_model_create(&layout, SIM_MOMENTUM_NETS, &t->model));
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        size_t n = sim_batch_images(&t->shape) * sim_net_dim(t->model.net[i]);
        SIM_TRY(
            sim_tape_create(t->model.net[i], &t->shape, &t->reducer, false, &t->tape[i]));
        SIM_TRY(sim_alloc(&t->out[i], n, "method/keys"));
    }
    SIM_TRY(count_statistics(t, &n_bytes));
    SIM_TRY(sim_alloc(&t->kept, n_bytes, "method/target"));
    *out = t;
    t = NULL;
done:
    sim_momentum_encoder_destroy(&t);
    return st;
}

void sim_momentum_encoder_destroy(momentum_encoder **out)
{
    momentum_encoder *t = *out;
    if (!t)
        return;
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        sim_tape_destroy(&t->tape[i]);
        sim_free(t->out[i]);
    }
    sim_model_destroy(&t->model);
    sim_free(t->kept);
    sim_free(t);
    *out = NULL;
}

/* ---- passes ---- */

void sim_momentum_encoder_copy(momentum_encoder *t, const online_encoder *b)
{
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        memcpy(sim_net_weights(t->model.net[i]), sim_net_weights(b->model.net[i]),
               sim_net_parameters(b->model.net[i]) * sizeof(float));
    walk(t, b->model.net, take_out, 0);
    walk(t, t->model.net, put_in, 0);
}

void sim_momentum_encoder_update(momentum_encoder *t, const online_encoder *b, double m)
{
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        sim_momentum_update(sim_net_parameters(b->model.net[i]), m,
                            sim_net_weights(b->model.net[i]),
                            sim_net_weights(t->model.net[i]));
        sim_net_pack(t->model.net[i], false);
    }
    if (!t->averages_statistics)
        return;
    walk(t, b->model.net, take_out, 0);
    walk(t, t->model.net, average_in, m);
}

void sim_momentum_encoder_forward(momentum_encoder *t, const float *x)
{
    if (t->averages_statistics)
        walk(t, t->model.net, take_out, 0);
    for (size_t i = 0; i < MOMENTUM_NETS; i++)
        sim_net_forward(t->tape[i], i ? t->out[i - 1] : x, t->out[i]);
    if (t->averages_statistics)
        walk(t, t->model.net, put_in, 0);
}

size_t sim_momentum_encoder_nets(const momentum_encoder *t, sim_net *nets[SIM_MAX_NETS],
                                 const char *groups[SIM_MAX_NETS])
{
    for (size_t i = 0; i < MOMENTUM_NETS; i++) {
        nets[i] = t->model.net[i];
        groups[i] = groups_of[i];
    }
    return MOMENTUM_NETS;
}

sim_status sim_momentum_encoder_visit(momentum_encoder *t, const sim_visitor *v)
{
    return sim_model_visit(&t->model, "momentum", v);
}

/* ---- the plan ---- */

/* The encoder's words for the items of a pass, and ours. */
static const char *const items[][2] = {
    {"weights", "momentum weights"},        {"running statistics", "momentum statistics"},
    {"packed filters", "momentum filters"}, {"activations", "momentum activations"},
    {"batch-norm sums", "momentum sums"},   {"layers", "momentum layers"}};
enum { N_ITEMS = sizeof items / sizeof items[0] };

static sim_status plan_nets(const sim_method_env *env, const sim_model_spec *spec,
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
            if (strcmp(rows[k].item, items[i][0]) == 0)
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

    SIM_TRY(plan_nets(env, spec, &shape, bytes));
    for (size_t i = 0; i < N_ITEMS; i++)
        sim_plan_add(rows, n_rows, items[i][1], bytes[i]);
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
    return plan_nets(env, spec, &shape, bytes) == SIM_OK ? bytes[0] + bytes[1] : 0;
}
