/*
 * arrays.h - what the methods share for `simile loss`: rows by name, and results.
 *
 * Rows of a batch belong to ranks in units of 32, the leaves of the loss.
 */
#ifndef SIMILE_METHOD_ARRAYS_H
#define SIMILE_METHOD_ARRAYS_H

#include "simile/method.h"

enum { ARRAY_UNIT = 32 };

typedef struct {
    sim_rows_shape shape;
    size_t first; /* view 0 is <prefix><first + 1> */
    sim_range mine;
    float *raw, *z; /* [views][mine][d]: as they came; of unit length */
    float *norm;    /* [views][mine] lengths of raw */
    float *dz; /* [views][mine][d] gradient with respect to z; for the caller to fill */
} array_rows;

/*
 * Reads <prefix>1 .. <prefix>N of N views, float32 [B][d] with B from 2 up and no zero row.
 * Local.  Fails: SIM_E_DATA naming the array.  sim_array_rows_release also after a failure.
 */
SIM_MUST_USE sim_status sim_array_rows_read(const sim_comm *c, const sim_arrays *a,
                                            const char *prefix, size_t views,
                                            array_rows *out);
/* The same of <prefix><first + 1> .. <prefix><first + N>. */
SIM_MUST_USE sim_status sim_array_rows_read_from(const sim_comm *c, const sim_arrays *a,
                                                 const char *prefix, size_t first,
                                                 size_t views, array_rows *out);
/* Fails: SIM_E_DATA naming both arrays when their shapes differ. */
SIM_MUST_USE sim_status sim_array_rows_same(const array_rows *a, const char *a_name,
                                            const array_rows *b, const char *b_name);
void sim_array_rows_release(array_rows *r);
/* dz with respect to raw, as <prefix>1 .. N.  Collective. */
SIM_MUST_USE sim_status sim_array_rows_write(const sim_arrays *a, const char *prefix,
                                             array_rows *r);
SIM_MUST_USE sim_status sim_array_put_scalar(const sim_arrays *a, const char *name,
                                             double value);

/*
 * A queue of /queue's rows, brought to unit length, and its attribute `pointer`; each rank
 * reads its own slots.  `rows` tells the batch that it will be compared with.  Local.
 * Fails: SIM_E_DATA; *out may then be there, and is the caller's.
 */
SIM_MUST_USE sim_status sim_array_queue_read(const sim_comm *c, const sim_arrays *a,
                                             const sim_rows_shape *rows, sim_queue **out);
/* /queue_after with its attribute `pointer`.  Collective. */
SIM_MUST_USE sim_status sim_array_queue_write(const sim_arrays *a, sim_queue *q,
                                              size_t d);
#endif
