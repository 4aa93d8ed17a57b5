/*
 * simclr.c - the views of an image attract, all other views repel: SimCLR, DCL, DCLW, SupCon.
 *
 * In: views of the local blocks.  Out: NT-Xent loss over the global batch and gradients.
 * images -> backbone -> projector -> unit rows -> loss, and back.
 * Papers: Chen et al. 2020, arXiv 2002.05709 (`infonce` is its other name); Yeh et al. 2022,
 * arXiv 2110.06848 (dcl: the positive leaves the denominator; dclw: positives are weighed);
 * Khosla et al. 2020, arXiv 2004.11362 (supcon: positives by label).
 */
#include "arrays.h"
#include "common.h"

#include "simile/memory.h"

#include <stdio.h>

typedef struct {
    softmax_options softmax;
    double sigma, base_temperature;
    int64_t views;
    int denominator;  /* full|decoupled */
    int weights;      /* none|dclw */
    int weight_batch; /* global */
    int weight_grad;  /* detach|flow */
    int reduction;    /* mean|sum_directions */
    int multi_view;   /* out|in */
} options;

/* ---- keys ---- */

#define TEMPERATURE(fallback_)                                                           \
    KEYS_TEMPERATURE(options, 10.0, fallback_, "softmax temperature")
#define VIEWS                                                                            \
    KEY_INT(options, "views", views, 2, SIM_MAX_VIEWS, "2", "views",                     \
            "of an image; odd ones as augment.view1, even ones as augment.view2")
#define DENOMINATOR(fallback_)                                                           \
    KEY_CHOICE(options, "denominator", denominator, fallback_, "full|decoupled",         \
               "whether the positives stand in the denominator")
#define SOFTMAX_ROWS(temperature_, denominator_, weights_)                               \
    {                                                                                    \
        TEMPERATURE(temperature_), VIEWS, DENOMINATOR(denominator_),                     \
            KEY_CHOICE(options, "weights", weights, weights_, "none|dclw",               \
                       "how positives are weighed"),                                     \
            KEY_REAL(options, "weight_sigma", sigma, 0.01, 100, "0.5",                   \
                     "dclw: softness of the weights"),                                   \
            KEY_CHOICE(options, "weight_batch", weight_batch, "global", "global",        \
                       "dclw: weights are relative to the global batch"),                \
            KEY_CHOICE(options, "weight_grad", weight_grad, "detach", "detach|flow",     \
                       "dclw: weights as constants, or with their gradient"),            \
            KEY_CHOICE(options, "reduction", reduction, "mean", "mean|sum_directions",   \
                       "mean over all anchors, or twice that as programs that sum both " \
                       "directions"),                                                    \
            KEY_CHOICE(options, "multi_view", multi_view, "out", "out|in",               \
                       "three views and more: mean over positives outside of the "       \
                       "logarithm, or their sum inside")                                 \
    }
static const sim_option simclr_rows[] = SOFTMAX_ROWS("0.5", "full", "none");
static const sim_option dcl_rows[] = SOFTMAX_ROWS("0.1", "decoupled", "none");
static const sim_option dclw_rows[] = SOFTMAX_ROWS("0.1", "decoupled", "dclw");
static const sim_option supcon_rows[] = {
    TEMPERATURE("0.1"), VIEWS, DENOMINATOR("full"),
    KEY_REAL(options, "base_temperature", base_temperature, 0, 10, "0",
             "loss and gradients times temperature / this; 0: the temperature itself")};

static const sim_option_table simclr_table = KEY_TABLE(options, simclr_rows);
static const sim_option_table dcl_table = KEY_TABLE(options, dcl_rows);
static const sim_option_table dclw_table = KEY_TABLE(options, dclw_rows);
static const sim_option_table supcon_table = KEY_TABLE(options, supcon_rows);

/* ---- the method ---- */

typedef struct {
    method_common common;
    options options;
    bool by_label;
    unit_rows rows;
    sim_contrast *contrast;
} simclr;

static size_t parts(const void *opaque, sim_part out[SIM_MAX_PARTS])
{
    const options *o = opaque;
    out[0] = (sim_part){.n_views = (size_t)o->views};
    for (uint32_t v = 0; v < out[0].n_views; v++)
        out[0].views[v] = v;
    return 1;
}

static void destroy(void **self)
{
    simclr *s = *self;
    if (!s)
        return;
    sim_common_release(&s->common);
    sim_unit_rows_release(&s->rows);
    sim_contrast_destroy(&s->contrast);
    sim_free(s);
    *self = NULL;
}

static sim_status check(const sim_method_env *env, const void *opaque)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    (void)env;
    SIM_CHECK(
        o->weights == 0 || o->views == 2, SIM_E_CONFIG,
        "method.weights: dclw weighs pairs, but method.views is %lld; set method.views=2",
        (long long)o->views);
done:
    return st;
}

static sim_status create(const sim_method_env *env, const options *o, bool by_label,
                         void **self)
{
    sim_status st = SIM_OK;
    simclr *s = NULL;
    void *out = NULL;
    const sim_rows_shape rows = sim_common_rows(env, (size_t)o->views);
    const sim_model_spec spec = sim_common_model(o);

    SIM_TRY(sim_new(&s, "method/simclr"));
    out = s;
    s->options = *o;
    s->by_label = by_label;
    s->common.temperature = sim_temperature_begin(&o->softmax);
    SIM_TRY(sim_common_create(env, &spec, (size_t)o->views, &s->common));
    SIM_TRY(sim_unit_rows_create(&s->common.encoder->shape,
                                 sim_online_dim(s->common.encoder, SIM_PROJECTOR),
                                 &s->rows));
    SIM_TRY(sim_contrast_create(env->comm, &rows, &s->contrast));
    *self = out;
    out = NULL;
done:
    destroy(&out);
    return st;
}

static sim_status create_plain(const sim_method_env *env, const void *o, void **self)
{
    return create(env, o, false, self);
}

static sim_status create_by_label(const sim_method_env *env, const void *o, void **self)
{
    return create(env, o, true, self);
}

/* The loss's options at temperature t. */
static sim_ntxent_options loss_options(const options *o, double t, const int32_t *labels)
{
    double factor = o->reduction == 1 ? 2 : 1;
    if (o->base_temperature > 0)
        factor = t / o->base_temperature;
    return (sim_ntxent_options){.temperature = t,
                                .factor = factor,
                                .decoupled = o->denominator == 1,
                                .inside = o->multi_view == 1,
                                .weighted = o->weights == 1,
                                .weight_flow = o->weight_grad == 1,
                                .weight_sigma = o->sigma,
                                .labels = labels};
}

static void compare(void *self, const sim_method_batch *batch, sim_loss_report *report)
{
    simclr *s = self;
    const online_encoder *b = s->common.encoder;
    const sim_ntxent_options loss =
        loss_options(&s->options, sim_temperature_value(&s->common.temperature),
                     s->by_label ? batch->labels : NULL);

    sim_unit_rows_load(&s->rows, &b->shape, b->out[SIM_PROJECTOR]);
    sim_ntxent(s->contrast, &loss, s->rows.z, s->rows.dz, report);
    sim_unit_rows_store_gradient(&s->rows, &b->shape, b->dout[SIM_PROJECTOR]);
    if (s->options.base_temperature > 0) /* the factor depends on T too */
        report->d_log_temperature += report->loss;
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    static const step_parts step = {sim_common_forward, compare, sim_common_backward};
    sim_method_step_run(&step, self, batch, grads, report, times);
}

static sim_embeddings embeddings(void *self)
{
    const simclr *s = self;
    return (sim_embeddings){
        .z = s->rows.z, .views = s->common.encoder->shape.views, .dim = s->rows.d};
}

static const char *reduction(const void *opaque)
{
    const options *o = opaque;
    if (o->base_temperature > 0)
        return "mean over anchors times temperature / base_temperature";
    return o->reduction == 1 ? "summed over both directions (twice the mean)"
                             : "mean over anchors";
}

static sim_status about(void *self, char **text)
{
    const simclr *s = self;
    const options *o = &s->options;
    char temperature_text[64];
    size_t views = (size_t)o->views;

    sim_temperature_about(&s->common.temperature, temperature_text,
                          sizeof temperature_text);
    return sim_text_format(
        "method/about", text, "NT-Xent%s%s, %s, %zu negatives per anchor%s, %s",
        o->denominator == 1 ? " decoupled" : "", o->weights == 1 ? " and weighed" : "",
        temperature_text, views * s->common.batch - views,
        s->by_label ? " less those of its label" : "", reduction(o));
}

static sim_status plan(const sim_method_env *env, const void *opaque,
                       sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    const sim_rows_shape loss = sim_common_rows(env, (size_t)o->views);
    const sim_model_spec spec = sim_common_model(o);

    SIM_TRY(sim_online_plan(env, &spec, (size_t)o->views, rows, n_rows));
    sim_online_plan_loss(loss.d, rows, *n_rows);
    const sim_batch_shape shape = sim_online_shape(env, (size_t)o->views);
    sim_plan_add(rows, n_rows, "rows for the loss", sim_unit_rows_bytes(&shape, loss.d));
    sim_plan_add(rows, n_rows, "loss", sim_contrast_bytes(&loss));
done:
    return st;
}

/* ---- simile loss ---- */

/* Views of the file, which the options must be able to take. */
static sim_status read_views(const options *o, const sim_arrays *a, size_t *views)
{
    sim_status st = SIM_OK;
    char name[8];
    for (*views = 0; *views < SIM_MAX_VIEWS; ++*views) {
        (void)snprintf(name, sizeof name, "z%zu", *views + 1);
        if (!a->has(a->ctx, name))
            break;
    }
    SIM_CHECK(*views >= 2, SIM_E_DATA, "/z1 and /z2 are needed");
    SIM_CHECK(o->weights == 0 || *views == 2, SIM_E_DATA,
              "dclw weighs pairs, but there are %zu views", *views);
done:
    return st;
}

static sim_status read_labels(const sim_arrays *a, size_t n, int32_t **out)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS];
    SIM_TRY(a->dims(a->ctx, "labels", 1, dims));
    SIM_CHECK(dims[0] == n, SIM_E_DATA, "/labels holds %zu, but /z1 has %zu rows",
              dims[0], n);
    SIM_TRY(sim_alloc(out, n, "method/labels"));
    SIM_TRY(a->ints(a->ctx, "labels", 0, n, *out));
done:
    return st;
}

static sim_status compute(const sim_comm *c, const options *o, bool by_label,
                          const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    array_rows r = {0};
    sim_contrast *e = NULL;
    int32_t *labels = NULL;
    size_t views = 0;
    sim_loss_report report = {0};

    st = read_views(o, a, &views);
    if (st == SIM_OK)
        st = sim_array_rows_read(c, a, "z", views, &r);
    if (st == SIM_OK && by_label)
        st = read_labels(a, r.shape.n, &labels);
    if (st == SIM_OK)
        st = sim_contrast_create(c, &r.shape, &e);
    SIM_TRY(sim_comm_agree(c, st));
    const sim_ntxent_options loss_of = loss_options(o, o->softmax.temperature, labels);
    sim_ntxent(e, &loss_of, r.z, r.dz, &report);
    SIM_TRY(sim_array_rows_write(a, "dz", &r));
    if (o->base_temperature > 0) /* the factor depends on T too */
        report.d_log_temperature += report.loss;
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_contrast_destroy(&e);
    sim_free(labels);
    sim_array_rows_release(&r);
    return st;
}

static sim_status compute_plain(const sim_comm *c, const void *o, const sim_arrays *a,
                                double *loss)
{
    return compute(c, o, false, a, loss);
}

static sim_status compute_by_label(const sim_comm *c, const void *o, const sim_arrays *a,
                                   double *loss)
{
    return compute(c, o, true, a, loss);
}

/* ---- rows ---- */

#define ROW(name_, paper_, table_, labels_, create_, compute_)                           \
    {                                                                                    \
        .name = name_, .paper = paper_, .table = &table_, .needs_labels = labels_,       \
        .check = check, .model = sim_common_model, .parts = parts, .create = create_,    \
        .destroy = destroy, .forward_backward = forward_backward,                        \
        .updated = sim_common_updated, .nets = sim_common_nets,                          \
        .scalars = sim_common_scalars,                                                   \
        .scalar_gradient_bound = sim_temperature_gradient_bound_unit,                    \
        .visit = sim_common_visit, .embeddings = embeddings, .about = about,             \
        .plan = plan, .reduction = reduction, .compute = compute_                        \
    }

const sim_method_row sim_method_simclr =
    ROW("simclr", "arXiv 2002.05709", simclr_table, false, create_plain, compute_plain);
const sim_method_row sim_method_infonce =
    ROW("infonce", "arXiv 1807.03748", simclr_table, false, create_plain, compute_plain);
const sim_method_row sim_method_dcl =
    ROW("dcl", "arXiv 2110.06848", dcl_table, false, create_plain, compute_plain);
const sim_method_row sim_method_dclw =
    ROW("dclw", "arXiv 2110.06848", dclw_table, false, create_plain, compute_plain);
const sim_method_row sim_method_supcon = ROW("supcon", "arXiv 2004.11362", supcon_table,
                                             true, create_by_label, compute_by_label);
