/*
 * nnclr.c - what attracts a view is the other view's nearest neighbour among earlier images.
 *
 * In: two views of the local blocks.  Out: the loss over the global batch and gradients.
 * images -> backbone -> projector -> z, and on -> predictor -> p; both to unit length.  The
 * neighbour of z1 in the support set is compared with p2 and the neighbour of z2 with p1: the
 * gradient enters at the predictor alone.  Then view 1's z join the support set, unless the
 * step was skipped.
 * Paper: Dwibedi et al. 2021, arXiv 2104.14548.
 */
#include "arrays.h"
#include "common.h"

#include "simile/log.h"
#include "simile/memory.h"

enum { VIEWS = 2 };

typedef struct {
    softmax_options softmax;
    int64_t queue_size, predictor_hidden;
    int denominator; /* full|decoupled */
    bool columns;
} options;

static const sim_option rows[] = {
    KEYS_TEMPERATURE(options, 10.0, "0.1", "softmax temperature"),
    KEY_INT(options, "queue_size", queue_size, 1, UINT32_MAX, "98304", "rows",
            "embeddings in the support set, of all ranks together"),
    KEY_INT(options, "predictor_hidden", predictor_hidden, 1, 65536, "4096", "",
            "hidden width of the predictor"),
    KEY_BOOL(options, "columns", columns, "false",
             "also the softmax of each prediction over neighbours: the mean of both "
             "terms"),
    KEY_CHOICE(options, "denominator", denominator, "full", "full|decoupled",
               "whether the positive stands in the denominator"),
};
static const sim_option_table table = KEY_TABLE(options, rows);

/* ---- the loss, in training and on files ---- */

/* Both views' rows of this rank: z and p of unit length, [view][mine][d]. */
typedef struct {
    size_t mine, d;
    const float *z, *p;
    float *dp;      /* gradient with respect to p */
    float *nearest; /* z's neighbours */
    int64_t *slots; /* [view][mine] where they stand */
} pairs;

static void contrast(sim_queue *q, sim_cross *e, const options *o, double t,
                     const pairs *r, sim_loss_report *report)
{
    const sim_cross_options loss = {.temperature = t,
                                    .factor = 1.0 / VIEWS,
                                    .decoupled = o->denominator == 1,
                                    .columns = o->columns};
    sim_loss_report one;

    *report = (sim_loss_report){0};
    for (size_t v = 0; v < VIEWS; v++) {
        size_t anchors = v * r->mine * r->d, others = (1 - v) * r->mine * r->d;
        double embedding_std = 0;
        sim_queue_nearest(q, r->z + anchors, r->nearest + anchors, r->slots + v * r->mine,
                          &embedding_std);
        sim_cross_softmax(e, &loss, r->nearest + anchors, r->p + others, NULL,
                          r->dp + others, &one);
        one.embedding_std =
            embedding_std; /* of z, not of the neighbours that stood for it */
        sim_loss_report_add(&one, 1.0 / VIEWS, report);
    }
}

/* ---- the method ---- */

typedef struct {
    method_common common;
    options options;
    unit_rows z, p;
    float *nearest;
    int64_t *slots;
    sim_cross *cross;
    bool fresh; /* z are a step's that the support set has not seen */
} nnclr;

static sim_model_spec nnclr_model(const void *opaque)
{
    const options *o = opaque;
    return (sim_model_spec){.projector = true,
                            .predictor_hidden = (size_t)o->predictor_hidden};
}

static sim_queue_shape queue_shape(const sim_method_env *env, const options *o)
{
    return (sim_queue_shape){.k = (size_t)o->queue_size, .rows = sim_common_rows(env, 1)};
}

static void destroy(void **self)
{
    nnclr *s = *self;
    if (!s)
        return;
    sim_common_release(&s->common);
    sim_unit_rows_release(&s->z);
    sim_unit_rows_release(&s->p);
    sim_free(s->nearest);
    sim_free(s->slots);
    sim_cross_destroy(&s->cross);
    sim_free(s);
    *self = NULL;
}

static sim_status create_rows(nnclr *s, const sim_method_env *env,
                              const sim_queue_shape *shape)
{
    sim_status st = SIM_OK;
    size_t d = shape->rows.d;

    SIM_TRY(sim_unit_rows_create(&s->common.encoder->shape, d, &s->z));
    SIM_TRY(sim_unit_rows_create(&s->common.encoder->shape, d, &s->p));
    SIM_TRY(sim_alloc(&s->nearest, s->z.n * d, "method/nnclr"));
    SIM_TRY(sim_alloc(&s->slots, s->z.n, "method/nnclr"));
    SIM_TRY(sim_queue_create(env->comm, shape, &s->common.queue));
    sim_queue_draw(s->common.queue, env->seed);
    SIM_TRY(sim_cross_create(env->comm, &shape->rows, &s->cross));
done:
    return st;
}

static sim_status create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    nnclr *s = NULL;
    void *out = NULL;
    const sim_model_spec spec = nnclr_model(o);
    const sim_queue_shape shape = queue_shape(env, o);

    SIM_TRY(sim_new(&s, "method/nnclr"));
    out = s;
    s->options = *o;
    s->common.temperature = sim_temperature_begin(&o->softmax);
    SIM_TRY(sim_common_create(env, &spec, VIEWS, &s->common));
    SIM_TRY(create_rows(s, env, &shape));
    *self = out;
    out = NULL;
done:
    destroy(&out);
    return st;
}

static void compare(void *self, const sim_method_batch *batch, sim_loss_report *report)
{
    nnclr *s = self;
    const online_encoder *b = s->common.encoder;
    const pairs r = {.mine = s->z.n / VIEWS,
                     .d = s->z.d,
                     .z = s->z.z,
                     .p = s->p.z,
                     .dp = s->p.dz,
                     .nearest = s->nearest,
                     .slots = s->slots};

    (void)batch;
    sim_unit_rows_load(&s->z, &b->shape, b->out[SIM_PROJECTOR]);
    sim_unit_rows_load(&s->p, &b->shape, b->out[SIM_PREDICTOR]);
    contrast(s->common.queue, s->cross, &s->options,
             sim_temperature_value(&s->common.temperature), &r, report);
    sim_unit_rows_store_gradient(&s->p, &b->shape, b->dout[SIM_PREDICTOR]);
    s->fresh = true;
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    static const step_parts step = {sim_common_forward, compare, sim_common_backward};
    sim_method_step_run(&step, self, batch, grads, report, times);
}

/* A skipped step does not come here: what it computed never joins the support set. */
static void updated(void *self)
{
    nnclr *s = self;
    if (s->fresh)
        sim_queue_push(s->common.queue, s->z.z);
    s->fresh = false;
    sim_common_updated(s);
}

static sim_embeddings embeddings(void *self)
{
    const nnclr *s = self;
    return (sim_embeddings){.z = s->z.z, .views = VIEWS, .dim = s->z.d};
}

static const char *reduction(const void *opaque)
{
    const options *o = opaque;
    return o->columns ? "mean over rows and columns of both directions"
                      : "mean of both directions";
}

static sim_status about(void *self, char **text)
{
    const nnclr *s = self;
    const options *o = &s->options;
    char temperature_text[64];

    sim_temperature_about(&s->common.temperature, temperature_text,
                          sizeof temperature_text);
    return sim_text_format("method/about", text,
                           "neighbours out of %lld earlier embeddings%s, %s, %zu "
                           "negatives per anchor, %s",
                           (long long)o->queue_size,
                           o->denominator == 1 ? ", decoupled" : "", temperature_text,
                           s->common.batch - 1, reduction(o));
}

static sim_status plan(const sim_method_env *env, const void *opaque,
                       sim_plan_row plan_rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    const sim_model_spec spec = nnclr_model(o);
    const sim_queue_shape shape = queue_shape(env, o);
    const sim_batch_shape images = sim_online_shape(env, VIEWS);
    size_t d = shape.rows.d, n = sim_batch_images(&images);

    SIM_TRY(sim_online_plan(env, &spec, VIEWS, plan_rows, n_rows));
    sim_online_plan_loss(d, plan_rows, *n_rows);
    sim_plan_add(plan_rows, n_rows, "rows for the loss",
                 2 * sim_unit_rows_bytes(&images, d) +
                     n * (d * sizeof(float) + sizeof(int64_t)));
    sim_plan_add(plan_rows, n_rows, "loss", sim_cross_bytes(&shape.rows));
    sim_plan_add(plan_rows, n_rows, "queue", sim_queue_bytes(env->partition, &shape));
done:
    return st;
}

static size_t saved_bytes(const sim_method_env *env, const void *opaque)
{
    const sim_queue_shape shape = queue_shape(env, opaque);
    return shape.k * shape.rows.d * sizeof(float);
}

static void advise(const sim_method_env *env, const void *opaque, size_t n_images)
{
    const options *o = opaque;
    (void)env;
    if ((size_t)o->queue_size > n_images / 8)
        sim_log_warn(
            "method.queue_size: %lld embeddings are more than an eighth of %zu "
            "images: many neighbours will be the image's own; up to %zu are safe",
            (long long)o->queue_size, n_images, n_images / 8);
}

/* ---- simile loss ---- */

typedef struct {
    array_rows z, p;
    float *nearest;
    int64_t *slots;
    sim_queue *queue;
    sim_cross *cross;
} embeddings_of_file;

static sim_status read_all(const sim_comm *c, const sim_arrays *a, embeddings_of_file *f)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_read(c, a, "z", VIEWS, &f->z));
    SIM_TRY(sim_array_rows_read(c, a, "p", VIEWS, &f->p));
    SIM_TRY(sim_array_rows_same(&f->p, "p1", &f->z, "z1"));
    sim_rows_shape one = f->z.shape;
    one.views = 1;
    SIM_TRY(sim_array_queue_read(c, a, &one, &f->queue));
    SIM_TRY(sim_cross_create(c, &one, &f->cross));
    size_t n = VIEWS * (f->z.mine.hi - f->z.mine.lo);
    SIM_TRY(sim_alloc(&f->nearest, n * one.d, "method/arrays"));
    SIM_TRY(sim_alloc(&f->slots, n, "method/arrays"));
done:
    return st;
}

static void release(embeddings_of_file *f)
{
    sim_array_rows_release(&f->z);
    sim_array_rows_release(&f->p);
    sim_free(f->nearest);
    sim_free(f->slots);
    sim_queue_destroy(&f->queue);
    sim_cross_destroy(&f->cross);
}

static sim_status put_slots(const sim_arrays *a, const embeddings_of_file *f)
{
    sim_status st = SIM_OK;
    static const char *const names[VIEWS] = {"nn1", "nn2"};
    const sim_range mine = f->z.mine;

    for (size_t v = 0; v < VIEWS; v++) {
        const sim_tensor t = {.name = names[v],
                              .type = SIM_I64,
                              .n_dims = 1,
                              .dims = {f->z.shape.n},
                              .data = f->slots + v * (mine.hi - mine.lo),
                              .row_lo = mine.lo,
                              .row_hi = mine.hi};
        SIM_TRY(a->put(a->ctx, &t, ARRAY_UNIT));
    }
done:
    return st;
}

static sim_status put_results(const sim_arrays *a, const options *o,
                              embeddings_of_file *f, const sim_loss_report *report)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_write(a, "dp", &f->p));
    SIM_TRY(put_slots(a, f));
    SIM_TRY(sim_array_queue_write(a, f->queue, f->z.shape.d));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report->d_log_temperature));
done:
    return st;
}

static sim_status compute(const sim_comm *c, const void *opaque, const sim_arrays *a,
                          double *loss)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    embeddings_of_file f = {.queue = NULL};
    sim_loss_report report = {0};

    SIM_TRY(sim_comm_agree(c, read_all(c, a, &f)));
    const pairs r = {.mine = f.z.mine.hi - f.z.mine.lo,
                     .d = f.z.shape.d,
                     .z = f.z.z,
                     .p = f.p.z,
                     .dp = f.p.dz,
                     .nearest = f.nearest,
                     .slots = f.slots};
    contrast(f.queue, f.cross, o, o->softmax.temperature, &r, &report);
    sim_queue_push(f.queue, f.z.z); /* view 1's */
    SIM_TRY(put_results(a, o, &f, &report));
    *loss = report.loss;
done:
    release(&f);
    return st;
}

const sim_method_row sim_method_nnclr = {.name = "nnclr",
                                         .paper = "arXiv 2104.14548",
                                         .table = &table,
                                         .model = nnclr_model,
                                         .parts = sim_common_two_views,
                                         .create = create,
                                         .destroy = destroy,
                                         .forward_backward = forward_backward,
                                         .updated = updated,
                                         .nets = sim_common_nets,
                                         .scalars = sim_common_scalars,
                                         .scalar_gradient_bound =
                                             sim_temperature_gradient_bound_unit,
                                         .queue = sim_common_queue,
                                         .visit = sim_common_visit,
                                         .embeddings = embeddings,
                                         .about = about,
                                         .plan = plan,
                                         .saved_bytes = saved_bytes,
                                         .advise = advise,
                                         .reduction = reduction,
                                         .compute = compute};
