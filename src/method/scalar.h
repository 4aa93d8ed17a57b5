/*
 * scalar.h - trained numbers: how their gradients reach the arena, and a softmax temperature,
 * fixed or learned, with its keys.
 */
#ifndef SIMILE_METHOD_SCALAR_H
#define SIMILE_METHOD_SCALAR_H

#include "keys.h"

#include "simile/method.h"

/* Puts the gradient of scalar `at` of the arena into the node that holds leaf 0, and -0 into
 * the others, so that the tree's sum is the value itself, be it -0. */
void sim_scalar_gradient(const sim_batch_shape *s, double value, size_t at, float *grads,
                         size_t stride);

/* ---- the temperature of a softmax ---- */

/* The options of every softmax method begin with one, `softmax`. */
typedef struct {
    double temperature;
    bool learn;
} softmax_options;

/* Its two rows. */
#define KEYS_TEMPERATURE(owner, most, fallback, help)                                    \
    KEY_REAL(owner, "temperature", softmax.temperature, 0.005, most, fallback, help),    \
        KEY_BOOL(owner, "learn_temperature", softmax.learn, "false",                     \
                 "train its logarithm too, within its range")

/* It is the exponential of a trained logarithm where it is learned. */
typedef struct {
    bool learned;
    double fixed;
    float log;
} temperature;
temperature sim_temperature_begin(const softmax_options *o);
double sim_temperature_value(const temperature *t);
/* For a method's row, or parts of its functions. */
size_t sim_temperature_scalars(temperature *t, sim_method_scalar out[SIM_MAX_SCALARS]);
SIM_MUST_USE sim_status sim_temperature_visit(temperature *t, const sim_visitor *v);
/* "temperature 0.2", "temperature learned from 0.2". */
void sim_temperature_about(const temperature *t, char *out, size_t out_bytes);
/*
 * The order of the gradient of its logarithm, 0 where it is not learned: how far at the start
 * a positive is `apart` from the mean of negatives, over T, and no less than 1.
 */
double sim_temperature_gradient_bound(const softmax_options *o, double apart);
/* sim_method_row.scalar_gradient_bound of methods that compare rows of unit length. */
double sim_temperature_gradient_bound_unit(const void *options, size_t batch);
/* `simile loss`: /dlog_temperature where it is learned.  Collective. */
SIM_MUST_USE sim_status sim_temperature_put(const sim_arrays *a, const softmax_options *o,
                                            double d_log_temperature);

#endif
