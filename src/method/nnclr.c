/*
 * nnclr.c - NNCLR: the nearest neighbour of a view against predictions from the other view.
 *
 * images -> backbone -> projector -> z -> predictor -> p;  both to unit length.  nn(z) is the
 * most similar row of a support set of K earlier embeddings.  Over B images:
 *
 *   L(n, p) = 1 / B sum_i [ -n_i . p_i / T + log sum_j exp(n_i . p_j / T) ]
 *   L       = ( L(nn(z1), p2) + L(nn(z2), p1) ) / 2
 *
 * Small views are further predictions: L is the mean over the pairs of the neighbours of a view and
 * predictions of another one; neighbours are those of views 1 and 2.  The gradient flows through p
 * only.  z of view 1 is pushed to the support set if the step is applied.
 * Shapes: z [2][local images][projector_dim]; p the same, and of small views; support set
 * [K][projector_dim], sharded.
 * Paper: Dwibedi et al. 2021, arXiv 2104.14548, equation 3.
 */
#include "arrays.h"
#include "common.h"
#include "view_pairs.h"

#include "simile/memory.h"

enum { VIEWS = 2 };

typedef struct {
    softmax_options softmax;
    int64_t queue_size, predictor_hidden;
    bool columns;
} nnclr_options;

static const sim_option nnclr_rows[] = {
    KEYS_TEMPERATURE(nnclr_options, 10.0, "0.1"),
    KEY_INT(nnclr_options, "queue_size", queue_size, 1, UINT32_MAX, "98304", "rows",
            "embeddings in the support set, in total over all ranks"),
    KEY_INT(nnclr_options, "predictor_hidden", predictor_hidden, 1, 65536, "4096", "",
            "hidden width of the predictor"),
    KEY_BOOL(
        nnclr_options, "columns", columns, "false",
        "add the softmax of each prediction over all neighbours; mean of both terms"),
    KEY_DENOMINATOR(nnclr_options, "full"),
};
static const sim_option_table nnclr_table = KEY_TABLE(nnclr_options, nnclr_rows);

/* ---- objects ---- */

enum { EMBEDDINGS, PREDICTIONS }; /* of method_common.rows */

static sim_model_spec nnclr_model(const void *options)
{
    const nnclr_options *o = options;
    return (sim_model_spec){.projector = true,
                            .predictor_hidden = (size_t)o->predictor_hidden};
}

/* `work` and `slots` receive the neighbours of the local rows; the rest of `work` is that of view_pairs. */
static method_spec nnclr_spec(const sim_method_env *env, const nnclr_options *o)
{
    const sim_batch_shape shape = sim_online_shape(env, VIEWS);
    const size_t n = sim_batch_images(&shape), d = (size_t)env->encoder->projector_dim;
    return (method_spec){
        .model = nnclr_model(o),
        .views = VIEWS,
        .options = o,
        .options_bytes = sizeof *o,
        .scalars = sim_temperature_scalars(&o->softmax),
        .row_views = {VIEWS, VIEWS + env->small.n},
        .cross = true,
        .queue_size = (size_t)o->queue_size,
        .work_floats = n * d + sim_pairs_work(VIEWS, VIEWS + env->small.n, n / VIEWS * d),
        .n_slots = n};
}

static sim_status nnclr_create(const sim_method_env *env, const void *options,
                               void **self)
{
    const method_spec spec = nnclr_spec(env, options);
    return sim_common_create(env, &spec, self);
}

static sim_status nnclr_plan(const sim_method_env *env, const void *options,
                             sim_plan_row rows[32], size_t *n_rows)
{
    const method_spec spec = nnclr_spec(env, options);
    return sim_common_plan(env, &spec, rows, n_rows);
}

static size_t nnclr_saved_bytes(const sim_method_env *env, const void *options)
{
    const method_spec spec = nnclr_spec(env, options);
    return sim_common_saved_bytes(env, &spec);
}

/* ---- loss ---- */

/* The nearest neighbours of local embeddings. */
typedef struct {
    float *rows;    /* [views][local images][d] */
    int64_t *slots; /* [views][local images] their slots in the support set */
    float *work;    /* of view_pairs */
} neighbours;

static void neighbour_loss(sim_queue *q, sim_cross *e, const nnclr_options *o, double t,
                           const unit_rows *z, const unit_rows *p, const neighbours *nn,
                           sim_loss_report *report)
{
    const size_t n = z->n / VIEWS; /* of a view */
    const view_pairs pairs = {.targets = VIEWS,
                              .all = p->views,
                              .floats = n * z->d,
                              .dz = p->dz,
                              .work = nn->work};
    const double share = 1 / (double)sim_pairs_count(&pairs);
    const sim_cross_options loss = {.temperature = t,
                                    .factor = share,
                                    .decoupled =
                                        o->softmax.denominator == DENOMINATOR_DECOUPLED,
                                    .columns = o->columns};
    sim_loss_report one;

    *report = (sim_loss_report){0};
    for (size_t u = 0; u < VIEWS; u++) {
        const size_t anchors = u * pairs.floats;
        double embedding_std = 0;
        sim_queue_nearest(q, z->z + anchors, nn->rows + anchors, nn->slots + u * n,
                          &embedding_std);
        for (size_t v = 0; v < pairs.all; v++) {
            if (!sim_pairs_has(&pairs, v, u))
                continue;
            sim_cross_softmax(e, &loss, nn->rows + anchors, p->z + v * pairs.floats, NULL,
                              sim_pairs_gradient(&pairs, v, u), &one);
            sim_pairs_add(&pairs, v, u);
            one.embedding_std = embedding_std; /* of z, not of its neighbours */
            sim_loss_report_add(&one, share, report);
        }
    }
}

static void nnclr_loss(void *self, const sim_method_batch *batch, sim_loss_report *report,
                       float *grads)
{
    method_common *m = self;
    const nnclr_options *o = m->options;
    const neighbours nn = {m->work, m->slots,
                           m->work + m->rows[EMBEDDINGS].n * m->rows[EMBEDDINGS].d};
    (void)batch;
    (void)grads;

    sim_online_load(m->online, SIM_PROJECTOR, &m->rows[EMBEDDINGS]);
    sim_online_load(m->online, SIM_PREDICTOR, &m->rows[PREDICTIONS]);
    neighbour_loss(m->queue, m->cross, o, sim_temperature_value(&o->softmax, &m->scalars),
                   &m->rows[EMBEDDINGS], &m->rows[PREDICTIONS], &nn, report);
    sim_online_store_gradient(m->online, SIM_PREDICTOR, &m->rows[PREDICTIONS]);
    m->push_pending = true;
}

/* Not called after a skipped step: its embeddings are not pushed. */
static void nnclr_updated(void *self)
{
    method_common *m = self;
    if (m->push_pending)
        sim_queue_push(m->queue, m->rows[EMBEDDINGS].z);
    m->push_pending = false;
}

/* ---- description ---- */

static const char *nnclr_reduction(const void *options)
{
    const nnclr_options *o = options;
    return o->columns ? "mean over rows and columns of both directions"
                      : "mean of both directions";
}

static sim_status nnclr_about(void *self, char **text)
{
    const method_common *m = self;
    const nnclr_options *o = m->options;
    char temperature_text[64];

    sim_temperature_about(&o->softmax, temperature_text, sizeof temperature_text);
    return sim_text_format("method/about", text,
                           "nearest of %lld earlier embeddings%s, %s, %zu negatives per "
                           "anchor, %s",
                           (long long)o->queue_size,
                           o->softmax.denominator == DENOMINATOR_DECOUPLED ? ", decoupled"
                                                                           : "",
                           temperature_text, m->batch - 1, nnclr_reduction(o));
}

static const char *nnclr_holds_batch(const void *options)
{
    (void)options;
    return "which compares all embeddings of the batch with the support set of each rank";
}

static void nnclr_advise(const sim_method_env *env, const void *options, size_t n_images)
{
    const nnclr_options *o = options;
    (void)env;
    sim_common_advise_queue(o->queue_size, n_images,
                            "the nearest neighbour is often an earlier view of the image "
                            "itself");
}

/* ---- simile loss ---- */

typedef struct {
    array_rows z, p;
    neighbours nn;
    sim_queue *queue;
    sim_cross *cross;
} nnclr_inputs;

static sim_status nnclr_read_inputs(const sim_comm *c, const sim_arrays *a,
                                    nnclr_inputs *in)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_read(c, a, "z", VIEWS, &in->z));
    SIM_TRY(sim_array_rows_read_small(c, a, "p", VIEWS, &in->p));
    SIM_TRY(sim_array_rows_same(&in->p, "p1", &in->z, "z1"));
    sim_rows_shape one = in->z.shape;
    one.views = 1;
    SIM_TRY(sim_array_queue_read(c, a, &one, &in->queue));
    SIM_TRY(sim_cross_create(c, &one, &in->cross));
    SIM_TRY(sim_alloc(&in->nn.rows, in->z.rows.n * one.d, "method/arrays"));
    SIM_TRY(sim_alloc(&in->nn.slots, in->z.rows.n, "method/arrays"));
    SIM_TRY(sim_array_pairs_work(VIEWS, &in->p, &in->nn.work));
done:
    return st;
}

static void nnclr_release_inputs(nnclr_inputs *in)
{
    sim_array_rows_release(&in->z);
    sim_array_rows_release(&in->p);
    sim_free(in->nn.rows);
    sim_free(in->nn.slots);
    sim_free(in->nn.work);
    sim_queue_destroy(&in->queue);
    sim_cross_destroy(&in->cross);
}

static sim_status write_slots(const sim_arrays *a, const nnclr_inputs *in)
{
    sim_status st = SIM_OK;
    static const char *const names[VIEWS] = {"nn1", "nn2"};
    const sim_range local = in->z.local;

    for (size_t v = 0; v < VIEWS; v++) {
        const sim_tensor t = {.name = names[v],
                              .type = SIM_I64,
                              .n_dims = 1,
                              .dims = {in->z.shape.n},
                              .data = in->nn.slots + v * (local.hi - local.lo),
                              .row_lo = local.lo,
                              .row_hi = local.hi};
        SIM_TRY(a->put(a->ctx, &t, ARRAY_UNIT));
    }
done:
    return st;
}

static sim_status nnclr_write_results(const sim_arrays *a, const nnclr_options *o,
                                      nnclr_inputs *in, const sim_loss_report *report)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_array_rows_write(a, "dp", &in->p));
    SIM_TRY(write_slots(a, in));
    SIM_TRY(sim_array_queue_write(a, in->queue, in->z.shape.d));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report->d_log_temperature));
done:
    return st;
}

static sim_status nnclr_compute(const sim_comm *c, const void *options,
                                const sim_arrays *a, double *loss)
{
    sim_status st = SIM_OK;
    const nnclr_options *o = options;
    nnclr_inputs in = {.queue = NULL};
    sim_loss_report report = {0};

    SIM_TRY(sim_comm_agree(c, nnclr_read_inputs(c, a, &in)));
    neighbour_loss(in.queue, in.cross, o, o->softmax.temperature, &in.z.rows, &in.p.rows,
                   &in.nn, &report);
    sim_queue_push(in.queue, in.z.rows.z); /* view 1 */
    SIM_TRY(nnclr_write_results(a, o, &in, &report));
    *loss = report.loss;
done:
    nnclr_release_inputs(&in);
    return st;
}

const sim_method_row sim_method_nnclr = {COMMON_ROW_FIELDS,
                                         .name = "nnclr",
                                         .paper = "arXiv 2104.14548",
                                         .table = &nnclr_table,
                                         .takes_small_views = true,
                                         .model = nnclr_model,
                                         .parts = sim_common_two_views,
                                         .create = nnclr_create,
                                         .forward = sim_common_forward,
                                         .loss = nnclr_loss,
                                         .backward = sim_common_backward,
                                         .updated = nnclr_updated,
                                         .scalar_gradient_bound =
                                             sim_temperature_gradient_bound_unit,
                                         .queue = sim_common_queue,
                                         .about = nnclr_about,
                                         .plan = nnclr_plan,
                                         .saved_bytes = nnclr_saved_bytes,
                                         .advise = nnclr_advise,
                                         .holds_batch = nnclr_holds_batch,
                                         .reduction = nnclr_reduction,
                                         .compute = nnclr_compute};
