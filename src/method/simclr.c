/*
 * simclr.c - SimCLR, InfoNCE, DCL, DCLW and SupCon: all views of the batch against each other.
 *
 * images -> backbone -> projector -> z (unit rows) -> NT-Xent over the global batch.
 * With P(i) the positives of anchor i, of V views of B images:
 *
 *   L = 1 / (V B) sum_i [ -1 / |P(i)| sum_{p in P(i)} z_i . z_p / T
 *                         + log sum_{j != i} exp(z_i . z_j / T) ]
 *
 * P(i) are the other views of the image; with supcon, all other views with its label.
 * Shapes: z [V][local images][projector_dim].
 * Papers: Chen et al. 2020, arXiv 2002.05709, equation 1 (simclr, infonce); Yeh et al. 2022,
 * arXiv 2110.06848 (dcl: without the positive in the denominator; dclw: weighted positives);
 * Khosla et al. 2020, arXiv 2004.11362, equation 2 (supcon).
 */
#include "arrays.h"
#include "common.h"

#include "simile/memory.h"

#include <stdio.h>

typedef enum { WEIGHTS_NONE, WEIGHTS_DCLW } positive_weights;
typedef enum { WEIGHT_GRAD_DETACH, WEIGHT_GRAD_FLOW } weight_grad;
typedef enum { REDUCTION_MEAN, REDUCTION_SUM_DIRECTIONS } loss_reduction;
typedef enum { MULTI_VIEW_OUT, MULTI_VIEW_IN } multi_view;

typedef struct {
    softmax_options softmax;
    double sigma, base_temperature;
    int64_t views;
    int weights;      /* enum positive_weights */
    int weight_batch; /* one value: global */
    int weight_grad;  /* enum weight_grad */
    int reduction;    /* enum loss_reduction */
    int multi_view;   /* enum multi_view */
} simclr_options;

/* ---- keys ---- */

#define KEY_VIEWS                                                                        \
    KEY_INT(simclr_options, "views", views, 2, SIM_MAX_VIEWS, "2", "views",              \
            "per image; odd views use augment.view1, even views augment.view2")
#define NTXENT_KEYS(temperature_, denominator_, weights_)                                \
    {                                                                                    \
        KEYS_TEMPERATURE(simclr_options, 10.0, temperature_), KEY_VIEWS,                 \
            KEY_DENOMINATOR(simclr_options, denominator_),                               \
            KEY_CHOICE(simclr_options, "weights", weights, weights_, "none|dclw",        \
                       "dclw: weight each positive by its similarity"),                  \
            KEY_REAL(simclr_options, "weight_sigma", sigma, 0.01, 100, "0.5",            \
                     "dclw: temperature of the weights"),                                \
            KEY_CHOICE(simclr_options, "weight_batch", weight_batch, "global", "global", \
                       "dclw: weights are relative to the mean over the global batch"),  \
            KEY_CHOICE(simclr_options, "weight_grad", weight_grad, "detach",             \
                       "detach|flow",                                                    \
                       "dclw: treat weights as constants, or include their gradient"),   \
            KEY_CHOICE(simclr_options, "reduction", reduction, "mean",                   \
                       "mean|sum_directions",                                            \
                       "mean over anchors, or twice that (sum of both directions)"),     \
            KEY_CHOICE(simclr_options, "multi_view", multi_view, "out", "out|in",        \
                       "more than two views: mean over positives outside the logarithm " \
                       "(out) or their sum inside (in)")                                 \
    }
static const sim_option simclr_rows[] = NTXENT_KEYS("0.5", "full", "none");
static const sim_option dcl_rows[] = NTXENT_KEYS("0.1", "decoupled", "none");
static const sim_option dclw_rows[] = NTXENT_KEYS("0.1", "decoupled", "dclw");
static const sim_option supcon_rows[] = {
    KEYS_TEMPERATURE(simclr_options, 10.0, "0.1"), KEY_VIEWS,
    KEY_DENOMINATOR(simclr_options, "full"),
    KEY_REAL(simclr_options, "base_temperature", base_temperature, 0, 10, "0",
             "multiply the loss by temperature / base_temperature; 0: no factor")};

static const sim_option_table simclr_table = KEY_TABLE(simclr_options, simclr_rows);
static const sim_option_table dcl_table = KEY_TABLE(simclr_options, dcl_rows);
static const sim_option_table dclw_table = KEY_TABLE(simclr_options, dclw_rows);
static const sim_option_table supcon_table = KEY_TABLE(simclr_options, supcon_rows);

/* ---- objects ---- */

static method_spec simclr_spec(const simclr_options *o)
{
    return (method_spec){.model = sim_common_model(o),
                         .views = (size_t)o->views,
                         .options = o,
                         .options_bytes = sizeof *o,
                         .scalars = sim_temperature_scalars(&o->softmax),
                         .n_row_sets = 1,
                         .contrast = true};
}

static sim_status simclr_create(const sim_method_env *env, const void *options,
                                void **self)
{
    const method_spec spec = simclr_spec(options);
    return sim_common_create(env, &spec, self);
}

static sim_status simclr_plan(const sim_method_env *env, const void *options,
                              sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = simclr_spec(options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

static sim_status check_pairs(const sim_method_env *env, const void *options)
{
    sim_status st = SIM_OK;
    const simclr_options *o = options;
    (void)env;
    SIM_CHECK(o->weights == WEIGHTS_NONE || o->views == 2, SIM_E_CONFIG,
              "method.weights: dclw requires method.views: 2, but it is %lld",
              (long long)o->views);
done:
    return st;
}

static size_t simclr_parts(const void *options, sim_part out[SIM_MAX_PARTS])
{
    const simclr_options *o = options;
    out[0] = (sim_part){.n_views = (size_t)o->views};
    for (uint32_t v = 0; v < out[0].n_views; v++)
        out[0].views[v] = v;
    return 1;
}

/* ---- loss ---- */

static sim_ntxent_options ntxent_options(const simclr_options *o, double t,
                                         const int32_t *labels)
{
    double factor = o->reduction == REDUCTION_SUM_DIRECTIONS ? 2 : 1;
    if (o->base_temperature > 0)
        factor = t / o->base_temperature;
    return (sim_ntxent_options){.temperature = t,
                                .factor = factor,
                                .decoupled =
                                    o->softmax.denominator == DENOMINATOR_DECOUPLED,
                                .inside = o->multi_view == MULTI_VIEW_IN,
                                .weighted = o->weights == WEIGHTS_DCLW,
                                .weight_flow = o->weight_grad == WEIGHT_GRAD_FLOW,
                                .weight_sigma = o->sigma,
                                .labels = labels};
}

static void ntxent_loss(sim_contrast *e, const simclr_options *o, double t,
                        const int32_t *labels, unit_rows *r, sim_loss_report *report)
{
    const sim_ntxent_options loss = ntxent_options(o, t, labels);
    sim_ntxent(e, &loss, r->z, r->dz, report);
    if (o->base_temperature > 0) /* the factor depends on T too */
        report->d_log_temperature += report->loss;
}

static void simclr_loss(void *self, const sim_method_batch *batch,
                        sim_loss_report *report, float *grads)
{
    method_common *m = self;
    online_encoder *e = m->online;
    const simclr_options *o = m->options;
    (void)grads;

    sim_unit_rows_load(&m->rows[0], &e->shape, e->out[SIM_PROJECTOR]);
    ntxent_loss(m->contrast, o, sim_temperature_value(&o->softmax, &m->scalars),
                batch->labels, &m->rows[0], report);
    sim_unit_rows_store_gradient(&m->rows[0], &e->shape, e->dout[SIM_PROJECTOR]);
}

/* ---- description ---- */

static const char *simclr_reduction(const void *options)
{
    const simclr_options *o = options;
    if (o->base_temperature > 0)
        return "mean over anchors times temperature / base_temperature";
    return o->reduction == REDUCTION_SUM_DIRECTIONS
               ? "summed over both directions (twice the mean)"
               : "mean over anchors";
}

static sim_status simclr_describe_loss(const method_common *m, const char *negatives,
                                       char **text)
{
    const simclr_options *o = m->options;
    char temperature_text[64];
    size_t views = (size_t)o->views;

    sim_temperature_about(&o->softmax, temperature_text, sizeof temperature_text);
    return sim_text_format(
        "method/about", text, "NT-Xent%s%s, %s, %zu negatives per anchor%s, %s",
        o->softmax.denominator == DENOMINATOR_DECOUPLED ? ", decoupled" : "",
        o->weights == WEIGHTS_DCLW ? ", weighted positives" : "", temperature_text,
        views * m->batch - views, negatives, simclr_reduction(o));
}

static sim_status simclr_about(void *self, char **text)
{
    return simclr_describe_loss(self, "", text);
}

static sim_status supcon_about(void *self, char **text)
{
    return simclr_describe_loss(self, " minus those of its label", text);
}

/* ---- simile loss ---- */

/* Counts /z1, /z2 ...; checks the number against the options. */
static sim_status count_views(const simclr_options *o, const sim_arrays *a, size_t *views)
{
    sim_status st = SIM_OK;
    char name[8];
    for (*views = 0; *views < SIM_MAX_VIEWS; ++*views) {
        (void)snprintf(name, sizeof name, "z%zu", *views + 1);
        if (!a->has(a->ctx, name))
            break;
    }
    SIM_CHECK(*views >= 2, SIM_E_DATA, "/z1 and /z2 are required");
    SIM_CHECK(o->weights == WEIGHTS_NONE || *views == 2, SIM_E_DATA,
              "method.weights: dclw requires 2 views, but the file has %zu", *views);
done:
    return st;
}

static sim_status simclr_read_labels(const sim_arrays *a, size_t n, int32_t **out)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS];
    SIM_TRY(a->dims(a->ctx, "labels", 1, dims));
    SIM_CHECK(dims[0] == n, SIM_E_DATA, "/labels has %zu elements, but /z1 has %zu rows",
              dims[0], n);
    SIM_TRY(sim_alloc(out, n, "method/labels"));
    SIM_TRY(a->ints(a->ctx, "labels", 0, n, *out));
done:
    return st;
}

static sim_status compute_ntxent(const sim_comm *c, const simclr_options *o,
                                 bool by_label, const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    array_rows r = {0};
    sim_contrast *e = NULL;
    int32_t *labels = NULL;
    size_t views = 0;
    sim_loss_report report = {0};

    st = count_views(o, a, &views);
    if (st == SIM_OK)
        st = sim_array_rows_read(c, a, "z", views, &r);
    if (st == SIM_OK && by_label)
        st = simclr_read_labels(a, r.shape.n, &labels);
    if (st == SIM_OK)
        st = sim_contrast_create(c, &r.shape, &e);
    SIM_TRY(sim_comm_agree(c, st));
    ntxent_loss(e, o, o->softmax.temperature, labels, &r.rows, &report);
    SIM_TRY(sim_array_rows_write(a, "dz", &r));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_contrast_destroy(&e);
    sim_free(labels);
    sim_array_rows_release(&r);
    return st;
}

static sim_status simclr_compute(const sim_comm *c, const void *options,
                                 const sim_arrays *a, double *loss)
{
    return compute_ntxent(c, options, false, a, loss);
}

static sim_status supcon_compute(const sim_comm *c, const void *options,
                                 const sim_arrays *a, double *loss)
{
    return compute_ntxent(c, options, true, a, loss);
}

/* ---- rows ---- */

#define SIMCLR_ROW(name_, paper_, table_, labels_, about_, compute_)                     \
    {                                                                                    \
        .name = name_, .paper = paper_, .table = &(table_), .needs_labels = labels_,     \
        .model = sim_common_model, .check = check_pairs, .parts = simclr_parts,          \
        .create = simclr_create, .forward = sim_common_forward, .loss = simclr_loss,     \
        .backward = sim_common_backward, .updated = sim_common_updated,                  \
        .scalar_gradient_bound = sim_temperature_gradient_bound_unit, .about = about_,   \
        .plan = simclr_plan, .reduction = simclr_reduction, .compute = compute_,         \
        COMMON_ROW_FIELDS                                                                \
    }

const sim_method_row sim_method_simclr = SIMCLR_ROW(
    "simclr", "arXiv 2002.05709", simclr_table, false, simclr_about, simclr_compute);
const sim_method_row sim_method_infonce = SIMCLR_ROW(
    "infonce", "arXiv 1807.03748", simclr_table, false, simclr_about, simclr_compute);
const sim_method_row sim_method_dcl =
    SIMCLR_ROW("dcl", "arXiv 2110.06848", dcl_table, false, simclr_about, simclr_compute);
const sim_method_row sim_method_dclw = SIMCLR_ROW("dclw", "arXiv 2110.06848", dclw_table,
                                                  false, simclr_about, simclr_compute);
const sim_method_row sim_method_supcon = SIMCLR_ROW(
    "supcon", "arXiv 2004.11362", supcon_table, true, supcon_about, supcon_compute);
