/*
 * scalar.c - trained scalars of a method, and the temperature of a softmax.
 *
 * Called by: common.c, cpc.c and the losses of all methods.
 */
#include "scalar.h"

#include "arrays.h"

#include "simile/kernel.h"

#include <stdio.h>
#include <string.h>

size_t sim_scalars_list(trained_scalars *s, sim_method_scalar out[SIM_MAX_SCALARS])
{
    for (size_t i = 0; i < s->n; i++)
        out[i] = (sim_method_scalar){.name = s->at[i].name,
                                     .value = &s->at[i].value,
                                     .key = s->at[i].key,
                                     .logarithm = s->at[i].logarithm};
    return s->n;
}

sim_status sim_scalars_visit(trained_scalars *s, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < s->n; i++)
        SIM_TRY(sim_visit_f32(v, "weights/method", s->at[i].name, 1, &s->at[i].value));
done:
    return st;
}

void sim_scalar_gradient(const sim_batch_shape *s, double value, size_t offset,
                         float *grads, size_t stride)
{
    sim_range nodes[SIM_TREE_MAX_NODES];
    size_t n = sim_tree_nodes(s->n_blocks, s->blocks, nodes);
    for (size_t j = 0; j < n; j++)
        grads[j * stride + offset] = nodes[j].lo == 0 ? (float)value : -0.0f;
}

void sim_scalars_gradient(const trained_scalars *s, const sim_batch_shape *shape,
                          const sim_loss_report *report, size_t offset, float *grads,
                          size_t stride)
{
    for (size_t i = 0; i < s->n; i++) {
        double value = 0;
        memcpy(&value, (const char *)report + s->at[i].gradient, sizeof value);
        sim_scalar_gradient(shape, value, offset + i, grads, stride);
    }
}

/* ---- softmax temperature ---- */

trained_scalars sim_temperature_scalars(const softmax_options *o)
{
    trained_scalars s = {.n = o->learn ? 1 : 0};
    s.at[0] = (trained_scalar){.name = "log_temperature",
                               .key = "temperature",
                               .logarithm = true,
                               .value = (float)sim_ln(o->temperature),
                               .gradient = offsetof(sim_loss_report, d_log_temperature)};
    return s;
}

double sim_temperature_value(const softmax_options *o, const trained_scalars *s)
{
    return o->learn ? sim_exp_double((double)s->at[0].value) : o->temperature;
}

void sim_temperature_about(const softmax_options *o, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "temperature %s%g", o->learn ? "learned from " : "",
                   o->temperature);
}

double sim_temperature_gradient_bound(const softmax_options *o, double contrast)
{
    double gradient = contrast / o->temperature;
    return !o->learn ? 0 : gradient > 1 ? gradient : 1;
}

/* Measured with untrained encoders at T 0.005 to 0.05: 0.06 to 0.13. */
double sim_temperature_gradient_bound_unit(const void *options, size_t batch)
{
    static const double initial_contrast = 0.12;
    (void)batch;
    return sim_temperature_gradient_bound(options, initial_contrast);
}

sim_status sim_temperature_put(const sim_arrays *a, const softmax_options *o,
                               double d_log_temperature)
{
    return o->learn ? sim_array_put_scalar(a, "dlog_temperature", d_log_temperature)
                    : SIM_OK;
}
