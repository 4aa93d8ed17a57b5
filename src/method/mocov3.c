/*
 * mocov3.c - predictions of one view against the keys of the other, over the batch alone.
 *
 * In: two views of the local blocks.  Out: the loss over the global batch and gradients.
 * images -> backbone -> projector -> predictor -> q; the same images -> momentum copy of
 * backbone and projector -> k; both to unit length.  The loss is 2 T CE(q1, k2) + 2 T
 * CE(q2, k1) over all keys of the batch; no queue.
 * Paper: Chen, Xie, He 2021, arXiv 2104.02057 (its part on ResNets).
 */
#include "arrays.h"
#include "common.h"

#include "simile/memory.h"

enum { VIEWS = 2 };

typedef struct {
    softmax_options softmax;
    double momentum;
    int64_t predictor_hidden;
    int momentum_schedule; /* constant|cosine */
    int denominator;       /* full|decoupled */
    int bn_buffers;        /* own|ema */
} options;

static const sim_option rows[] = {
    KEYS_TEMPERATURE(options, 10.0, "1.0", "softmax temperature"),
    KEY_REAL(options, "momentum", momentum, 0, 1, "0.99",
             "share of itself that the key encoder keeps in a step"),
    KEY_CHOICE(options, "momentum_schedule", momentum_schedule, "cosine",
               "constant|cosine", "cosine: rises to 1 over the run"),
    KEY_CHOICE(options, "bn_buffers", bn_buffers, "own", "own|ema",
               "running statistics of the key encoder: of its own passes, or a moving "
               "average of the query encoder's"),
    KEY_INT(options, "predictor_hidden", predictor_hidden, 1, 65536, "4096", "",
            "hidden width of the predictor"),
    KEY_CHOICE(options, "denominator", denominator, "full", "full|decoupled",
               "whether the positive stands in the denominator"),
};
static const sim_option_table table = KEY_TABLE(options, rows);

static const sim_method_default defaults[] = {
    {"encoder.projector.layers", "2"},     {"encoder.projector.hidden", "4096"},
    {"encoder.projector.dim", "256"},      {"encoder.projector.bn", "true"},
    {"encoder.projector.last_bn", "true"}, {"augment.preset", "byol"},
    {"schedule.shape", "cosine"}};

/* ---- the loss, in training and on files ---- */

/* Both views' rows of this rank, of unit length, [view][mine][d]. */
typedef struct {
    size_t mine, d;
    const float *q, *k;
    float *dq; /* gradient with respect to q */
} pairs;

static void contrast(sim_cross *e, const options *o, double t, const pairs *r,
                     sim_loss_report *report)
{
    const sim_cross_options loss = {
        .temperature = t, .factor = 2 * t, .decoupled = o->denominator == 1};
    sim_loss_report one;

    *report = (sim_loss_report){0};
    for (size_t v = 0; v < VIEWS; v++) {
        size_t own = v * r->mine * r->d, other = (1 - v) * r->mine * r->d;
        sim_cross_softmax(e, &loss, r->q + own, r->k + other, r->dq + own, NULL, &one);
        sim_loss_report_add(&one, 1.0 / VIEWS, report);
    }
    report->d_log_temperature += report->loss; /* the factor depends on T too */
}

/* ---- the method ---- */

typedef struct {
    method_common common;
    options options;
    unit_rows queries, keys;
    sim_cross *cross;
} mocov3;

static sim_model_spec mocov3_model(const void *opaque)
{
    const options *o = opaque;
    return (sim_model_spec){.projector = true,
                            .predictor_hidden = (size_t)o->predictor_hidden,
                            .heads = SIM_HEADS_MOCOV3};
}

static void destroy(void **self)
{
    mocov3 *m = *self;
    if (!m)
        return;
    sim_common_release(&m->common);
    sim_unit_rows_release(&m->queries);
    sim_unit_rows_release(&m->keys);
    sim_cross_destroy(&m->cross);
    sim_free(m);
    *self = NULL;
}

static sim_status create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    mocov3 *m = NULL;
    void *out = NULL;
    const sim_model_spec spec = mocov3_model(o);
    const sim_rows_shape shape = sim_common_rows(env, 1);

    SIM_TRY(sim_new(&m, "method/mocov3"));
    out = m;
    m->options = *o;
    m->common.temperature = sim_temperature_begin(&o->softmax);
    SIM_TRY(sim_common_create(env, &spec, VIEWS, &m->common));
    SIM_TRY(sim_momentum_encoder_create(env, &spec, VIEWS, o->bn_buffers == 1,
                                        &m->common.momentum));
    SIM_TRY(sim_unit_rows_create(&m->common.encoder->shape, shape.d, &m->queries));
    SIM_TRY(sim_unit_rows_create(&m->common.encoder->shape, shape.d, &m->keys));
    SIM_TRY(sim_cross_create(env->comm, &shape, &m->cross));
    *self = out;
    out = NULL;
done:
    destroy(&out);
    return st;
}

static void forward(void *self, const sim_method_batch *batch)
{
    mocov3 *m = self;
    const options *o = &m->options;
    sim_online_forward(m->common.encoder, batch->x);
    sim_momentum_encoder_update(
        m->common.momentum, m->common.encoder,
        sim_momentum_factor(o->momentum, o->momentum_schedule == 1, batch->progress));
    sim_momentum_encoder_forward(m->common.momentum, batch->x);
}

static void compare(void *self, const sim_method_batch *batch, sim_loss_report *report)
{
    mocov3 *m = self;
    const online_encoder *b = m->common.encoder;
    const pairs r = {.mine = m->queries.n / VIEWS,
                     .d = m->queries.d,
                     .q = m->queries.z,
                     .k = m->keys.z,
                     .dq = m->queries.dz};

    (void)batch;
    sim_unit_rows_load(&m->queries, &b->shape, b->out[SIM_PREDICTOR]);
    sim_unit_rows_load(&m->keys, &b->shape, m->common.momentum->out[SIM_PROJECTOR]);
    contrast(m->cross, &m->options, sim_temperature_value(&m->common.temperature), &r,
             report);
    sim_unit_rows_store_gradient(&m->queries, &b->shape, b->dout[SIM_PREDICTOR]);
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    static const step_parts step = {forward, compare, sim_common_backward};
    sim_method_step_run(&step, self, batch, grads, report, times);
}

static sim_embeddings embeddings(void *self)
{
    const mocov3 *m = self;
    return (sim_embeddings){.z = m->queries.z, .views = VIEWS, .dim = m->queries.d};
}

static const char *reduction(const void *opaque)
{
    (void)opaque;
    return "2 T times the mean over queries, summed over both directions";
}

static sim_status about(void *self, char **text)
{
    const mocov3 *m = self;
    const options *o = &m->options;
    char temperature_text[64];

    sim_temperature_about(&m->common.temperature, temperature_text,
                          sizeof temperature_text);
    return sim_text_format("method/about", text,
                           "%zu negatives per anchor%s, %s, key encoder's momentum %g%s, "
                           "%s",
                           m->common.batch - 1, o->denominator == 1 ? ", decoupled" : "",
                           temperature_text, o->momentum,
                           o->momentum_schedule == 1 ? " rising to 1" : "", reduction(o));
}

/* ---- the plan ---- */

static sim_status plan(const sim_method_env *env, const void *opaque,
                       sim_plan_row plan_rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_model_spec spec = mocov3_model(opaque);
    const sim_rows_shape loss = sim_common_rows(env, 1);
    const sim_batch_shape shape = sim_online_shape(env, VIEWS);

    SIM_TRY(sim_online_plan(env, &spec, VIEWS, plan_rows, n_rows));
    sim_online_plan_loss(loss.d, plan_rows, *n_rows);
    SIM_TRY(sim_momentum_encoder_plan(env, &spec, VIEWS, plan_rows, n_rows));
    sim_plan_add(plan_rows, n_rows, "rows for the loss",
                 2 * sim_unit_rows_bytes(&shape, loss.d));
    sim_plan_add(plan_rows, n_rows, "loss", sim_cross_bytes(&loss));
done:
    return st;
}

static size_t saved_bytes(const sim_method_env *env, const void *opaque)
{
    const sim_model_spec spec = mocov3_model(opaque);
    return sim_momentum_encoder_saved_bytes(env, &spec);
}

/* ---- simile loss ---- */

typedef struct {
    array_rows p, k;
    sim_cross *cross;
} given;

static sim_status read_all(const sim_comm *c, const sim_arrays *a, given *g)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_read(c, a, "p", VIEWS, &g->p));
    SIM_TRY(sim_array_rows_read(c, a, "k", VIEWS, &g->k));
    SIM_TRY(sim_array_rows_same(&g->k, "k1", &g->p, "p1"));
    sim_rows_shape one = g->p.shape;
    one.views = 1;
    SIM_TRY(sim_cross_create(c, &one, &g->cross));
done:
    return st;
}

static sim_status compute(const sim_comm *c, const void *opaque, const sim_arrays *a,
                          double *loss)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    given g = {.cross = NULL};
    sim_loss_report report;

    SIM_TRY(sim_comm_agree(c, read_all(c, a, &g)));
    const pairs r = {.mine = g.p.mine.hi - g.p.mine.lo,
                     .d = g.p.shape.d,
                     .q = g.p.z,
                     .k = g.k.z,
                     .dq = g.p.dz};
    contrast(g.cross, o, o->softmax.temperature, &r, &report);
    SIM_TRY(sim_array_rows_write(a, "dp", &g.p));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_array_rows_release(&g.p);
    sim_array_rows_release(&g.k);
    sim_cross_destroy(&g.cross);
    return st;
}

const sim_method_row sim_method_mocov3 = {
    .name = "mocov3",
    .paper = "arXiv 2104.02057",
    .table = &table,
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .model = mocov3_model,
    .parts = sim_common_two_views,
    .create = create,
    .destroy = destroy,
    .forward_backward = forward_backward,
    .updated = sim_common_updated,
    .started = sim_common_started,
    .nets = sim_common_nets,
    .scalars = sim_common_scalars,
    .scalar_gradient_bound = sim_temperature_gradient_bound_unit,
    .momentum_nets = sim_common_momentum_nets,
    .visit = sim_common_visit,
    .embeddings = embeddings,
    .about = about,
    .plan = plan,
    .saved_bytes = saved_bytes,
    .reduction = reduction,
    .compute = compute};
