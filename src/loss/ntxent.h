/*
 * ntxent.h - parts of NT-Xent with a file of their own: DCLW's weights, rows by label.
 */
#ifndef SIMILE_LOSS_NTXENT_H
#define SIMILE_LOSS_NTXENT_H

#include "contrast.h"

/* What a person asked for, with the defaults in place of zeros. */
double sim_ntxent_factor(const sim_ntxent_options *o);
/* From an anchor's sum of weighted rows to its gradient: factor / (T rows). */
double sim_ntxent_scale(const sim_contrast *e, const sim_ntxent_options *o);

/* Writes loss and pull of all gathered records, and what flows through the weights, negated,
 * to the radial parts. */
void sim_dclw_weights(sim_contrast *e, const sim_ntxent_options *o);

/* ---- labels: n columns of a tile against an anchor's label.  Items. ---- */

size_t sim_label_count(size_t n, const int32_t *labels, int32_t label);
/* Moves the similarities of the label's columns from s to `same`; -INFINITY where none. */
void sim_label_split(size_t n, const int32_t *labels, int32_t label, float *s,
                     float *same);
/* Adds what is in `same` to *sum, and lowers *least to its smallest. */
void sim_label_sum(size_t n, const float *same, double *sum, float *least);
/* p - pull in the label's columns, where `alone` -pull. */
void sim_label_accumulate(size_t n, const int32_t *labels, int32_t label, bool alone,
                          float pull, float *p);

#endif
