/*
 * collapse.c - the guard against collapsed embeddings.
 *
 * The embedding standard deviation is the mean over dimensions of the standard deviation of
 * z.  Unit vectors uniform on the sphere have 1/sqrt(d).  Below a tenth of that, either the
 * mean cosine is above 0.99 or z spans fewer than d/100 directions.
 * Embeddings that are not of unit length (cpc) are not checked.
 * Checked at the end of each log interval after warm-up: fresh networks start narrow.
 */
#include "state.h"

#include "simile/log.h"

#include <math.h>
#include <stdio.h>

static const double least = 0.1; /* of 1/sqrt(d) */

static void describe_collapse(int64_t step, double embedding_std, size_t dim, char *out,
                              size_t out_bytes)
{
    double full = 1 / sqrt((double)dim);
    (void)snprintf(
        out, out_bytes,
        "the embeddings collapsed: embedding_std is %.3g after step %lld; unit vectors "
        "uniform on the sphere have %.3g, the minimum is %.3g.  Lower optimizer.lr, "
        "lengthen schedule.warmup_epochs, or check method.temperature and augment",
        embedding_std, (long long)step, full, least * full);
}

sim_status sim_collapse_check(sim_collapse_guard *g, const sim_progress *p,
                              const sim_embeddings *z, double embedding_std)
{
    sim_status st = SIM_OK;
    char text[1024];
    int action = p->job->train.collapse;

    const bool is_checked = action != SIM_COLLAPSE_OFF && z->dim > 0 && !z->any_length;
    if (!is_checked || (double)p->at.step <= p->plan.warmup_steps ||
        embedding_std >= least / sqrt((double)z->dim)) {
        g->healthy_step = p->at.step;
        g->is_collapsed = 0;
        goto done;
    }
    describe_collapse(p->at.step, embedding_std, z->dim, text, sizeof text);
    SIM_CHECK(action != SIM_COLLAPSE_STOP, SIM_E_BUG,
              "%s.  Checkpoints up to step %lld precede the collapse (guard.collapse)",
              text, (long long)g->healthy_step);
    if (!g->is_collapsed) /* warn once */
        sim_log_warn("%s (guard.collapse)", text);
    g->is_collapsed = 1;
done:
    return st;
}
