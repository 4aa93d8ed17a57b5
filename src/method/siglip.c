/*
 * siglip.c - SigLIP: a binary classification of every pair of views.
 *
 * images -> backbone -> projector -> z (unit rows) -> sigmoid loss over the global batch.
 * With x_ij = scale z1_i . z2_j + bias, over B images:
 *
 *   L = 1 / B [ sum_{i != j} log(1 + exp(x_ij)) + sum_i log(1 + exp(-x_ii)) ]
 *
 * log scale and bias are trained.  Shapes: z [2][local images][projector_dim].
 * Paper: Zhai et al. 2023, arXiv 2303.15343, section 3.2 (images and texts; here two views).
 */
#include "arrays.h"
#include "common.h"

#include "simile/kernel.h"
#include "simile/memory.h"

enum { VIEWS = 2 };

typedef struct {
    double scale, bias;
} siglip_options;

static const sim_option siglip_rows[] = {
    KEY_REAL(siglip_options, "scale", scale, 0.001, 1000, "10",
             "initial factor on similarities; its logarithm is trained"),
    KEY_REAL(siglip_options, "bias", bias, -1000, 1000, "-10",
             "initial bias of the logits; it is trained"),
};
static const sim_option_table siglip_table = KEY_TABLE(siglip_options, siglip_rows);

/* ---- objects ---- */

enum { LOG_SCALE, BIAS, N_SCALARS };

static trained_scalars siglip_scalars(const siglip_options *o)
{
    return (trained_scalars){
        .n = N_SCALARS,
        .at = {[LOG_SCALE] = {.name = "log_scale",
                              .key = "scale",
                              .logarithm = true,
                              .value = (float)sim_ln(o->scale),
                              .gradient = offsetof(sim_loss_report, d_log_scale)},
               [BIAS] = {.name = "bias",
                         .key = "bias",
                         .value = (float)o->bias,
                         .gradient = offsetof(sim_loss_report, d_bias)}}};
}

static method_spec siglip_spec(const siglip_options *o)
{
    return (method_spec){.model = sim_common_model(o),
                         .views = VIEWS,
                         .options = o,
                         .options_bytes = sizeof *o,
                         .scalars = siglip_scalars(o),
                         .row_views = {VIEWS},
                         .cross = true};
}

static sim_status siglip_create(const sim_method_env *env, const void *options,
                                void **self)
{
    const method_spec spec = siglip_spec(options);
    return sim_common_create(env, &spec, self);
}

static sim_status siglip_plan(const sim_method_env *env, const void *options,
                              sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = siglip_spec(options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

/* Initially, embeddings are similar and all logits of a row near 0: each contributes 1/2 to the
 * gradient of the bias, and scale / 2 to that of log scale. */
static double siglip_gradient_bound(const void *options, size_t batch)
{
    const siglip_options *o = options;
    double half = 0.5 * (double)batch;
    return half * (o->scale > 1 ? o->scale : 1);
}

/* ---- loss ---- */

static void sigmoid_loss(sim_cross *e, double scale, double bias, unit_rows *r,
                         sim_loss_report *report)
{
    size_t view2 = r->n / VIEWS * r->d; /* floats before the rows of view 2 */
    sim_cross_sigmoid(e, scale, bias, r->z, r->z + view2, r->dz, r->dz + view2, report);
}

static void siglip_loss(void *self, const sim_method_batch *batch,
                        sim_loss_report *report, float *grads)
{
    method_common *m = self;
    double scale = sim_exp_double((double)m->scalars.at[LOG_SCALE].value);
    (void)batch;
    (void)grads;

    sim_online_load(m->online, SIM_PROJECTOR, &m->rows[0]);
    sigmoid_loss(m->cross, scale, (double)m->scalars.at[BIAS].value, &m->rows[0], report);
    sim_online_store_gradient(m->online, SIM_PROJECTOR, &m->rows[0]);
}

/* ---- description ---- */

static const char *siglip_reduction(const void *options)
{
    (void)options;
    return "sum over all pairs / batch";
}

static sim_status siglip_about(void *self, char **text)
{
    const method_common *m = self;
    const siglip_options *o = m->options;
    return sim_text_format("method/about", text,
                           "sigmoid, scale learned from %g, bias learned from %g, %zu "
                           "negatives per anchor, %s",
                           o->scale, o->bias, m->batch - 1, siglip_reduction(o));
}

/* ---- simile loss ---- */

static sim_status siglip_write_results(const sim_arrays *a, double scale, array_rows *r,
                                       const sim_loss_report *report)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_write(a, "dz", r));
    SIM_TRY(sim_array_put_scalar(a, "dscale", report->d_log_scale / scale));
    SIM_TRY(sim_array_put_scalar(a, "dbias", report->d_bias));
done:
    return st;
}

static sim_status siglip_compute(const sim_comm *c, const void *options,
                                 const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    const siglip_options *o = options;
    array_rows r = {0};
    sim_cross *e = NULL;
    sim_loss_report report = {0};

    st = sim_array_rows_read(c, a, "z", VIEWS, &r);
    sim_rows_shape one = r.shape;
    one.views = 1;
    if (st == SIM_OK)
        st = sim_cross_create(c, &one, &e);
    SIM_TRY(sim_comm_agree(c, st));
    sigmoid_loss(e, o->scale, o->bias, &r.rows, &report);
    SIM_TRY(siglip_write_results(a, o->scale, &r, &report));
    *loss = report.loss;
done:
    sim_cross_destroy(&e);
    sim_array_rows_release(&r);
    return st;
}

const sim_method_row sim_method_siglip = {COMMON_ROW_FIELDS,
                                          .name = "siglip",
                                          .paper = "arXiv 2303.15343",
                                          .table = &siglip_table,
                                          .model = sim_common_model,
                                          .parts = sim_common_two_views,
                                          .create = siglip_create,
                                          .forward = sim_common_forward,
                                          .loss = siglip_loss,
                                          .backward = sim_common_backward,
                                          .scalar_gradient_bound = siglip_gradient_bound,
                                          .about = siglip_about,
                                          .plan = siglip_plan,
                                          .reduction = siglip_reduction,
                                          .compute = siglip_compute};
