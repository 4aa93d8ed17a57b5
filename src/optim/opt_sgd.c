/*
 * opt_sgd.c - stochastic gradient descent with momentum, in PyTorch's form.
 *
 * g' = g + wd w; v = mu v + g' (the first v is g'); Nesterov: d = g' + mu v, else d = v;
 * w -= lr d.
 */
#include "optim_row.h"

#include <stdio.h>

static void sgd_update_chunk(const tensor_update *u, const void *more, size_t lo,
                             size_t hi)
{
    float decay = (float)sim_optim_decay(u), mu = (float)u->options->momentum,
          lr = (float)u->lr;
    bool nesterov = u->options->nesterov;
    float *w = u->p->weights, *v = u->v;
    (void)more;
    for (size_t i = lo; i < hi; i++) {
        float g = u->g[i] + decay * w[i];
        v[i] = u->updates == 0 ? g : mu * v[i] + g;
        w[i] -= lr * (nesterov ? g + mu * v[i] : v[i]);
    }
}

static void sgd_update(const tensor_update *u)
{
    sim_optim_for(u, NULL, sgd_update_chunk);
}

static void sgd_about(const sim_optimizer_options *o, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "sgd, momentum %g%s, weight decay %g", o->momentum,
                   o->nesterov ? " (Nesterov)" : "", o->weight_decay);
}

const sim_optim_row sim_optim_sgd = {
    .name = "sgd", .n_arrays = 1, .update = sgd_update, .about = sgd_about};
