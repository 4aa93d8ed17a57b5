/*
 * simclr.c - SimCLR, InfoNCE, DCL, DCLW and SupCon: all views of the batch against each other.
 *
 * images -> backbone -> projector -> z (unit rows) -> NT-Xent over the global batch.
 * With P(i) the positives of anchor i, of V views of B images:
 *
 *   L = 1 / (V B) sum_i [ -1 / |P(i)| sum_{p in P(i)} z_i . z_p / T
 *                         + log sum_{j != i} exp(z_i . z_j / T) ]
 *
 * P(i) are the other views of the image; with supcon, all other views with its label or group.  Small
 * views are further views: V counts them.
 * infonce with `negatives: cross` compares the embeddings of each of two views with those of the
 * other view only: the mean of the softmax cross-entropies of both directions, as CLIP.
 * Shapes: z [V][local images][projector_dim].
 * Papers: Chen et al. 2020, arXiv 2002.05709, equation 1 (simclr, infonce); Yeh et al. 2022,
 * arXiv 2110.06848 (dcl: without the positive in the denominator; dclw: weighted positives);
 * Khosla et al. 2020, arXiv 2004.11362, equations 2 and 3 (supcon); Radford et al. 2021, arXiv 2103.00020,
 * figure 3 (cross).
 */
#include "arrays.h"
#include "common.h"

#include "simile/memory.h"

#include <stdio.h>

typedef enum { WEIGHTS_NONE, WEIGHTS_DCLW } positive_weights;
typedef enum { WEIGHT_GRAD_DETACH, WEIGHT_GRAD_FLOW } weight_grad;
typedef enum { REDUCTION_MEAN, REDUCTION_SUM_DIRECTIONS } loss_reduction;
typedef enum { POSITIVES_OUT, POSITIVES_IN } positives_place; /* multi_view, positives */
typedef enum { BY_LABEL, BY_GROUP } positives_by;
typedef enum { NEGATIVES_ALL, NEGATIVES_CROSS } negative_views;

enum { CROSS_VIEWS = 2 };

typedef struct {
    softmax_options softmax;
    double sigma, base_temperature;
    int64_t views;
    int64_t weight_batch; /* images; 0: global */
    int weights;          /* enum positive_weights */
    int weight_grad;      /* enum weight_grad */
    int reduction;        /* enum loss_reduction */
    int multi_view;       /* enum positives_place */
    int positives;        /* enum positives_place; of supcon */
    int positives_by;     /* enum positives_by; of supcon */
    int negatives;        /* enum negative_views */
} simclr_options;

/* ---- keys ---- */

#define KEY_VIEWS                                                                        \
    KEY_INT(simclr_options, "views", views, 2, SIM_MAX_VIEWS, "2", "views",              \
            "per image; odd views use augment.view1, even views augment.view2")
#define NTXENT_KEYS(temperature_, denominator_, weights_)                                \
    KEYS_TEMPERATURE(simclr_options, 10.0, temperature_), KEY_VIEWS,                     \
        KEY_DENOMINATOR(simclr_options, denominator_),                                   \
        KEY_CHOICE(simclr_options, "weights", weights, weights_, "none|dclw",            \
                   "dclw: weight each positive by its similarity"),                      \
        KEY_REAL(simclr_options, "weight_sigma", sigma, 0.01, 100, "0.5",                \
                 "dclw: temperature of the weights"),                                    \
        KEY_INT_OR_WORD(simclr_options, "weight_batch", weight_batch, 16777216,          \
                        "global", "images",                                              \
                        "dclw: weights are relative to the mean over the global batch, " \
                        "or over groups of this many images"),                           \
        KEY_CHOICE(simclr_options, "weight_grad", weight_grad, "detach", "detach|flow",  \
                   "dclw: treat weights as constants, or include their gradient"),       \
        KEY_CHOICE(simclr_options, "reduction", reduction, "mean",                       \
                   "mean|sum_directions",                                                \
                   "mean over anchors, or twice that (sum of both directions)"),         \
        KEY_CHOICE(simclr_options, "multi_view", multi_view, "out", "out|in",            \
                   "more than two views: mean over positives outside the logarithm "     \
                   "(out) or their sum inside (in)")
static const sim_option simclr_rows[] = {NTXENT_KEYS("0.5", "full", "none")};
static const sim_option infonce_rows[] = {
    NTXENT_KEYS("0.5", "full", "none"),
    KEY_CHOICE(simclr_options, "negatives", negatives, "all", "all|cross",
               "all: embeddings of all views; cross: of the other view only (CLIP)")};
static const sim_option dcl_rows[] = {NTXENT_KEYS("0.1", "decoupled", "none")};
static const sim_option dclw_rows[] = {NTXENT_KEYS("0.1", "decoupled", "dclw")};
static const sim_option supcon_rows[] = {
    KEYS_TEMPERATURE(simclr_options, 10.0, "0.1"),
    KEY_VIEWS,
    KEY_DENOMINATOR(simclr_options, "full"),
    KEY_REAL(simclr_options, "base_temperature", base_temperature, 0, 10, "0",
             "multiply the loss by temperature / base_temperature; 0: no factor"),
    KEY_CHOICE(simclr_options, "positives", positives, "out", "out|in",
               "mean over positives outside the logarithm (L_out) or inside (L_in)"),
    KEY_CHOICE(simclr_options, "positives_by", positives_by, "label", "label|group",
               "positives are the views of all images with the label, or the group, of "
               "the anchor")};

static const sim_option_table simclr_table = KEY_TABLE(simclr_options, simclr_rows);
static const sim_option_table infonce_table = KEY_TABLE(simclr_options, infonce_rows);
static const sim_option_table dcl_table = KEY_TABLE(simclr_options, dcl_rows);
static const sim_option_table dclw_table = KEY_TABLE(simclr_options, dclw_rows);
static const sim_option_table supcon_table = KEY_TABLE(simclr_options, supcon_rows);

static bool supcon_by_group(const void *options)
{
    const simclr_options *o = options;
    return o->positives_by == BY_GROUP;
}

/* ---- objects ---- */

static bool is_cross(const simclr_options *o)
{
    return o->negatives == NEGATIVES_CROSS;
}

static method_spec simclr_spec(const sim_method_env *env, const simclr_options *o)
{
    return (method_spec){.model = sim_common_model(o),
                         .views = (size_t)o->views,
                         .options = o,
                         .options_bytes = sizeof *o,
                         .scalars = sim_temperature_scalars(&o->softmax),
                         .row_views = {(size_t)o->views + env->small.n},
                         .contrast = !is_cross(o),
                         .cross = is_cross(o)};
}

static sim_status simclr_create(const sim_method_env *env, const void *options,
                                void **self)
{
    const method_spec spec = simclr_spec(env, options);
    return sim_common_create(env, &spec, self);
}

static sim_status simclr_plan(const sim_method_env *env, const void *options,
                              sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = simclr_spec(env, options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

static sim_status check_weight_batch(const simclr_options *o, size_t batch,
                                     sim_status code)
{
    sim_status st = SIM_OK;
    SIM_CHECK(o->weights == WEIGHTS_NONE || o->weight_batch == 0 ||
                  batch % (size_t)o->weight_batch == 0,
              code,
              "method.weight_batch: the batch, %zu, is not a multiple of %lld images",
              batch, (long long)o->weight_batch);
done:
    return st;
}

static sim_status check_pairs(const sim_method_env *env, const void *options)
{
    sim_status st = SIM_OK;
    const simclr_options *o = options;
    SIM_TRY(check_weight_batch(o, env->batch, SIM_E_CONFIG));
    SIM_CHECK(o->weights == WEIGHTS_NONE || o->views == 2, SIM_E_CONFIG,
              "method.weights: dclw requires method.views: 2, but it is %lld",
              (long long)o->views);
    SIM_CHECK(!is_cross(o) || o->views == CROSS_VIEWS, SIM_E_CONFIG,
              "method.negatives: cross requires method.views: 2, but it is %lld",
              (long long)o->views);
    SIM_CHECK(o->weights == WEIGHTS_NONE || env->small.n == 0, SIM_E_CONFIG,
              "method.weights: dclw is defined for pairs of views; expected none, or "
              "augment.small_views: 0");
    SIM_CHECK(!is_cross(o) || env->small.n == 0, SIM_E_CONFIG,
              "method.negatives: cross is defined for two views; expected all, or "
              "augment.small_views: 0");
    SIM_CHECK(!is_cross(o) || o->weights == WEIGHTS_NONE, SIM_E_CONFIG,
              "method.negatives: cross requires method.weights: none, but it is dclw");
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

static bool is_decoupled(const simclr_options *o)
{
    return o->softmax.denominator == DENOMINATOR_DECOUPLED;
}

static double loss_factor(const simclr_options *o, double t)
{
    if (o->base_temperature > 0)
        return t / o->base_temperature;
    return o->reduction == REDUCTION_SUM_DIRECTIONS ? 2 : 1;
}

static sim_ntxent_options ntxent_options(const simclr_options *o, double t,
                                         const int32_t *labels)
{
    return (sim_ntxent_options){.temperature = t,
                                .factor = loss_factor(o, t),
                                .decoupled = is_decoupled(o),
                                .inside = o->multi_view == POSITIVES_IN ||
                                          o->positives == POSITIVES_IN,
                                .inside_mean = o->positives == POSITIVES_IN,
                                .weighted = o->weights == WEIGHTS_DCLW,
                                .weight_flow = o->weight_grad == WEIGHT_GRAD_FLOW,
                                .weight_sigma = o->sigma,
                                .weight_group = (size_t)o->weight_batch,
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

/* The rows of the first view against those of the second, and vice versa. */
static void cross_view_loss(sim_cross *e, const simclr_options *o, double t, unit_rows *r,
                            sim_loss_report *report)
{
    size_t view2 = r->n / CROSS_VIEWS * r->d; /* floats before the rows of view 2 */
    const sim_cross_options loss = {.temperature = t,
                                    .factor = loss_factor(o, t),
                                    .decoupled = is_decoupled(o),
                                    .columns = true};
    sim_cross_softmax(e, &loss, r->z, r->z + view2, r->dz, r->dz + view2, report);
}

static void simclr_loss(void *self, const sim_method_batch *batch,
                        sim_loss_report *report, float *grads)
{
    method_common *m = self;
    const simclr_options *o = m->options;
    double t = sim_temperature_value(&o->softmax, &m->scalars);
    (void)grads;

    sim_online_load(m->online, SIM_PROJECTOR, &m->rows[0]);
    if (is_cross(o))
        cross_view_loss(m->cross, o, t, &m->rows[0], report);
    else
        ntxent_loss(m->contrast, o, t, batch->labels, &m->rows[0], report);
    sim_online_store_gradient(m->online, SIM_PROJECTOR, &m->rows[0]);
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
    size_t views = is_cross(o) ? 1 : m->rows[0].views; /* that have negatives */

    sim_temperature_about(&o->softmax, temperature_text, sizeof temperature_text);
    return sim_text_format(
        "method/about", text, "%s%s%s, %s, %zu negatives per anchor%s, %s",
        is_cross(o) ? "InfoNCE across views" : "NT-Xent",
        is_decoupled(o) ? ", decoupled" : "",
        o->weights == WEIGHTS_DCLW ? ", weighted positives" : "", temperature_text,
        views * m->batch - views, negatives, simclr_reduction(o));
}

static sim_status simclr_about(void *self, char **text)
{
    return simclr_describe_loss(self, "", text);
}

static sim_status supcon_about(void *self, char **text)
{
    const simclr_options *o = ((const method_common *)self)->options;
    return simclr_describe_loss(self,
                                o->positives_by == BY_GROUP ? " minus those of its group"
                                                            : " minus those of its label",
                                text);
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
    SIM_CHECK(!is_cross(o) || *views == CROSS_VIEWS, SIM_E_DATA,
              "method.negatives: cross requires 2 views, but the file has %zu", *views);
done:
    return st;
}

/* name: "labels" or "group" */
static sim_status simclr_read_labels(const sim_arrays *a, const char *name, size_t n,
                                     int32_t **out)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS];
    SIM_TRY(a->dims(a->ctx, name, 1, dims));
    SIM_CHECK(dims[0] == n, SIM_E_DATA, "/%s has %zu elements, but /z1 has %zu rows",
              name, dims[0], n);
    SIM_TRY(sim_alloc(out, n, "method/labels"));
    SIM_TRY(a->ints(a->ctx, name, 0, n, *out));
done:
    return st;
}

/* What a loss on arrays takes: one of both engines. */
typedef struct {
    array_rows r;
    int32_t *labels;
    sim_contrast *contrast;
    sim_cross *cross;
} simclr_inputs;

static sim_status simclr_read_inputs(const sim_comm *c, const simclr_options *o,
                                     const char *labels, const sim_arrays *a,
                                     simclr_inputs *in)
{
    sim_status st = SIM_OK;
    size_t views = 0;

    SIM_TRY(count_views(o, a, &views));
    SIM_TRY(sim_array_rows_read(c, a, "z", views, &in->r));
    SIM_TRY(check_weight_batch(o, in->r.shape.n, SIM_E_DATA));
    if (labels)
        SIM_TRY(simclr_read_labels(a, labels, in->r.shape.n, &in->labels));
    if (is_cross(o)) {
        sim_rows_shape one = in->r.shape;
        one.views = 1;
        SIM_TRY(sim_cross_create(c, &one, &in->cross));
    } else {
        SIM_TRY(sim_contrast_create(c, &in->r.shape, &in->contrast));
    }
done:
    return st;
}

static sim_status compute_ntxent(const sim_comm *c, const simclr_options *o,
                                 const char *labels, const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    simclr_inputs in = {.labels = NULL};
    double t = o->softmax.temperature;
    sim_loss_report report = {0};

    SIM_TRY(sim_comm_agree(c, simclr_read_inputs(c, o, labels, a, &in)));
    if (is_cross(o))
        cross_view_loss(in.cross, o, t, &in.r.rows, &report);
    else
        ntxent_loss(in.contrast, o, t, in.labels, &in.r.rows, &report);
    SIM_TRY(sim_array_rows_write(a, "dz", &in.r));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_contrast_destroy(&in.contrast);
    sim_cross_destroy(&in.cross);
    sim_free(in.labels);
    sim_array_rows_release(&in.r);
    return st;
}

static sim_status simclr_compute(const sim_comm *c, const void *options,
                                 const sim_arrays *a, double *loss)
{
    return compute_ntxent(c, options, NULL, a, loss);
}

static sim_status supcon_compute(const sim_comm *c, const void *options,
                                 const sim_arrays *a, double *loss)
{
    return compute_ntxent(c, options, supcon_by_group(options) ? "group" : "labels", a,
                          loss);
}

/* ---- rows ---- */

/* As google-research/simclr; jobs/README.md, "Results on CIFAR-10", measures it. */
static const sim_method_default simclr_defaults[] = {
    {"encoder.projector.bn", "true"},
    {"encoder.projector.last_bn", "true"},
};
/* As raminnakhli/Decoupled-Contrastive-Learning. */
static const sim_method_default dcl_defaults[] = {{"encoder.projector.bn", "true"}};

#define SIMCLR_ROW(name_, paper_, table_, labels_, about_, compute_, ...)                \
    {                                                                                    \
        .name = name_, .paper = paper_, .table = &(table_), .needs_labels = labels_,     \
        .takes_small_views = true, .model = sim_common_model, .check = check_pairs,      \
        .parts = simclr_parts, .create = simclr_create, .forward = sim_common_forward,   \
        .loss = simclr_loss, .backward = sim_common_backward,                            \
        .scalar_gradient_bound = sim_temperature_gradient_bound_unit, .about = about_,   \
        .plan = simclr_plan, .reduction = simclr_reduction, .compute = compute_,         \
        COMMON_ROW_FIELDS, __VA_ARGS__                                                   \
    }

#define DEFAULTS(list) .defaults = list, .n_defaults = sizeof list / sizeof list[0]

const sim_method_row sim_method_simclr =
    SIMCLR_ROW("simclr", "arXiv 2002.05709", simclr_table, false, simclr_about,
               simclr_compute, DEFAULTS(simclr_defaults));
const sim_method_row sim_method_infonce =
    SIMCLR_ROW("infonce", "arXiv 1807.03748", infonce_table, false, simclr_about,
               simclr_compute, DEFAULTS(simclr_defaults));
const sim_method_row sim_method_dcl =
    SIMCLR_ROW("dcl", "arXiv 2110.06848", dcl_table, false, simclr_about, simclr_compute,
               DEFAULTS(dcl_defaults));
const sim_method_row sim_method_dclw =
    SIMCLR_ROW("dclw", "arXiv 2110.06848", dclw_table, false, simclr_about,
               simclr_compute, DEFAULTS(dcl_defaults));
const sim_method_row sim_method_supcon =
    SIMCLR_ROW("supcon", "arXiv 2004.11362", supcon_table, true, supcon_about,
               supcon_compute, .by_group = supcon_by_group);
