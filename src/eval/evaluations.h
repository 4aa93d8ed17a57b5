/*
 * evaluations.h - the rows of evaluations.def.
 */
#ifndef SIMILE_EVAL_EVALUATIONS_H
#define SIMILE_EVAL_EVALUATIONS_H

#include "simile/eval.h"

#define SIM_EVALUATION(name) extern const sim_evaluation sim_evaluation_##name;
#include "evaluations.def"
#undef SIM_EVALUATION

/* sim_quality of at most n_images of the test set, and of two views of them as training draws them.
 * Collective; the status is equal on all ranks. */
SIM_MUST_USE sim_status sim_quality_of(const sim_comm *c, size_t n_images,
                                       const sim_evaluation_inputs *in,
                                       sim_quality_result *out);
/* Accuracy of in->embedder->projector, a classifier of the classes of in->train, on the features
 * [local images][dim] of the test set.  The caller clears *out, also after a failure.  Collective; the
 * status is equal on all ranks. */
SIM_MUST_USE sim_status sim_classifier_of(const sim_comm *c,
                                          const sim_evaluation_inputs *in,
                                          const float *features, sim_class_counts *out);

#endif
