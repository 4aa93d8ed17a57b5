/*
 * view_pairs.c - the pairs of views and targets, and the sum of their gradients.
 *
 * Called by: moco.c, mocov3.c, nnclr.c.
 * Invariant: the pairs of a view are added in ascending order of the targets.
 */
#include "view_pairs.h"

#include "simile/kernel.h"

/* With one target per view, each gradient is written to its place. */
size_t sim_pairs_work(size_t targets, size_t all, size_t floats)
{
    return targets > 1 && all > targets ? floats : 0;
}

size_t sim_pairs_count(const view_pairs *p)
{
    return p->targets > 1 ? p->targets * (p->all - 1) : p->all;
}

bool sim_pairs_has(const view_pairs *p, size_t view, size_t target)
{
    return p->targets == 1 || view != target;
}

static bool is_first(const view_pairs *p, size_t view, size_t target)
{
    return target == 0 || (target == 1 && !sim_pairs_has(p, view, 0));
}

float *sim_pairs_gradient(const view_pairs *p, size_t view, size_t target)
{
    return is_first(p, view, target) ? p->dz + view * p->floats : p->work;
}

void sim_pairs_add(const view_pairs *p, size_t view, size_t target)
{
    if (!is_first(p, view, target))
        sim_add(p->floats, p->work, p->dz + view * p->floats);
}
