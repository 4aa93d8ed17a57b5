/*
 * momentum.c - the exponential moving average of a momentum encoder's weights.
 *
 * He et al. 2020, arXiv 1911.05722, equation 2; the increasing factor is from Grill et al. 2020,
 * arXiv 2006.07733, section 3.3.
 */
#include "optim_row.h"

#include "simile/thread.h"

enum { CHUNK = 4096 };

typedef struct {
    size_t n;
    double part; /* 1 - m */
    const float *online;
    float *target;
} momentum_call;

static void update_average_chunk(size_t i, void *ctx)
{
    const momentum_call *q = ctx;
    size_t lo = i * CHUNK, hi = lo + CHUNK < q->n ? lo + CHUNK : q->n;
    const double part = q->part;
    const float *online = q->online;
    float *target = q->target;
    for (size_t k = lo; k < hi; k++) {
        double t = (double)target[k];
        target[k] = (float)(t + part * ((double)online[k] - t));
    }
}

void sim_momentum_update(size_t n, double m, const float *online, float *target)
{
    momentum_call q = {.n = n, .part = 1 - m, .online = online, .target = target};
    sim_for((n + CHUNK - 1) / CHUNK, update_average_chunk, &q);
}

double sim_momentum_factor(double first, double last, double progress)
{
    double p = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    return last - (last - first) * (1 + sim_optim_cos(3.14159265358979323846 * p)) / 2;
}
