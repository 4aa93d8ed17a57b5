/*
 * collapse.c - do the embeddings still differ from each other?
 *
 * Spread is the mean over dimensions of the standard deviation of z; unit vectors that fill
 * the sphere have 1/sqrt(d).  Below a tenth of it either all z are nearly one (a mean cosine
 * above 0.99), or they lie in fewer than d/100 directions: nothing a method here aims at.
 * Rows of any length (cpc) have no such measure and are not judged.
 * Judged at the end of each log interval, once warm-up is over: nets start narrow.
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
        "the embeddings collapsed: their spread is %.3g after step %lld, "
        "expected %.3g when they fill the sphere and %.3g at least; images "
        "look nearly alike to the network, and the loss teaches little.  Lower "
        "optimizer.lr, lengthen schedule.warmup_epochs, or look at "
        "method.temperature and augment",
        embedding_std, (long long)t->at.step, full, least * full);
}

sim_status sim_collapse_check(sim_train_state *t, double embedding_std)
{
    sim_status st = SIM_OK;
    char text[1024];
    const sim_embeddings z = t->method.row->embeddings(t->method.self);
    size_t dim = z.dim;

    if (t->job->train.collapse == SIM_COLLAPSE_OFF || t->sums[SIM_SUM_STEPS] == 0 ||
        dim == 0 || z.any_length)
        goto done;
    if (!is_collapsed(t, embedding_std, dim)) {
        t->healthy_step = t->at.step;
        t->collapsed = false;
        goto done;
    }
    describe(t, embedding_std, dim, text, sizeof text);
    SIM_CHECK(t->job->train.collapse != SIM_COLLAPSE_STOP, SIM_E_BUG,
              "%s.  Checkpoints up to step %lld are from before it (guard.collapse)",
              text, (long long)t->healthy_step);
    if (!t->collapsed) /* once is enough */
        sim_log_warn("%s (guard.collapse)", text);
    t->collapsed = true;
done:
    return st;
}
