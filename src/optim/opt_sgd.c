/*
 * opt_sgd.c - stochastic gradient descent with momentum, in PyTorch's form.
 *
 * g' = g + wd w; v = mu v + g' (the first v is g'); Nesterov: d = g' + mu v, else d = v;
 * w -= lr d.
 */
#include "optim_row.h"

static void update_chunk(const tensor_update *u, const void *more, size_t lo, size_t hi)
{
    float decay = (float)optim_decay(u), mu = (float)u->options->momentum,
          lr = (float)u->lr;
    bool nesterov = u->options->nesterov;
    float *w = u->p->weights, *v = u->v;
    (void)more;
    for (size_t i = lo; i < hi; i++) {
        float g = u->g[i] + decay * w[i];
        v[i] = u->first ? g : mu * v[i] + g;
        w[i] -= lr * (nesterov ? g + mu * v[i] : v[i]);
    }
}

static void update(const tensor_update *u)
{
    optim_for(u, NULL, update_chunk);
}

const sim_optim_row sim_optim_sgd = {"sgd", update};
