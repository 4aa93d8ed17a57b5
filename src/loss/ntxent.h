/*
 * ntxent.h - parts of NT-Xent in separate files: DCLW's weights, positives by label.
 */
#ifndef SIMILE_LOSS_NTXENT_H
#define SIMILE_LOSS_NTXENT_H

#include "contrast.h"

/* Stores loss and positive weight of all gathered records, and the negated gradient through the
 * weights of DCLW in z_dot_dz. scale: factor / (T rows), the scale of the gradients. */
void sim_dclw_weights(sim_contrast *e, const sim_ntxent_options *o, double scale);

/* ---- labels: n columns of a tile against an anchor's label. Serial; may be called inside sim_for. ---- */

size_t sim_label_count(size_t n, const int32_t *labels, int32_t label);
/* Moves the similarities of the label's columns from s to `same`; -INFINITY where none. */
void sim_label_split(size_t n, const int32_t *labels, int32_t label, float *s,
                     float *same);
/* Adds what is in `same` to *sum, and lowers *min to its smallest. */
void sim_label_sum(size_t n, const float *same, double *sum, float *min);
/* p -= positive_weight in the label's columns; with `alone`, p = -positive_weight. */
void sim_label_accumulate(size_t n, const int32_t *labels, int32_t label, bool alone,
                          float positive_weight, float *p);

#endif
