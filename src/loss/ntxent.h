/*
 * ntxent.h - parts of NT-Xent in separate files: weights of DCLW, positives by label.
 */
#ifndef SIMILE_LOSS_NTXENT_H
#define SIMILE_LOSS_NTXENT_H

#include "contrast.h"

/* Stores loss and positive weight of all gathered records, and the negated gradient through the
 * weights of DCLW in z_dot_dz. scale: factor / (T rows), the scale of the gradients. */
void sim_dclw_weights(sim_contrast *e, const sim_ntxent_options *o, double scale);

/* ---- labels: n columns of a tile against the label of an anchor ----
 * Serial; may be called inside sim_for. */

/* Number of columns with the label. */
size_t sim_label_count(size_t n, const int32_t *labels, int32_t label);
/* Moves the similarities of the columns with the label from s to `same`; both are -INFINITY
 * elsewhere. */
void sim_label_split(size_t n, const int32_t *labels, int32_t label, float *s,
                     float *same);
/* Adds the finite elements of `same` to *sum, and sets *min to the smallest if it is smaller. */
void sim_label_sum(size_t n, const float *same, double *sum, float *min);
/* p -= positive_weight in the columns with the label; if `decoupled`, p = -positive_weight. */
void sim_label_accumulate(size_t n, const int32_t *labels, int32_t label, bool decoupled,
                          float positive_weight, float *p);

#endif
