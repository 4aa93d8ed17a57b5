/*
 * scalar.c - trained numbers of a method, and the softmax temperature that most of them have.
 */
#include "scalar.h"

#include "arrays.h"

#include "simile/kernel.h"

#include <stdio.h>

void sim_scalar_gradient(const sim_batch_shape *s, double value, size_t at, float *grads,
                         size_t stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = sim_tree_nodes(s->n_blocks, s->blocks, nodes);
    for (size_t j = 0; j < n; j++)
        grads[j * stride + at] =
            nodes[j].lo == 0 ? (float)value : -0.0f; /* x + -0 is x */
}

/* ---- the temperature of a softmax ---- */

temperature sim_temperature_begin(const softmax_options *o)
{
    return (temperature){.learned = o->learn,
                         .fixed = o->temperature,
                         .log = (float)sim_ln(o->temperature)};
}

double sim_temperature_value(const temperature *t)
{
    return t->learned ? sim_exp_double((double)t->log) : t->fixed;
}

size_t sim_temperature_scalars(temperature *t, sim_method_scalar out[SIM_MAX_SCALARS])
{
    if (!t->learned)
        return 0;
    out[0] = (sim_method_scalar){"log_temperature", &t->log, "temperature", true};
    return 1;
}

sim_status sim_temperature_visit(temperature *t, const sim_visitor *v)
{
    return t->learned ? sim_visit_f32(v, "weights/method", "log_temperature", 1, &t->log)
                      : SIM_OK;
}

void sim_temperature_about(const temperature *t, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "temperature %s%g", t->learned ? "learned from " : "",
                   t->fixed);
}

double sim_temperature_gradient_bound(const softmax_options *o, double apart)
{
    double pull = apart / o->temperature;
    return !o->learn ? 0 : pull > 1 ? pull : 1;
}

/* Of an encoder that has just begun (measured at T 0.005 to 0.05: 0.06 to 0.13). */
double sim_temperature_gradient_bound_unit(const void *options, size_t batch)
{
    static const double unit_rows_apart = 0.12;
    (void)batch;
    return sim_temperature_gradient_bound(options, unit_rows_apart);
}

sim_status sim_temperature_put(const sim_arrays *a, const softmax_options *o,
                               double d_log_temperature)
{
    return o->learn ? sim_array_put_scalar(a, "dlog_temperature", d_log_temperature)
                    : SIM_OK;
}
