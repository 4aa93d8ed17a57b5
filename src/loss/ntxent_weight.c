/*
 * ntxent_weight.c - DCLW: weights of the positive pairs, larger for dissimilar pairs.
 *
 * In: the records of all rows. Out: their losses and positive weights.
 * With e_k = exp(s_k / sigma) and sums over the g pairs of a group, w_k = 2 - g e_k / sum e. Of the n
 * pairs of the batch, the mean loss contains -(1 / (n T)) sum_k w_k s_k; its derivative with respect
 * to s_m is -(1 / (n T)) (w_m - f_m), where f_m = (2 - w_m) (s_m - S) / sigma, S = sum e s / sum e, is
 * the gradient through the weights. Every rank computes the weights of all pairs: n exponentials cost little
 * compared with a tile.
 * Yeh et al. 2022, arXiv 2110.06848, section 3.2.
 */
#include "ntxent.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>

enum { SUM, MOMENT, WIDTH }; /* of a leaf: e, and e s */

static double sigma_of(const sim_ntxent_options *o)
{
    return o->weight_sigma > 0 ? o->weight_sigma : 0.5;
}

/* The similarity of a pair of this rank, stored in z_dot_dz of the first view's row. In double:
 * against a small sigma the rounding of a tile's floats would be visible in the weights. */
static void compare_pair(size_t i, void *ctx)
{
    sim_contrast *e = ctx;
    const size_t slot = e->local.lo + i;
    const float *a = sim_passes_row(&e->passes, &e->z, 0, slot);
    const float *b = sim_passes_row(&e->passes, &e->z, 1, slot);
    double sum = 0;

    for (size_t k = 0; k < e->shape.d; k++)
        sum += (double)a[k] * (double)b[k];
    e->z_dot_dz[slot] = sum;
}

/* The largest similarity of a pair: subtracted from all, so that no exponential overflows. */
static double largest(sim_range pairs, const double *similarities)
{
    double max = similarities[pairs.lo];
    for (size_t i = pairs.lo; i < pairs.hi; i++)
        max = similarities[i] > max ? similarities[i] : max;
    return max;
}

/* Stores each e_k in positive_weight of its first record; sums [WIDTH] over the pairs, which are
 * divided into leaves from the first one. */
static void sum_pairs(sim_contrast *e, double sigma, sim_range pairs, double *sums)
{
    size_t leaves = (pairs.hi - pairs.lo + LEAF_SLOTS - 1) / LEAF_SLOTS;
    double max = largest(pairs, e->z_dot_dz);

    for (size_t l = 0; l < leaves; l++) {
        size_t first = pairs.lo + l * LEAF_SLOTS;
        double *leaf = e->sums.values + l * WIDTH;
        leaf[SUM] = leaf[MOMENT] = 0;
        for (size_t i = first; i < first + LEAF_SLOTS && i < pairs.hi; i++) {
            double share = sim_exp_double((e->z_dot_dz[i] - max) / sigma);
            e->records[i].positive_weight = share;
            leaf[SUM] += share;
            leaf[MOMENT] += share * e->z_dot_dz[i];
        }
    }
    sim_tree_reduce_doubles(leaves, WIDTH, e->sums.ranges, leaves, e->sums.values,
                            sim_merge_sum, sums);
}

static void weight_pairs(sim_contrast *e, const sim_ntxent_options *o, double scale,
                         sim_range pairs)
{
    size_t n = e->shape.n, group = pairs.hi - pairs.lo;
    double sums[WIDTH], sigma = sigma_of(o);

    sum_pairs(e, sigma, pairs, sums);
    for (size_t i = pairs.lo; i < pairs.hi; i++) {
        double s = e->z_dot_dz[i];
        double share = (double)group * e->records[i].positive_weight / sums[SUM],
               weight = 2 - share;
        double through =
            o->weight_flow ? share * (s - sums[MOMENT] / sums[SUM]) / sigma : 0;
        for (size_t r = i; r < 2 * n; r += n) { /* both anchors of the pair */
            row_record *record = &e->records[r];
            record->loss = record->lse - weight * record->positive_sum / o->temperature;
            record->positive_weight = weight - through;
            e->z_dot_dz[r] = -2 * scale * through * s;
        }
    }
}

void sim_dclw_weights(sim_contrast *e, const sim_ntxent_options *o, double scale)
{
    size_t n = e->shape.n, group = o->weight_group ? o->weight_group : n;

    sim_for(e->local.hi - e->local.lo, compare_pair, e);
    sim_tile_gather(e->comm, &e->shape, sizeof *e->z_dot_dz, e->z_dot_dz + e->local.lo,
                    e->z_dot_dz);
    for (size_t lo = 0; lo < n; lo += group)
        weight_pairs(e, o, scale, (sim_range){lo, lo + group});
}
