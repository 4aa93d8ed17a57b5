/*
 * ntxent_weight.c - DCLW: pairs that are far apart pull more.
 *
 * In: the records of all rows.  Out: their weights, losses, and how each pair pulls.
 * With e_k = exp(s_k / sigma) and n pairs, w_k = 2 - n e_k / sum e.  The mean loss holds
 * -(1 / (n T)) sum_k w_k s_k; its derivative with respect to s_m is -(1 / (n T)) (w_m - f_m),
 * where f_m = (2 - w_m) (s_m - S) / sigma, S = sum e s / sum e, is what flows through the
 * weights.  Every rank does this for all pairs: n exponentials are nothing beside a tile.
 * Yeh et al. 2022, arXiv 2110.06848, section 3.2.
 */
#include "ntxent.h"

#include "simile/kernel.h"

#include <math.h>

enum { SUM, MOMENT, WIDTH }; /* of a leaf: e, and e s */

static double sigma_of(const sim_ntxent_options *o)
{
    return o->weight_sigma > 0 ? o->weight_sigma : 0.5;
}

/* The largest similarity of a pair: taken off all, so that no sigma overflows. */
static double largest(const sim_contrast *e)
{
    double most = e->records[0].positive;
    for (size_t i = 1; i < e->shape.n; i++)
        most = e->records[i].positive > most ? e->records[i].positive : most;
    return most;
}

/* Leaves each e_k in the pull of its records; sums [WIDTH] over all pairs. */
static void sum_pairs(sim_contrast *e, double sigma, double *sums)
{
    size_t n = e->shape.n, leaves = (n + LEAF_SLOTS - 1) / LEAF_SLOTS;
    double most = largest(e);

    for (size_t l = 0; l < leaves; l++) {
        double *leaf = e->leaves + l * WIDTH;
        leaf[SUM] = leaf[MOMENT] = 0;
        for (size_t i = l * LEAF_SLOTS; i < (l + 1) * LEAF_SLOTS && i < n; i++) {
            row_record *r = &e->records[i];
            r->pull = sim_exp_double((r->positive - most) / sigma);
            leaf[SUM] += r->pull;
            leaf[MOMENT] += r->pull * r->positive;
        }
    }
    sim_tree_fold_doubles(leaves, WIDTH, e->ranges, leaves, e->leaves, sim_merge_sum,
                          sums);
}

void dclw_weigh(sim_contrast *e, const sim_ntxent_options *o)
{
    size_t n = e->shape.n;
    double sums[WIDTH], sigma = sigma_of(o), scale = ntxent_scale(e, o);

    sum_pairs(e, sigma, sums);
    for (size_t i = 0; i < n; i++) {
        double similarity = e->records[i].positive;
        double share = (double)n * e->records[i].pull / sums[SUM], weight = 2 - share;
        double through =
            o->weight_flow ? share * (similarity - sums[MOMENT] / sums[SUM]) / sigma : 0;
        for (size_t r = i; r < 2 * n; r += n) { /* both anchors of the pair */
            e->records[r].loss = e->records[r].lse - weight * similarity / o->temperature;
            e->records[r].pull = weight - through;
            e->radial[r] = -2 * scale * through * similarity;
        }
    }
}
