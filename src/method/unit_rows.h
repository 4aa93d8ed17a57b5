/*
 * unit_rows.h - embeddings normalized to unit length, in the order in which losses read them.
 */
#ifndef SIMILE_METHOD_UNIT_ROWS_H
#define SIMILE_METHOD_UNIT_ROWS_H

#include "simile/method.h"

typedef struct {
    size_t views, n, d; /* views; local rows of all of them; dimensions */
    float *raw;         /* [view][block][slot][d] rows before normalization */
    float *z, *norm;    /* [n][d] raw / norm; [n] lengths of raw */
    float *dz;          /* [n][d] gradient of the loss with respect to z */
} unit_rows;

/* slots: local rows of a view.  The caller destroys *out, also after a failure. */
SIM_MUST_USE sim_status sim_unit_rows_create(size_t views, size_t slots, size_t d,
                                             unit_rows *out);
void sim_unit_rows_destroy(unit_rows *r);
size_t sim_unit_rows_bytes(size_t n, size_t d);

/* Fills raw, z and norm from the output of a network, [block][view][slot][d]. */
void sim_unit_rows_load(unit_rows *r, const sim_batch_shape *s, const float *by_block);
/* Fills z and norm from raw. */
void sim_unit_rows_normalize(unit_rows *r);
/* Replaces raw by the gradient of the loss with respect to it. */
void sim_unit_rows_differentiate(unit_rows *r);

#endif
