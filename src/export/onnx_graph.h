/*
 * onnx_graph.h - the graph of an ONNX file while it is built: values, nodes, tensors.
 */
#ifndef SIMILE_EXPORT_ONNX_GRAPH_H
#define SIMILE_EXPORT_ONNX_GRAPH_H

#include "simile/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct onnx_graph onnx_graph;

SIM_MUST_USE sim_status sim_onnx_create(onnx_graph **out);
void sim_onnx_destroy(onnx_graph **g);

/* A constant.  Values are borrowed until the file is written. */
SIM_MUST_USE sim_status sim_onnx_floats(onnx_graph *g, const char *name, int n_dims,
                                        const size_t *dims, const float *values);
/* The same for n integers, which are copied. */
SIM_MUST_USE sim_status sim_onnx_integers(onnx_graph *g, const char *name, size_t n,
                                          const int64_t *values);
/* Memory for a constant, which the graph owns. */
SIM_MUST_USE sim_status sim_onnx_alloc(onnx_graph *g, size_t n_floats, float **out);

typedef struct {
    const char *name;
    enum { ONNX_FLOAT, ONNX_INTEGER, ONNX_INTEGERS } type;
    double real;
    size_t n; /* integers */
    int64_t integers[4];
} onnx_attribute;

/*
 * A node with one output.
 *   op          of the standard operators: "Conv"
 *   output      name of its value, which is also that of the node; unique
 *   inputs      names of values and constants; terminated by NULL
 *   attributes  [n]
 */
SIM_MUST_USE sim_status sim_onnx_node(onnx_graph *g, const char *op, const char *output,
                                      const char *const *inputs,
                                      const onnx_attribute *attributes, size_t n);

/* An input or output of the graph: float32 [batch][dims ...]; batch 0: any. */
SIM_MUST_USE sim_status sim_onnx_input(onnx_graph *g, const char *name, size_t batch,
                                       int n_dims, const size_t *dims);
SIM_MUST_USE sim_status sim_onnx_output(onnx_graph *g, const char *name, size_t batch,
                                        int n_dims, const size_t *dims);

/*
 * Replaces a file by the model.
 *   producer  name and version
 *   metadata  the text of `key` in metadata_props
 * Errors: SIM_E_DATA if it is larger than a protobuf message may be; those of sim_file_replace.
 */
SIM_MUST_USE sim_status sim_onnx_write(onnx_graph *g, const char *path,
                                       const char *producer, const char *key,
                                       const char *metadata);

#endif
