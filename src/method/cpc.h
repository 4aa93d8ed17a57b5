/*
 * cpc.h - what CPC's two files share: its options, and its part of `simile loss`.
 */
#ifndef SIMILE_METHOD_CPC_H
#define SIMILE_METHOD_CPC_H

#include "scalar.h"

enum { CPC_TARGET_FEATURES, CPC_TARGET_PROJECTOR };

typedef struct {
    softmax_options softmax;
    int64_t grid, steps, skip, negatives;
    int target;      /* features|projector */
    int denominator; /* full|decoupled */
} cpc_options;

/* sim_method_row.compute: on contexts, targets and W_k of a file. */
SIM_MUST_USE sim_status sim_cpc_compute(const sim_comm *comm, const void *options,
                                        const sim_arrays *arrays, double *loss);

#endif
