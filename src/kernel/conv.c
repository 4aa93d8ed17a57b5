/*
 * conv.c - convolutions: selects the algorithm by shape and runs it.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

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

bool sim_conv_is_winograd(const sim_conv *v)
{
    return !v->exact_reach && v->size == 3 && v->stride == 1 && v->pad == 1 &&
           v->c >= 8 && v->k >= 8 && v->h >= 3 && v->w >= 3;
}

const char *sim_conv_path(const sim_conv *v)
{
    return sim_conv_is_winograd(v) ? "winograd" : "direct";
}

double sim_conv_flops(const sim_conv *v)
{
    return 2.0 * (double)(v->oh * v->ow) * (double)(v->size * v->size) * (double)v->c *
           (double)v->k;
}

static size_t forward_floats(const sim_conv *v)
{
    if (sim_kernels()->plain)
        return v->k * v->c * v->size * v->size;
    return sim_conv_is_winograd(v) ? sim_winograd_floats(v->c, v->k)
                                   : sim_direct_floats(v);
}

static size_t backward_floats(const sim_conv *v)
{
    if (sim_kernels()->plain)
        return 0;
    return sim_conv_is_winograd(v) ? sim_winograd_floats(v->k, v->c)
                                   : sim_direct_back_floats(v);
}

size_t sim_filters_bytes(const sim_conv *v)
{
    return (forward_floats(v) + backward_floats(v)) * sizeof(float);
}

sim_status sim_filters_create(const sim_conv *conv, sim_filters **out)
{
    sim_status st = SIM_OK;
    sim_filters *f = NULL;

    SIM_TRY(sim_new(&f, "kernel/filters"));
    f->conv = *conv;
    SIM_TRY(sim_alloc(&f->forward, forward_floats(conv), "kernel/filters"));
    SIM_TRY(sim_alloc(&f->backward, backward_floats(conv), "kernel/filters"));
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
    const sim_conv *v = &f->conv;

    if (sim_kernels()->plain) {
        memcpy(f->forward, oihw, v->k * v->c * v->size * v->size * sizeof *oihw);
    } else if (sim_conv_is_winograd(v)) {
        sim_winograd_pack(v->c, v->k, oihw, false, f->forward);
        if (backward)
            sim_winograd_pack(v->k, v->c, oihw, true, f->backward);
    } else {
        sim_direct_pack(v, oihw, f->forward);
        if (backward)
            sim_direct_back_pack(v, oihw, f->backward);
    }
}

void sim_conv_forward(const sim_filters *f, size_t n, const float *x, float *y)
{
    const sim_conv *v = &f->conv;
    if (sim_kernels()->plain)
        sim_plain_forward(v, f->forward, n, x, y);
    else if (sim_conv_is_winograd(v))
        sim_winograd_run(v->h, v->w, v->c, v->k, f->forward, n, x, y);
    else
        sim_direct_forward(v, f->forward, n, x, y);
}

void sim_conv_backward_data(const sim_filters *f, size_t n, const float *dy, float *dx)
{
    const sim_conv *v = &f->conv;
    if (sim_kernels()->plain)
        sim_plain_backward_data(v, f->forward, n, dy, dx);
    else if (sim_conv_is_winograd(v))
        sim_winograd_run(v->h, v->w, v->k, v->c, f->backward, n, dy, dx);
    else
        sim_direct_backward_data(v, f->backward, n, dy, dx);
}

static void plain_weights(const sim_conv *v, const sim_leaf_layout *layout,
                          const float *x, const float *dy, float *dw, size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = v->k * v->c * v->size * v->size;
    size_t have = sim_tree_nodes(layout->n_leaves, layout->range, nodes);
    size_t depth = sim_tree_depth(layout->n_leaves, layout->range);
    float *partials = sim_workspace(depth * n * sizeof *partials);
    sim_tree_stack stack;

    sim_tree_stack_begin(&stack, n, layout->n_leaves, layout->range, partials);
    for (size_t i = 0; i < layout->range.hi - layout->range.lo; i++) {
        size_t first = i * layout->images_per_leaf;
        sim_plain_weights(v, layout->images_per_leaf, x + first * v->h * v->w * v->c,
                          dy + first * v->oh * v->ow * v->k, sim_tree_stack_top(&stack));
        sim_tree_stack_push(&stack);
    }
    for (size_t j = 0; j < have; j++)
        memcpy(dw + j * node_stride, partials + j * n, n * sizeof *dw);
}

void sim_conv_forward_workspace(const sim_conv *v, size_t n_images,
                                sim_workspace_size *size)
{
    if (sim_kernels()->plain)
        return;
    if (sim_conv_is_winograd(v))
        sim_winograd_workspace(v, n_images, size);
    else
        sim_direct_workspace(v, n_images, size);
}

void sim_conv_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                        sim_workspace_size *size)
{
    size_t images = (layout->range.hi - layout->range.lo) * layout->images_per_leaf;

    if (sim_kernels()->plain) {
        size_t depth = sim_tree_depth(layout->n_leaves, layout->range);
        sim_raise(&size->shared, depth * v->k * v->c * v->size * v->size * sizeof(float));
        return;
    }
    sim_conv_forward_workspace(v, images, size);
    if (sim_conv_is_winograd(v))
        sim_winograd_weights_workspace(v, layout, size);
    else
        sim_direct_weights_workspace(v, layout, size);
}

void sim_conv_backward_weights(const sim_conv *v, const sim_leaf_layout *layout,
                               const float *x, const float *dy, float *dw,
                               size_t node_stride)
{
    if (layout->range.lo == layout->range.hi)
        return;
    if (sim_kernels()->plain)
        plain_weights(v, layout, x, dy, dw, node_stride);
    else if (sim_conv_is_winograd(v))
        sim_winograd_weights(v, layout, x, dy, dw, node_stride);
    else
        sim_direct_weights(v, layout, x, dy, dw, node_stride);
}
