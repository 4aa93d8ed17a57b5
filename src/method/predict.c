/*
 * predict.c - the predictions of CPC, one step k at a time.
 *
 * The contexts that have a target k rows below are packed, mapped by W_k and compared with the
 * packed targets. Gradients are unpacked the same way and accumulated in ascending order of k.
 * Paper: van den Oord et al. 2018, arXiv 1807.03748, equations 3 and 4.
 * Invariant: all steps share the same buffers; a step allocates nothing.
 */
#include "predict.h"

#include "online_encoder.h"

#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

enum { FIRST_SALT = 16 /* of the initial weights; smaller ones belong to other heads */ };

struct predict {
    predict_spec spec;
    sim_reducer reducer;
    sim_net *net[MAX_STEPS];
    sim_tape *tape[MAX_STEPS];
    sim_cross *cross[MAX_STEPS];
    sim_sampled *sampled[MAX_STEPS];
    /* [images][rows][grid][d] of a step: contexts, predictions, targets; gradients.  With
     * drawn negatives db has every target, [images][grid][grid][d]. */
    float *in, *a, *b, *din, *da, *db;
    int32_t *positive, *negatives; /* [images][rows][grid], [...][m] */
};

/* ---- shapes ---- */

static size_t offset_of(const predict_spec *s, size_t k)
{
    return k + 1 + s->skip;
}

size_t sim_predict_rows(const predict_spec *s, size_t k)
{
    return s->grid - offset_of(s, k);
}

/* Anchors per image at step k. */
static size_t anchors_of(const predict_spec *s, size_t k)
{
    return sim_predict_rows(s, k) * s->grid;
}

static sim_batch_shape shape_of(const predict_spec *s, size_t k)
{
    sim_batch_shape shape = s->images;
    shape.slots *= anchors_of(s, k);
    return shape;
}

static sim_rows_shape rows_of(const predict_spec *s, size_t per_image)
{
    return (sim_rows_shape){.n = s->images.n_blocks * s->images.slots * per_image,
                            .unit = s->images.slots * per_image,
                            .views = 1,
                            .d = s->d,
                            .gather = s->gather};
}

static sim_sampled_shape sampled_of(const predict_spec *s, size_t k)
{
    return (sim_sampled_shape){.anchors = rows_of(s, anchors_of(s, k)),
                               .targets = rows_of(s, s->grid * s->grid),
                               .m = s->n_negatives};
}

/* Uniform in [-1/d, 1/d]: a logit is a sum of d x d products of unnormalized rows, so small
 * weights keep the initial loss near that of a uniform prediction. */
static sim_head_spec head_of(const predict_spec *s, size_t k)
{
    static const sim_batchnorm_options none = {0};
    return (sim_head_spec){.in = s->d,
                           .dim = s->d,
                           .layers = 1,
                           .no_bias = true,
                           .number = (int64_t)k,
                           .gain = 1 / sqrt((double)s->d),
                           .batchnorm = &none,
                           .seed = s->seed,
                           .salt = FIRST_SALT + (uint32_t)k};
}

/* Patches in the global batch; positives and negatives are flat indices into it. */
static size_t patches_of_batch(const predict_spec *s)
{
    return s->images.n_blocks * s->images.slots * s->grid * s->grid;
}

sim_status sim_predict_check(const predict_spec *s)
{
    sim_status st = SIM_OK;
    SIM_CHECK(s->skip + 1 < s->grid, SIM_E_CONFIG,
              "method.skip: %zu rows are left out, but a grid of %zu has only %zu below "
              "the first; nearest: %zu",
              s->skip, s->grid, s->grid - 1, s->grid - 2);
    SIM_CHECK(s->skip + s->steps < s->grid, SIM_E_CONFIG,
              "method.steps: %zu steps below %zu skipped rows leave a grid of %zu x %zu; "
              "nearest: %zu",
              s->steps, s->skip, s->grid, s->grid, s->grid - 1 - s->skip);
    SIM_CHECK(s->steps <= MAX_STEPS, SIM_E_CONFIG, "method.steps: %zu, at most %d",
              s->steps, MAX_STEPS);
    SIM_CHECK(patches_of_batch(s) <= INT32_MAX, SIM_E_CONFIG,
              "method.grid: %zu x %zu patches of each of %zu images are more than the "
              "%d that a batch may have; nearest batch: %zu",
              s->grid, s->grid, s->images.n_blocks * s->images.slots, INT32_MAX,
              INT32_MAX / (s->grid * s->grid));
done:
    return st;
}

/* ---- buffers ---- */

static sim_status create_step(predict *p, size_t k)
{
    sim_status st = SIM_OK;
    const predict_spec *s = &p->spec;
    const sim_head_spec head = head_of(s, k);
    const sim_batch_shape shape = shape_of(s, k);
    const sim_rows_shape rows = rows_of(s, anchors_of(s, k));
    const sim_sampled_shape sampled = sampled_of(s, k);

    SIM_TRY(sim_head_create(&head, &p->net[k]));
    SIM_TRY(sim_tape_create(p->net[k], &shape, &p->reducer, true, &p->tape[k]));
    if (s->n_negatives)
        SIM_TRY(sim_sampled_create(s->comm, &sampled, &p->sampled[k]));
    else
        SIM_TRY(sim_cross_create(s->comm, &rows, &p->cross[k]));
done:
    return st;
}

static sim_status create_buffers(predict *p)
{
    sim_status st = SIM_OK;
    const predict_spec *s = &p->spec;
    size_t images = sim_batch_images(&s->images);
    size_t anchors = images * anchors_of(s, 0); /* the first step has the most */
    size_t targets = s->n_negatives ? images * s->grid * s->grid : anchors;

    SIM_TRY(sim_alloc(&p->in, anchors * s->d, "method/predict"));
    SIM_TRY(sim_alloc(&p->a, anchors * s->d, "method/predict"));
    SIM_TRY(sim_alloc(&p->din, anchors * s->d, "method/predict"));
    SIM_TRY(sim_alloc(&p->da, anchors * s->d, "method/predict"));
    SIM_TRY(sim_alloc(&p->db, targets * s->d, "method/predict"));
    if (s->n_negatives) {
        SIM_TRY(sim_alloc(&p->positive, anchors, "method/predict"));
        SIM_TRY(sim_alloc(&p->negatives, anchors * s->n_negatives, "method/predict"));
    } else {
        SIM_TRY(sim_alloc(&p->b, anchors * s->d, "method/predict"));
    }
done:
    return st;
}

static size_t buffer_bytes(const predict_spec *s)
{
    size_t images = sim_batch_images(&s->images), m = s->n_negatives;
    size_t anchors = images * anchors_of(s, 0);
    if (m == 0)
        return 6 * anchors * s->d * sizeof(float);
    return (4 * anchors + images * s->grid * s->grid) * s->d * sizeof(float) +
           anchors * (m + 1) * sizeof(int32_t);
}

sim_status sim_predict_create(const predict_spec *spec, predict **out)
{
    sim_status st = SIM_OK;
    predict *p = NULL;

    SIM_ASSERT(spec->images.views == 1);
    SIM_TRY(sim_predict_check(spec));
    SIM_TRY(sim_new(&p, "method/predict"));
    p->spec = *spec;
    p->reducer = sim_reducer_of(spec->comm);
    for (size_t k = 0; k < spec->steps; k++)
        SIM_TRY(create_step(p, k));
    SIM_TRY(create_buffers(p));
    *out = p;
    p = NULL;
done:
    sim_predict_destroy(&p);
    return st;
}

void sim_predict_destroy(predict **out)
{
    predict *p = *out;
    if (!p)
        return;
    for (size_t k = 0; k < MAX_STEPS; k++) {
        sim_tape_destroy(&p->tape[k]);
        sim_net_destroy(&p->net[k]);
        sim_cross_destroy(&p->cross[k]);
        sim_sampled_destroy(&p->sampled[k]);
    }
    sim_free(p->in);
    sim_free(p->a);
    sim_free(p->b);
    sim_free(p->din);
    sim_free(p->da);
    sim_free(p->db);
    sim_free(p->positive);
    sim_free(p->negatives);
    sim_free(p);
    *out = NULL;
}

sim_status sim_predict_plan(const predict_spec *s, sim_partition p, sim_plan_row rows[32],
                            size_t *n_rows)
{
    sim_status st = SIM_OK;
    size_t loss = 0;

    for (size_t k = 0; k < s->steps; k++) {
        const sim_head_spec head = head_of(s, k);
        const sim_batch_shape shape = shape_of(s, k);
        const sim_rows_shape all = rows_of(s, anchors_of(s, k));
        const sim_sampled_shape sampled = sampled_of(s, k);
        SIM_TRY(sim_head_plan(&head, &shape, rows, *n_rows));
        loss += s->n_negatives ? sim_sampled_bytes(&sampled) : sim_cross_bytes(p, &all);
    }
    if (s->n_negatives)
        sim_online_plan_scratch((s->n_negatives + 1 + s->d) * sizeof(double), rows,
                                *n_rows);
    else
        sim_online_plan_scratch(sim_ntxent_scratch(s->d), rows, *n_rows);
    sim_plan_add(rows, n_rows, "rows for the loss", buffer_bytes(s));
    sim_plan_add(rows, n_rows, "loss", loss);
done:
    return st;
}

sim_net *sim_predict_net(const predict *p, size_t k)
{
    return p->net[k];
}

size_t sim_predict_parameters(const predict *p)
{
    return p->spec.steps * p->spec.d * p->spec.d;
}

/* ---- packing of the rows of a step ---- */

/* Copies `floats` numbers at offset `at` of each image of `image` numbers. */
typedef struct {
    size_t image, at, floats;
    const float *from;
    float *to;
    float scale;
} part_of_grid;

static void pack_image(size_t i, void *ctx)
{
    const part_of_grid *q = ctx;
    memcpy(q->to + i * q->floats, q->from + i * q->image + q->at,
           q->floats * sizeof *q->to);
}

static void add_image(size_t i, void *ctx)
{
    const part_of_grid *q = ctx;
    const float *from = q->from + i * q->floats;
    float *to = q->to + i * q->image + q->at;
    for (size_t j = 0; j < q->floats; j++)
        to[j] += q->scale * from[j];
}

/* Packs the rows of step k, starting at `row`. */
static part_of_grid part(const predict *p, size_t k, size_t row)
{
    const predict_spec *s = &p->spec;
    return (part_of_grid){.image = s->grid * s->grid * s->d,
                          .at = row * s->grid * s->d,
                          .floats = anchors_of(s, k) * s->d};
}

static void pack_rows(const predict *p, size_t k, size_t row, const float *grid,
                      float *rows)
{
    part_of_grid q = part(p, k, row);
    q.from = grid;
    q.to = rows;
    sim_for(sim_batch_images(&p->spec.images), pack_image, &q);
}

static void add_rows(const predict *p, size_t k, size_t row, const float *rows,
                     float scale, float *grid)
{
    part_of_grid q = part(p, k, row);
    q.from = rows;
    q.to = grid;
    q.scale = scale;
    sim_for(sim_batch_images(&p->spec.images), add_image, &q);
}

/* ---- drawn negatives ---- */

typedef struct {
    const predict_spec *spec;
    size_t k;
    uint32_t epoch;
    int64_t samples;
    int32_t *out;
} draw_call;

/* Draws the negatives of an anchor; `own` is its target, which is never drawn. */
static void draw_anchor(const predict_spec *s, sim_random r, uint32_t own, int32_t *out)
{
    uint32_t others = (uint32_t)patches_of_batch(s) - 1;
    for (size_t n = 0; n < s->n_negatives; n++) {
        uint32_t drawn = sim_random_below(&r, others);
        out[n] = (int32_t)(drawn + (drawn >= own ? 1 : 0));
    }
}

static void draw_image(size_t i, void *ctx)
{
    const draw_call *q = ctx;
    const predict_spec *s = q->spec;
    size_t anchors = anchors_of(s, q->k);
    size_t image = s->images.blocks.lo * s->images.slots + i;
    size_t first = (image * s->grid + offset_of(s, q->k)) * s->grid;

    for (size_t j = 0; j < anchors; j++) {
        const sim_random r = {.seed = s->seed,
                              .purpose = SIM_RANDOM_SAMPLE,
                              .sample = (uint32_t)((size_t)q->samples + image),
                              .epoch = q->epoch,
                              .view_op = (uint32_t)(q->k << 16 | j)};
        draw_anchor(s, r, (uint32_t)(first + j),
                    q->out + (i * anchors + j) * s->n_negatives);
    }
}

void sim_predict_draw_others(const predict_spec *spec, uint32_t epoch, int64_t samples,
                             size_t k, int32_t *out)
{
    draw_call q = {spec, k, epoch, samples, out};
    sim_for(sim_batch_images(&spec->images), draw_image, &q);
}

/* ---- loss of a step ---- */

/* The flat index of the target of each anchor. */
static void fill_positives(predict *p, size_t k)
{
    const predict_spec *s = &p->spec;
    size_t per_image = anchors_of(s, k), first = s->images.blocks.lo * s->images.slots;
    for (size_t i = 0; i < sim_batch_images(&s->images); i++)
        for (size_t j = 0; j < per_image; j++)
            p->positive[i * per_image + j] =
                (int32_t)(((first + i) * s->grid + offset_of(s, k)) * s->grid + j);
}

/* Computes da and db. */
static void compare(predict *p, const predict_options *o, size_t k, const float *z,
                    sim_loss_report *r)
{
    const sim_cross_options options = {
        .temperature = o->temperature, .decoupled = o->decoupled, .any_length = true};

    if (p->spec.n_negatives) {
        fill_positives(p, k);
        o->draw(o->draw_ctx, k, p->negatives);
        sim_sampled_softmax(p->sampled[k], &options, p->a, z, p->positive, p->negatives,
                            p->da, p->db, r);
        return;
    }
    pack_rows(p, k, offset_of(&p->spec, k), z, p->b);
    sim_cross_softmax(p->cross[k], &options, p->a, p->b, p->da, p->db, r);
}

static void give_targets(const predict *p, size_t k, float scale, float *dz)
{
    const predict_spec *s = &p->spec;
    size_t all = s->grid * s->grid * s->d;
    part_of_grid q = {
        .image = all, .floats = all, .from = p->db, .to = dz, .scale = scale};

    if (s->n_negatives)
        sim_for(sim_batch_images(&s->images), add_image, &q);
    else
        add_rows(p, k, offset_of(s, k), p->db, scale, dz);
}

/* NOLINTNEXTLINE(readability-function-size): five arrays, each with its own shape and name */
void sim_predict_run(predict *p, const predict_options *options, const float *c,
                     const float *z, float *dc, float *dz, float *grads, size_t stride,
                     sim_loss_report *report)
{
    const predict_spec *s = &p->spec;
    size_t images = sim_batch_images(&s->images), all = images * s->grid * s->grid * s->d;
    double share = 1 / (double)s->steps;
    sim_loss_report r = {0};

    *report = (sim_loss_report){0};
    memset(dc, 0, all * sizeof *dc);
    memset(dz, 0, all * sizeof *dz);
    for (size_t k = 0; k < s->steps; k++) {
        size_t floats = images * anchors_of(s, k) * s->d;
        pack_rows(p, k, 0, c, p->in);
        sim_net_forward(p->tape[k], p->in, p->a);
        compare(p, options, k, z, &r);
        for (size_t i = 0; i < floats; i++)
            p->da[i] *= (float)share;
        sim_net_backward(p->tape[k], p->da, p->din, grads + k * s->d * s->d, stride);
        add_rows(p, k, 0, p->din, 1, dc);
        give_targets(p, k, (float)share, dz);
        r.loss *= share;
        r.d_log_temperature *= share;
        sim_loss_report_add(&r, share, report);
    }
}
