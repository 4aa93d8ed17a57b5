/*
 * cpc.h - options of CPC, and its part of `simile loss`.
 */
#ifndef SIMILE_METHOD_CPC_H
#define SIMILE_METHOD_CPC_H

#include "scalar.h"

typedef enum { CPC_TARGET_FEATURES, CPC_TARGET_PROJECTOR } cpc_target;

typedef struct {
    softmax_options softmax;
    int64_t grid, steps, skip, negatives;
    int target; /* enum cpc_target */
} cpc_options;

/* sim_method_row.compute: contexts, targets and W_k of a file. */
SIM_MUST_USE sim_status sim_cpc_compute(const sim_comm *comm, const void *options,
                                        const sim_arrays *arrays, double *loss);

#endif
