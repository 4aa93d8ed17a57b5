/*
 * bench_scaling_model.c - predicts a step on n nodes from a step on one.
 *
 * In: the parts of a step of B images on one node, and a network of latency a and bandwidth b.
 * Out: the parts of a step of G images on n = 2^k nodes (src/DESIGN.md, Scaling).  With s = G / (n B):
 *
 *   encoder  s encoder_1                proportional to the images of a node
 *   loss     s (G / B) loss_1           local rows x global columns
 *   gather   (C + R) k a + (n - 1) (s c + r) / b
 *   sum      2 k a + 2 (1 - 1/n) g / b + (1 - 1/n) add
 *   update   update_1
 *
 * sum: the vector-halving reduce-scatter and the all-gather of src/comm/sum.c.  Each has k rounds, in
 * which a rank sends g/2, g/4, ... g/n of the g bytes of a gradient; the first also adds what it
 * receives.  `add` is the time to add two whole gradients.
 *
 * gather: C all-gathers of rows (embeddings, log-sum-exps), of c bytes of a node with B images, and R of
 * nodes of reductions (batch statistics, losses), of r bytes of a node, whatever its images.  MPI selects
 * the algorithm; k rounds is the minimum, which recursive doubling reaches.  Each node receives
 * the bytes of all others.
 */
#include "bench_scaling.h"

#include <math.h>

static double gather_s(const sim_scaling_node *one, const sim_scaling_network *net,
                       size_t n, double local)
{
    const double bytes = local / one->batch * one->gathered_bytes + one->reduced_bytes;
    return (one->gathers + one->reductions) * log2((double)n) * net->latency_s +
           (double)(n - 1) * bytes / net->bytes_per_s;
}

static double sum_s(const sim_scaling_node *one, const sim_scaling_network *net, size_t n)
{
    const double part = 1 - 1 / (double)n;
    return 2 * log2((double)n) * net->latency_s +
           2 * part * one->gradient_bytes / net->bytes_per_s + part * one->addition_s;
}

sim_step_parts sim_scaling_predict(const sim_scaling_node *one,
                                   const sim_scaling_network *net, size_t n,
                                   double images)
{
    const double local = images / (double)n, scale = local / one->batch;
    return (sim_step_parts){.encoder = scale * one->encoder_s,
                            .loss = scale * (images / one->batch) * one->loss_s,
                            .gather = gather_s(one, net, n, local),
                            .sum = sum_s(one, net, n),
                            .update = one->update_s};
}

double sim_scaling_step_s(const sim_step_parts *p)
{
    return p->encoder + p->loss + p->gather + p->sum + p->update;
}
