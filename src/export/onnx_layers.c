/*
 * onnx_layers.c - the layers of a network, as sim_net_layer_at describes them, become nodes.
 *
 * In: a network.  Out: nodes of the operators of opset 13, and constants under the names of an
 * export.
 * A batch norm or a bias may be merged into the convolution or linear layer before it, whose output
 * nothing else reads.
 */
#include "onnx_layers.h"

#include "simile/memory.h"
#include "simile/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NONE = -1 };

/* A layer and the name of its value. */
typedef struct {
    sim_net_layer layer;
    char value[ONNX_NAME_BYTES];
    int merged; /* the layer that is merged into this one, or NONE */
    bool
        is_done; /* this layer is merged into the one before it, but for residual, activation */
} written_layer;

typedef struct {
    onnx_graph *graph;
    sim_net *net;
    const char *group, *input;
    written_layer *layers; /* [n] */
    size_t n;
} net_writer;

/* ---- names ---- */

/* "layer1.0.conv1" or "projector.0", then a suffix. */
static void format_name(const net_writer *w, const char *name, const char *suffix,
                        char out[ONNX_NAME_BYTES])
{
    const bool is_backbone = strcmp(w->group, sim_model_group(SIM_BACKBONE)) == 0;

    (void)snprintf(out, ONNX_NAME_BYTES, "%s%s%s%s", is_backbone ? "" : w->group,
                   is_backbone ? "" : ".", name, suffix);
}

static const char *value_of(const net_writer *w, int i)
{
    return i == SIM_LAYER_INPUT ? w->input : w->layers[i].value;
}

/* Adds a node after the value of a layer, whose value its output becomes. */
static sim_status append_node(net_writer *w, written_layer *l, const char *op,
                              const char *suffix, const char *const *inputs,
                              const onnx_attribute *attributes, size_t n)
{
    sim_status st = SIM_OK;
    char output[ONNX_NAME_BYTES];

    format_name(w, l->layer.name, suffix, output);
    SIM_TRY(sim_onnx_node(w->graph, op, output, inputs, attributes, n));
    memcpy(l->value, output, sizeof l->value);
done:
    return st;
}

/* ---- constants ---- */

static const sim_net_tensor *tensor_of(const net_writer *w, const sim_net_layer *l,
                                       size_t i)
{
    return sim_net_tensor_at(w->net, l->first_tensor + i);
}

static const float *values_of(const net_writer *w, const sim_net_tensor *t)
{
    return sim_net_weights(w->net) + t->offset;
}

static sim_status add_vector(net_writer *w, const char *layer, const char *part, size_t n,
                             const float *values, char name[ONNX_NAME_BYTES])
{
    format_name(w, layer, part, name);
    return sim_onnx_floats(w->graph, name, 1, &n, values);
}

/* n equal values, for a batch norm without affine map. */
static sim_status add_constant(net_writer *w, const char *layer, const char *part,
                               size_t n, float value, char name[ONNX_NAME_BYTES])
{
    sim_status st = SIM_OK;
    float *values = NULL;

    SIM_TRY(sim_onnx_alloc(w->graph, n, &values));
    for (size_t i = 0; i < n; i++)
        values[i] = value;
    SIM_TRY(add_vector(w, layer, part, n, values, name));
done:
    return st;
}

/* ---- convolutions and linear layers ---- */

/* Scale and shift per channel of a batch norm with running statistics. */
static void affine_of(const net_writer *w, const sim_net_layer *bn, size_t channel,
                      double *scale, double *shift)
{
    const bool affine = bn->n_tensors == 2;
    const double gamma = affine ? values_of(w, tensor_of(w, bn, 0))[channel] : 1,
                 beta = affine ? values_of(w, tensor_of(w, bn, 1))[channel] : 0;

    *scale = gamma / sqrt((double)bn->running_var[channel] + bn->eps);
    *shift = beta - *scale * (double)bn->running_mean[channel];
}

/* Scales the filters of each output channel.  *weight and *bias belong to the graph. */
static sim_status fold_batchnorm(net_writer *w, const sim_net_tensor *t,
                                 const sim_net_layer *bn, const float **weight,
                                 const float **bias)
{
    sim_status st = SIM_OK;
    const size_t per_channel = t->count / t->dims[0];
    const float *given = values_of(w, t);
    float *scaled = NULL, *shifts = NULL;

    SIM_TRY(sim_onnx_alloc(w->graph, t->count, &scaled));
    SIM_TRY(sim_onnx_alloc(w->graph, t->dims[0], &shifts));
    for (size_t k = 0; k < t->dims[0]; k++) {
        double scale = 0, shift = 0;
        affine_of(w, bn, k, &scale, &shift);
        for (size_t i = k * per_channel; i < (k + 1) * per_channel; i++)
            scaled[i] = (float)(scale * (double)given[i]);
        shifts[k] = (float)shift;
    }
    *weight = scaled;
    *bias = shifts;
done:
    return st;
}

/* Weight and bias of a layer with what is merged into it; *bias NULL: none. */
static sim_status find_weights(net_writer *w, const written_layer *l,
                               const float **weight, const float **bias)
{
    sim_status st = SIM_OK;
    const sim_net_tensor *t = tensor_of(w, &l->layer, 0);

    *weight = values_of(w, t);
    *bias = NULL;
    if (l->merged == NONE)
        goto done;
    const sim_net_layer *after = &w->layers[l->merged].layer;
    if (after->running_mean)
        SIM_TRY(fold_batchnorm(w, t, after, weight, bias));
    else
        *bias = values_of(w, tensor_of(w, after, 0));
done:
    return st;
}

static sim_status write_product(net_writer *w, written_layer *l, const char *op,
                                const char *suffix, const onnx_attribute *attributes,
                                size_t n)
{
    sim_status st = SIM_OK;
    const sim_net_tensor *t = tensor_of(w, &l->layer, 0);
    const float *weight = NULL, *bias = NULL;
    char weight_name[ONNX_NAME_BYTES], bias_name[ONNX_NAME_BYTES];

    SIM_TRY(find_weights(w, l, &weight, &bias));
    format_name(w, t->name, "", weight_name);
    SIM_TRY(sim_onnx_floats(w->graph, weight_name, t->n_dims, t->dims, weight));
    if (bias)
        SIM_TRY(add_vector(w, l->layer.name, ".bias", t->dims[0], bias, bias_name));
    const char *const inputs[] = {value_of(w, l->layer.input), weight_name,
                                  bias ? bias_name : NULL, NULL};
    SIM_TRY(append_node(w, l, op, suffix, inputs, attributes, n));
done:
    return st;
}

static onnx_attribute equal_integers(const char *name, size_t n, size_t value)
{
    onnx_attribute a = {.name = name, .type = ONNX_INTEGERS, .n = n};

    for (size_t i = 0; i < n; i++)
        a.integers[i] = (int64_t)value;
    return a;
}

static sim_status write_conv(net_writer *w, written_layer *l)
{
    const onnx_attribute attributes[] = {
        equal_integers("kernel_shape", 2, l->layer.kernel),
        equal_integers("strides", 2, l->layer.stride),
        equal_integers("pads", 4, l->layer.padding)};
    return write_product(w, l, "Conv", ".conv", attributes, 3);
}

static sim_status write_linear(net_writer *w, written_layer *l)
{
    const onnx_attribute transposed = {
        .name = "transB", .type = ONNX_INTEGER, .integers = {1}};
    return write_product(w, l, "Gemm", ".linear", &transposed, 1);
}

/* ---- what follows them ---- */

static sim_status write_activation(net_writer *w, written_layer *l)
{
    sim_status st = SIM_OK;
    char before[ONNX_NAME_BYTES], sigmoid[ONNX_NAME_BYTES];

    if (l->layer.activation == SIM_ACT_NONE)
        goto done;
    memcpy(before, l->value, sizeof before);
    const char *const input[] = {before, NULL};
    if (l->layer.activation == SIM_ACT_RELU) {
        SIM_TRY(append_node(w, l, "Relu", ".relu", input, NULL, 0));
        goto done;
    }
    SIM_ASSERT(l->layer.activation == SIM_ACT_SILU);
    SIM_TRY(append_node(w, l, "Sigmoid", ".sigmoid", input, NULL, 0));
    memcpy(sigmoid, l->value, sizeof sigmoid);
    const char *const factors[] = {before, sigmoid, NULL};
    SIM_TRY(append_node(w, l, "Mul", ".silu", factors, NULL, 0));
done:
    return st;
}

static sim_status write_residual(net_writer *w, written_layer *l)
{
    sim_status st = SIM_OK;
    char before[ONNX_NAME_BYTES];

    if (l->layer.residual == SIM_LAYER_NONE)
        goto done;
    memcpy(before, l->value, sizeof before);
    const char *const inputs[] = {before, value_of(w, l->layer.residual), NULL};
    SIM_TRY(append_node(w, l, "Add", ".add", inputs, NULL, 0));
done:
    return st;
}

/* The inputs of a BatchNormalization after the first. */
typedef struct {
    char scale[ONNX_NAME_BYTES], shift[ONNX_NAME_BYTES], mean[ONNX_NAME_BYTES],
        variance[ONNX_NAME_BYTES];
} norm_names;

static sim_status add_norm_constants(net_writer *w, const sim_net_layer *l,
                                     norm_names *names)
{
    sim_status st = SIM_OK;

    if (l->n_tensors == 2) {
        SIM_TRY(add_vector(w, l->name, ".weight", l->c, values_of(w, tensor_of(w, l, 0)),
                           names->scale));
        SIM_TRY(add_vector(w, l->name, ".bias", l->c, values_of(w, tensor_of(w, l, 1)),
                           names->shift));
    } else {
        SIM_TRY(add_constant(w, l->name, ".ones", l->c, 1, names->scale));
        SIM_TRY(add_constant(w, l->name, ".zeros", l->c, 0, names->shift));
    }
    SIM_TRY(add_vector(w, l->name, ".running_mean", l->c, l->running_mean, names->mean));
    SIM_TRY(
        add_vector(w, l->name, ".running_var", l->c, l->running_var, names->variance));
done:
    return st;
}

static sim_status write_batchnorm(net_writer *w, written_layer *l)
{
    sim_status st = SIM_OK;
    norm_names names;
    const onnx_attribute epsilon = {
        .name = "epsilon", .type = ONNX_FLOAT, .real = l->layer.eps};

    if (!l->is_done) {
        SIM_TRY(add_norm_constants(w, &l->layer, &names));
        const char *const inputs[] = {value_of(w, l->layer.input),
                                      names.scale,
                                      names.shift,
                                      names.mean,
                                      names.variance,
                                      NULL};
        SIM_TRY(append_node(w, l, "BatchNormalization", ".norm", inputs, &epsilon, 1));
    }
    SIM_TRY(write_residual(w, l));
    SIM_TRY(write_activation(w, l));
done:
    return st;
}

static sim_status write_act(net_writer *w, written_layer *l)
{
    sim_status st = SIM_OK;
    const sim_net_layer *layer = &l->layer;
    char bias[ONNX_NAME_BYTES];

    if (!l->is_done && layer->n_tensors) {
        SIM_TRY(add_vector(w, layer->name, ".bias", layer->c,
                           values_of(w, tensor_of(w, layer, 0)), bias));
        const char *const inputs[] = {value_of(w, layer->input), bias, NULL};
        SIM_TRY(append_node(w, l, "Add", ".biased", inputs, NULL, 0));
    }
    SIM_TRY(write_activation(w, l));
done:
    return st;
}

static sim_status write_add(net_writer *w, written_layer *l)
{
    return write_residual(w, l);
}

static sim_status write_max_pool(net_writer *w, written_layer *l)
{
    const onnx_attribute attributes[] = {
        equal_integers("kernel_shape", 2, l->layer.kernel),
        equal_integers("strides", 2, l->layer.stride),
        equal_integers("pads", 4, l->layer.padding)};
    const char *const inputs[] = {value_of(w, l->layer.input), NULL};
    return append_node(w, l, "MaxPool", "", inputs, attributes, 3);
}

/* [N][C][H][W] -> [N][C]. */
static sim_status write_mean_pool(net_writer *w, written_layer *l)
{
    sim_status st = SIM_OK;
    const char *const inputs[] = {value_of(w, l->layer.input), NULL};
    const onnx_attribute axis = {.name = "axis", .type = ONNX_INTEGER, .integers = {1}};
    char pooled[ONNX_NAME_BYTES];

    SIM_TRY(append_node(w, l, "GlobalAveragePool", "", inputs, NULL, 0));
    memcpy(pooled, l->value, sizeof pooled);
    const char *const input[] = {pooled, NULL};
    SIM_TRY(append_node(w, l, "Flatten", ".flat", input, &axis, 1));
done:
    return st;
}

/* ---- the network ---- */

static const struct {
    const char *kind;
    sim_status (*write)(net_writer *w, written_layer *l);
} kinds[] = {{"conv", write_conv},
             {"linear", write_linear},
             {"batchnorm", write_batchnorm},
             {"act", write_act},
             {"add", write_add},
             {"max_pool", write_max_pool},
             {"mean_pool", write_mean_pool}};

static bool is_product(const sim_net_layer *l)
{
    return strcmp(l->kind, "conv") == 0 || strcmp(l->kind, "linear") == 0;
}

/* Layers that read the value of layer i. */
static size_t count_readers(const net_writer *w, int i)
{
    size_t n = 0;

    for (size_t j = 0; j < w->n; j++) {
        n += w->layers[j].layer.input == i ? 1 : 0;
        n += w->layers[j].layer.residual == i ? 1 : 0;
    }
    return n;
}

/* Merges batch norms, if `fold`, and biases into the products before them. */
static void merge_layers(net_writer *w, bool fold)
{
    for (size_t j = 0; j < w->n; j++) {
        written_layer *l = &w->layers[j];
        const int i = l->layer.input;
        const bool mergeable =
            l->layer.running_mean
                ? fold
                : strcmp(l->layer.kind, "act") == 0 && l->layer.n_tensors;
        if (!mergeable || i < 0 || !is_product(&w->layers[i].layer) ||
            count_readers(w, i) != 1)
            continue;
        w->layers[i].merged = (int)j;
        l->is_done = true;
    }
}

static sim_status write_layer(net_writer *w, written_layer *l)
{
    sim_status st = SIM_OK;

    (void)snprintf(l->value, sizeof l->value, "%s", value_of(w, l->layer.input));
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        if (strcmp(kinds[k].kind, l->layer.kind) == 0) {
            SIM_TRY(kinds[k].write(w, l));
            goto done;
        }
    SIM_FAIL(SIM_E_USAGE, "layer %s: a layer of kind %s has no operator in ONNX",
             l->layer.name, l->layer.kind);
done:
    return st;
}

sim_status sim_onnx_add_net(onnx_graph *g, sim_net *net, const char *group, bool fold,
                            const char *input, char output[ONNX_NAME_BYTES])
{
    sim_status st = SIM_OK;
    net_writer w = {
        .graph = g, .net = net, .group = group, .input = input, .n = sim_net_layers(net)};

    SIM_TRY(sim_alloc(&w.layers, w.n, "export/onnx"));
    for (size_t i = 0; i < w.n; i++)
        w.layers[i] = (written_layer){.layer = sim_net_layer_at(net, i), .merged = NONE};
    merge_layers(&w, fold);
    for (size_t i = 0; i < w.n; i++)
        SIM_TRY(write_layer(&w, &w.layers[i]));
    memcpy(output, w.layers[w.n - 1].value, ONNX_NAME_BYTES);
done:
    sim_free(w.layers);
    return st;
}
