/*
 * moco.c - MoCo v1 and v2: a query against the key of its image and a queue of earlier keys.
 *
 * images -> online encoder -> q;  images -> momentum encoder -> k;  both to unit length.
 * With K rows r of the queue, over B images:
 *
 *   L = 1 / B sum_i [ -q_i . k_i / T + log( exp(q_i . k_i / T) + sum_r exp(q_i . r / T) ) ]
 *
 * Small views are further queries: the loss is the mean over the pairs of a query and a key of another
 * view.  The gradient flows through q only.  A step: forward pass of the queries; update of the
 * momentum encoder; forward pass of the keys, whose slots may be permuted (shuffle BN); loss
 * with the queue as it is.  The keys are pushed unless the step is skipped as not finite.
 * Shapes: q, k [1 or 2 views][local images][projector_dim], q also of small views; queue
 * [K][projector_dim], sharded.
 * Papers: He et al. 2020, arXiv 1911.05722, equations 1 and 2 (mocov1: linear head); Chen et
 * al. 2020, arXiv 2003.04297 (mocov2: MLP head, blur, cosine schedule).
 */
#include "arrays.h"
#include "common.h"
#include "view_pairs.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <string.h>

typedef enum { WARM_RANDOM, WARM_WAIT, WARM_PREFILL } queue_warm;

typedef struct {
    softmax_options softmax;
    momentum_options momentum;
    int64_t queue_size;
    int warm; /* enum queue_warm */
    bool symmetric, shuffle;
} moco_options;

/* ---- options ---- */

#define MOCO_KEYS(temperature_)                                                          \
    {                                                                                    \
        KEYS_TEMPERATURE(moco_options, 10.0, temperature_),                              \
            KEY_INT(moco_options, "queue_size", queue_size, 1, 4294967295.0, "65536",    \
                    "keys", "of earlier batches, the negatives of a query; any number"), \
            KEY_CHOICE(moco_options, "queue.warm", warm, "random",                       \
                       "random|wait|prefill",                                            \
                       "until the queue is full: negatives are also its initial random " \
                       "rows (random), only the pushed keys (wait), or steps only push " \
                       "keys and update nothing (prefill)"),                             \
            KEYS_MOMENTUM(moco_options, "0.999", "constant"),                            \
            KEY_BOOL(moco_options, "shuffle", shuffle, "true",                           \
                     "shuffle BN: permute the images of the keys over the batch "        \
                     "(requires batchnorm.group)"),                                      \
            KEY_BOOL(moco_options, "symmetric", symmetric, "false",                      \
                     "both views are queries and keys; mean of both directions"),        \
            KEY_DENOMINATOR(moco_options, "full")                                        \
    }
static const sim_option v1_rows[] = MOCO_KEYS("0.07");
static const sim_option v2_rows[] = MOCO_KEYS("0.2");

static const sim_option_table v1_table = KEY_TABLE(moco_options, v1_rows);
static const sim_option_table v2_table = KEY_TABLE(moco_options, v2_rows);

static const sim_method_default v1_defaults[] = {{"encoder.projector.layers", "1"},
                                                 {"augment.preset", "mocov1"},
                                                 {"schedule.shape", "steps"}};
static const sim_method_default v2_defaults[] = {{"encoder.projector.layers", "2"},
                                                 {"augment.preset", "mocov2"},
                                                 {"schedule.shape", "cosine"}};

/* ---- objects ---- */

enum { QUERY_ROWS, KEY_ROWS }; /* of method_common.rows */

/* Number of views that are queries, which is also that of views that are keys. */
static size_t moco_directions(const moco_options *o)
{
    return o->symmetric ? 2 : 1;
}

/* True if queries and keys read the same part of the input. */
static bool shares_part(const moco_options *o)
{
    return o->symmetric && !o->shuffle;
}

/* Queries are of view 0, keys of view 1; if symmetric, both are of both views. */
static size_t moco_parts(const void *options, sim_part out[SIM_MAX_PARTS])
{
    const moco_options *o = options;
    if (o->symmetric) {
        out[0] = (sim_part){.n_views = 2, .views = {0, 1}};
        out[1] = (sim_part){.n_views = 2, .views = {0, 1}, .shuffled = o->shuffle};
    } else {
        out[0] = (sim_part){.n_views = 1, .views = {0}};
        out[1] = (sim_part){.n_views = 1, .views = {1}, .shuffled = o->shuffle};
    }
    return shares_part(o) ? 1 : 2;
}

/* The workspace receives the keys of all ranks, [batch][projector_dim], if slots are permuted; in the
 * loss it is that of view_pairs. */
static method_spec moco_spec(const sim_method_env *env, const moco_options *o)
{
    const size_t d = (size_t)env->encoder->projector_dim, views = moco_directions(o);
    const sim_batch_shape one = sim_online_shape(env, 1);
    const size_t gathered = o->shuffle ? env->batch * d : 0;
    const size_t pairs =
        sim_pairs_work(views, views + env->small.n, sim_batch_images(&one) * d);
    return (method_spec){.model = sim_common_model(o),
                         .views = views,
                         .options = o,
                         .options_bytes = sizeof *o,
                         .scalars = sim_temperature_scalars(&o->softmax),
                         .row_views = {views + env->small.n, views},
                         .momentum = true,
                         .averages_statistics = o->momentum.bn_buffers == BN_BUFFERS_EMA,
                         .queue_size = (size_t)o->queue_size,
                         .work_floats = gathered > pairs ? gathered : pairs};
}

static sim_status moco_create(const sim_method_env *env, const void *options, void **self)
{
    sim_status st = SIM_OK;
    const moco_options *o = options;
    const method_spec spec = moco_spec(env, o);
    void *created = NULL;

    SIM_TRY(sim_common_create(env, &spec, &created));
    sim_queue_only_filled(sim_common_queue(created), o->warm != WARM_RANDOM);
    *self = created;
done:
    return st;
}

static sim_status moco_plan(const sim_method_env *env, const void *options,
                            sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = moco_spec(env, options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

static size_t moco_saved_bytes(const sim_method_env *env, const void *options)
{
    const method_spec spec = moco_spec(env, options);
    return sim_common_saved_bytes(env, &spec);
}

/* ---- a step ---- */

/* True if the queue contains too few keys for this step to have a loss. */
static bool only_fills_queue(const method_common *m)
{
    const moco_options *o = m->options;
    int64_t filled = sim_queue_filled(m->queue);
    return (o->warm == WARM_WAIT && filled == 0) ||
           (o->warm == WARM_PREFILL && filled < o->queue_size);
}

static void moco_forward(void *self, const sim_method_batch *batch)
{
    method_common *m = self;
    const moco_options *o = m->options;

    m->idle = only_fills_queue(m);
    if (!m->idle)
        sim_online_forward(m->online, batch->x[0], batch->small_x);
    sim_common_forward_keys(m, &o->momentum, batch->progress,
                            batch->x[shares_part(o) ? 0 : 1]);
}

/* Slot i of the keys contains the key of the image of slot order[i]: moves each to that slot. */
static void unshuffle_keys(method_common *m, const uint32_t *order)
{
    const sim_batch_shape *s = &m->momentum->shape;
    const unit_rows *keys = &m->rows[KEY_ROWS];
    size_t d = keys->d, lo = s->blocks.lo * s->slots, hi = s->blocks.hi * s->slots;

    for (size_t v = 0; v < s->views; v++) {
        float *local = keys->z + v * (hi - lo) * d;
        sim_comm_gather_rows(m->comm, s->n_blocks, s->slots, m->batch, d * sizeof *local,
                             local, m->work);
        for (size_t i = 0; i < m->batch; i++)
            if (order[i] >= lo && order[i] < hi)
                memcpy(local + (order[i] - lo) * d, m->work + i * d, d * sizeof *local);
    }
}

/* The pairs of queries and keys. */
static view_pairs moco_pairs(const unit_rows *queries, const unit_rows *keys, float *work)
{
    return (view_pairs){.targets = keys->views,
                        .all = queries->views,
                        .floats = queries->n / queries->views * queries->d,
                        .dz = queries->dz,
                        .work = work};
}

/* Mean over pairs: the queries of a view against the keys of another view and the queue. */
static void queue_loss(sim_queue *q, const moco_options *o, double t,
                       const unit_rows *queries, const unit_rows *keys, float *work,
                       sim_loss_report *report)
{
    const view_pairs p = moco_pairs(queries, keys, work);
    const sim_cross_options loss = {.temperature = t,
                                    .factor = 1 / (double)sim_pairs_count(&p),
                                    .decoupled =
                                        o->softmax.denominator == DENOMINATOR_DECOUPLED};
    sim_loss_report one;

    *report = (sim_loss_report){0};
    for (size_t v = 0; v < p.all; v++)
        for (size_t k = 0; k < p.targets; k++) {
            if (!sim_pairs_has(&p, v, k))
                continue;
            sim_queue_contrast(q, &loss, queries->z + v * p.floats,
                               keys->z + k * p.floats, sim_pairs_gradient(&p, v, k),
                               &one);
            sim_pairs_add(&p, v, k);
            sim_loss_report_add(&one, loss.factor, report);
        }
}

static void moco_loss(void *self, const sim_method_batch *batch, sim_loss_report *report,
                      float *grads)
{
    method_common *m = self;
    const moco_options *o = m->options;
    (void)grads;

    sim_unit_rows_load(&m->rows[KEY_ROWS], &m->momentum->shape,
                       m->momentum->out[SIM_PROJECTOR]);
    if (o->shuffle)
        unshuffle_keys(m, batch->order);
    m->push_pending = true;
    *report = (sim_loss_report){0};
    if (m->idle)
        return;
    sim_online_load(m->online, SIM_PROJECTOR, &m->rows[QUERY_ROWS]);
    queue_loss(m->queue, o, sim_temperature_value(&o->softmax, &m->scalars),
               &m->rows[QUERY_ROWS], &m->rows[KEY_ROWS], m->work, report);
    sim_online_store_gradient(m->online, SIM_PROJECTOR, &m->rows[QUERY_ROWS]);
}

/* All keys of the first view, then those of the second if symmetric. */
static void push_keys(sim_queue *q, size_t views, const unit_rows *keys)
{
    for (size_t v = 0; v < views; v++)
        sim_queue_push(q, keys->z + v * (keys->n / views) * keys->d);
}

static void moco_updated(void *self)
{
    method_common *m = self;
    if (m->push_pending)
        push_keys(m->queue, moco_directions(m->options), &m->rows[KEY_ROWS]);
    m->push_pending = false;
}

/* ---- description ---- */

static const char *moco_reduction(const void *options)
{
    const moco_options *o = options;
    return o->symmetric ? "mean over queries of both directions" : "mean over queries";
}

static sim_status moco_about(void *self, char **text)
{
    static const char *const warm[] = {
        [WARM_RANDOM] = "with random rows until it is full",
        [WARM_WAIT] = "only pushed keys are negatives until it is full",
        [WARM_PREFILL] = "steps only push keys until it is full"};
    const moco_options *o = ((const method_common *)self)->options;
    char temperature_text[64], momentum_text[64];

    sim_temperature_about(&o->softmax, temperature_text, sizeof temperature_text);
    sim_common_momentum_about(&o->momentum, momentum_text, sizeof momentum_text);
    return sim_text_format(
        "method/about", text,
        "queue of %lld keys (%s), %lld negatives per anchor%s, %s, %s, %s",
        (long long)o->queue_size, warm[o->warm], (long long)o->queue_size,
        o->softmax.denominator == DENOMINATOR_DECOUPLED ? ", decoupled" : "",
        temperature_text, momentum_text, moco_reduction(o));
}

static double moco_momentum(const void *options, double progress)
{
    const moco_options *o = options;
    return sim_common_momentum(&o->momentum, progress);
}

static const char *moco_holds_batch(const void *options)
{
    (void)options;
    return "which compares all queries of the batch with the queue of each rank";
}

static void moco_advise(const sim_method_env *env, const void *options, size_t n_images)
{
    const moco_options *o = options;
    sim_common_advise_queue(
        o->queue_size, n_images,
        "the queue often contains an earlier key of the same image as a query");
    if (o->shuffle && env->batchnorm->group == 0)
        sim_log_warn(
            "method.shuffle has no effect while batchnorm.group is 0 (statistics "
            "of the global batch); set batchnorm.group (for example %zu) or "
            "method.shuffle: false",
            env->block);
}

/* ---- simile loss ---- */

typedef struct {
    array_rows queries, keys;
    sim_queue *queue;
    float *work; /* of view_pairs */
} moco_inputs;

static sim_status moco_read_inputs(const sim_comm *c, const moco_options *o,
                                   const sim_arrays *a, moco_inputs *in)
{
    sim_status st = SIM_OK;
    size_t views = moco_directions(o);

    SIM_TRY(sim_array_rows_read_small(c, a, "z", views, &in->queries));
    SIM_TRY(sim_array_rows_read_from(c, a, "k", 2 - views, views, &in->keys));
    SIM_TRY(
        sim_array_rows_same(&in->queries, "z1", &in->keys, o->symmetric ? "k1" : "k2"));
    SIM_TRY(sim_array_queue_read(c, a, &in->queries.shape, &in->queue));
    SIM_TRY(sim_array_pairs_work(views, &in->queries, &in->work));
done:
    return st;
}

static sim_status moco_compute(const sim_comm *c, const void *options,
                               const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    const moco_options *o = options;
    moco_inputs in = {0};
    sim_loss_report report;

    SIM_TRY(sim_comm_agree(c, moco_read_inputs(c, o, a, &in)));
    queue_loss(in.queue, o, o->softmax.temperature, &in.queries.rows, &in.keys.rows,
               in.work, &report);
    push_keys(in.queue, moco_directions(o), &in.keys.rows);
    SIM_TRY(sim_array_rows_write(a, "dz", &in.queries));
    SIM_TRY(sim_array_queue_write(a, in.queue, in.queries.shape.d));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_array_rows_release(&in.queries);
    sim_array_rows_release(&in.keys);
    sim_queue_destroy(&in.queue);
    sim_free(in.work);
    return st;
}

/* ---- rows ---- */

#define MOCO_ROW(name_, paper_, table_, defaults_)                                       \
    {                                                                                    \
        .name = name_, .paper = paper_, .table = &(table_), .defaults = defaults_,       \
        .takes_small_views = true, .n_defaults = sizeof defaults_ / sizeof defaults_[0], \
        .model = sim_common_model, .parts = moco_parts, .create = moco_create,           \
        .forward = moco_forward, .loss = moco_loss, .backward = sim_common_backward,     \
        .updated = moco_updated, .idle = sim_common_idle,                                \
        .scalar_gradient_bound = sim_temperature_gradient_bound_unit,                    \
        .queue = sim_common_queue, .about = moco_about, .plan = moco_plan,               \
        .saved_bytes = moco_saved_bytes, .holds_batch = moco_holds_batch,                \
        .advise = moco_advise, .momentum = moco_momentum, .reduction = moco_reduction,   \
        .compute = moco_compute, COMMON_ROW_FIELDS, MOMENTUM_ROW_FIELDS                  \
    }

const sim_method_row sim_method_mocov1 =
    MOCO_ROW("mocov1", "arXiv 1911.05722", v1_table, v1_defaults);
const sim_method_row sim_method_mocov2 =
    MOCO_ROW("mocov2", "arXiv 2003.04297", v2_table, v2_defaults);
