/*
 * conv.c - convolutions: selects the algorithm by shape and runs it.
 */
#include "private.h"

sim_status sim_conv_shape(sim_conv *v)
{
    sim_status st = SIM_OK;
    SIM_CHECK(v->h + 2 * v->pad >= v->size && v->w + 2 * v->pad >= v->size, SIM_E_CONFIG,
              "a %zu x %zu filter does not fit in a %zu x %zu image", v->size, v->size,
              v->h, v->w);
    v->oh = (v->h + 2 * v->pad - v->size) / v->stride + 1;
    v->ow = (v->w + 2 * v->pad - v->size) / v->stride + 1;
done:
    return st;
}

static bool is_winograd(const sim_conv *v)
{
    return !v->exact_reach && v->size == 3 && v->stride == 1 && v->pad == 1 &&
           v->c >= 8 && v->k >= 8 && v->h >= 3 && v->w >= 3;
}

static const sim_conv_algorithm *algorithm_of(const sim_conv *v)
{
    if (sim_kernels()->plain)
        return &sim_conv_plain;
    return is_winograd(v) ? &sim_conv_winograd : &sim_conv_direct;
}

const char *sim_conv_path(const sim_conv *v)
{
    return is_winograd(v) ? "winograd" : "direct";
}

double sim_conv_flops(const sim_conv *v)
{
    return 2.0 * (double)(v->oh * v->ow) * (double)(v->size * v->size) * (double)v->c *
           (double)v->k;
}

size_t sim_conv_forward_floats(const sim_conv *v)
{
    return algorithm_of(v)->forward_floats(v);
}

size_t sim_conv_backward_floats(const sim_conv *v)
{
    return algorithm_of(v)->backward_floats(v);
}

void sim_conv_pack_forward(const sim_conv *v, const float *oihw, float *panels)
{
    algorithm_of(v)->pack_forward(v, oihw, panels);
}

void sim_conv_pack_backward(const sim_conv *v, const float *oihw, float *panels)
{
    algorithm_of(v)->pack_backward(v, oihw, panels);
}

bool sim_conv_reads_norm(const sim_conv *v)
{
    return algorithm_of(v)->reads_norm(v);
}

void sim_apply_read_norm(const sim_conv *v, const sim_conv_input *x, size_t row,
                         size_t n_rows, size_t c0, size_t n, const float *from, float *to)
{
    size_t of_image = v->h * v->w;
    for (size_t at = 0, run = 0; at < n_rows; at += run) {
        size_t image = (row + at) / of_image;
        const read_norm norm = sim_read_norm(v, x, image, c0);
        run = sim_min((image + 1) * of_image - row - at, n_rows - at);
        sim_kernels()->norm_apply(run, n, from + at * n, norm.scale, norm.shift, NULL,
                                  norm.act, to + at * n);
    }
}

void sim_conv_forward(const sim_conv *v, const float *panels, size_t n,
                      const sim_conv_input *x, float *y)
{
    algorithm_of(v)->forward(v, panels, n, x, y);
}

void sim_conv_backward_data(const sim_conv *v, const float *panels, size_t n,
                            const float *dy, float *dx)
{
    algorithm_of(v)->backward_data(v, panels, n, dy, dx);
}

void sim_conv_backward_weights(const sim_conv *v, const sim_leaf_layout *layout,
                               const sim_conv_input *x, const float *dy, float *dw,
                               size_t node_stride)
{
    if (layout->range.lo < layout->range.hi)
        algorithm_of(v)->backward_weights(v, layout, x, dy, dw, node_stride);
}

/* ---- passes with the sums of a batch norm ---- */

typedef struct {
    const sim_conv *v;
    const float *panels;
    const sim_conv_input *x;
    const float *dy;
    float *out;
} rows_call;

static void produce_forward(const void *ctx, size_t row, size_t n)
{
    const rows_call *q = ctx;
    algorithm_of(q->v)->forward_rows(q->v, q->panels, q->x, row, n, q->out);
}

static void produce_data(const void *ctx, size_t row, size_t n)
{
    const rows_call *q = ctx;
    algorithm_of(q->v)->data_rows(q->v, q->panels, q->dy, row, n, q->out);
}

void sim_conv_forward_moments(const sim_conv *v, const float *panels, size_t n,
                              const sim_conv_input *x, float *y,
                              const sim_norm_leaves *leaves, double *out)
{
    const rows_call q = {.v = v, .panels = panels, .x = x, .out = y};
    const sim_row_producer producer = {produce_forward, &q};

    if (sim_norm_has_units(leaves, algorithm_of(v)->forward_unit(v))) {
        sim_norm_moments_of(leaves, &producer, y, out);
        return;
    }
    sim_conv_forward(v, panels, n, x, y);
    sim_norm_moments(leaves, y, out);
}

void sim_conv_backward_data_sums(const sim_conv *v, const float *panels, size_t n,
                                 const float *dy, const sim_norm_leaves *leaves,
                                 const float *x, const float *scale, const float *shift,
                                 const float *mean, sim_activation act, float *g,
                                 double *out)
{
    const rows_call q = {.v = v, .panels = panels, .dy = dy, .out = g};
    const sim_row_producer producer = {produce_data, &q};

    if (sim_norm_has_units(leaves, algorithm_of(v)->data_unit(v))) {
        sim_norm_sums_of(leaves, &producer, x, scale, shift, mean, NULL, act, g, g, out);
        return;
    }
    sim_conv_backward_data(v, panels, n, dy, g);
    sim_norm_backward_sums(leaves, x, scale, shift, mean, NULL, act, g, g, out);
}

void sim_conv_forward_workspace(const sim_conv *v, size_t n_images,
                                sim_workspace_size *size)
{
    algorithm_of(v)->workspace(v, n_images, size);
}

void sim_conv_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                        sim_workspace_size *size)
{
    size_t n_images = (layout->range.hi - layout->range.lo) * layout->images_per_leaf;
    algorithm_of(v)->workspace(v, n_images, size);
    algorithm_of(v)->weights_workspace(v, layout, size);
}
