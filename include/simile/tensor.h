/*
 * tensor.h - a named view of numbers, and the visitors that see them.
 *
 * Module: core
 * Every stateful object names its tensors and scalars to a visitor.  Checkpoint, hash
 * ladder, memory report and export are visitors; none of them knows whose state it is.
 */
#ifndef SIMILE_TENSOR_H
#define SIMILE_TENSOR_H

#include "simile/hash.h"
#include "simile/status.h"

#include <stdint.h>

typedef enum { SIM_F32, SIM_F64, SIM_I64, SIM_U64, SIM_I32, SIM_U8 } sim_type;

enum { SIM_MAX_DIMS = 5 };

/*
 * A C-order array.  A scalar has n_dims 0.  A tensor that is `sharded` over the ranks has
 * global dims, and `data` holds rows [row_lo, row_hi) of the first dimension, perhaps
 * none; the ranks' rows follow each other in order of rank and together are all rows.
 * Of a whole one, row_lo and row_hi say nothing.
 */
typedef struct {
    const char *name; /* "layer1.0.conv1.weight"; no leading slash */
    sim_type type;
    int n_dims;
    size_t dims[SIM_MAX_DIMS]; /* outermost first */
    void *data;                /* borrowed */
    bool sharded;
    size_t row_lo, row_hi;
} sim_tensor;

size_t sim_type_bytes(sim_type type);
const char *sim_type_name(sim_type type);     /* as NumPy calls it: "float32" */
size_t sim_tensor_count(const sim_tensor *t); /* elements, by dims */
/* Bytes of a row of the first dimension; 0 for a scalar. */
size_t sim_tensor_row_bytes(const sim_tensor *t);

/* Hash over name, number of dims, dims (uint64 LE each) and bytes, of a whole tensor. */
sim_hash sim_tensor_hash(const sim_tensor *t);
/* The same where the bytes come in pieces: starts `h` with name and dims. */
void sim_tensor_hash_begin(const sim_tensor *t, sim_hasher *h);

/*
 * Sees one tensor.  A saving visitor reads t->data, a loading one fills it.
 * `group` is the path in front of the name ("/weights/encoder").
 */
typedef struct sim_visitor {
    sim_status (*see)(void *ctx, const char *group, const sim_tensor *t);
    void *ctx;
} sim_visitor;

SIM_MUST_USE sim_status sim_visit(const sim_visitor *v, const char *group,
                                  const sim_tensor *t);

/* Shorthands for visiting functions. */
SIM_MUST_USE sim_status sim_visit_f32(const sim_visitor *v, const char *group,
                                      const char *name, size_t n, float *data);
SIM_MUST_USE sim_status sim_visit_i64(const sim_visitor *v, const char *group,
                                      const char *name, int64_t *scalar);

#endif
