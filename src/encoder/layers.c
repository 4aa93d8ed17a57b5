/*
 * layers.c - the table of layers.
 */
#include "net.h"

const layer *const sim_layer_rows[] = {
#define SIM_LAYER(name) &sim_layer_##name,
#include "layers.def"
#undef SIM_LAYER
};
const size_t sim_layer_n_rows = sizeof sim_layer_rows / sizeof sim_layer_rows[0];
