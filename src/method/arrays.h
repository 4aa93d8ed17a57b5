/*
 * arrays.h - `simile loss`: embeddings and queues from a file, gradients to a file.
 *
 * Rows are distributed over ranks in units of 32, the leaves of the loss.
 */
#ifndef SIMILE_METHOD_ARRAYS_H
#define SIMILE_METHOD_ARRAYS_H

#include "unit_rows.h"

enum { ARRAY_UNIT = 32 };

/* Embeddings of a file: view v is the array <prefix><first + v + 1>, or after `large` views
 * <prefix>_small<v - large + 1>. */
typedef struct {
    sim_rows_shape shape;
    size_t first, large;
    sim_range local; /* images of this rank */
    unit_rows rows;  /* [views][local][d]; the caller fills dz */
} array_rows;

/*
 * Reads <prefix>1 to <prefix>N for N views: float32 [B][d], B >= 2, no zero row.  The caller
 * releases *out, also after a failure.  Local.
 * Errors: SIM_E_DATA naming the array.
 */
SIM_MUST_USE sim_status sim_array_rows_read(const sim_comm *c, const sim_arrays *a,
                                            const char *prefix, size_t views,
                                            array_rows *out);
/* The same for <prefix><first + 1> to <prefix><first + N>. */
SIM_MUST_USE sim_status sim_array_rows_read_from(const sim_comm *c, const sim_arrays *a,
                                                 const char *prefix, size_t first,
                                                 size_t views, array_rows *out);
/* As sim_array_rows_read; views <prefix>_small1, <prefix>_small2, ... follow, if the file has them. */
SIM_MUST_USE sim_status sim_array_rows_read_small(const sim_comm *c, const sim_arrays *a,
                                                  const char *prefix, size_t views,
                                                  array_rows *out);
/* Allocates the workspace of view_pairs for such rows.  The caller frees *work. */
SIM_MUST_USE sim_status sim_array_pairs_work(size_t targets, const array_rows *r,
                                             float **work);
/* Errors: SIM_E_DATA naming both arrays if their shapes differ. */
SIM_MUST_USE sim_status sim_array_rows_same(const array_rows *a, const char *a_name,
                                            const array_rows *b, const char *b_name);
void sim_array_rows_release(array_rows *r);
/* Writes gradients with respect to the arrays as they are in the file (before normalization)
 * to <prefix>1 to <prefix>N; rows.dz is overwritten.  Collective. */
SIM_MUST_USE sim_status sim_array_rows_write(const sim_arrays *a, const char *prefix,
                                             array_rows *r);
SIM_MUST_USE sim_status sim_array_put_scalar(const sim_arrays *a, const char *name,
                                             double value);

/*
 * Creates a queue from /queue [K][d], normalized, and its attribute `pointer`.  Each rank reads
 * its own slots.  `rows`: shape of the batch that the queue is compared with.  Local.
 * Errors: SIM_E_DATA.  The caller destroys *out, also after a failure.
 */
SIM_MUST_USE sim_status sim_array_queue_read(const sim_comm *c, const sim_arrays *a,
                                             const sim_rows_shape *rows, sim_queue **out);
/* Writes /queue_after and its attribute `pointer`.  Collective. */
SIM_MUST_USE sim_status sim_array_queue_write(const sim_arrays *a, sim_queue *q,
                                              size_t d);
#endif
