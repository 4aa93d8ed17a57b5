/*
 * opt_lars.c - layer-wise adaptive rate scaling, in the forms that published recipes use.
 *
 * You, Gitman, Ginsburg 2017, arXiv 1708.03888. With g' = g + wd w:
 *   simclr  trust = eta |w| / |g'|; v = mu v + lr trust g'; w -= v
 *   mocov3  trust = eta |w| / |g'|; v = mu v + trust g';    w -= lr v
 *   bolts   trust = eta |w| / (|g| + wd |w| + 1e-8); then as mocov3, the first v a copy
 *   larc    as bolts, but batch norm and biases are adapted and decayed too
 *   lightly as bolts, but tensors with weight decay 0 are not adapted
 * Excluded tensors (BN, biases) get trust 1 and no decay. Zero norms: trust 1 (bolts, larc and
 * lightly: no decay either). clip_lr: min(trust / lr, 1) in place of the trust of adapted tensors, as
 * LARC and solo-learn, so that the step is that of SGD with the rate min(trust, lr).
 */
#include "optim_row.h"

#include <stdio.h>

/* Values of optimizer.dialect, in the order of OPTIM_DIALECTS. */
enum { DIALECT_SIMCLR, DIALECT_MOCOV3, DIALECT_BOLTS, DIALECT_LARC, DIALECT_LIGHTLY };

typedef struct {
    float decay, rate, step; /* v = mu v + rate g'; w -= step v */
} lars_factors;

static bool is_excluded(const tensor_update *u)
{
    if (u->options->dialect == DIALECT_LARC)
        return false;
    if (u->options->dialect == DIALECT_LIGHTLY)
        return !(sim_optim_decay(u) > 0);
    return u->p->bn_or_bias && !u->options->decay_bn_bias;
}

typedef struct {
    const float *g, *w;
    double decay;
} decayed_gradient;

static double decayed_squares(const void *ctx, size_t lo, size_t hi)
{
    const decayed_gradient *d = ctx;
    double sum = 0;
    for (size_t i = lo; i < hi; i++) {
        double g = (double)d->g[i] + d->decay * (double)d->w[i];
        sum += g * g;
    }
    return sum;
}

/* |g + wd w|, without storing g + wd w. */
static double decayed_norm(const tensor_update *u, double decay)
{
    const decayed_gradient d = {u->g, u->p->weights, decay};
    return sim_optim_norm(u->p->count, &d, decayed_squares);
}

static double clipped(const tensor_update *u, double trust)
{
    if (!u->options->clip_lr)
        return trust;
    return trust < u->lr ? trust / u->lr : 1;
}

static lars_factors lars_factors_of(const tensor_update *u)
{
    const sim_optimizer_options *o = u->options;
    double decay = o->dialect == DIALECT_LARC ? o->weight_decay : sim_optim_decay(u),
           trust = 1;
    bool bad = false,
         decayed = o->dialect == DIALECT_SIMCLR || o->dialect == DIALECT_MOCOV3;

    if (!is_excluded(u)) {
        double w = sim_norm_l2(u->p->weights, u->p->count, &bad);
        double g =
            decayed ? decayed_norm(u, decay) : sim_norm_l2(u->g, u->p->count, &bad);
        if (w > 0 && g > 0)
            trust = clipped(u, o->trust * w / (decayed ? g : g + decay * w + 1e-8));
        else if (!decayed)
            decay = 0;
    }
    if (o->dialect == DIALECT_SIMCLR)
        return (lars_factors){(float)decay, (float)(u->lr * trust), 1};
    return (lars_factors){(float)decay, (float)trust, (float)u->lr};
}

static void lars_update_chunk(const tensor_update *u, const void *more, size_t lo,
                              size_t hi)
{
    const lars_factors *f = more;
    float mu = (float)u->options->momentum;
    float *w = u->p->weights, *v = u->v;
    bool nesterov = u->options->nesterov;
    for (size_t i = lo; i < hi; i++) {
        float g = f->rate * (u->g[i] + f->decay * w[i]);
        v[i] = mu * v[i] + g;
        w[i] -= f->step * (nesterov ? g + mu * v[i] : v[i]);
    }
}

static void lars_update(const tensor_update *u)
{
    const lars_factors f = lars_factors_of(u);
    sim_optim_for(u, &f, lars_update_chunk);
}

static void lars_about(const sim_optimizer_options *o, char *out, size_t out_bytes)
{
    const char *clipping = o->clip_lr ? ", clipped" : "";
    char dialect[16] = "";
    (void)sim_choices_text(OPTIM_DIALECTS, o->dialect, dialect, sizeof dialect);
    (void)snprintf(out, out_bytes,
                   "lars (dialect %s, trust %g%s), momentum %g, weight decay %g", dialect,
                   o->trust, clipping, o->momentum, o->weight_decay);
}

const sim_optim_row sim_optim_lars = {
    .name = "lars", .n_arrays = 1, .update = lars_update, .about = lars_about};
