/*
 * evaluations.h - the rows of evaluations.def.
 */
#ifndef SIMILE_EVAL_EVALUATIONS_H
#define SIMILE_EVAL_EVALUATIONS_H

#include "simile/eval.h"

#define SIM_EVALUATION(name) extern const sim_evaluation sim_evaluation_##name;
#include "evaluations.def"
#undef SIM_EVALUATION

#endif
