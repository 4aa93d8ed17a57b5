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

static bool is_collapsed(const sim_train_state *t, double embedding_std, size_t dim)
{
    return (double)t->at.step > t->plan.warmup_steps &&
           embedding_std < least / sqrt((double)dim);
}

static void describe(const sim_train_state *t, double embedding_std, size_t dim,
                     char *out, size_t out_bytes)
{
    double full = 1 / sqrt((double)dim);
    (void)snprintf(
        out, out_bytes,
        "the embeddings collapsed: embedding_std is %.3g after step %lld; unit vectors "
        "uniform on the sphere have %.3g, the minimum is %.3g.  Lower optimizer.lr, "
        "lengthen schedule.warmup_epochs, or check method.temperature and augment",
        embedding_std, (long long)t->at.step, full, least * full);
}

sim_status sim_collapse_check(sim_train_state *t, double embedding_std)
{
    sim_status st = SIM_OK;
    char text[1024];
    const sim_embeddings z = t->method.row->embeddings(t->method.self);
    size_t dim = z.dim;

    if (t->job->train.collapse == SIM_COLLAPSE_OFF || dim == 0 || z.any_length)
        goto done;
    if (!is_collapsed(t, embedding_std, dim)) {
        t->healthy_step = t->at.step;
        t->collapsed = false;
        goto done;
    }
    describe(t, embedding_std, dim, text, sizeof text);
    SIM_CHECK(t->job->train.collapse != SIM_COLLAPSE_STOP, SIM_E_BUG,
              "%s.  Checkpoints up to step %lld precede the collapse (guard.collapse)",
              text, (long long)t->healthy_step);
    if (!t->collapsed) /* warn once */
        sim_log_warn("%s (guard.collapse)", text);
    t->collapsed = true;
done:
    return st;
}
