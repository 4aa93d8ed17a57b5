/*
 * conv_plain.c - the reference semantics of convolutions: their definition.
 *
 * y[o][k] = sum over r, s, c of x[stride o + (r, s) - pad][c] w[k][c][r][s],
 * and its derivatives.  Every output is one sum in double over ascending
 * indices, rounded once. The portable kernels use these functions, and the
 * start-up check compares with them.
 */
#include "private.h"

#include "simile/thread.h"

typedef struct {
    const sim_conv *v;
    const float *w, *x, *dy;
    float *out;
    size_t n_images;
} plain_call;

/* Stores the input row (or column) that output o reads at tap t; false in the
 * padding. */
static bool input_position(const sim_conv *v, size_t o, size_t t, size_t extent,
                           size_t *position)
{
    size_t padded = o * v->stride + t;
    *position = padded - v->pad;
    return padded >= v->pad && *position < extent;
}

/* Stores the output row (or column) that reads input i at tap t; false if there
 * is none. */
static bool output_position(const sim_conv *v, size_t i, size_t t, size_t extent,
                            size_t *position)
{
    size_t distance = i + v->pad - t;
    *position = distance / v->stride;
    return i + v->pad >= t && distance % v->stride == 0 && *position < extent;
}

/* Channel k of output (oy, ox); w: the filters of k, [c][size][size]. */
static double forward_sum(const sim_conv *v, const float *w, const float *image,
                          size_t oy, size_t ox)
{
    double sum = 0;
    size_t y = 0, x = 0;
    for (size_t r = 0; r < v->size; r++)
        for (size_t s = 0; s < v->size; s++) {
            if (!input_position(v, oy, r, v->h, &y) ||
                !input_position(v, ox, s, v->w, &x))
                continue;
            for (size_t c = 0; c < v->c; c++)
                sum += (double)image[(y * v->w + x) * v->c + c] *
                       (double)w[(c * v->size + r) * v->size + s];
        }
    return sum;
}

static void forward_image(size_t n, void *ctx)
{
    const plain_call *p = ctx;
    const sim_conv *v = p->v;
    const float *image = p->x + n * v->h * v->w * v->c;
    float *y = p->out + n * v->oh * v->ow * v->k;
    for (size_t o = 0; o < v->oh * v->ow; o++)
        for (size_t k = 0; k < v->k; k++)
            y[o * v->k + k] = (float)forward_sum(v, p->w + k * v->c * v->size * v->size,
                                                 image, o / v->ow, o % v->ow);
}

void sim_plain_forward(const sim_conv *v, const float *w, size_t n, const float *x,
                       float *y)
{
    plain_call p = {.v = v, .w = w, .x = x, .out = y};
    sim_for(n, forward_image, &p);
}

/* Channel c of the gradient of input (y, x); dy: one image. */
static double backward_sum(const sim_conv *v, const float *w, const float *dy, size_t y,
                           size_t x, size_t c)
{
    double sum = 0;
    size_t oy = 0, ox = 0;
    for (size_t r = 0; r < v->size; r++)
        for (size_t s = 0; s < v->size; s++) {
            if (!output_position(v, y, r, v->oh, &oy) ||
                !output_position(v, x, s, v->ow, &ox))
                continue;
            for (size_t k = 0; k < v->k; k++)
                sum += (double)dy[(oy * v->ow + ox) * v->k + k] *
                       (double)w[((k * v->c + c) * v->size + r) * v->size + s];
        }
    return sum;
}

static void backward_image(size_t n, void *ctx)
{
    const plain_call *p = ctx;
    const sim_conv *v = p->v;
    const float *dy = p->dy + n * v->oh * v->ow * v->k;
    float *dx = p->out + n * v->h * v->w * v->c;
    for (size_t i = 0; i < v->h * v->w; i++)
        for (size_t c = 0; c < v->c; c++)
            dx[i * v->c + c] = (float)backward_sum(v, p->w, dy, i / v->w, i % v->w, c);
}

void sim_plain_backward_data(const sim_conv *v, const float *w, size_t n, const float *dy,
                             float *dx)
{
    plain_call p = {.v = v, .w = w, .dy = dy, .out = dx};
    sim_for(n, backward_image, &p);
}

/* Gradient of w[k][c][r][s] over all images. */
static double weight_sum(const plain_call *p, size_t k, size_t c, size_t r, size_t s)
{
    const sim_conv *v = p->v;
    double sum = 0;
    size_t y = 0, x = 0;
    for (size_t n = 0; n < p->n_images; n++)
        for (size_t oy = 0; oy < v->oh; oy++) {
            if (!input_position(v, oy, r, v->h, &y))
                continue;
            for (size_t ox = 0; ox < v->ow; ox++)
                if (input_position(v, ox, s, v->w, &x))
                    sum += (double)p->x[((n * v->h + y) * v->w + x) * v->c + c] *
                           (double)p->dy[((n * v->oh + oy) * v->ow + ox) * v->k + k];
        }
    return sum;
}

static void weights_of_filter(size_t item, void *ctx)
{
    const plain_call *p = ctx;
    size_t size = p->v->size, taps = size * size;
    for (size_t t = 0; t < taps; t++)
        p->out[item * taps + t] =
            (float)weight_sum(p, item / p->v->c, item % p->v->c, t / size, t % size);
}

void sim_plain_weights(const sim_conv *v, size_t n, const float *x, const float *dy,
                       float *dw)
{
    plain_call p = {.v = v, .x = x, .dy = dy, .out = dw, .n_images = n};
    sim_for(v->k * v->c, weights_of_filter, &p);
}

static size_t filter_floats(const sim_conv *v)
{
    return v->k * v->c * v->size * v->size;
}

static void copy_filters(const sim_conv *v, const float *oihw, float *w)
{
    memcpy(w, oihw, filter_floats(v) * sizeof *w);
}

static bool reads_no_norm(const sim_conv *v)
{
    (void)v;
    return false;
}

static size_t no_unit(const sim_conv *v)
{
    (void)v;
    return 0;
}

static void plain_forward(const sim_conv *v, const float *w, size_t n,
                          const sim_conv_input *x, float *y)
{
    sim_plain_forward(v, w, n, x->x, y);
}

static void plain_leaf_weights(const sim_conv *v, const sim_leaf_layout *layout,
                               const sim_conv_input *x, const float *dy, float *dw,
                               size_t node_stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = filter_floats(v);
    size_t n_nodes = sim_tree_nodes(layout->n_leaves, layout->range, nodes);
    size_t depth = sim_tree_depth(layout->n_leaves, layout->range);
    float *partials = sim_workspace(depth * n * sizeof *partials);
    sim_tree_stack stack;

    sim_tree_stack_begin(&stack, n, layout->n_leaves, layout->range, partials);
    for (size_t i = 0; i < layout->range.hi - layout->range.lo; i++) {
        size_t first = i * layout->images_per_leaf;
        sim_plain_weights(v, layout->images_per_leaf, x->x + first * v->h * v->w * v->c,
                          dy + first * v->oh * v->ow * v->k, sim_tree_stack_top(&stack));
        sim_tree_stack_push(&stack);
    }
    for (size_t j = 0; j < n_nodes; j++)
        memcpy(dw + j * node_stride, partials + j * n, n * sizeof *dw);
}

static void plain_workspace(const sim_conv *v, size_t n, sim_workspace_size *size)
{
    (void)v;
    (void)n;
    (void)size;
}

static void plain_weights_workspace(const sim_conv *v, const sim_leaf_layout *layout,
                                    sim_workspace_size *size)
{
    size_t depth = sim_tree_depth(layout->n_leaves, layout->range);
    sim_raise(&size->shared, depth * filter_floats(v) * sizeof(float));
}

const sim_conv_algorithm sim_conv_plain = {
    .forward_floats = filter_floats,
    .backward_floats = filter_floats,
    .pack_forward = copy_filters,
    .pack_backward = copy_filters,
    .reads_norm = reads_no_norm,
    .forward = plain_forward,
    .backward_data = sim_plain_backward_data,
    .backward_weights = plain_leaf_weights,
    .forward_unit = no_unit,
    .data_unit = no_unit,
    .workspace = plain_workspace,
    .weights_workspace = plain_weights_workspace,
};
