/*
 * onnx_graph.c - builds the messages of an ONNX file (onnx.proto) and writes them.
 *
 * In: nodes and constants in the order of computation.  Out: a file of opset 13.
 * The graph owns all messages and copies of names in a list of blocks, which is freed as a whole.
 */
#include "onnx_graph.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <limits.h>
#include <string.h>

#include <onnx.pb-c.h>

enum { IR_VERSION = 7, OPSET = 13 };

/* Messages of one kind. */
typedef struct {
    void **items; /* [n] */
    size_t n, capacity;
} message_list;

struct onnx_graph {
    message_list blocks; /* all memory of the messages */
    message_list nodes, tensors, inputs, outputs;
};

/* ---- memory ---- */

static sim_status append(message_list *list, void *item)
{
    sim_status st = SIM_OK;

    if (list->n == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        SIM_TRY(sim_grow(&list->items, list->capacity, "export/onnx"));
    }
    list->items[list->n++] = item;
done:
    return st;
}

/* Zeroed memory that lives as long as the graph, stored in *out, a pointer to any type. */
static sim_status new_block(onnx_graph *g, size_t count, size_t size, void *out)
{
    sim_status st = SIM_OK;
    void *block = NULL;

    SIM_TRY(sim_alloc_bytes(count, size, "export/onnx", &block));
    SIM_TRY(append(&g->blocks, block));
    memcpy(out, &block, sizeof block);
    block = NULL;
done:
    sim_free(block);
    return st;
}

static sim_status copy_text(onnx_graph *g, const char *text, char **out)
{
    sim_status st = SIM_OK;

    SIM_TRY(new_block(g, strlen(text) + 1, 1, out));
    memcpy(*out, text, strlen(text) + 1);
done:
    return st;
}

sim_status sim_onnx_create(onnx_graph **out)
{
    return sim_new(out, "export/onnx");
}

void sim_onnx_destroy(onnx_graph **graph)
{
    onnx_graph *g = *graph;

    *graph = NULL;
    if (!g)
        return;
    for (size_t i = 0; i < g->blocks.n; i++)
        sim_free(g->blocks.items[i]);
    sim_free(g->blocks.items);
    sim_free(g->nodes.items);
    sim_free(g->tensors.items);
    sim_free(g->inputs.items);
    sim_free(g->outputs.items);
    sim_free(g);
}

sim_status sim_onnx_alloc(onnx_graph *g, size_t n_floats, float **out)
{
    return new_block(g, n_floats, sizeof **out, out);
}

/* ---- constants ---- */

static sim_status add_tensor(onnx_graph *g, const char *name, int n_dims,
                             const size_t *dims, Onnx__TensorProto__DataType type,
                             const void *data, size_t n_bytes)
{
    sim_status st = SIM_OK;
    Onnx__TensorProto *t = NULL;

    SIM_TRY(new_block(g, 1, sizeof *t, &t));
    onnx__tensor_proto__init(t);
    SIM_TRY(copy_text(g, name, &t->name));
    SIM_TRY(new_block(g, (size_t)n_dims, sizeof *t->dims, &t->dims));
    t->n_dims = (size_t)n_dims;
    for (int i = 0; i < n_dims; i++)
        t->dims[i] = (int64_t)dims[i];
    t->has_data_type = t->has_raw_data = true;
    t->data_type = (int32_t)type;
    t->raw_data = (ProtobufCBinaryData){n_bytes, (uint8_t *)(uintptr_t)data};
    SIM_TRY(append(&g->tensors, t));
done:
    return st;
}

sim_status sim_onnx_floats(onnx_graph *g, const char *name, int n_dims,
                           const size_t *dims, const float *values)
{
    size_t n_bytes = sizeof *values;

    for (int i = 0; i < n_dims; i++)
        n_bytes *= dims[i];
    return add_tensor(g, name, n_dims, dims, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, values,
                      n_bytes);
}

sim_status sim_onnx_integers(onnx_graph *g, const char *name, size_t n,
                             const int64_t *values)
{
    sim_status st = SIM_OK;
    int64_t *copy = NULL;

    SIM_TRY(new_block(g, n, sizeof *copy, &copy));
    memcpy(copy, values, n * sizeof *copy);
    SIM_TRY(add_tensor(g, name, 1, &n, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, copy,
                       n * sizeof *copy));
done:
    return st;
}

/* ---- nodes ---- */

static sim_status new_attribute(onnx_graph *g, const onnx_attribute *a,
                                Onnx__AttributeProto **out)
{
    static const Onnx__AttributeProto__AttributeType types[] = {
        [ONNX_FLOAT] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT,
        [ONNX_INTEGER] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT,
        [ONNX_INTEGERS] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS};
    sim_status st = SIM_OK;
    Onnx__AttributeProto *m = NULL;

    SIM_TRY(new_block(g, 1, sizeof *m, &m));
    onnx__attribute_proto__init(m);
    SIM_TRY(copy_text(g, a->name, &m->name));
    m->has_type = true;
    m->type = types[a->type];
    m->has_f = a->type == ONNX_FLOAT;
    m->f = (float)a->real;
    m->has_i = a->type == ONNX_INTEGER;
    m->i = a->integers[0];
    if (a->type == ONNX_INTEGERS) {
        SIM_TRY(new_block(g, a->n, sizeof *m->ints, &m->ints));
        memcpy(m->ints, a->integers, a->n * sizeof *m->ints);
        m->n_ints = a->n;
    }
    *out = m;
done:
    return st;
}

sim_status sim_onnx_node(onnx_graph *g, const char *op, const char *output,
                         const char *const *inputs, const onnx_attribute *attributes,
                         size_t n)
{
    sim_status st = SIM_OK;
    Onnx__NodeProto *m = NULL;
    size_t n_inputs = 0;

    while (inputs[n_inputs])
        n_inputs++;
    SIM_TRY(new_block(g, 1, sizeof *m, &m));
    onnx__node_proto__init(m);
    SIM_TRY(copy_text(g, op, &m->op_type));
    SIM_TRY(copy_text(g, output, &m->name));
    SIM_TRY(new_block(g, n_inputs, sizeof *m->input, &m->input));
    SIM_TRY(new_block(g, 1, sizeof *m->output, &m->output));
    SIM_TRY(new_block(g, n, sizeof(Onnx__AttributeProto *), &m->attribute));
    for (size_t i = 0; i < n_inputs; i++)
        SIM_TRY(copy_text(g, inputs[i], &m->input[i]));
    m->output[0] = m->name;
    for (size_t i = 0; i < n; i++)
        SIM_TRY(new_attribute(g, &attributes[i], &m->attribute[i]));
    m->n_input = n_inputs;
    m->n_output = 1;
    m->n_attribute = n;
    SIM_TRY(append(&g->nodes, m));
done:
    return st;
}

/* ---- inputs and outputs ---- */

/* A number; 0: the free dimension "batch". */
static sim_status new_dimension(onnx_graph *g, size_t value,
                                Onnx__TensorShapeProto__Dimension **out)
{
    sim_status st = SIM_OK;
    Onnx__TensorShapeProto__Dimension *m = NULL;

    SIM_TRY(new_block(g, 1, sizeof *m, &m));
    onnx__tensor_shape_proto__dimension__init(m);
    m->has_dim_value = value > 0;
    m->dim_value = (int64_t)value;
    if (value == 0)
        SIM_TRY(copy_text(g, "batch", &m->dim_param));
    *out = m;
done:
    return st;
}

static sim_status new_shape(onnx_graph *g, size_t batch, int n_dims, const size_t *dims,
                            Onnx__TensorShapeProto **out)
{
    sim_status st = SIM_OK;
    Onnx__TensorShapeProto *m = NULL;

    SIM_TRY(new_block(g, 1, sizeof *m, &m));
    onnx__tensor_shape_proto__init(m);
    m->n_dim = 1 + (size_t)n_dims;
    SIM_TRY(new_block(g, m->n_dim, sizeof(Onnx__TensorShapeProto__Dimension *), &m->dim));
    for (size_t i = 0; i < m->n_dim; i++)
        SIM_TRY(new_dimension(g, i ? dims[i - 1] : batch, &m->dim[i]));
    *out = m;
done:
    return st;
}

static sim_status add_value(onnx_graph *g, message_list *list, const char *name,
                            size_t batch, int n_dims, const size_t *dims)
{
    sim_status st = SIM_OK;
    Onnx__ValueInfoProto *m = NULL;

    SIM_TRY(new_block(g, 1, sizeof *m, &m));
    onnx__value_info_proto__init(m);
    SIM_TRY(copy_text(g, name, &m->name));
    SIM_TRY(new_block(g, 1, sizeof(Onnx__TypeProto), &m->type));
    onnx__type_proto__init(m->type);
    SIM_TRY(new_block(g, 1, sizeof(Onnx__TypeProto__Tensor), &m->type->tensor_type));
    Onnx__TypeProto__Tensor *t = m->type->tensor_type;
    onnx__type_proto__tensor__init(t);
    t->has_elem_type = true;
    t->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    SIM_TRY(new_shape(g, batch, n_dims, dims, &t->shape));
    SIM_TRY(append(list, m));
done:
    return st;
}

sim_status sim_onnx_input(onnx_graph *g, const char *name, size_t batch, int n_dims,
                          const size_t *dims)
{
    return add_value(g, &g->inputs, name, batch, n_dims, dims);
}

sim_status sim_onnx_output(onnx_graph *g, const char *name, size_t batch, int n_dims,
                           const size_t *dims)
{
    return add_value(g, &g->outputs, name, batch, n_dims, dims);
}

/* ---- the file ---- */

static sim_status write_model(const Onnx__ModelProto *m, const char *path)
{
    sim_status st = SIM_OK;
    const size_t n = onnx__model_proto__get_packed_size(m);
    uint8_t *bytes = NULL;

    SIM_CHECK(n <= INT_MAX, SIM_E_DATA,
              "%s: the model has %zu bytes, more than the %d of a protobuf message; use "
              "another format",
              path, n, INT_MAX);
    SIM_TRY(sim_alloc(&bytes, n, "export/onnx"));
    SIM_ASSERT(onnx__model_proto__pack(m, bytes) == n);
    const sim_piece piece = {bytes, n};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_free(bytes);
    return st;
}

/* The fields of protobuf-c are not const; nothing is written to them here. */
static char *borrow(const char *text)
{
    return (char *)(uintptr_t)text;
}

sim_status sim_onnx_write(onnx_graph *g, const char *path, const char *producer,
                          const char *key, const char *metadata)
{
    Onnx__ModelProto m = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets = &opset;
    Onnx__StringStringEntryProto entry = ONNX__STRING_STRING_ENTRY_PROTO__INIT,
                                 *entries = &entry;

    graph.name = borrow("encoder");
    graph.n_node = g->nodes.n;
    graph.node = (Onnx__NodeProto **)g->nodes.items;
    graph.n_initializer = g->tensors.n;
    graph.initializer = (Onnx__TensorProto **)g->tensors.items;
    graph.n_input = g->inputs.n;
    graph.input = (Onnx__ValueInfoProto **)g->inputs.items;
    graph.n_output = g->outputs.n;
    graph.output = (Onnx__ValueInfoProto **)g->outputs.items;
    opset.domain = borrow("");
    opset.has_version = true;
    opset.version = OPSET;
    entry.key = borrow(key);
    entry.value = borrow(metadata);
    m.has_ir_version = true;
    m.ir_version = IR_VERSION;
    m.producer_name = borrow("simile");
    m.producer_version = borrow(producer);
    m.graph = &graph;
    m.n_opset_import = 1;
    m.opset_import = &opsets;
    m.n_metadata_props = 1;
    m.metadata_props = &entries;
    return write_model(&m, path);
}
