/*
 * scalar.h - trained scalars of a method, such as a learned temperature.
 *
 * A scalar follows the networks in the gradient arena.
 */
#ifndef SIMILE_METHOD_SCALAR_H
#define SIMILE_METHOD_SCALAR_H

#include "keys.h"

#include "simile/method.h"

/* A trained scalar, and the key that sets its initial value and its range. */
typedef struct {
    const char *name, *key;
    bool logarithm; /* value is the logarithm of what the key sets */
    float value;
    size_t gradient; /* offset in sim_loss_report of its gradient, a double */
} trained_scalar;

typedef struct {
    size_t n;
    trained_scalar at[SIM_MAX_SCALARS];
} trained_scalars;

/* The functions of a row on trained scalars; pointers in `out` are borrowed from s. */
size_t sim_scalars_list(trained_scalars *s, sim_method_scalar out[SIM_MAX_SCALARS]);
/* Visits each under /weights/method. */
SIM_MUST_USE sim_status sim_scalars_visit(trained_scalars *s, const sim_visitor *v);
/* Writes the gradients of all scalars to grads[node][offset ...]; see sim_scalar_gradient. */
void sim_scalars_gradient(const trained_scalars *s, const sim_batch_shape *shape,
                          const sim_loss_report *report, size_t offset, float *grads,
                          size_t stride);

/*
 * Writes the gradient `value` of a scalar to grads[node][offset]: to the node that contains
 * leaf 0, and -0 to all others.  x + -0 is x, so the sum over the tree is exactly `value`.
 */
void sim_scalar_gradient(const sim_batch_shape *s, double value, size_t offset,
                         float *grads, size_t stride);

/* ---- softmax temperature ---- */

/* log T if the options request that it is learned; otherwise no scalar. */
trained_scalars sim_temperature_scalars(const softmax_options *o);
/* The current temperature. */
double sim_temperature_value(const softmax_options *o, const trained_scalars *s);
/* "temperature 0.2" or "temperature learned from 0.2". */
void sim_temperature_about(const softmax_options *o, char *out, size_t out_bytes);
/*
 * Order of magnitude of the initial gradient of log T: contrast / T, at least 1; 0 if T is not
 * learned.  `contrast`: initial difference of a positive and the mean negative similarity.
 */
double sim_temperature_gradient_bound(const softmax_options *o, double contrast);
/* sim_method_row.scalar_gradient_bound of methods that compare unit rows. */
double sim_temperature_gradient_bound_unit(const void *options, size_t batch);
/* `simile loss`: writes /dlog_temperature if T is learned.  Collective. */
SIM_MUST_USE sim_status sim_temperature_put(const sim_arrays *a, const softmax_options *o,
                                            double d_log_temperature);

#endif
