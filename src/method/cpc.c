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
#include "arrays.h"
#include "branch.h"
#include "predict.h"

#include "simile/clock.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    double temperature;
    int64_t grid, steps, skip, negatives;
    int target;      /* features|projector */
    int denominator; /* full|decoupled */
    bool learn_temperature;
} options;

#define COUNT(key, field, lo, hi, fallback_, unit_, help_)                               \
    {                                                                                    \
        .name = key, .type = SIM_OPTION_INT, .offset = offsetof(options, field),         \
        .min = lo, .max = hi, .fallback = fallback_, .unit = unit_, .help = help_,       \
        .kind = SIM_IDENTITY                                                             \
    }

#define LARGEST_TEMPERATURE 1000.0 /* rows of any length are compared */

static const sim_option option_rows[] = {
    {.name = "temperature",
     .type = SIM_OPTION_REAL,
     .offset = offsetof(options, temperature),
     .min = LEAST_TEMPERATURE,
     .max = LARGEST_TEMPERATURE,
     .fallback = "1.0",
     .unit = "",
     .help = "softmax temperature; predictions and targets are not normalised",
     .kind = SIM_IDENTITY},
    {.name = "learn_temperature",
     .type = SIM_OPTION_BOOL,
     .offset = offsetof(options, learn_temperature),
     .fallback = "false",
     .unit = "",
     .help = "train its logarithm too, within its range",
     .kind = SIM_IDENTITY},
    COUNT("grid", grid, 2, 32, "7", "patches",
          "a side of an image, each overlapping the next by half"),
    COUNT("steps", steps, 1, MOST_STEPS, "5", "rows", "below that are predicted"),
    COUNT("skip", skip, 0, 30, "0", "rows", "left out below before the first step"),
    {.name = "negatives",
     .type = SIM_OPTION_INT,
     .offset = offsetof(options, negatives),
     .max = 65536,
     .choices = "all",
     .fallback = "all",
     .unit = "patches",
     .help = "all targets of the step, or this many drawn from all patches of the batch",
     .kind = SIM_IDENTITY},
    {.name = "target",
     .type = SIM_OPTION_ENUM,
     .offset = offsetof(options, target),
     .fallback = "features",
     .choices = "features|projector",
     .unit = "",
     .help = "what is predicted, and read by the context: features, or their projection",
     .kind = SIM_IDENTITY},
    {.name = "denominator",
     .type = SIM_OPTION_ENUM,
     .offset = offsetof(options, denominator),
     .fallback = "full",
     .choices = "full|decoupled",
     .unit = "",
     .help = "whether the positive stands in the denominator",
     .kind = SIM_IDENTITY},
};

static const sim_option_table table = {.section = "method",
                                       .rows = option_rows,
                                       .n_rows =
                                           sizeof option_rows / sizeof option_rows[0],
                                       .struct_bytes = sizeof(options)};

/* ---- what it is made of ---- */

enum { ENCODER, TARGET, CONTEXT, PART_NETS };

typedef struct {
    options options;
    temperature temperature;
    sim_patches cut;
    sim_batch_shape images, patches; /* a block's slots: images; patches */
    sim_folder folder;
    size_t batch;
    sim_net *net[PART_NETS]; /* TARGET is NULL where features are predicted */
    sim_tape *tape[PART_NETS];
    float *x;                                /* [patches][patch_h][patch_w][c] */
    float *out[PART_NETS], *dout[PART_NETS]; /* [patches][dim] */
    float *through;                          /* [patches][dim] gradient by the context */
    predict *predict;
    predict_spec drawing;         /* whose negatives are drawn */
    const sim_method_batch *step; /* of the pass under way */
} cpc;

/* What a rank's nets and buffers are, before they are made. */
typedef struct {
    sim_patches cut;
    sim_batchnorm_options batchnorm; /* in patches */
    sim_method_env env;              /* a patch for an image */
    sim_batch_shape images, patches;
    sim_net_spec backbone;
    sim_head_spec projector;
    sim_context_spec context;
    predict_spec predict;
} design;

static size_t parts(const void *opaque, sim_part out[SIM_MAX_PARTS])
{
    (void)opaque;
    out[0] = (sim_part){.n_views = 1, .views = {0}};
    return 1;
}

static size_t grid(const void *opaque)
{
    return (size_t)((const options *)opaque)->grid;
}

static bool projects(const void *opaque)
{
    return ((const options *)opaque)->target == 1;
}

/* Statistics and leaves count patches where other methods count images. */
static void count_patches(const sim_method_env *env, design *d)
{
    size_t n = d->cut.grid * d->cut.grid;

    d->batchnorm = *env->batchnorm;
    d->batchnorm.group *= (int64_t)n;
    d->images = branch_shape(env, 1);
    d->patches = d->images;
    d->patches.slots *= n;
    d->env = *env;
    d->env.batchnorm = &d->batchnorm;
    d->env.h = d->cut.patch_h;
    d->env.w = d->cut.patch_w;
}

/* The design points into itself: it stays where it is. */
static sim_status make_design(const sim_method_env *env, const options *o, design *d)
{
    sim_status st = SIM_OK;
    const sim_encoder_options *e = env->encoder;

    SIM_TRY(sim_patches_of((size_t)o->grid, env->h, env->w, env->c, &d->cut));
    count_patches(env, d);
    d->backbone = branch_backbone_spec(&d->env);
    const branch_spec heads = {.views = 1};
    d->projector = branch_projector_spec(&d->env, &heads);
    size_t dim = o->target == 1 ? d->projector.dim : sim_backbone_dim(e);
    d->context = (sim_context_spec){
        .grid = d->cut.grid, .dim = dim, .activation = e->activation, .seed = env->seed};
    d->predict = (predict_spec){.comm = env->comm,
                                .images = d->images,
                                .grid = d->cut.grid,
                                .d = dim,
                                .steps = (size_t)o->steps,
                                .skip = (size_t)o->skip,
                                .n_negatives = (size_t)o->negatives,
                                .seed = env->seed};
    SIM_TRY(predict_check(&d->predict));
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
    for (size_t i = 0; i < PART_NETS; i++) {
        sim_tape_destroy(&s->tape[i]);
        sim_net_destroy(&s->net[i]);
        sim_free(s->out[i]);
        sim_free(s->dout[i]);
    }
    sim_free(s->x);
    sim_free(s->through);
    predict_destroy(&s->predict);
    sim_free(s);
    *self = NULL;
}

/* Rows of a net's output stand for patches, but the context's for images. */
static sim_status create_pass(cpc *s, size_t i)
{
    sim_status st = SIM_OK;
    const sim_batch_shape *shape = i == CONTEXT ? &s->images : &s->patches;
    size_t n = sim_batch_images(shape) * sim_net_dim(s->net[i]);

    SIM_TRY(sim_tape_create(s->net[i], shape, &s->folder, true, &s->tape[i]));
    SIM_TRY(sim_alloc(&s->out[i], n, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->dout[i], n, "method/embeddings"));
done:
    return st;
}

static sim_status create_parts(cpc *s, const design *d)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_backbone_create(&d->backbone, &s->net[ENCODER]));
    if (s->options.target == 1)
        SIM_TRY(sim_head_create(&d->projector, &s->net[TARGET]));
    SIM_TRY(sim_context_create(&d->context, &s->net[CONTEXT]));
    for (size_t i = 0; i < PART_NETS; i++)
        if (s->net[i])
            SIM_TRY(create_pass(s, i));
    size_t images = sim_batch_images(&s->images);
    SIM_TRY(sim_alloc(&s->x, images * sim_patches_floats(&d->cut), "method/patches"));
    SIM_TRY(sim_alloc(&s->through, images * sim_net_dim(s->net[CONTEXT]),
                      "method/embeddings"));
    SIM_TRY(predict_create(&d->predict, &s->predict));
done:
    return st;
}

static sim_status create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    design d = {0};
    cpc *s = NULL;
    void *out = NULL;

    SIM_TRY(make_design(env, o, &d));
    SIM_TRY(sim_new(&s, "method/cpc"));
    out = s;
    s->options = *o;
    s->temperature =
        temperature_begin(o->temperature, LARGEST_TEMPERATURE, o->learn_temperature);
    s->cut = d.cut;
    s->images = d.images;
    s->patches = d.patches;
    s->folder = sim_folder_of(env->comm);
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

static void draw(void *ctx, size_t k, int32_t *out)
{
    const cpc *s = ctx;
    predict_draw_others(&s->drawing, s->step->epoch, s->step->samples, k, out);
}

/* The net whose output is the target. */
static size_t last_of(const cpc *s)
{
    return s->net[TARGET] ? TARGET : ENCODER;
}

static size_t parameters_of(const sim_net *net)
{
    return net ? sim_net_parameters(net) : 0;
}

static void forward(cpc *s, const float *x)
{
    sim_patches_cut(&s->cut, sim_batch_images(&s->images), x, s->x);
    sim_net_forward(s->tape[ENCODER], s->x, s->out[ENCODER]);
    if (s->net[TARGET])
        sim_net_forward(s->tape[TARGET], s->out[ENCODER], s->out[TARGET]);
    sim_net_forward(s->tape[CONTEXT], s->out[last_of(s)], s->out[CONTEXT]);
}

/* Targets get a gradient as targets, and as what the context has read. */
static void backward(cpc *s, float *grads, size_t stride)
{
    size_t at_target = parameters_of(s->net[ENCODER]);
    size_t at_context = at_target + parameters_of(s->net[TARGET]);
    float *dz = s->dout[last_of(s)];

    sim_net_backward(s->tape[CONTEXT], s->dout[CONTEXT], s->through, grads + at_context,
                     stride);
    sim_add(sim_batch_images(&s->images) * sim_net_dim(s->net[CONTEXT]), s->through, dz);
    if (s->net[TARGET])
        sim_net_backward(s->tape[TARGET], s->dout[TARGET], s->dout[ENCODER],
                         grads + at_target, stride);
    sim_net_backward(s->tape[ENCODER], s->dout[ENCODER], NULL, grads, stride);
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    cpc *s = self;
    size_t at_predict = 0, at_scalar = 0, z = last_of(s);
    const predict_options how = {.temperature = temperature_value(&s->temperature),
                                 .decoupled = s->options.denominator == 1,
                                 .draw = draw,
                                 .draw_ctx = s};

    for (size_t i = 0; i < PART_NETS; i++)
        at_predict += parameters_of(s->net[i]);
    at_scalar = at_predict + predict_parameters(s->predict);
    size_t stride = at_scalar + (s->temperature.learned ? 1 : 0);
    s->step = batch;
    double t0 = sim_clock_s();
    forward(s, batch->x);
    double t1 = sim_clock_s();
    predict_run(s->predict, &how, s->out[CONTEXT], s->out[z], s->dout[CONTEXT],
                s->dout[z], grads + at_predict, stride, report);
    double t2 = sim_clock_s();
    backward(s, grads, stride);
    if (s->temperature.learned)
        scalar_gradient(&s->images, report->d_log_temperature, at_scalar, grads, stride);
    double t3 = sim_clock_s();
    times->forward += t1 - t0;
    times->loss += t2 - t1;
    times->backward += t3 - t2;
}

static void updated(void *self)
{
    cpc *s = self;
    for (size_t i = 0; i < PART_NETS; i++)
        if (s->net[i])
            sim_net_pack(s->net[i], true);
    predict_updated(s->predict);
}

/* ---- what train asks for ---- */

static size_t nets(void *self, sim_net *out[SIM_MAX_NETS],
                   const char *groups[SIM_MAX_NETS])
{
    static const char *const names[PART_NETS] = {"encoder", "projector", "context"};
    const cpc *s = self;
    size_t n = 0;

    for (size_t i = 0; i < PART_NETS; i++)
        if (s->net[i]) {
            out[n] = s->net[i];
            groups[n++] = names[i];
        }
    for (size_t k = 0; k < (size_t)s->options.steps; k++) {
        out[n] = predict_net(s->predict, k);
        groups[n++] = "predictor";
    }
    return n;
}

static size_t scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS])
{
    return temperature_scalars(&((cpc *)self)->temperature, out);
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
    SIM_TRY(temperature_visit(&s->temperature, v));
done:
    return st;
}

static sim_embeddings embeddings(void *self)
{
    const cpc *s = self;
    return (sim_embeddings){.z = s->out[last_of(s)],
                            .views = 1,
                            .dim = sim_net_dim(s->net[CONTEXT]),
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
    const options *o = &s->options;
    size_t g = s->cut.grid, rows = g - 1 - (size_t)o->skip;
    size_t negatives =
        o->negatives ? (size_t)o->negatives : s->batch * rows * g - 1 /* of the first */;
    char temperature_text[64];

    temperature_about(&s->temperature, temperature_text, sizeof temperature_text);
    return sim_text_format(
        "method/about", text,
        "InfoNCE%s over %zu x %zu patches of %zu x %zu pixels, %lld to %lld rows below, "
        "%s, %zu negatives %s, %s",
        o->denominator == 1 ? " decoupled" : "", g, g, s->cut.patch_h, s->cut.patch_w,
        (long long)(o->skip + 1), (long long)(o->skip + o->steps), temperature_text,
        negatives, o->negatives ? "drawn per anchor" : "per anchor in the first step",
        reduction(o));
}

static sim_status plan(const sim_method_env *env, const void *opaque, size_t ranks,
                       size_t rank, sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    design d = {0};
    sim_method_env there = *env;
    const sim_comm as_if = {.rank = (int)rank, .size = (int)ranks};

    there.comm = &as_if;
    SIM_TRY(make_design(&there, o, &d));
    size_t patches = sim_batch_images(&d.patches), dims = 3 * d.context.dim;
    dims += 2 * d.projector.in;
    if (o->target == 1)
        dims += 2 * d.projector.dim;
    SIM_TRY(sim_net_plan(&d.backbone, &d.projector, o->target == 1 ? 1 : 0, &d.patches,
                         rows, n_rows));
    SIM_TRY(sim_context_plan(&d.context, &d.images, rows, *n_rows));
    SIM_TRY(predict_plan(&d.predict, ranks, rows, n_rows));
    rows[(*n_rows)++] = (sim_plan_row){"embeddings", sizeof(float) * patches * dims};
    rows[(*n_rows)++] =
        (sim_plan_row){"patches", sizeof(float) * sim_batch_images(&d.images) *
                                      sim_patches_floats(&d.cut)};
done:
    return st;
}

/* ---- simile loss ---- */

/* What the file holds, of this rank's images. */
typedef struct {
    predict_spec spec;
    size_t n; /* images of all ranks */
    float *c, *z, *dc, *dz, *w, *grads;
    int32_t *negatives; /* [steps][mine][grid][grid][m] */
} inputs;

static sim_status read_shapes(const sim_comm *comm, const options *o, const sim_arrays *a,
                              inputs *in)
{
    sim_status st = SIM_OK;
    size_t c[SIM_MAX_DIMS], z[SIM_MAX_DIMS], w[SIM_MAX_DIMS];

    SIM_TRY(a->dims(a->ctx, "context", 4, c));
    SIM_TRY(a->dims(a->ctx, "target", 4, z));
    SIM_TRY(a->dims(a->ctx, "predictor", 3, w));
    SIM_CHECK(c[0] >= 2 && c[1] >= 2 && c[1] == c[2] && c[3] >= 1, SIM_E_DATA,
              "/context is %zu x %zu x %zu x %zu, expected [images][grid][grid][d] with "
              "two images and two rows or more",
              c[0], c[1], c[2], c[3]);
    SIM_CHECK(memcmp(c, z, 4 * sizeof *c) == 0, SIM_E_DATA,
              "/target is %zu x %zu x %zu x %zu, but /context is %zu x %zu x %zu x %zu",
              z[0], z[1], z[2], z[3], c[0], c[1], c[2], c[3]);
    SIM_CHECK(w[0] >= 1 && w[0] <= MOST_STEPS && w[1] == c[3] && w[2] == c[3], SIM_E_DATA,
              "/predictor is %zu x %zu x %zu, expected 1 to %d steps of %zu x %zu", w[0],
              w[1], w[2], MOST_STEPS, c[3], c[3]);
    size_t skip = (size_t)o->skip, rows_left = c[1] - 1 > skip ? c[1] - 1 - skip : 0;
    SIM_CHECK(w[0] <= rows_left, SIM_E_DATA,
              "/predictor has %zu steps, but below %zu skipped rows a grid of %zu has "
              "targets for %zu",
              w[0], skip, c[1], rows_left);
    in->n = c[0];
    in->spec = (predict_spec){
        .comm = comm, .grid = c[1], .d = c[3], .steps = w[0], .skip = (size_t)o->skip};
    in->spec.images = (sim_batch_shape){
        .n_blocks = in->n,
        .blocks = sim_tree_part(in->n, (size_t)comm->size, (size_t)comm->rank),
        .views = 1,
        .slots = 1};
done:
    return st;
}

/* Indices of this rank's anchors, those without a target aside, are rows of /target. */
static sim_status check_indices(const inputs *in, size_t k, const int32_t *of_step)
{
    sim_status st = SIM_OK;
    size_t g = in->spec.grid, m = in->spec.n_negatives, rows = in->n * g * g;

    for (size_t i = 0; i < sim_batch_images(&in->spec.images); i++)
        for (size_t j = 0; j < predict_rows(&in->spec, k) * g * m; j++) {
            int32_t at = of_step[i * g * g * m + j];
            SIM_CHECK(at >= 0 && (size_t)at < rows, SIM_E_DATA,
                      "/negatives holds %d at step %zu, image %zu, row %zu, column %zu; "
                      "/target has rows 0 to %zu",
                      (int)at, k, in->spec.images.blocks.lo + i, j / m / g, j / m % g,
                      rows - 1);
        }
done:
    return st;
}

static sim_status read_negatives(const sim_arrays *a, inputs *in)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS], g = in->spec.grid;
    size_t lo = in->spec.images.blocks.lo, mine = sim_batch_images(&in->spec.images);
    int32_t *step = NULL;

    if (!a->has(a->ctx, "negatives"))
        goto done;
    SIM_TRY(a->dims(a->ctx, "negatives", 5, dims));
    SIM_CHECK(dims[0] == in->spec.steps && dims[1] == in->n && dims[2] == g &&
                  dims[3] == g && dims[4] >= 1,
              SIM_E_DATA,
              "/negatives is %zu x %zu x %zu x %zu x %zu, expected %zu x %zu x %zu x %zu "
              "x one or more",
              dims[0], dims[1], dims[2], dims[3], dims[4], in->spec.steps, in->n, g, g);
    size_t of_image = g * g * dims[4];
    in->spec.n_negatives = dims[4];
    SIM_TRY(sim_alloc(&step, in->n * of_image, "method/negatives"));
    SIM_TRY(
        sim_alloc(&in->negatives, in->spec.steps * mine * of_image, "method/negatives"));
    for (size_t k = 0; k < in->spec.steps; k++) {
        int32_t *to = in->negatives + k * mine * of_image;
        SIM_TRY(a->ints(a->ctx, "negatives", k, 1, step));
        memcpy(to, step + lo * of_image, mine * of_image * sizeof *to);
        SIM_TRY(check_indices(in, k, to));
    }
done:
    sim_free(step);
    return st;
}

static sim_status read_inputs(const sim_comm *comm, const options *o, const sim_arrays *a,
                              inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(read_shapes(comm, o, a, in));
    SIM_TRY(read_negatives(a, in));
    const predict_spec *s = &in->spec;
    size_t lo = s->images.blocks.lo, mine = sim_batch_images(&s->images);
    size_t floats = mine * s->grid * s->grid * s->d, weights = s->steps * s->d * s->d;
    SIM_TRY(sim_alloc(&in->c, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->z, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->dc, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->dz, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->w, weights, "method/arrays"));
    SIM_TRY(sim_alloc(&in->grads, sim_comm_sum_leaves_room(comm, in->n, weights),
                      "method/arrays"));
    SIM_TRY(a->floats(a->ctx, "context", lo, mine, false, in->c));
    SIM_TRY(a->floats(a->ctx, "target", lo, mine, false, in->z));
    SIM_TRY(a->floats(a->ctx, "predictor", 0, s->steps, false, in->w));
done:
    return st;
}

static void release_inputs(inputs *in)
{
    sim_free(in->c);
    sim_free(in->z);
    sim_free(in->dc);
    sim_free(in->dz);
    sim_free(in->w);
    sim_free(in->grads);
    sim_free(in->negatives);
}

/* [d][d] turned: a prediction is c W, torch's linear layer x W^T. */
static void turn(size_t d, const float *from, float *to)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            to[j * d + i] = from[i * d + j];
}

static void load_weights(const inputs *in, predict *p)
{
    size_t d = in->spec.d;
    for (size_t k = 0; k < in->spec.steps; k++)
        turn(d, in->w + k * d * d, sim_net_weights(predict_net(p, k)));
    predict_updated(p);
}

static void draw_read(void *ctx, size_t k, int32_t *out)
{
    const inputs *in = ctx;
    size_t mine = sim_batch_images(&in->spec.images), g = in->spec.grid;
    size_t of_image = g * g * in->spec.n_negatives;
    size_t taken = predict_rows(&in->spec, k) * g * in->spec.n_negatives;

    for (size_t i = 0; i < mine; i++)
        memcpy(out + i * taken, in->negatives + (k * mine + i) * of_image,
               taken * sizeof *out);
}

static sim_status put_grid(const inputs *in, const sim_arrays *a, const char *name,
                           float *data)
{
    const predict_spec *s = &in->spec;
    const sim_tensor t = {.name = name,
                          .type = SIM_F32,
                          .n_dims = 4,
                          .dims = {in->n, s->grid, s->grid, s->d},
                          .data = data,
                          .row_lo = s->images.blocks.lo,
                          .row_hi = s->images.blocks.hi};
    return a->put(a->ctx, &t, 1);
}

/* The sum is whole on every rank; each hands in its part of it. */
static sim_status put_weights(const sim_comm *comm, inputs *in, const sim_arrays *a)
{
    const predict_spec *s = &in->spec;
    size_t d = s->d;
    sim_range mine = sim_tree_part(s->steps, (size_t)comm->size, (size_t)comm->rank);

    for (size_t k = 0; k < s->steps; k++)
        turn(d, in->grads + k * d * d, in->w + k * d * d);
    const sim_tensor t = {.name = "dpredictor",
                          .type = SIM_F32,
                          .n_dims = 3,
                          .dims = {s->steps, d, d},
                          .data = in->w + mine.lo * d * d,
                          .row_lo = mine.lo,
                          .row_hi = mine.hi};
    return a->put(a->ctx, &t, 1);
}

static sim_status compute(const sim_comm *comm, const void *opaque, const sim_arrays *a,
                          double *loss)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    inputs in = {0};
    predict *p = NULL;
    sim_loss_report report = {0};
    const predict_options how = {.temperature = o->temperature,
                                 .decoupled = o->denominator == 1,
                                 .draw = draw_read,
                                 .draw_ctx = &in};

    st = read_inputs(comm, o, a, &in);
    if (st == SIM_OK)
        st = predict_create(&in.spec, &p);
    SIM_TRY(sim_comm_agree(comm, st));
    size_t weights = predict_parameters(p);
    load_weights(&in, p);
    predict_run(p, &how, in.c, in.z, in.dc, in.dz, in.grads, weights, &report);
    sim_comm_sum_leaves(comm, in.n, weights, in.grads);
    SIM_TRY(put_grid(&in, a, "dcontext", in.dc));
    SIM_TRY(put_grid(&in, a, "dtarget", in.dz));
    SIM_TRY(put_weights(comm, &in, a));
    if (o->learn_temperature)
        SIM_TRY(array_put_scalar(a, "dlog_temperature", report.d_log_temperature));
    *loss = report.loss;
done:
    predict_destroy(&p);
    release_inputs(&in);
    return st;
}

/* Of predictions that are not normalised (measured: 7 to 8, and growing: at a rate of 0.02 with
 * sgd a temperature of 1 was 255 after twelve steps). */
#define PREDICTIONS_APART 30

static double scalar_pull(const void *opaque, size_t batch)
{
    (void)batch;
    const options *o = opaque;
    return temperature_pull(o->learn_temperature, o->temperature, PREDICTIONS_APART);
}

const sim_method_row sim_method_cpc = {.name = "cpc",
                                       .paper = "arXiv 1807.03748",
                                       .table = &table,
                                       .grid = grid,
                                       .projects = projects,
                                       .check = check,
                                       .parts = parts,
                                       .create = create,
                                       .destroy = destroy,
                                       .forward_backward = forward_backward,
                                       .updated = updated,
                                       .nets = nets,
                                       .scalars = scalars,
                                       .scalar_pull = scalar_pull,
                                       .visit = visit,
                                       .embeddings = embeddings,
                                       .about = about,
                                       .plan = plan,
                                       .reduction = reduction,
                                       .compute = compute};
