/*
 * interval.c - metrics accumulated over the steps of a log interval.
 *
 * Sums are double and in the order of the steps.  They are part of a checkpoint, so that the
 * means of an interval do not depend on interruptions.
 */
#include "simile/observe.h"

#include <string.h>

void sim_interval_begin(sim_interval *i, const sim_interval_metric *metrics, size_t n)
{
    SIM_ASSERT(n <= SIM_MAX_METRICS);
    *i = (sim_interval){.metrics = metrics, .n = n};
}

void sim_interval_reset(sim_interval *i)
{
    i->steps = 0;
    for (size_t m = 0; m < i->n; m++)
        if (i->metrics[m].reduce != SIM_REDUCE_LAST)
            i->values[m] = 0;
}

void sim_interval_count(sim_interval *i)
{
    i->steps += 1;
}

void sim_interval_add(sim_interval *i, const char *name, double value)
{
    size_t m = 0;
    while (m < i->n && strcmp(i->metrics[m].about.name, name) != 0)
        m++;
    SIM_ASSERT(m < i->n);
    i->values[m] = i->metrics[m].reduce == SIM_REDUCE_LAST ? value : i->values[m] + value;
}

void sim_interval_publish(const sim_interval *i, sim_record *r)
{
    for (size_t m = 0; m < i->n; m++)
        sim_record_add(r, &i->metrics[m].about,
                       i->metrics[m].reduce == SIM_REDUCE_MEAN ? i->values[m] / i->steps
                                                               : i->values[m]);
}

/* A sum may be NaN: methods have no value for some metrics. */
static sim_status visit_sum(const char *group, const char *name, double *value,
                            const sim_visitor *v)
{
    const sim_tensor t = {.name = name, .type = SIM_F64, .data = value, .optional = true};
    return sim_visit(v, group, &t);
}

static sim_status visit_steps(const char *group, double *steps, const sim_visitor *v)
{
    const sim_tensor t = {.name = "steps",
                          .type = SIM_F64,
                          .data = steps,
                          .optional = true,
                          .bounded = true,
                          .most = SIM_MAX_COUNT};
    return sim_visit(v, group, &t);
}

sim_status sim_interval_visit(sim_interval *i, const char *group, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    SIM_TRY(visit_steps(group, &i->steps, v));
    for (size_t m = 0; m < i->n; m++)
        if (i->metrics[m].reduce != SIM_REDUCE_LAST)
            SIM_TRY(visit_sum(group, i->metrics[m].about.name, &i->values[m], v));
done:
    return st;
}
