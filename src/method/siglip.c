/*
 * siglip.c - every pair of views is asked alone whether it is of one image.
 *
 * In: two views of the local blocks.  Out: the sigmoid loss over the global batch, with its
 * gradients, those of scale and bias too.
 * images -> backbone -> projector -> unit rows -> loss, and back.
 * Paper: Zhai et al. 2023, arXiv 2303.15343 (between images and texts; here between views).
 */
#include "arrays.h"
#include "common.h"

#include "simile/kernel.h"
#include "simile/memory.h"

enum { VIEWS = 2 };

typedef struct {
    double scale, bias;
} options;

static const sim_option rows[] = {
    KEY_REAL(options, "scale", scale, 0.001, 1000, "10",
             "factor on similarities at the start; its logarithm is trained"),
    KEY_REAL(options, "bias", bias, -1000, 1000, "-10",
             "added to every logit, at the start; it is trained"),
};
static const sim_option_table table = KEY_TABLE(options, rows);

/* ---- the method ---- */

enum { LOG_SCALE, BIAS, NUMBERS };
static const char *const number_names[NUMBERS] = {"log_scale", "bias"};

typedef struct {
    method_common common;
    options options;
    unit_rows rows;
    sim_cross *cross;
    float numbers[NUMBERS]; /* trained */
} siglip;

static void destroy(void **self)
{
    siglip *s = *self;
    if (!s)
        return;
    sim_common_release(&s->common);
    sim_unit_rows_release(&s->rows);
    sim_cross_destroy(&s->cross);
    sim_free(s);
    *self = NULL;
}

static sim_status create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    siglip *s = NULL;
    void *out = NULL;
    const sim_rows_shape shape = sim_common_rows(env, 1);
    const sim_model_spec spec = sim_common_model(opaque);

    SIM_TRY(sim_new(&s, "method/siglip"));
    out = s;
    s->options = *o;
    s->numbers[LOG_SCALE] = (float)sim_ln(o->scale);
    s->numbers[BIAS] = (float)o->bias;
    SIM_TRY(sim_common_create(env, &spec, VIEWS, &s->common));
    SIM_TRY(sim_unit_rows_create(&s->common.encoder->shape, shape.d, &s->rows));
    SIM_TRY(sim_cross_create(env->comm, &shape, &s->cross));
    *self = out;
    out = NULL;
done:
    destroy(&out);
    return st;
}

static void compare(void *self, const sim_method_batch *batch, sim_loss_report *report)
{
    siglip *s = self;
    const online_encoder *b = s->common.encoder;
    size_t second = s->rows.n / VIEWS * s->rows.d; /* where view 2 begins */
    double scale = sim_exp_double((double)s->numbers[LOG_SCALE]);
    (void)batch;

    sim_unit_rows_load(&s->rows, &b->shape, b->out[SIM_PROJECTOR]);
    sim_cross_sigmoid(s->cross, scale, (double)s->numbers[BIAS], s->rows.z,
                      s->rows.z + second, s->rows.dz, s->rows.dz + second, report);
    sim_unit_rows_store_gradient(&s->rows, &b->shape, b->dout[SIM_PROJECTOR]);
}

static void backward(void *self, const sim_loss_report *report, float *grads)
{
    const siglip *s = self;
    online_encoder *b = s->common.encoder;
    size_t first = sim_online_parameters(b), stride = first + NUMBERS;

    sim_online_backward(b, grads, stride);
    sim_scalar_gradient(&b->shape, report->d_log_scale, first + LOG_SCALE, grads, stride);
    sim_scalar_gradient(&b->shape, report->d_bias, first + BIAS, grads, stride);
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    static const step_parts step = {sim_common_forward, compare, backward};
    sim_method_step_run(&step, self, batch, grads, report, times);
}

static size_t scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS])
{
    siglip *s = self;
    out[LOG_SCALE] = (sim_method_scalar){number_names[LOG_SCALE], &s->numbers[LOG_SCALE],
                                         "scale", true};
    out[BIAS] = (sim_method_scalar){number_names[BIAS], &s->numbers[BIAS], "bias", false};
    return NUMBERS;
}

/* While the embeddings are near each other a row has batch logits near 0, each of which pulls
 * the bias with a half and the scale's logarithm with scale times as much. */
static double scalar_gradient_bound(const void *opaque, size_t batch)
{
    const options *o = opaque;
    double half = 0.5 * (double)batch;
    return half * (o->scale > 1 ? o->scale : 1);
}

static sim_status visit(void *self, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    siglip *s = self;
    SIM_TRY(sim_common_visit(s, v));
    for (size_t i = 0; i < NUMBERS; i++)
        SIM_TRY(sim_visit_f32(v, "weights/method", number_names[i], 1, &s->numbers[i]));
done:
    return st;
}

static sim_embeddings embeddings(void *self)
{
    const siglip *s = self;
    return (sim_embeddings){.z = s->rows.z, .views = VIEWS, .dim = s->rows.d};
}

static const char *reduction(const void *opaque)
{
    (void)opaque;
    return "sum over all pairs / batch";
}

static sim_status about(void *self, char **text)
{
    const siglip *s = self;
    return sim_text_format("method/about", text,
                           "sigmoid, scale learned from %g, bias learned from %g, %zu "
                           "negatives per anchor, %s",
                           s->options.scale, s->options.bias, s->common.batch - 1,
                           reduction(&s->options));
}

static sim_status plan(const sim_method_env *env, const void *opaque,
                       sim_plan_row plan_rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_rows_shape shape = sim_common_rows(env, 1);
    const sim_model_spec spec = sim_common_model(opaque);
    const sim_batch_shape images = sim_online_shape(env, VIEWS);

    SIM_TRY(sim_online_plan(env, &spec, VIEWS, plan_rows, n_rows));
    sim_online_plan_loss(shape.d, plan_rows, *n_rows);
    sim_plan_add(plan_rows, n_rows, "rows for the loss",
                 sim_unit_rows_bytes(&images, shape.d));
    sim_plan_add(plan_rows, n_rows, "loss", sim_cross_bytes(&shape));
done:
    return st;
}

/* ---- simile loss ---- */

static sim_status put_results(const sim_arrays *a, double scale, array_rows *r,
                              const sim_loss_report *report)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_write(a, "dz", r));
    SIM_TRY(sim_array_put_scalar(a, "dscale", report->d_log_scale / scale));
    SIM_TRY(sim_array_put_scalar(a, "dbias", report->d_bias));
done:
    return st;
}

static sim_status compute(const sim_comm *c, const void *opaque, const sim_arrays *a,
                          double *loss)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    array_rows r = {0};
    sim_cross *e = NULL;
    sim_loss_report report = {0};

    st = sim_array_rows_read(c, a, "z", VIEWS, &r);
    sim_rows_shape one = r.shape;
    one.views = 1;
    if (st == SIM_OK)
        st = sim_cross_create(c, &one, &e);
    SIM_TRY(sim_comm_agree(c, st));
    size_t second = (r.mine.hi - r.mine.lo) * r.shape.d;
    sim_cross_sigmoid(e, o->scale, o->bias, r.z, r.z + second, r.dz, r.dz + second,
                      &report);
    SIM_TRY(put_results(a, o->scale, &r, &report));
    *loss = report.loss;
done:
    sim_cross_destroy(&e);
    sim_array_rows_release(&r);
    return st;
}

const sim_method_row sim_method_siglip = {.name = "siglip",
                                          .paper = "arXiv 2303.15343",
                                          .table = &table,
                                          .model = sim_common_model,
                                          .parts = sim_common_two_views,
                                          .create = create,
                                          .destroy = destroy,
                                          .forward_backward = forward_backward,
                                          .updated = sim_common_updated,
                                          .nets = sim_common_nets,
                                          .scalars = scalars,
                                          .scalar_gradient_bound = scalar_gradient_bound,
                                          .visit = visit,
                                          .embeddings = embeddings,
                                          .about = about,
                                          .plan = plan,
                                          .reduction = reduction,
                                          .compute = compute};
