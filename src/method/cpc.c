/*
 * cpc.c - contrastive predictive coding: contexts predict the patches below them.
 *
 * An image is cut into a grid of overlapping patches.  patches -> backbone (-> projector) -> z;
 * z -> context network -> c.  With y and x a position of the grid, over S steps:
 *
 *   L = 1 / S sum_k mean of [ -(W_k c_yx) . z_(y+k+skip)x / T
 *                             + log sum_j exp((W_k c_yx) . z_j / T) ]
 *
 * Shapes: z, c [local images][grid][grid][d].
 * Invariant: the leaf of a gradient is a block of images with all their patches.
 * Paper: van den Oord et al. 2018, arXiv 1807.03748, equations 3 and 4, section 3.2.
 */
#include "cpc.h"

#include "online_encoder.h"
#include "predict.h"

#include "simile/memory.h"

#include <stdio.h>

static const sim_option cpc_rows[] = {
    KEYS_TEMPERATURE(cpc_options, 1000, "1.0"),
    KEY_INT(cpc_options, "grid", grid, 2, 32, "7", "patches",
            "per side of an image; neighbours overlap by half"),
    KEY_INT(cpc_options, "steps", steps, 1, MAX_STEPS, "5", "rows",
            "below a context that are predicted"),
    KEY_INT(cpc_options, "skip", skip, 0, 30, "0", "rows",
            "left out between a context and the first step"),
    KEY_INT_OR_WORD(
        cpc_options, "negatives", negatives, 65536, "all", "patches",
        "all: the targets of the step; M: drawn from all patches of the batch"),
    KEY_CHOICE(cpc_options, "target", target, "features", "features|projector",
               "input of the context network and target of predictions"),
    KEY_DENOMINATOR(cpc_options, "full"),
};
static const sim_option_table cpc_table = KEY_TABLE(cpc_options, cpc_rows);

/* ---- objects ---- */

typedef struct {
    cpc_options options;
    trained_scalars scalars;
    sim_patches cut;
    sim_batch_shape images, patches; /* with images and with patches as slots */
    sim_reducer reducer;
    size_t batch;
    sim_model model; /* without a projector if features are predicted */
    sim_tape *tape[SIM_MODEL_NETS];
    float *x; /* [patches][patch_h][patch_w][c] */
    float *out[SIM_MODEL_NETS], *dout[SIM_MODEL_NETS]; /* [patches][dim] */
    float *context_dz; /* [patches][dim] gradient of z from the context network */
    predict *predict;
    predict_spec drawing; /* describes drawn negatives */
} cpc;

/* Describes the networks and buffers of a rank. */
typedef struct {
    sim_model_layout model;
    sim_batch_shape images, patches;
    predict_spec predict;
} cpc_design;

static size_t cpc_parts(const void *opaque, sim_part out[SIM_MAX_PARTS])
{
    (void)opaque;
    out[0] = (sim_part){.n_views = 1, .views = {0}};
    return 1;
}

static bool uses_projector(const cpc_options *o)
{
    return o->target == CPC_TARGET_PROJECTOR;
}

static sim_model_spec cpc_model(const void *opaque)
{
    const cpc_options *o = opaque;
    return (sim_model_spec){
        .grid = (size_t)o->grid, .projector = uses_projector(o), .context = true};
}

/* A cpc_design contains pointers into itself: it must not be moved. */
static sim_status make_design(const sim_method_env *env, const cpc_options *o,
                              cpc_design *d)
{
    sim_status st = SIM_OK;
    const sim_model_spec spec = cpc_model(o);

    SIM_TRY(sim_online_lay_out(env, &spec, &d->model));
    d->images = sim_online_shape(env, 1);
    d->patches = d->images;
    d->patches.slots *= spec.grid * spec.grid;
    d->predict = (predict_spec){.comm = env->comm,
                                .images = d->images,
                                .grid = spec.grid,
                                .d = d->model.context.dim,
                                .steps = (size_t)o->steps,
                                .skip = (size_t)o->skip,
                                .n_negatives = (size_t)o->negatives,
                                .seed = env->seed,
                                .gather = env->gather};
    SIM_TRY(sim_predict_check(&d->predict));
done:
    return st;
}

static sim_status cpc_check(const sim_method_env *env, const void *opaque)
{
    cpc_design d = {0};
    return make_design(env, opaque, &d);
}

static void cpc_destroy(void **self)
{
    cpc *s = *self;
    if (!s)
        return;
    for (size_t i = 0; i < SIM_MODEL_NETS; i++) {
        sim_tape_destroy(&s->tape[i]);
        sim_free(s->out[i]);
        sim_free(s->dout[i]);
    }
    sim_model_destroy(&s->model);
    sim_free(s->x);
    sim_free(s->context_dz);
    sim_predict_destroy(&s->predict);
    sim_free(s);
    *self = NULL;
}

/* The slots of a network are patches; those of the context network are images. */
static sim_status create_tape(cpc *s, size_t i)
{
    sim_status st = SIM_OK;
    const sim_batch_shape *shape = i == SIM_CONTEXT ? &s->images : &s->patches;
    size_t n = sim_batch_images(shape) * sim_net_dim(s->model.net[i]);

    SIM_TRY(sim_tape_create(s->model.net[i], shape, &s->reducer, true, &s->tape[i]));
    SIM_TRY(sim_alloc(&s->out[i], n, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->dout[i], n, "method/embeddings"));
done:
    return st;
}

static sim_status create_parts(cpc *s, const cpc_design *d)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_model_create(&d->model, SIM_ALL_NETS, &s->model));
    for (size_t i = 0; i < SIM_MODEL_NETS; i++)
        if (s->model.net[i])
            SIM_TRY(create_tape(s, i));
    size_t images = sim_batch_images(&s->images);
    SIM_TRY(sim_alloc(&s->x, images * sim_patches_floats(&d->model.patches),
                      "method/patches"));
    SIM_TRY(sim_alloc(&s->context_dz, images * sim_net_dim(s->model.net[SIM_CONTEXT]),
                      "method/embeddings"));
    SIM_TRY(sim_predict_create(&d->predict, &s->predict));
done:
    return st;
}

static sim_status cpc_create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const cpc_options *o = opaque;
    cpc_design d = {0};
    cpc *s = NULL;
    void *out = NULL;

    SIM_TRY(make_design(env, o, &d));
    SIM_TRY(sim_new(&s, "method/cpc"));
    out = s;
    s->options = *o;
    s->scalars = sim_temperature_scalars(&o->softmax);
    s->cut = d.model.patches;
    s->images = d.images;
    s->patches = d.patches;
    s->reducer = sim_reducer_of(env->comm);
    s->drawing = d.predict;
    s->batch = env->batch;
    SIM_TRY(create_parts(s, &d));
    *self = out;
    out = NULL;
done:
    cpc_destroy(&out);
    return st;
}

/* ---- a step ---- */

/* The network whose output is the target. */
static size_t target_net(const cpc *s)
{
    return s->model.net[SIM_PROJECTOR] ? SIM_PROJECTOR : SIM_BACKBONE;
}

/* Offsets in the gradients: networks, W_1 to W_S, scalars; and their total. */
typedef struct {
    size_t net[SIM_MODEL_NETS], predict, scalars, total;
} gradient_offsets;

static gradient_offsets offsets_of(const cpc *s)
{
    gradient_offsets p = {.predict = 0};
    for (size_t i = 0; i < SIM_MODEL_NETS; i++) {
        p.net[i] = p.predict;
        p.predict += s->model.net[i] ? sim_net_parameters(s->model.net[i]) : 0;
    }
    p.scalars = p.predict + sim_predict_parameters(s->predict);
    p.total = p.scalars + s->scalars.n;
    return p;
}

static void cpc_forward(void *self, const sim_method_batch *batch)
{
    cpc *s = self;
    sim_patches_cut(&s->cut, sim_batch_images(&s->images), batch->x[0], s->x);
    sim_net_forward(s->tape[SIM_BACKBONE], s->x, s->out[SIM_BACKBONE]);
    if (s->model.net[SIM_PROJECTOR])
        sim_net_forward(s->tape[SIM_PROJECTOR], s->out[SIM_BACKBONE],
                        s->out[SIM_PROJECTOR]);
    sim_net_forward(s->tape[SIM_CONTEXT], s->out[target_net(s)], s->out[SIM_CONTEXT]);
}

typedef struct {
    const predict_spec *spec;
    const sim_method_batch *batch;
} draw_call;

static void draw(void *ctx, size_t k, int32_t *out)
{
    const draw_call *call = ctx;
    sim_predict_draw_others(call->spec, call->batch->epoch, call->batch->samples, k, out);
}

/* Also computes the gradients of W_k, because the buffers of a step k are reused by the next. */
static void cpc_loss(void *self, const sim_method_batch *batch, sim_loss_report *report,
                     float *grads)
{
    cpc *s = self;
    const gradient_offsets at = offsets_of(s);
    size_t z = target_net(s);
    draw_call call = {&s->drawing, batch};
    const predict_options how = {
        .temperature = sim_temperature_value(&s->options.softmax, &s->scalars),
        .decoupled = s->options.softmax.denominator == DENOMINATOR_DECOUPLED,
        .draw = draw,
        .draw_ctx = &call};

    sim_predict_run(s->predict, &how, s->out[SIM_CONTEXT], s->out[z],
                    s->dout[SIM_CONTEXT], s->dout[z], grads + at.predict, at.total,
                    report);
}

/* The gradient of z has two terms: as target, and as input of the context network. */
static void cpc_backward(void *self, const sim_loss_report *report, float *grads)
{
    const cpc *s = self;
    const gradient_offsets at = offsets_of(s);
    float *dz = s->dout[target_net(s)];

    sim_net_backward(s->tape[SIM_CONTEXT], s->dout[SIM_CONTEXT], s->context_dz,
                     grads + at.net[SIM_CONTEXT], at.total);
    sim_add(sim_batch_images(&s->images) * sim_net_dim(s->model.net[SIM_CONTEXT]),
            s->context_dz, dz);
    if (s->model.net[SIM_PROJECTOR])
        sim_net_backward(s->tape[SIM_PROJECTOR], s->dout[SIM_PROJECTOR],
                         s->dout[SIM_BACKBONE], grads + at.net[SIM_PROJECTOR], at.total);
    sim_net_backward(s->tape[SIM_BACKBONE], s->dout[SIM_BACKBONE], NULL,
                     grads + at.net[SIM_BACKBONE], at.total);
    sim_scalars_gradient(&s->scalars, &s->images, report, at.scalars, grads, at.total);
}

/* ---- the other functions of the row ---- */

static const sim_model *cpc_networks(void *self)
{
    return &((cpc *)self)->model;
}

static size_t cpc_nets(void *self, sim_net *out[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS])
{
    const cpc *s = self;
    size_t n = 0;

    for (size_t i = 0; i < SIM_MODEL_NETS; i++)
        if (s->model.net[i]) {
            out[n] = s->model.net[i];
            groups[n++] = sim_model_group((int)i);
        }
    for (size_t k = 0; k < (size_t)s->options.steps; k++) {
        out[n] = sim_predict_net(s->predict, k);
        groups[n++] = "predictor";
    }
    return n;
}

static size_t cpc_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS])
{
    return sim_scalars_list(&((cpc *)self)->scalars, out);
}

static sim_status cpc_visit(void *self, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    cpc *s = self;
    sim_net *all[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    char path[40];
    size_t n = cpc_nets(self, all, groups);

    for (size_t i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "weights/%s", groups[i]);
        SIM_TRY(sim_net_visit(all[i], path, v));
    }
    SIM_TRY(sim_scalars_visit(&s->scalars, v));
done:
    return st;
}

static sim_embeddings cpc_embeddings(void *self)
{
    const cpc *s = self;
    return (sim_embeddings){.z = s->out[target_net(s)],
                            .views = 1,
                            .dim = sim_net_dim(s->model.net[SIM_CONTEXT]),
                            .any_length = true};
}

static const char *cpc_holds_batch(const void *opaque)
{
    const cpc_options *o = opaque;
    return o->negatives ? "which draws its negatives (method.negatives) from all rows of "
                          "the batch"
                        : NULL;
}

static const char *cpc_reduction(const void *opaque)
{
    (void)opaque;
    return "mean over steps of the mean over positions and images";
}

static sim_status cpc_about(void *self, char **text)
{
    const cpc *s = self;
    const cpc_options *o = &s->options;
    size_t g = s->cut.grid, rows = g - 1 - (size_t)o->skip;
    size_t negatives =
        o->negatives ? (size_t)o->negatives : s->batch * rows * g - 1 /* of the first */;
    char temperature_text[64];

    sim_temperature_about(&o->softmax, temperature_text, sizeof temperature_text);
    return sim_text_format(
        "method/about", text,
        "InfoNCE%s over %zu x %zu patches of %zu x %zu pixels, %lld to %lld rows below, "
        "%s, %zu negatives %s, %s",
        o->softmax.denominator == DENOMINATOR_DECOUPLED ? ", decoupled," : "", g, g,
        s->cut.patch_h, s->cut.patch_w, (long long)(o->skip + 1),
        (long long)(o->skip + o->steps), temperature_text, negatives,
        o->negatives ? "drawn per anchor" : "per anchor in the first step",
        cpc_reduction(o));
}

static sim_status cpc_plan(const sim_method_env *env, const void *opaque,
                           sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const cpc_options *o = opaque;
    cpc_design d = {0};

    SIM_TRY(make_design(env, o, &d));
    size_t patches = sim_batch_images(&d.patches), dims = 3 * d.model.context.dim;
    dims += 2 * d.model.projector.in;
    if (uses_projector(o))
        dims += 2 * d.model.projector.dim;
    SIM_TRY(sim_net_plan(&d.model.backbone, &d.model.projector, uses_projector(o) ? 1 : 0,
                         &d.patches, rows, n_rows));
    SIM_TRY(sim_context_plan(&d.model.context, &d.images, rows, *n_rows));
    SIM_TRY(sim_predict_plan(&d.predict, env->partition, rows, n_rows));
    sim_plan_add(rows, n_rows, "embeddings", sizeof(float) * patches * dims);
    sim_plan_add(rows, n_rows, "patches",
                 sizeof(float) * sim_batch_images(&d.images) *
                     sim_patches_floats(&d.model.patches));
done:
    return st;
}

/* Predictions are not normalized.  Measured: an initial contrast of 7 to 8, which grows; with
 * sgd at a rate of 0.02 a temperature of 1 reached 255 after twelve steps. */
static double cpc_scalar_gradient_bound(const void *opaque, size_t batch)
{
    static const double initial_contrast = 30;
    const cpc_options *o = opaque;
    (void)batch;
    return sim_temperature_gradient_bound(&o->softmax, initial_contrast);
}

const sim_method_row sim_method_cpc = {.name = "cpc",
                                       .paper = "arXiv 1807.03748",
                                       .table = &cpc_table,
                                       .model = cpc_model,
                                       .check = cpc_check,
                                       .parts = cpc_parts,
                                       .create = cpc_create,
                                       .destroy = cpc_destroy,
                                       .forward = cpc_forward,
                                       .loss = cpc_loss,
                                       .backward = cpc_backward,
                                       .networks = cpc_networks,
                                       .nets = cpc_nets,
                                       .scalars = cpc_scalars,
                                       .scalar_gradient_bound = cpc_scalar_gradient_bound,
                                       .visit = cpc_visit,
                                       .embeddings = cpc_embeddings,
                                       .holds_batch = cpc_holds_batch,
                                       .about = cpc_about,
                                       .plan = cpc_plan,
                                       .reduction = cpc_reduction,
                                       .compute = sim_cpc_compute};
