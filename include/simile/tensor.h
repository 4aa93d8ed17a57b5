/*
 * tensor.h - named views of arrays, and visitors to which stateful objects list them.
 *
 * Module: core
 * Every stateful object lists its named tensors and scalars to a visitor. Checkpoints, the
 * hash trace, the comparison of replicas and the skipping of steps are visitors; they do not
 * depend on the objects they visit.
 */
#ifndef SIMILE_TENSOR_H
#define SIMILE_TENSOR_H

#include "simile/hash.h"
#include "simile/status.h"

#include <stdint.h>

typedef enum { SIM_F32, SIM_F64, SIM_I64, SIM_U64, SIM_I32, SIM_U16, SIM_U8 } sim_type;

enum { SIM_MAX_DIMS = 5 };

/*
 * An array in C order; a scalar has n_dims 0. If `sharded`, dims are global and this rank
 * holds rows [row_lo, row_hi) of the first dimension, possibly none; the rows of the ranks are
 * consecutive in rank order and cover all rows. Otherwise row_lo and row_hi are unused.
 */
typedef struct {
    const char *name; /* "layer1.0.conv1.weight"; no leading slash */
    sim_type type;
    int n_dims;
    size_t dims[SIM_MAX_DIMS]; /* outermost first */
    void *data;                /* borrowed */
    bool sharded;
    size_t row_lo, row_hi;
    bool optional; /* loading: keeps its value if the file lacks it */
    /* Loading: if `bounded`, values are finite and in [least, most]; otherwise any finite float32
     * and any value of another type is accepted. */
    bool bounded;
    double least, most;
} sim_tensor;

/* The largest count in a checkpoint: 2^53, exact as a double. */
#define SIM_MAX_COUNT 9007199254740992.0

size_t sim_type_bytes(sim_type type);
const char *sim_type_name(sim_type type);     /* NumPy's name, such as "float32" */
size_t sim_tensor_count(const sim_tensor *t); /* number of elements according to dims */
/* Bytes per row of the first dimension; 0 for a scalar. */
size_t sim_tensor_row_bytes(const sim_tensor *t);

/* Hash of name, number of dims, dims (uint64, little endian) and elements. The tensor is not
 * sharded. */
sim_hash sim_tensor_hash(const sim_tensor *t);
/* Resets `h` and adds name and dims. Adding all elements in order then yields the value of
 * sim_tensor_hash. */
void sim_tensor_hash_begin(const sim_tensor *t, sim_hasher *h);

/*
 * `visit` is called once per tensor. A saving visitor reads t->data, a loading one fills it.
 * `group` is the path of the tensor in a checkpoint ("/weights/encoder"). An error ends the
 * visit and is returned to the caller.
 */
typedef struct sim_visitor {
    sim_status (*visit)(void *ctx, const char *group, const sim_tensor *t);
    void *ctx;
} sim_visitor;

SIM_MUST_USE sim_status sim_visit(const sim_visitor *v, const char *group,
                                  const sim_tensor *t);

/* Visit a vector of n floats, and a count: an integer scalar of 0 to `most`, at most SIM_MAX_COUNT. */
SIM_MUST_USE sim_status sim_visit_f32(const sim_visitor *v, const char *group,
                                      const char *name, size_t n, float *data);
SIM_MUST_USE sim_status sim_visit_count(const sim_visitor *v, const char *group,
                                        const char *name, double most, int64_t *count);

#endif
