/*
 * simclr.c - SimCLR: two views of each image attract, all other views repel.
 *
 * In: views of the local blocks.  Out: NT-Xent loss over the global batch and gradients.
 * images -> backbone -> projector -> unit rows -> loss, and back.
 * Paper: Chen et al. 2020, arXiv 2002.05709.  `infonce` is its other name.
 */
#include "simile/method.h"

#include "simile/clock.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <string.h>

typedef struct {
    double temperature;
    int reduction; /* mean|sum_directions */
} simclr_options;

static const sim_option option_rows[] = {
    {"temperature", SIM_OPTION_REAL, offsetof(simclr_options, temperature), 0.005, 10.0,
     "0.5", NULL, "", "softmax temperature", SIM_IDENTITY, NULL},
    {"reduction", SIM_OPTION_ENUM, offsetof(simclr_options, reduction), 0, 0, "mean",
     "mean|sum_directions", "",
     "mean over all anchors, or twice that as programs that sum both directions",
     SIM_IDENTITY, NULL},
};

static const sim_option_table options_table = {.section = "method",
                                               .rows = option_rows,
                                               .n_rows = sizeof option_rows /
                                                         sizeof option_rows[0],
                                               .struct_bytes = sizeof(simclr_options)};

typedef struct {
    simclr_options options;
    sim_batch_shape shape;
    sim_folder folder;
    sim_net *backbone, *projector;
    sim_tape *backbone_tape, *projector_tape;
    sim_contrast *contrast;
    size_t batch;
    float *features, *raw;   /* [images][width], [images][dim] by block */
    float *dfeatures, *draw; /* their gradients */
    float *z, *dz, *by_view; /* unit rows by view, gradient, raw rows by view */
    float *norm;             /* [images] */
} simclr;

static size_t views_of(const void *options)
{
    (void)options;
    return 2;
}

static sim_net_spec backbone_spec(const sim_method_env *env)
{
    return (sim_net_spec){.encoder = env->encoder,
                          .batchnorm = env->batchnorm,
                          .h = env->h,
                          .w = env->w,
                          .c = env->c,
                          .seed = env->seed};
}

static sim_head_spec projector_spec(const sim_method_env *env, size_t in)
{
    const sim_encoder_options *e = env->encoder;
    return (sim_head_spec){.in = in,
                           .hidden =
                               e->projector_hidden ? (size_t)e->projector_hidden : in,
                           .dim = (size_t)e->projector_dim,
                           .layers = e->projector_layers,
                           .bn = e->projector_bn,
                           .last_bn = e->projector_last_bn,
                           .last_affine = true,
                           .activation = e->activation,
                           .batchnorm = env->batchnorm,
                           .seed = env->seed,
                           .salt = 0};
}

static sim_rows_shape rows_shape(const sim_method_env *env, size_t dim)
{
    return (sim_rows_shape){.n = env->batch, .unit = env->block, .views = 2, .d = dim};
}

static void destroy(void **self)
{
    simclr *s = *self;
    if (!s)
        return;
    sim_tape_destroy(&s->backbone_tape);
    sim_tape_destroy(&s->projector_tape);
    sim_net_destroy(&s->backbone);
    sim_net_destroy(&s->projector);
    sim_contrast_destroy(&s->contrast);
    sim_free(s->features);
    sim_free(s->raw);
    sim_free(s->dfeatures);
    sim_free(s->draw);
    sim_free(s->z);
    sim_free(s->dz);
    sim_free(s->by_view);
    sim_free(s->norm);
    sim_free(s);
    *self = NULL;
}

static sim_status create_buffers(simclr *s)
{
    sim_status st = SIM_OK;
    size_t images = sim_batch_images(&s->shape);
    size_t width = sim_net_dim(s->backbone), dim = sim_net_dim(s->projector);

    SIM_TRY(sim_alloc(&s->features, images * width, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->dfeatures, images * width, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->raw, images * dim, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->draw, images * dim, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->z, images * dim, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->dz, images * dim, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->by_view, images * dim, "method/embeddings"));
    SIM_TRY(sim_alloc(&s->norm, images, "method/embeddings"));
done:
    return st;
}

static sim_status create(const sim_method_env *env, const void *options, void **self)
{
    sim_status st = SIM_OK;
    simclr *s = NULL;
    void *out = NULL;
    const sim_net_spec backbone = backbone_spec(env);
    size_t n_blocks = env->batch / env->block;

    SIM_TRY(sim_new(&s, "method/simclr"));
    out = s;
    s->options = *(const simclr_options *)options;
    s->batch = env->batch;
    s->folder = sim_folder_of(env->comm);
    s->shape =
        (sim_batch_shape){.n_blocks = n_blocks,
                          .blocks = sim_tree_part(n_blocks, (size_t)env->comm->size,
                                                  (size_t)env->comm->rank),
                          .views = 2,
                          .slots = env->block};
    SIM_TRY(sim_backbone_create(&backbone, &s->backbone));
    const sim_head_spec head = projector_spec(env, sim_net_dim(s->backbone));
    SIM_TRY(sim_head_create(&head, &s->projector));
    SIM_TRY(sim_tape_create(s->backbone, &s->shape, &s->folder, true, &s->backbone_tape));
    SIM_TRY(
        sim_tape_create(s->projector, &s->shape, &s->folder, true, &s->projector_tape));
    const sim_rows_shape rows = rows_shape(env, sim_net_dim(s->projector));
    SIM_TRY(sim_contrast_create(env->comm, &rows, &s->contrast));
    SIM_TRY(create_buffers(s));
    *self = out;
    out = NULL;
done:
    destroy(&out);
    return st;
}

static void loss_options(const void *options, sim_ntxent_options *out)
{
    const simclr_options *o = options;
    *out = (sim_ntxent_options){.temperature = o->temperature,
                                .factor = o->reduction == 1 ? 2 : 1};
}

static void compare(simclr *s, sim_loss_report *report)
{
    size_t images = sim_batch_images(&s->shape), dim = sim_net_dim(s->projector);
    sim_ntxent_options loss;

    loss_options(&s->options, &loss);
    sim_rows_by_view(&s->shape, dim, s->raw, s->by_view);
    sim_unit_rows(images, dim, s->by_view, s->z, s->norm);
    sim_ntxent(s->contrast, &loss, s->z, s->dz, report);
    sim_unit_rows_backward(images, dim, s->z, s->norm, s->dz, s->by_view);
    sim_rows_by_block(&s->shape, dim, s->by_view, s->draw);
}

static void forward_backward(void *self, const float *x, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    simclr *s = self;
    size_t encoder_floats = sim_net_parameters(s->backbone);
    size_t stride = encoder_floats + sim_net_parameters(s->projector);

    double t0 = sim_clock_s();
    sim_net_forward(s->backbone_tape, x, s->features);
    sim_net_forward(s->projector_tape, s->features, s->raw);
    double t1 = sim_clock_s();
    compare(s, report);
    double t2 = sim_clock_s();
    sim_net_backward(s->projector_tape, s->draw, s->dfeatures, grads + encoder_floats,
                     stride);
    sim_net_backward(s->backbone_tape, s->dfeatures, NULL, grads, stride);
    double t3 = sim_clock_s();
    times->forward += t1 - t0;
    times->loss += t2 - t1;
    times->backward += t3 - t2;
}

static void updated(void *self)
{
    simclr *s = self;
    sim_net_pack(s->backbone, true);
    sim_net_pack(s->projector, true);
}

static size_t nets(void *self, sim_net *out[8], const char *groups[8])
{
    simclr *s = self;
    out[0] = s->backbone;
    groups[0] = "encoder";
    out[1] = s->projector;
    groups[1] = "projector";
    return 2;
}

static sim_status visit(void *self, const sim_visitor *v)
{
    simclr *s = self;
    sim_status st = SIM_OK;
    SIM_TRY(sim_net_visit(s->backbone, "weights/encoder", v));
    SIM_TRY(sim_net_visit(s->projector, "weights/projector", v));
done:
    return st;
}

static const float *embeddings(void *self, size_t *views, size_t *rows, size_t *dim)
{
    const simclr *s = self;
    *views = 2;
    *rows = sim_batch_images(&s->shape) / 2;
    *dim = sim_net_dim(s->projector);
    return s->z;
}

static sim_status about(void *self, char **text)
{
    const simclr *s = self;
    return sim_text_format(
        "method/about", text, "NT-Xent, temperature %g, %zu negatives per anchor, %s",
        s->options.temperature, 2 * s->batch - 2,
        s->options.reduction == 1 ? "summed over both directions (twice the mean)"
                                  : "mean over anchors");
}

/* The loss asks for scratch after the layers: the larger of the two stays. */
static void raise_scratch(size_t d, sim_plan_row *rows, size_t n)
{
    size_t bytes = sim_scratch_room(sim_ntxent_scratch(d)) * (size_t)sim_threads();
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].item, "scratch") == 0 && rows[i].bytes < bytes)
            rows[i].bytes = bytes;
}

static sim_status plan(const sim_method_env *env, const void *options, size_t ranks,
                       size_t rank, sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_net_spec backbone = backbone_spec(env);
    size_t n_blocks = env->batch / env->block;
    const sim_batch_shape shape = {.n_blocks = n_blocks,
                                   .blocks = sim_tree_part(n_blocks, ranks, rank),
                                   .views = 2,
                                   .slots = env->block};
    (void)options;

    size_t width = sim_backbone_dim(env->encoder);
    const sim_head_spec head = projector_spec(env, width);
    SIM_TRY(sim_net_plan(&backbone, &head, &shape, rows, n_rows));
    const sim_rows_shape loss = rows_shape(env, head.dim);
    size_t images = sim_batch_images(&shape);
    raise_scratch(head.dim, rows, *n_rows);
    rows[(*n_rows)++] = (sim_plan_row){"embeddings", sizeof(float) * images *
                                                         (2 * width + 5 * head.dim + 1)};
    rows[(*n_rows)++] = (sim_plan_row){"loss", sim_contrast_bytes(ranks, &loss)};
done:
    return st;
}

#define ROW(row_name)                                                                    \
    {                                                                                    \
        .name = row_name, .paper = "arXiv 2002.05709", .table = &options_table,          \
        .views = views_of, .create = create, .destroy = destroy,                         \
        .forward_backward = forward_backward, .updated = updated, .nets = nets,          \
        .visit = visit, .embeddings = embeddings, .about = about,                        \
        .loss_options = loss_options, .plan = plan                                       \
    }

const sim_method_row sim_method_simclr = ROW("simclr");
const sim_method_row sim_method_infonce = ROW("infonce");
