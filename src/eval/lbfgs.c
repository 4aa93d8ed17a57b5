/*
 * lbfgs.c - limited-memory BFGS with a diagonal preconditioner.
 *
 * Used by the linear evaluation, where every rank holds all variables and computes the same
 * steps from the same gradients.  Inner products are in double and in one order.
 */
#include "lbfgs.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

enum { PAIRS = 10, MAX_HALVINGS = 30, BUFFERS = 6 };

struct sim_lbfgs {
    size_t n;
    float *steps, *changes; /* [PAIRS][n] of x and of the gradient, a ring */
    double inner[PAIRS];    /* <step, change> */
    size_t n_pairs, next;   /* stored pairs; where the next one is written */
    float *gradient, *direction, *trial, *trial_gradient; /* [n] */
};

static void list_buffers(sim_lbfgs *l, sim_buffer list[BUFFERS])
{
    list[0] = SIM_BUFFER(l->steps, PAIRS * l->n);
    list[1] = SIM_BUFFER(l->changes, PAIRS * l->n);
    list[2] = SIM_BUFFER(l->gradient, l->n);
    list[3] = SIM_BUFFER(l->direction, l->n);
    list[4] = SIM_BUFFER(l->trial, l->n);
    list[5] = SIM_BUFFER(l->trial_gradient, l->n);
}

size_t sim_lbfgs_bytes(size_t n)
{
    sim_lbfgs l = {.n = n};
    sim_buffer list[BUFFERS];

    list_buffers(&l, list);
    return sim_buffers_bytes(list, BUFFERS);
}

sim_status sim_lbfgs_create(size_t n, sim_lbfgs **out)
{
    sim_status st = SIM_OK;
    sim_lbfgs *l = NULL;
    sim_buffer list[BUFFERS];

    SIM_TRY(sim_new(&l, "eval/lbfgs"));
    l->n = n;
    list_buffers(l, list);
    SIM_TRY(sim_buffers_create(list, BUFFERS, "eval/lbfgs"));
    *out = l;
    l = NULL;
done:
    sim_lbfgs_destroy(&l);
    return st;
}

void sim_lbfgs_destroy(sim_lbfgs **l)
{
    sim_buffer list[BUFFERS];

    if (!*l)
        return;
    list_buffers(*l, list);
    sim_buffers_destroy(list, BUFFERS);
    SIM_FREE(*l);
}

/* y += a x */
static void add_scaled(size_t n, double a, const float *x, float *y)
{
    const float factor = (float)a;
    for (size_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

/* Index in the ring of the pair that was stored `age` pairs ago; 0: the newest. */
static size_t pair_of(const sim_lbfgs *l, size_t age)
{
    return (l->next + PAIRS - 1 - age) % PAIRS;
}

/* <y, D y> of the newest change, D the preconditioner. */
static double weighted_norm(const sim_lbfgs *l, const float *d)
{
    const float *y = l->changes + pair_of(l, 0) * l->n;
    double sum = 0;
    for (size_t i = 0; i < l->n; i++)
        sum += (double)y[i] * (double)y[i] * (double)d[i];
    return sum;
}

/* direction = - H gradient, by the two-loop recursion. */
static void compute_direction(sim_lbfgs *l, const float *inverse_hessian)
{
    const size_t n = l->n;
    double alpha[PAIRS];
    float *q = l->direction;

    memcpy(q, l->gradient, n * sizeof *q);
    for (size_t age = 0; age < l->n_pairs; age++) {
        const size_t k = pair_of(l, age);
        alpha[age] = sim_dot(n, l->steps + k * n, q) / l->inner[k];
        add_scaled(n, -alpha[age], l->changes + k * n, q);
    }
    const double gamma =
        l->n_pairs ? l->inner[pair_of(l, 0)] / weighted_norm(l, inverse_hessian) : 1;
    for (size_t i = 0; i < n; i++)
        q[i] *= (float)(gamma * (double)inverse_hessian[i]);
    for (size_t age = l->n_pairs; age-- > 0;) {
        const size_t k = pair_of(l, age);
        const double beta = sim_dot(n, l->changes + k * n, q) / l->inner[k];
        add_scaled(n, alpha[age] - beta, l->steps + k * n, q);
    }
    for (size_t i = 0; i < n; i++)
        q[i] = -q[i];
}

/*
 * Halves the step along the direction until the value decreases sufficiently; trial and
 * trial_gradient then hold the point.  slope: <gradient, direction>.  false: it never does, which
 * is so at the precision of float.
 */
static bool search_line(sim_lbfgs *l, const sim_lbfgs_problem *p, const float *x,
                        double slope, double *value)
{
    const double sufficient = 1e-4;
    double step = 1;

    for (int i = 0; i < MAX_HALVINGS; i++, step /= 2) {
        memcpy(l->trial, x, l->n * sizeof *x);
        add_scaled(l->n, step, l->direction, l->trial);
        const double at = p->function(p->ctx, l->trial, l->trial_gradient);
        if (at <= *value + sufficient * step * slope) {
            *value = at;
            return true;
        }
    }
    return false;
}

/* Stores the last step and the change of the gradient unless the curvature is not positive. */
static void store_pair(sim_lbfgs *l, const float *x)
{
    const size_t n = l->n, k = l->next;
    float *s = l->steps + k * n, *y = l->changes + k * n;

    for (size_t i = 0; i < n; i++) {
        s[i] = l->trial[i] - x[i];
        y[i] = l->trial_gradient[i] - l->gradient[i];
    }
    l->inner[k] = sim_dot(n, s, y);
    if (!(l->inner[k] > 1e-12 * sqrt(sim_dot(n, s, s) * sim_dot(n, y, y))))
        return;
    l->next = (k + 1) % PAIRS;
    l->n_pairs += l->n_pairs < PAIRS;
}

void sim_lbfgs_minimize(sim_lbfgs *l, const sim_lbfgs_problem *p, float *x,
                        sim_lbfgs_result *out)
{
    const size_t bytes = l->n * sizeof *x;

    l->n_pairs = l->next = 0;
    *out = (sim_lbfgs_result){.value = p->function(p->ctx, x, l->gradient)};
    while (out->iterations < p->max_iterations) {
        compute_direction(l, p->inverse_hessian);
        const double slope = sim_dot(l->n, l->gradient, l->direction);
        out->converged = -slope / 2 <= p->tolerance;
        if (out->converged || !search_line(l, p, x, slope, &out->value))
            return;
        store_pair(l, x);
        memcpy(x, l->trial, bytes);
        memcpy(l->gradient, l->trial_gradient, bytes);
        out->iterations++;
    }
}
