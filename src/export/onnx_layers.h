/*
 * onnx_layers.h - the layers of a network as nodes of an ONNX graph.
 */
#ifndef SIMILE_EXPORT_ONNX_LAYERS_H
#define SIMILE_EXPORT_ONNX_LAYERS_H

#include "onnx_graph.h"

#include "simile/encoder.h"

/* Bytes of the name of a value. */
enum { ONNX_NAME_BYTES = 128 };

/*
 * Adds all layers of a network.
 *   group   of the network; names of constants are those of sim_model_file_name
 *   fold    batch norms become part of the convolution or linear layer before them
 *   input   name of the input value: [N][C][H][W], of a head [N][C]
 *   output  name of the output value [N][dim]
 */
SIM_MUST_USE sim_status sim_onnx_add_net(onnx_graph *g, sim_net *net, const char *group,
                                         bool fold, const char *input,
                                         char output[ONNX_NAME_BYTES]);

#endif
