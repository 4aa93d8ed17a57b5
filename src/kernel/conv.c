/*
 * conv.c - convolutions: selects the algorithm by shape and runs it.
 */
#include "private.h"

#include "simile/memory.h"

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

size_t sim_filters_bytes(const sim_conv *v)
{
    const sim_conv_algorithm *a = algorithm_of(v);
    return (a->forward_floats(v) + a->backward_floats(v)) * sizeof(float);
}

sim_status sim_filters_create(const sim_conv *conv, sim_filters **out)
{
    sim_status st = SIM_OK;
    sim_filters *f = NULL;
    const sim_conv_algorithm *a = algorithm_of(conv);

    SIM_TRY(sim_new(&f, "kernel/filters"));
    f->conv = *conv;
    SIM_TRY(sim_alloc(&f->forward, a->forward_floats(conv), "kernel/filters"));
    SIM_TRY(sim_alloc(&f->backward, a->backward_floats(conv), "kernel/filters"));
    *out = f;
    f = NULL;
done:
    sim_filters_destroy(&f);
    return st;
}

void sim_filters_destroy(sim_filters **f)
{
    if (!*f)
        return;
    sim_free((*f)->forward);
    sim_free((*f)->backward);
    sim_free(*f);
    *f = NULL;
}

void sim_filters_pack(sim_filters *f, const float *oihw, bool backward)
{
    const sim_conv_algorithm *a = algorithm_of(&f->conv);
    a->pack_forward(&f->conv, oihw, f->forward);
    if (backward)
        a->pack_backward(&f->conv, oihw, f->backward);
}

void sim_conv_forward(const sim_filters *f, size_t n, const float *x, float *y)
{
    algorithm_of(&f->conv)->forward(&f->conv, f->forward, n, x, y);
}

void sim_conv_backward_data(const sim_filters *f, size_t n, const float *dy, float *dx)
{
    algorithm_of(&f->conv)->backward_data(&f->conv, f->backward, n, dy, dx);
}

void sim_conv_backward_weights(const sim_conv *v, const sim_leaf_layout *layout,
                               const float *x, const float *dy, float *dw,
                               size_t node_stride)
{
    if (layout->range.lo < layout->range.hi)
        algorithm_of(v)->backward_weights(v, layout, x, dy, dw, node_stride);
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
