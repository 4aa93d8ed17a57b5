/*
 * mocov3.c - MoCo v3: predictions of one view against the keys of the other, without a queue.
 *
 * images -> online encoder with predictor -> q;  the same images -> momentum encoder -> k;
 * both to unit length.  Over B images of the global batch:
 *
 *   CE(q, k) = 1 / B sum_i [ -q_i . k_i / T + log sum_j exp(q_i . k_j / T) ]
 *   L        = 2 T CE(q1, k2) + 2 T CE(q2, k1)
 *
 * Small views are further predictions: L is then twice the mean of 2 T CE over the pairs of a
 * prediction and keys of another view.  The gradient flows through q only.  The momentum encoder is
 * updated between the two passes.
 * Shapes: q [2 and small views][local images][projector_dim]; k [2][local images][projector_dim].
 * Paper: Chen, Xie, He 2021, arXiv 2104.02057, equation 1 and algorithm 1 (for ResNets).
 */
#include "arrays.h"
#include "common.h"
#include "view_pairs.h"

#include "simile/memory.h"

enum { VIEWS = 2 };

typedef struct {
    softmax_options softmax;
    momentum_options momentum;
    int64_t predictor_hidden;
} mocov3_options;

static const sim_option mocov3_rows[] = {
    KEYS_TEMPERATURE(mocov3_options, 10.0, "1.0"),
    KEYS_MOMENTUM(mocov3_options, "0.99", "cosine"),
    KEY_INT(mocov3_options, "predictor_hidden", predictor_hidden, 1, 65536, "4096", "",
            "hidden width of the predictor"),
    KEY_DENOMINATOR(mocov3_options, "full"),
};
static const sim_option_table mocov3_table = KEY_TABLE(mocov3_options, mocov3_rows);

static const sim_method_default mocov3_defaults[] = {
    {"encoder.projector.layers", "2"},     {"encoder.projector.hidden", "4096"},
    {"encoder.projector.dim", "256"},      {"encoder.projector.bn", "true"},
    {"encoder.projector.last_bn", "true"}, {"augment.preset", "byol"},
    {"schedule.shape", "cosine"}};

/* ---- objects ---- */

enum { QUERY_ROWS, KEY_ROWS }; /* of method_common.rows */

static sim_model_spec mocov3_model(const void *options)
{
    const mocov3_options *o = options;
    return (sim_model_spec){.projector = true,
                            .predictor_hidden = (size_t)o->predictor_hidden,
                            .heads = SIM_HEADS_MOCOV3};
}

/* `work` is that of view_pairs. */
static method_spec mocov3_spec(const sim_method_env *env, const mocov3_options *o)
{
    const sim_batch_shape one = sim_online_shape(env, 1);
    const size_t floats = sim_batch_images(&one) * (size_t)env->encoder->projector_dim;
    return (method_spec){.model = mocov3_model(o),
                         .views = VIEWS,
                         .options = o,
                         .options_bytes = sizeof *o,
                         .scalars = sim_temperature_scalars(&o->softmax),
                         .row_views = {VIEWS + env->small.n, VIEWS},
                         .momentum = true,
                         .averages_statistics = o->momentum.bn_buffers == BN_BUFFERS_EMA,
                         .cross = true,
                         .work_floats =
                             sim_pairs_work(VIEWS, VIEWS + env->small.n, floats)};
}

static sim_status mocov3_create(const sim_method_env *env, const void *options,
                                void **self)
{
    const method_spec spec = mocov3_spec(env, options);
    return sim_common_create(env, &spec, self);
}

static sim_status mocov3_plan(const sim_method_env *env, const void *options,
                              sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = mocov3_spec(env, options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

static size_t mocov3_saved_bytes(const sim_method_env *env, const void *options)
{
    const method_spec spec = mocov3_spec(env, options);
    return sim_common_saved_bytes(env, &spec);
}

/* ---- a step ---- */

static void mocov3_forward(void *self, const sim_method_batch *batch)
{
    method_common *m = self;
    const mocov3_options *o = m->options;
    sim_online_forward(m->online, batch->x[0], batch->small_x);
    sim_common_forward_keys(m, &o->momentum, batch->progress, batch->x[0]);
}

/* Predictions q of a view against keys k of another view. */
static void symmetric_loss(sim_cross *e, const mocov3_options *o, double t,
                           const unit_rows *q, const unit_rows *k, float *work,
                           sim_loss_report *report)
{
    const view_pairs p = {.targets = VIEWS,
                          .all = q->views,
                          .floats = k->n / VIEWS * q->d,
                          .dz = q->dz,
                          .work = work};
    const double share = 1 / (double)sim_pairs_count(&p);
    const sim_cross_options loss = {.temperature = t,
                                    .factor = 2 * t * (VIEWS * share),
                                    .decoupled =
                                        o->softmax.denominator == DENOMINATOR_DECOUPLED};
    sim_loss_report one;

    *report = (sim_loss_report){0};
    for (size_t v = 0; v < p.all; v++)
        for (size_t u = 0; u < VIEWS; u++) {
            if (!sim_pairs_has(&p, v, u))
                continue;
            sim_cross_softmax(e, &loss, q->z + v * p.floats, k->z + u * p.floats,
                              sim_pairs_gradient(&p, v, u), NULL, &one);
            sim_pairs_add(&p, v, u);
            sim_loss_report_add(&one, share, report);
        }
    report->d_log_temperature += report->loss; /* the factor depends on T too */
}

static void mocov3_loss(void *self, const sim_method_batch *batch,
                        sim_loss_report *report, float *grads)
{
    method_common *m = self;
    const mocov3_options *o = m->options;
    (void)batch;
    (void)grads;

    sim_online_load(m->online, SIM_PREDICTOR, &m->rows[QUERY_ROWS]);
    sim_unit_rows_load(&m->rows[KEY_ROWS], &m->momentum->shape,
                       m->momentum->out[SIM_PROJECTOR]);
    symmetric_loss(m->cross, o, sim_temperature_value(&o->softmax, &m->scalars),
                   &m->rows[QUERY_ROWS], &m->rows[KEY_ROWS], m->work, report);
    sim_online_store_gradient(m->online, SIM_PREDICTOR, &m->rows[QUERY_ROWS]);
}

/* ---- description ---- */

static const char *mocov3_reduction(const void *options)
{
    (void)options;
    return "2 T times the mean over queries, summed over both directions";
}

static double mocov3_momentum(const void *options, double progress)
{
    const mocov3_options *o = options;
    return sim_common_momentum(&o->momentum, progress);
}

static sim_status mocov3_about(void *self, char **text)
{
    const method_common *m = self;
    const mocov3_options *o = m->options;
    char temperature_text[64], momentum_text[64];

    sim_temperature_about(&o->softmax, temperature_text, sizeof temperature_text);
    sim_common_momentum_about(&o->momentum, momentum_text, sizeof momentum_text);
    return sim_text_format(
        "method/about", text, "%zu negatives per anchor%s, %s, %s, %s", m->batch - 1,
        o->softmax.denominator == DENOMINATOR_DECOUPLED ? ", decoupled" : "",
        temperature_text, momentum_text, mocov3_reduction(o));
}

/* ---- simile loss ---- */

typedef struct {
    array_rows p, k; /* predictions, keys */
    sim_cross *cross;
    float *work; /* of view_pairs */
} mocov3_inputs;

static sim_status mocov3_read_inputs(const sim_comm *c, const sim_arrays *a,
                                     mocov3_inputs *in)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_read_small(c, a, "p", VIEWS, &in->p));
    SIM_TRY(sim_array_rows_read(c, a, "k", VIEWS, &in->k));
    SIM_TRY(sim_array_rows_same(&in->k, "k1", &in->p, "p1"));
    sim_rows_shape one = in->p.shape;
    one.views = 1;
    SIM_TRY(sim_cross_create(c, &one, &in->cross));
    SIM_TRY(sim_array_pairs_work(VIEWS, &in->p, &in->work));
done:
    return st;
}

static sim_status mocov3_compute(const sim_comm *c, const void *options,
                                 const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    const mocov3_options *o = options;
    mocov3_inputs in = {.cross = NULL};
    sim_loss_report report;

    SIM_TRY(sim_comm_agree(c, mocov3_read_inputs(c, a, &in)));
    symmetric_loss(in.cross, o, o->softmax.temperature, &in.p.rows, &in.k.rows, in.work,
                   &report);
    SIM_TRY(sim_array_rows_write(a, "dp", &in.p));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_array_rows_release(&in.p);
    sim_array_rows_release(&in.k);
    sim_cross_destroy(&in.cross);
    sim_free(in.work);
    return st;
}

const sim_method_row sim_method_mocov3 = {
    COMMON_ROW_FIELDS,
    MOMENTUM_ROW_FIELDS,
    .name = "mocov3",
    .paper = "arXiv 2104.02057",
    .table = &mocov3_table,
    .takes_small_views = true,
    .defaults = mocov3_defaults,
    .n_defaults = sizeof mocov3_defaults / sizeof mocov3_defaults[0],
    .model = mocov3_model,
    .parts = sim_common_two_views,
    .create = mocov3_create,
    .forward = mocov3_forward,
    .loss = mocov3_loss,
    .backward = sim_common_backward,
    .scalar_gradient_bound = sim_temperature_gradient_bound_unit,
    .about = mocov3_about,
    .plan = mocov3_plan,
    .saved_bytes = mocov3_saved_bytes,
    .momentum = mocov3_momentum,
    .reduction = mocov3_reduction,
    .compute = mocov3_compute};
