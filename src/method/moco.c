/*
 * moco.c - a query attracts its image's key; keys of earlier batches, in a queue, repel.
 *
 * In: views of the local blocks: one part for the queries, one for the keys, whose slots
 * may be shuffled.  Out: the loss over key and queue, and gradients of the queries' nets.
 * A step: queries; the momentum copy follows with the weights as they are; keys; loss with
 * the queue as it was; and, when the step counts, the keys go into the queue.
 * Papers: He et al. 2020, arXiv 1911.05722 (mocov1: a linear head); Chen et al. 2020, arXiv
 * 2003.04297 (mocov2: an MLP head, blur, cosine schedule).
 */
#include "arrays.h"
#include "common.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <string.h>

typedef struct {
    softmax_options softmax;
    double momentum;
    int64_t queue_size;
    int momentum_schedule; /* constant|cosine */
    int denominator;       /* full|decoupled */
    int warm;              /* random|wait|prefill */
    int bn_buffers;        /* own|ema */
    bool symmetric, shuffle;
} options;

enum { WARM_RANDOM, WARM_WAIT, WARM_PREFILL };

/* ---- keys ---- */

#define MOCO_ROWS(temperature_)                                                          \
    {                                                                                    \
        KEYS_TEMPERATURE(options, 10.0, temperature_, "softmax temperature"),            \
            KEY_INT(                                                                     \
                options, "queue_size", queue_size, 1, 4294967295.0, "65536", "keys",     \
                "keys of earlier batches that a query is compared with, any number"),    \
            KEY_CHOICE(options, "queue.warm", warm, "random", "random|wait|prefill",     \
                       "before the queue is full: random rows fill it, only its keys "   \
                       "count, or steps only fill it"),                                  \
            KEY_REAL(options, "momentum", momentum, 0, 1, "0.999",                       \
                     "share of itself that the key encoder keeps in a step"),            \
            KEY_CHOICE(options, "momentum_schedule", momentum_schedule, "constant",      \
                       "constant|cosine", "cosine: rises to 1 over the run"),            \
            KEY_CHOICE(options, "bn_buffers", bn_buffers, "own", "own|ema",              \
                       "running statistics of the key encoder: of its own passes, or a " \
                       "moving average of the query encoder's"),                         \
            KEY_BOOL(options, "shuffle", shuffle, "true",                                \
                     "keys pass in another order than queries, so that they share no "   \
                     "batch-norm group (needs batchnorm.group)"),                        \
            KEY_BOOL(options, "symmetric", symmetric, "false",                           \
                     "both views are queries and keys: the mean of both directions"),    \
            KEY_CHOICE(options, "denominator", denominator, "full", "full|decoupled",    \
                       "whether the positives stand in the denominator")                 \
    }
static const sim_option v1_rows[] = MOCO_ROWS("0.07");
static const sim_option v2_rows[] = MOCO_ROWS("0.2");

static const sim_option_table v1_table = KEY_TABLE(options, v1_rows);
static const sim_option_table v2_table = KEY_TABLE(options, v2_rows);

static const sim_method_default v1_defaults[] = {{"encoder.projector.layers", "1"},
                                                 {"augment.preset", "mocov1"},
                                                 {"schedule.shape", "steps"}};
static const sim_method_default v2_defaults[] = {{"encoder.projector.layers", "2"},
                                                 {"augment.preset", "mocov2"},
                                                 {"schedule.shape", "cosine"}};

/* ---- the method ---- */

typedef struct {
    method_common common;
    options options;
    const sim_comm *comm;
    unit_rows queries, keys;
    float *gathered; /* [batch][d] keys of all ranks, on the way to their places */
    bool pending;    /* the keys wait for the step to count */
    bool idle;       /* the last step had nothing to learn from */
} moco;

/* Views of queries; keys have as many. */
static size_t directions(const options *o)
{
    return o->symmetric ? 2 : 1;
}

/* Are the images of the keys, place by place, those of the queries? */
static bool shares_images(const options *o)
{
    return o->symmetric && !o->shuffle;
}

/* Queries are of view 0, keys of view 1; symmetric both of both. */
static size_t parts(const void *opaque, sim_part out[SIM_MAX_PARTS])
{
    const options *o = opaque;
    if (o->symmetric) {
        out[0] = (sim_part){.n_views = 2, .views = {0, 1}};
        out[1] = (sim_part){.n_views = 2, .views = {0, 1}, .shuffled = o->shuffle};
    } else {
        out[0] = (sim_part){.n_views = 1, .views = {0}};
        out[1] = (sim_part){.n_views = 1, .views = {1}, .shuffled = o->shuffle};
    }
    return shares_images(o) ? 1 : 2;
}

static sim_queue_shape queue_shape(const sim_method_env *env, const options *o)
{
    return (sim_queue_shape){.k = (size_t)o->queue_size, .rows = sim_common_rows(env, 1)};
}

static void destroy(void **self)
{
    moco *m = *self;
    if (!m)
        return;
    sim_common_release(&m->common);
    sim_unit_rows_release(&m->queries);
    sim_unit_rows_release(&m->keys);
    sim_free(m->gathered);
    sim_free(m);
    *self = NULL;
}

static sim_status create_queue(const sim_method_env *env, moco *m)
{
    sim_status st = SIM_OK;
    const sim_queue_shape shape = queue_shape(env, &m->options);

    SIM_TRY(sim_queue_create(env->comm, &shape, &m->common.queue));
    sim_queue_draw(m->common.queue, env->seed);
    sim_queue_only_filled(m->common.queue, m->options.warm != WARM_RANDOM);
    if (m->options.shuffle)
        SIM_TRY(sim_alloc(&m->gathered, shape.rows.n * shape.rows.d, "method/keys"));
done:
    return st;
}

static sim_status create(const sim_method_env *env, const void *opaque, void **self)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    moco *m = NULL;
    void *out = NULL;
    size_t views = directions(o), d = (size_t)env->encoder->projector_dim;
    const sim_model_spec spec = sim_common_model(o);

    SIM_TRY(sim_new(&m, "method/moco"));
    out = m;
    m->options = *o;
    m->comm = env->comm;
    m->common.temperature = sim_temperature_begin(&o->softmax);
    SIM_TRY(sim_common_create(env, &spec, views, &m->common));
    SIM_TRY(sim_momentum_encoder_create(env, &spec, views, o->bn_buffers == 1,
                                        &m->common.momentum));
    SIM_TRY(sim_unit_rows_create(&m->common.encoder->shape, d, &m->queries));
    SIM_TRY(sim_unit_rows_create(&m->common.encoder->shape, d, &m->keys));
    SIM_TRY(create_queue(env, m));
    *self = out;
    out = NULL;
done:
    destroy(&out);
    return st;
}

/* ---- a step ---- */

/* Keys stand where their images were shown: each goes to its image's own slot. */
static void put_back(moco *m, const uint32_t *order)
{
    const sim_batch_shape *s = &m->common.momentum->shape;
    size_t d = m->keys.d, lo = s->blocks.lo * s->slots, hi = s->blocks.hi * s->slots;

    for (size_t v = 0; v < s->views; v++) {
        float *mine = m->keys.z + v * (hi - lo) * d;
        sim_comm_gather_rows(m->comm, s->n_blocks, s->slots, m->common.batch,
                             d * sizeof *mine, mine, m->gathered);
        for (size_t i = 0; i < m->common.batch; i++)
            if (order[i] >= lo && order[i] < hi)
                memcpy(mine + (order[i] - lo) * d, m->gathered + i * d, d * sizeof *mine);
    }
}

/* Has the queue nothing yet that a query could be compared with as the job wants it? */
static bool only_fills(const moco *m)
{
    int64_t filled = sim_queue_filled(m->common.queue);
    return (m->options.warm == WARM_WAIT && filled == 0) ||
           (m->options.warm == WARM_PREFILL && filled < m->options.queue_size);
}

static void forward(void *self, const sim_method_batch *batch)
{
    moco *m = self;
    const options *o = &m->options;
    const online_encoder *b = m->common.encoder;
    size_t of_queries =
        sim_batch_images(&b->shape) * sim_net_input(b->model.net[SIM_BACKBONE]);

    m->idle = only_fills(m);
    if (!m->idle)
        sim_online_forward(m->common.encoder, batch->x);
    sim_momentum_encoder_update(
        m->common.momentum, b,
        sim_momentum_factor(o->momentum, o->momentum_schedule == 1, batch->progress));
    sim_momentum_encoder_forward(m->common.momentum,
                                 batch->x + (shares_images(o) ? 0 : of_queries));
}

/* Each way has its share of the mean. */
static sim_cross_options loss_of(const options *o, double t)
{
    return (sim_cross_options){.temperature = t,
                               .factor = 1 / (double)directions(o),
                               .decoupled = o->denominator == 1};
}

/* Queries of view v against keys of the other view (of the only one); n floats of a view. */
static void contrast(sim_queue *q, const sim_cross_options *loss, size_t views, size_t n,
                     const float *queries, const float *keys, float *dq,
                     sim_loss_report *report)
{
    *report = (sim_loss_report){0};
    for (size_t v = 0; v < views; v++) {
        sim_loss_report one;
        sim_queue_contrast(q, loss, queries + v * n, keys + (views - 1 - v) * n,
                           dq + v * n, &one);
        sim_loss_report_add(&one, loss->factor, report);
    }
}

static void compare(void *self, const sim_method_batch *batch, sim_loss_report *report)
{
    moco *m = self;
    const sim_batch_shape *s = &m->common.encoder->shape;

    sim_unit_rows_load(&m->keys, s, m->common.momentum->out[SIM_PROJECTOR]);
    if (m->options.shuffle)
        put_back(m, batch->order);
    m->pending = true;
    *report = (sim_loss_report){0};
    if (m->idle)
        return;
    sim_unit_rows_load(&m->queries, s, m->common.encoder->out[SIM_PROJECTOR]);
    const sim_cross_options each =
        loss_of(&m->options, sim_temperature_value(&m->common.temperature));
    contrast(m->common.queue, &each, directions(&m->options),
             m->queries.n / s->views * m->queries.d, m->queries.z, m->keys.z,
             m->queries.dz, report);
    sim_unit_rows_store_gradient(&m->queries, s, m->common.encoder->dout[SIM_PROJECTOR]);
}

static void backward(void *self, const sim_loss_report *report, float *grads)
{
    const moco *m = self;
    const sim_batch_shape *s = &m->common.encoder->shape;
    sim_range nodes[SIM_TREE_MAX_NODES];

    if (!m->idle) {
        sim_common_backward(self, report, grads);
        return;
    }
    size_t floats =
        sim_online_parameters(m->common.encoder) + m->common.temperature.learned;
    memset(grads, 0,
           sim_tree_nodes(s->n_blocks, s->blocks, nodes) * floats * sizeof *grads);
}

static void forward_backward(void *self, const sim_method_batch *batch, float *grads,
                             sim_loss_report *report, sim_method_times *times)
{
    static const step_parts step = {forward, compare, backward};
    sim_method_step_run(&step, self, batch, grads, report, times);
}

/* Keys of view 1 before those of view 2. */
static void push(sim_queue *q, size_t views, size_t mine, size_t d, const float *keys)
{
    for (size_t v = 0; v < views; v++)
        sim_queue_push(q, keys + v * mine * d);
}

static void updated(void *self)
{
    moco *m = self;
    size_t views = directions(&m->options);
    sim_common_updated(m);
    if (m->pending)
        push(m->common.queue, views, m->keys.n / views, m->keys.d, m->keys.z);
    m->pending = false;
}

static bool idle(void *self)
{
    return ((moco *)self)->idle;
}

/* ---- what it is made of ---- */

static sim_embeddings embeddings(void *self)
{
    const moco *m = self;
    return (sim_embeddings){
        .z = m->queries.z, .views = m->common.encoder->shape.views, .dim = m->queries.d};
}

static const char *reduction(const void *opaque)
{
    const options *o = opaque;
    return o->symmetric ? "mean over queries of both directions" : "mean over queries";
}

static sim_status about(void *self, char **text)
{
    static const char *const warm[] = {"random rows until it is full",
                                       "only its keys count until it is full",
                                       "steps only fill it until it is full"};
    const moco *m = self;
    const options *o = &m->options;
    char temperature_text[64];

    sim_temperature_about(&m->common.temperature, temperature_text,
                          sizeof temperature_text);
    return sim_text_format(
        "method/about", text,
        "queue of %lld keys (%s), %lld negatives per anchor%s, %s, key encoder's "
        "momentum %g%s, %s",
        (long long)o->queue_size, warm[o->warm], (long long)o->queue_size,
        o->denominator == 1 ? ", decoupled" : "", temperature_text, o->momentum,
        o->momentum_schedule == 1 ? " rising to 1" : "", reduction(o));
}

static void advise(const sim_method_env *env, const void *opaque, size_t n_images)
{
    const options *o = opaque;
    if ((size_t)o->queue_size > n_images / 8)
        sim_log_warn(
            "method.queue_size: %lld keys are more than an eighth of %zu images: "
            "too often a query meets an earlier key of its own image; up to %zu "
            "are safe",
            (long long)o->queue_size, n_images, n_images / 8);
    if (o->shuffle && env->batchnorm->group == 0)
        sim_log_warn("method.shuffle changes nothing while batch norm is over the whole "
                     "batch; set batchnorm.group (such as %zu), or shuffle: false",
                     env->block);
}

/* ---- the plan ---- */

static sim_status plan(const sim_method_env *env, const void *opaque,
                       sim_plan_row rows[32], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    const sim_queue_shape q = queue_shape(env, o);
    size_t views = directions(o), d = q.rows.d;
    const sim_model_spec spec = sim_common_model(o);
    const sim_batch_shape shape = sim_online_shape(env, views);

    SIM_TRY(sim_online_plan(env, &spec, views, rows, n_rows));
    sim_online_plan_scratch(sim_queue_scratch(d), rows, *n_rows);
    SIM_TRY(sim_momentum_encoder_plan(env, &spec, views, rows, n_rows));
    size_t gathered = o->shuffle ? q.rows.n * d * sizeof(float) : 0;
    sim_plan_add(rows, n_rows, "rows for the loss",
                 2 * sim_unit_rows_bytes(&shape, d) + gathered);
    sim_plan_add(rows, n_rows, "queue", sim_queue_bytes(env->partition, &q));
done:
    return st;
}

static size_t saved_bytes(const sim_method_env *env, const void *opaque)
{
    const sim_queue_shape q = queue_shape(env, opaque);
    const sim_model_spec spec = sim_common_model(opaque);
    return sim_momentum_encoder_saved_bytes(env, &spec) + q.k * q.rows.d * sizeof(float);
}

/* ---- simile loss ---- */

typedef struct {
    array_rows queries, keys;
    sim_queue *queue;
} given;

static sim_status read_all(const sim_comm *c, const options *o, const sim_arrays *a,
                           given *g)
{
    sim_status st = SIM_OK;
    size_t views = directions(o);

    SIM_TRY(sim_array_rows_read(c, a, "z", views, &g->queries));
    SIM_TRY(sim_array_rows_read_from(c, a, "k", 2 - views, views, &g->keys));
    SIM_TRY(sim_array_rows_same(&g->queries, "z1", &g->keys, o->symmetric ? "k1" : "k2"));
    SIM_TRY(sim_array_queue_read(c, a, &g->queries.shape, &g->queue));
done:
    return st;
}

static sim_status compute(const sim_comm *c, const void *opaque, const sim_arrays *a,
                          double *loss)
{
    sim_status st = SIM_OK;
    const options *o = opaque;
    given g = {0};
    sim_loss_report report;

    SIM_TRY(sim_comm_agree(c, read_all(c, o, a, &g)));
    size_t mine = g.queries.mine.hi - g.queries.mine.lo, d = g.queries.shape.d;
    const sim_cross_options each = loss_of(o, o->softmax.temperature);
    contrast(g.queue, &each, directions(o), mine * d, g.queries.z, g.keys.z, g.queries.dz,
             &report);
    push(g.queue, directions(o), mine, d, g.keys.z);
    SIM_TRY(sim_array_rows_write(a, "dz", &g.queries));
    SIM_TRY(sim_array_queue_write(a, g.queue, d));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_array_rows_release(&g.queries);
    sim_array_rows_release(&g.keys);
    sim_queue_destroy(&g.queue);
    return st;
}

/* ---- rows ---- */

#define ROW(name_, paper_, table_, defaults_)                                            \
    {                                                                                    \
        .name = name_, .paper = paper_, .table = &table_, .defaults = defaults_,         \
        .n_defaults = sizeof defaults_ / sizeof defaults_[0], .model = sim_common_model, \
        .parts = parts, .create = create, .destroy = destroy,                            \
        .forward_backward = forward_backward, .updated = updated,                        \
        .started = sim_common_started, .idle = idle, .nets = sim_common_nets,            \
        .scalars = sim_common_scalars,                                                   \
        .scalar_gradient_bound = sim_temperature_gradient_bound_unit,                    \
        .momentum_nets = sim_common_momentum_nets, .queue = sim_common_queue,            \
        .visit = sim_common_visit, .embeddings = embeddings, .about = about,             \
        .plan = plan, .saved_bytes = saved_bytes, .advise = advise,                      \
        .reduction = reduction, .compute = compute                                       \
    }

const sim_method_row sim_method_mocov1 =
    ROW("mocov1", "arXiv 1911.05722", v1_table, v1_defaults);
const sim_method_row sim_method_mocov2 =
    ROW("mocov2", "arXiv 2003.04297", v2_table, v2_defaults);
