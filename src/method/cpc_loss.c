/*
 * cpc_loss.c - CPC's `simile loss`: contexts, targets and W_k of a file, compared as in a step.
 *
 * In: /context, /target, /predictor and maybe /negatives.  Out: the loss, and gradients of the
 * first three.  An image is a block of one slot.
 * van den Oord et al. 2018, arXiv 1807.03748, equations 3 and 4.
 */
#include "cpc.h"

#include "arrays.h"
#include "predict.h"

#include "simile/memory.h"

#include <string.h>

/* What the file holds, of this rank's images. */
typedef struct {
    predict_spec spec;
    size_t n; /* images of all ranks */
    float *c, *z, *dc, *dz, *w, *grads;
    int32_t *negatives; /* [steps][local][grid][grid][m] */
} inputs;

static sim_status read_shapes(const sim_comm *comm, const cpc_options *o,
                              const sim_arrays *a, inputs *in)
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
    SIM_CHECK(w[0] >= 1 && w[0] <= MAX_STEPS && w[1] == c[3] && w[2] == c[3], SIM_E_DATA,
              "/predictor is %zu x %zu x %zu, expected 1 to %d steps of %zu x %zu", w[0],
              w[1], w[2], MAX_STEPS, c[3], c[3]);
    size_t skip = (size_t)o->skip, rows_left = c[1] - 1 > skip ? c[1] - 1 - skip : 0;
    SIM_CHECK(w[0] <= rows_left, SIM_E_DATA,
              "/predictor has %zu steps, but below %zu skipped rows a grid of %zu has "
              "targets for %zu",
              w[0], skip, c[1], rows_left);
    in->n = c[0];
    in->spec = (predict_spec){.comm = comm,
                              .grid = c[1],
                              .d = c[3],
                              .steps = w[0],
                              .skip = (size_t)o->skip,
                              .gather = a->gather};
    in->spec.images =
        (sim_batch_shape){.n_blocks = in->n,
                          .blocks = sim_partition_range(sim_comm_partition(comm), in->n),
                          .views = 1,
                          .slots = 1};
done:
    return st;
}

/* Indices of this rank's anchors, except those without a target, are rows of /target. */
static sim_status check_indices(const inputs *in, size_t k, const int32_t *of_step)
{
    sim_status st = SIM_OK;
    size_t g = in->spec.grid, m = in->spec.n_negatives, rows = in->n * g * g;

    for (size_t i = 0; i < sim_batch_images(&in->spec.images); i++)
        for (size_t j = 0; j < sim_predict_rows(&in->spec, k) * g * m; j++) {
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
    size_t lo = in->spec.images.blocks.lo, local = sim_batch_images(&in->spec.images);
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
        sim_alloc(&in->negatives, in->spec.steps * local * of_image, "method/negatives"));
    for (size_t k = 0; k < in->spec.steps; k++) {
        int32_t *to = in->negatives + k * local * of_image;
        SIM_TRY(a->ints(a->ctx, "negatives", k, 1, step));
        memcpy(to, step + lo * of_image, local * of_image * sizeof *to);
        SIM_TRY(check_indices(in, k, to));
    }
done:
    sim_free(step);
    return st;
}

static sim_status cpc_read_inputs(const sim_comm *comm, const cpc_options *o,
                                  const sim_arrays *a, inputs *in)
{
    sim_status st = SIM_OK;

    SIM_TRY(read_shapes(comm, o, a, in));
    SIM_TRY(read_negatives(a, in));
    const predict_spec *s = &in->spec;
    size_t lo = s->images.blocks.lo, local = sim_batch_images(&s->images);
    size_t floats = local * s->grid * s->grid * s->d, weights = s->steps * s->d * s->d;
    SIM_TRY(sim_alloc(&in->c, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->z, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->dc, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->dz, floats, "method/arrays"));
    SIM_TRY(sim_alloc(&in->w, weights, "method/arrays"));
    SIM_TRY(
        sim_alloc(&in->grads,
                  sim_comm_sum_leaves_capacity(sim_comm_partition(comm), in->n, weights),
                  "method/arrays"));
    SIM_TRY(a->floats(a->ctx, "context", lo, local, false, in->c));
    SIM_TRY(a->floats(a->ctx, "target", lo, local, false, in->z));
    SIM_TRY(a->floats(a->ctx, "predictor", 0, s->steps, false, in->w));
done:
    return st;
}

static void cpc_release_inputs(inputs *in)
{
    sim_free(in->c);
    sim_free(in->z);
    sim_free(in->dc);
    sim_free(in->dz);
    sim_free(in->w);
    sim_free(in->grads);
    sim_free(in->negatives);
}

/* Transposes [d][d]: a prediction is c W, PyTorch's linear layer is x W^T. */
static void transpose(size_t d, const float *from, float *to)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            to[j * d + i] = from[i * d + j];
}

static void load_weights(const inputs *in, predict *p)
{
    size_t d = in->spec.d;
    for (size_t k = 0; k < in->spec.steps; k++)
        transpose(d, in->w + k * d * d, sim_net_weights(sim_predict_net(p, k)));
}

static void draw_read(void *ctx, size_t k, int32_t *out)
{
    const inputs *in = ctx;
    size_t local = sim_batch_images(&in->spec.images), g = in->spec.grid;
    size_t of_image = g * g * in->spec.n_negatives;
    size_t taken = sim_predict_rows(&in->spec, k) * g * in->spec.n_negatives;

    for (size_t i = 0; i < local; i++)
        memcpy(out + i * taken, in->negatives + (k * local + i) * of_image,
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
    sim_range rows = sim_partition_range(sim_comm_partition(comm), s->steps);

    for (size_t k = 0; k < s->steps; k++)
        transpose(d, in->grads + k * d * d, in->w + k * d * d);
    const sim_tensor t = {.name = "dpredictor",
                          .type = SIM_F32,
                          .n_dims = 3,
                          .dims = {s->steps, d, d},
                          .data = in->w + rows.lo * d * d,
                          .row_lo = rows.lo,
                          .row_hi = rows.hi};
    return a->put(a->ctx, &t, 1);
}

sim_status sim_cpc_compute(const sim_comm *comm, const void *opaque, const sim_arrays *a,
                           double *loss)
{
    sim_status st = SIM_OK;
    const cpc_options *o = opaque;
    inputs in = {0};
    predict *p = NULL;
    sim_loss_report report = {0};
    const predict_options how = {.temperature = o->softmax.temperature,
                                 .decoupled =
                                     o->softmax.denominator == DENOMINATOR_DECOUPLED,
                                 .draw = draw_read,
                                 .draw_ctx = &in};

    st = cpc_read_inputs(comm, o, a, &in);
    if (st == SIM_OK)
        st = sim_predict_create(&in.spec, &p);
    SIM_TRY(sim_comm_agree(comm, st));
    size_t weights = sim_predict_parameters(p);
    load_weights(&in, p);
    sim_predict_run(p, &how, in.c, in.z, in.dc, in.dz, in.grads, weights, &report);
    sim_comm_sum_leaves(comm, in.n, weights, in.grads);
    SIM_TRY(put_grid(&in, a, "dcontext", in.dc));
    SIM_TRY(put_grid(&in, a, "dtarget", in.dz));
    SIM_TRY(put_weights(comm, &in, a));
    SIM_TRY(sim_temperature_put(a, &o->softmax, report.d_log_temperature));
    *loss = report.loss;
done:
    sim_predict_destroy(&p);
    cpc_release_inputs(&in);
    return st;
}
