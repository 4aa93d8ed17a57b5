/*
 * opt_adamw.c - Adam with decoupled weight decay, in PyTorch's form.
 *
 * Loshchilov, Hutter 2019, arXiv 1711.05101; Kingma, Ba 2015, arXiv 1412.6980. Update t = 1,
 * 2 ...:
 *   w -= lr wd w; m = b1 m + (1 - b1) g; s = b2 s + (1 - b2) g^2
 *   w -= lr / (1 - b1^t) m / (sqrt(s / (1 - b2^t)) + eps)
 */
#include "optim_row.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    float decay;  /* factor on the weight, 1 - lr wd */
    float b1, c1; /* b1 and 1 - b1, each rounded once */
    float b2, c2;
    float rate, root; /* lr / (1 - b1^t) and 1 / sqrt(1 - b2^t) */
    float eps;
} adam_factors;

/* x^n by squaring: libm would differ between machines. */
static double power(double x, int64_t n)
{
    double y = 1;
    for (; n > 0; n /= 2) {
        if (n % 2)
            y *= x;
        x *= x;
    }
    return y;
}

static adam_factors adam_factors_of(const tensor_update *u)
{
    const sim_optimizer_options *o = u->options;
    int64_t t = u->updates + 1;
    return (adam_factors){.decay = (float)(1 - u->lr * sim_optim_decay(u)),
                          .b1 = (float)o->beta1,
                          .c1 = (float)(1 - o->beta1),
                          .b2 = (float)o->beta2,
                          .c2 = (float)(1 - o->beta2),
                          .rate = (float)(u->lr / (1 - power(o->beta1, t))),
                          .root = (float)(1 / sqrt(1 - power(o->beta2, t))),
                          .eps = (float)o->eps};
}

static void adamw_update_chunk(const tensor_update *u, const void *more, size_t lo,
                               size_t hi)
{
    const adam_factors f = *(const adam_factors *)more;
    float *w = u->p->weights, *m = u->v, *s = u->second;
    for (size_t i = lo; i < hi; i++) {
        float g = u->g[i];
        m[i] = f.b1 * m[i] + f.c1 * g;
        s[i] = f.b2 * s[i] + f.c2 * g * g;
        w[i] = f.decay * w[i] - f.rate * m[i] / (sqrtf(s[i]) * f.root + f.eps);
    }
}

static void adamw_update(const tensor_update *u)
{
    const adam_factors f = adam_factors_of(u);
    sim_optim_for(u, &f, adamw_update_chunk);
}

static void adamw_about(const sim_optimizer_options *o, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "adamw, betas %g %g, eps %g, weight decay %g",
                   o->beta1, o->beta2, o->eps, o->weight_decay);
}

const sim_optim_row sim_optim_adamw = {.name = "adamw",
                                       .n_arrays = 2,
                                       .adaptive = true,
                                       .update = adamw_update,
                                       .about = adamw_about};
