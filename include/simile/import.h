/*
 * import.h - opens weights of other programs as checkpoints.
 *
 * Module: import
 * A safetensors file becomes a checkpoint in memory: torchvision's ResNets, and encoders of `simile
 * export`, whose metadata also specifies projector, method and preprocessing. Names are those of
 * sim_model_file_name.
 */
#ifndef SIMILE_IMPORT_H
#define SIMILE_IMPORT_H

#include "simile/checkpoint.h"

/*
 * Opens a run, of which the newest checkpoint is used, a checkpoint, or a safetensors file of
 * floats. Rank 0 reads a safetensors file and the other ranks receive its content. The step is that
 * of the export, or 0. Without metadata, the network is found by the shapes of the tensors, its
 * activation is ReLU, and there is no projector; the head `preprocessing` is the text
 * "preprocessing" of the file, else torchvision's for ImageNet if the network has the ImageNet stem
 * and 3 channels, else NULL. The log reports what was found, assumed and left out.
 * Collective; the status is equal on all ranks.
 * Errors: those of sim_checkpoint_open; SIM_E_DATA if the tensors are not those of a network, or have
 * another dtype than F32, F16, BF16 or F64; SIM_E_INSTALL if an export needs a newer simile.
 */
SIM_MUST_USE sim_status sim_import_open(const sim_comm *c, const char *path,
                                        sim_checkpoint **out);
/* The same for a safetensors file only; otherwise *out stays NULL. Collective. */
SIM_MUST_USE sim_status sim_import_open_weights(const sim_comm *c, const char *path,
                                                sim_checkpoint **out);

#endif
