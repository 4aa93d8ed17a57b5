/*
 * cpc.c - contrastive predictive coding on images: the rows above foretell the rows below.
 *
 * In: one view of each image, cut in a grid of overlapping patches.  Out: InfoNCE over
 * patches of the global batch, and gradients.
 * patches -> backbone (-> projector) = z;  z -> context = c;  W_k c against z, and back.
 * A block's images with all their patches are one leaf, so batch norm and gradients keep the
 * tree of the blocks.
 * van den Oord et al. 2018, arXiv 1807.03748, section 3.2.
 */
#include "cpc.h"

#include "common.h"
#include "predict.h"

#include "simile/memory.h"

#include <stdio.h>

static const sim_option option_rows[] = {
    KEYS_TEMPERATURE(cpc_options, 1000, "1.0",
                     "softmax temperature; predictions and targets are not normalised"),
    KEY_INT(cpc_options, "grid", grid, 2, 32, "7", "patches",
            "a side of an image, each overlapping the next by half"),
    KEY_INT(cpc_options, "steps", steps, 1, MOST_STEPS, "5", "rows",
            "below that are predicted"),
    KEY_INT(cpc_options, "skip", skip, 0, 30, "0", "rows",
            "left out below before the first step"),
    {.name = "negatives",
     .type = SIM_OPTION_INT,
     .offset = offsetof(cpc_options, negatives),
     .max = 65536,
     .choices = "all",
     .fallback = "all",
     .unit = "patches",
     .help = "all targets of the step, or this many drawn from all patches of the batch",
     .kind = SIM_IDENTITY},
    KEY_CHOICE(cpc_options, "target", target, "features", "features|projector",
               "what is predicted, and read by the context: features, or their "
               "projection"),
    KEY_CHOICE(cpc_options, "denominator", denominator, "full", "full|decoupled",
               "whether the positive stands in the denominator"),
};
static const sim_option_table table = KEY_TABLE(cpc_options, option_rows);

/* ---- what it is made of ---- */

typedef struct {
    cpc_options options;
    temperature temperature;
    sim_patches cut;
    sim_batch_shape images, patches; /* a block's slots: images; patches */
    sim_reducer reducer;
    size_t batch;
    sim_model model; /* without a projector where features are predicted */
    sim_tape *tape[SIM_MODEL_NETS];
    float *x; /* [patches][patch_h][patch_w][c] */
    float *out[SIM_MODEL_NETS], *dout[SIM_MODEL_NETS]; /* [patches][dim] */
    float *through; /* [patches][dim] gradient by the context */
    predict *predict;
    predict_spec drawing; /* whose negatives are drawn */
    float *grads;         /* of the step under way */
} cpc;

/* What a rank's nets and buffers are, before they are made. */
typedef struct {
    sim_model_layout model;
    sim_batch_shape images, patches;
    predict_spec predict;
} design;

static size_t parts(const void *opaque, sim_part out[SIM_MAX_PARTS])
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

/* The design contains pointers into itself: it must not be moved. */
static sim_status make_design(const sim_method_env *env, const cpc_options *o, design *d)
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
                                .seed = env->seed};
    SIM_TRY(sim_predict_check(&d->predict));
done:
    return st;
}

static sim_status check(const sim_method_env *env, const void *opaque)
{
    design d = {0};
    return make_design(env, opaque, &d);
}

static void destroy(void **self)
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
    sim_free(s->through);
    sim_predict_destroy(&s->predict);
    sim_free(s);
    *self = NULL;
}

/* Rows of a net's output stand for patches, but the context's for images. */
static sim_status create_pass(cpc *s, size_t i)
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

static sim_status create_parts(cpc *s, const design *d)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_model_create(&d->model, SIM_ALL_NETS, &s->model));
    for (size_t i = 0; i < SIM_MODEL_NETS; i++)
        if (s->model.net[i])
            SIM_TRY(create_pass(s, i));
    size_t images = sim_batch_images(&s->images);
    SIM_TRY(sim_alloc(&s->x, images * sim_patches_floats(&d->model.patches),
                      "method/patches"));
    SIM_TRY(sim_alloc(&s->through, images * sim_net_dim(s->model.net[SIM_CONTEXT]),
                      "method/embeddings"));
    SIM_TRY(sim_predict_create(&d->predict, &s->predict));
done:
    return st;
}

static sim_status create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const cpc_options *o = opaque;
    design d = {0};
    cpc *s = NULL;
    void *out = NULL;

    SIM_TRY(make_design(env, o, &d));
    SIM_TRY(sim_new(&s, "method/cpc"));
    out = s;
    s->options = *o;
    s->temperature = sim_temperature_begin(&o->softmax);
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
    destroy(&out);
    return st;
}

/* ---- a step ---- */

/* The net whose output is the target. */
static size_t last_of(const cpc *s)
{
    return s->model.net[SIM_PROJECTOR] ? SIM_PROJECTOR : SIM_BACKBONE;
}

/* Where gradients stand in the arena: of the nets, of W_1 .. W_S, of the temperature. */
typedef struct {
    size_t net[SIM_MODEL_NETS], predict, scalar, all;
} places;

static places places_of(const cpc *s)
{
    places p = {.predict = 0};
    for (size_t i = 0; i < SIM_MODEL_NETS; i++) {
        p.net[i] = p.predict;
        p.predict += s->model.net[i] ? sim_net_parameters(s->model.net[i]) : 0;
    }
    p.scalar = p.predict + sim_predict_parameters(s->predict);
    p.all = p.scalar + (s->temperature.learned ? 1 : 0);
    return p;
}

static void forward(void *self, const sim_method_batch *batch)
{
    cpc *s = self;
    sim_patches_cut(&s->cut, sim_batch_images(&s->images), batch->x, s->x);
    sim_net_forward(s->tape[SIM_BACKBONE], s->x, s->out[SIM_BACKBONE]);
    if (s->model.net[SIM_PROJECTOR])
        sim_net_forward(s->tape[SIM_PROJECTOR], s->out[SIM_BACKBONE],
                        s->out[SIM_PROJECTOR]);
    sim_net_forward(s->tape[SIM_CONTEXT], s->out[last_of(s)], s->out[SIM_CONTEXT]);
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

/* Gradients of W_k are made here too: the buffers of a k are the next one's. */
static void compare(void *self, const sim_method_batch *batch, sim_loss_report *report)
{
    cpc *s = self;
    const places at = places_of(s);
    size_t z = last_of(s);
    draw_call call = {&s->drawing, batch};
    const predict_options how = {.temperature = sim_temperature_value(&s->temperature),
                                 .decoupled = s->options.denominator == 1,
                                 .draw = draw,
                                 .draw_ctx = &call};

    sim_predict_run(s->predict, &how, s->out[SIM_CONTEXT], s->out[z],
                    s->dout[SIM_CONTEXT], s->dout[z], s->grads + at.predict, at.all,
                    report);
}

/* Targets get a gradient as targets, and as what the context has read. */
static void backward(void *self, const sim_loss_report *report, float *grads)
{
    const cpc *s = self;
    const places at = places_of(s);
    float *dz = s->dout[last_of(s)];

    sim_net_backward(s->tape[SIM_CONTEXT], s->dout[SIM_CONTEXT], s->through,
                     grads + at.net[SIM_CONTEXT], at.all);
    sim_add(sim_batch_images(&s->images) * sim_net_dim(s->model.net[SIM_CONTEXT]),
            s->through, dz);
    if (s->model.net[SIM_PROJECTOR])
        sim_net_backward(s->tape[SIM_PROJECTOR], s->dout[SIM_PROJECTOR],
                         s->dout[SIM_BACKBONE], grads + at.net[SIM_PROJECTOR], at.all);
    sim_net_backward(s->tape[SIM_BACKBONE], s->dout[SIM_BACKBONE], NULL,
                     grads + at.net[SIM_BACKBONE], at.all);
    if (s->temperature.learned)
        sim_scalar_gradient(&s->images, report->d_log_temperature, at.scalar, grads,
                            at.all);
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    static const step_parts step = {forward, compare, backward};
    ((cpc *)self)->grads = grads;
    sim_method_step_run(&step, self, batch, grads, report, times);
}

static void updated(void *self)
{
    cpc *s = self;
    for (size_t i = 0; i < SIM_MODEL_NETS; i++)
        if (s->model.net[i])
            sim_net_pack(s->model.net[i], true);
    sim_predict_updated(s->predict);
}

/* ---- what train asks for ---- */

static size_t nets(void *self, sim_net *out[SIM_MAX_NETS],
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

static size_t scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS])
{
    return sim_temperature_scalars(&((cpc *)self)->temperature, out);
}

static sim_status visit(void *self, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    cpc *s = self;
    sim_net *all[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    char path[40];
    size_t n = nets(self, all, groups);

    for (size_t i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "weights/%s", groups[i]);
        SIM_TRY(sim_net_visit(all[i], path, v));
    }
    SIM_TRY(sim_temperature_visit(&s->temperature, v));
done:
    return st;
}

static sim_embeddings embeddings(void *self)
{
    const cpc *s = self;
    return (sim_embeddings){.z = s->out[last_of(s)],
                            .views = 1,
                            .dim = sim_net_dim(s->model.net[SIM_CONTEXT]),
                            .any_length = true};
}

static const char *reduction(const void *opaque)
{
    (void)opaque;
    return "mean over steps of the mean over positions and images";
}

static sim_status about(void *self, char **text)
{
    const cpc *s = self;
    const cpc_options *o = &s->options;
    size_t g = s->cut.grid, rows = g - 1 - (size_t)o->skip;
    size_t negatives =
        o->negatives ? (size_t)o->negatives : s->batch * rows * g - 1 /* of the first */;
    char temperature_text[64];

    sim_temperature_about(&s->temperature, temperature_text, sizeof temperature_text);
    return sim_text_format(
        "method/about", text,
        "InfoNCE%s over %zu x %zu patches of %zu x %zu pixels, %lld to %lld rows below, "
        "%s, %zu negatives %s, %s",
        o->denominator == 1 ? " decoupled" : "", g, g, s->cut.patch_h, s->cut.patch_w,
        (long long)(o->skip + 1), (long long)(o->skip + o->steps), temperature_text,
        negatives, o->negatives ? "drawn per anchor" : "per anchor in the first step",
        reduction(o));
}

static sim_status plan(const sim_method_env *env, const void *opaque,
                       sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const cpc_options *o = opaque;
    design d = {0};

    SIM_TRY(make_design(env, o, &d));
    size_t patches = sim_batch_images(&d.patches), dims = 3 * d.model.context.dim;
    dims += 2 * d.model.projector.in;
    if (uses_projector(o))
        dims += 2 * d.model.projector.dim;
    SIM_TRY(sim_net_plan(&d.model.backbone, &d.model.projector, uses_projector(o) ? 1 : 0,
                         &d.patches, rows, n_rows));
    SIM_TRY(sim_context_plan(&d.model.context, &d.images, rows, *n_rows));
    SIM_TRY(sim_predict_plan(&d.predict, rows, n_rows));
    sim_plan_add(rows, n_rows, "embeddings", sizeof(float) * patches * dims);
    sim_plan_add(rows, n_rows, "patches",
                 sizeof(float) * sim_batch_images(&d.images) *
                     sim_patches_floats(&d.model.patches));
done:
    return st;
}

/* Predictions are not normalised (measured: 7 to 8 apart, and growing: at a rate of 0.02 with
 * sgd a temperature of 1 was 255 after twelve steps). */
static double scalar_gradient_bound(const void *opaque, size_t batch)
{
    static const double predictions_apart = 30;
    const cpc_options *o = opaque;
    (void)batch;
    return sim_temperature_gradient_bound(&o->softmax, predictions_apart);
}

const sim_method_row sim_method_cpc = {.name = "cpc",
                                       .paper = "arXiv 1807.03748",
                                       .table = &table,
                                       .model = cpc_model,
                                       .check = check,
                                       .parts = parts,
                                       .create = create,
                                       .destroy = destroy,
                                       .forward_backward = forward_backward,
                                       .updated = updated,
                                       .nets = nets,
                                       .scalars = scalars,
                                       .scalar_gradient_bound = scalar_gradient_bound,
                                       .visit = visit,
                                       .embeddings = embeddings,
                                       .about = about,
                                       .plan = plan,
                                       .reduction = reduction,
                                       .compute = sim_cpc_compute};
