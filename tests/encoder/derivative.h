/*
 * derivative.h - directional derivatives of a net by finite differences.
 *
 * The loss is sum(dy * y), summed in double.  The weights, or the inputs, move along a random
 * direction that is as long as they are.  Outputs are float32: their rounding, near 1e-7 of an
 * output per layer, is divided by the step and leaves errors up to 2.3e-3 of the derivative.  The
 * five-point difference has a truncation error in STEP^4: a step of 1/64 would leave 2e-4 for
 * one layer, but 0.1 for fifty.  Outputs with a kink between the points, where a max pool
 * changes its maximum, show a large second difference and are left out of the loss; smaller
 * kinks leave errors up to 2e-3.  A wrong or missing term in a gradient is an error of the order
 * of 1.
 */
#ifndef SIMILE_TEST_DERIVATIVE_H
#define SIMILE_TEST_DERIVATIVE_H

#include "simile_test.h"

#include "simile/encoder.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <math.h>

static const double STEP = 1.0 / 1024, BOUND = 5e-3;

typedef struct {
    sim_net *net;
    sim_tape *tape;
    size_t n_x, n_y, n_w;
    float *x, *y, *dy, *dx, *grads;
} pass;

static inline void fill_normal(sim_random *r, size_t n, float scale, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = scale * sim_random_normal(r);
}

/* Takes the net. */
static inline void pass_create(sim_net *net, const sim_batch_shape *shape, uint32_t seed,
                               pass *p)
{
    sim_random r = {.seed = seed, .purpose = SIM_RANDOM_INIT, .epoch = 77};
    size_t images = sim_batch_images(shape);

    *p = (pass){.net = net,
                .n_x = images * sim_net_input(net),
                .n_y = images * sim_net_dim(net),
                .n_w = sim_net_parameters(net)};
    ASSERT_OK(sim_alloc(&p->x, p->n_x, "test"));
    ASSERT_OK(sim_alloc(&p->y, p->n_y, "test"));
    ASSERT_OK(sim_alloc(&p->dy, p->n_y, "test"));
    ASSERT_OK(sim_alloc(&p->dx, p->n_x, "test"));
    ASSERT_OK(sim_alloc(&p->grads, p->n_w, "test"));
    fill_normal(&r, p->n_x, 1, p->x);
    fill_normal(&r, p->n_y, 1, p->dy);
    ASSERT_OK(sim_tape_create(net, shape, &sim_reducer_local, true, &p->tape));
}

static inline void pass_destroy(pass *p)
{
    sim_tape_destroy(&p->tape);
    sim_net_destroy(&p->net);
    sim_free(p->x);
    sim_free(p->y);
    sim_free(p->dy);
    sim_free(p->dx);
    sim_free(p->grads);
}

enum { N_POINTS = 5, CENTRE = 2 };

/* Outputs at from + k * STEP * direction, k = -2 .. 2, into y [N_POINTS][n_y]; the last pass
 * is that of k = 0, so that backward may follow. */
static inline void evaluate_points(pass *p, float *moved, const float *from, size_t n,
                                   const float *direction, float *y)
{
    static const int order[N_POINTS] = {-2, -1, 1, 2, 0};
    for (size_t i = 0; i < N_POINTS; i++) {
        for (size_t j = 0; j < n; j++)
            moved[j] = (float)((double)from[j] + order[i] * STEP * (double)direction[j]);
        sim_net_forward(p->tape, p->x, y + (size_t)(CENTRE + order[i]) * p->n_y);
    }
}

/* dy without the outputs that are not smooth over the points; at least half remain. */
static inline void mask_kinks(const pass *p, const char *what, const float *y,
                              double kink, float *dy)
{
    size_t n = p->n_y, kept = 0;
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += (double)y[CENTRE * n + i] * (double)y[CENTRE * n + i];
    double tolerance = kink * sqrt(squares / (double)n);
    for (size_t i = 0; i < n; i++) {
        double second =
            (double)y[i] - 2 * (double)y[CENTRE * n + i] + (double)y[4 * n + i];
        bool smooth = fabs(second) <= tolerance;
        dy[i] = smooth ? p->dy[i] : 0;
        kept += smooth;
    }
    if (2 * kept < n)
        fail_msg("%s: only %zu of %zu outputs are smooth", what, kept, n);
}

static inline double five_point(const float *y, const float *dy, size_t n)
{
    static const double weights[N_POINTS] = {1, -8, 0, 8, -1};
    double sum = 0;
    for (size_t k = 0; k < N_POINTS; k++)
        for (size_t i = 0; i < n; i++)
            sum += weights[k] * (double)y[k * n + i] * (double)dy[i];
    return sum / (12 * STEP);
}

static inline double norm(size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Checks <gradient, direction> for `moved`, which is the input or the weights. */
static inline void check_direction(pass *p, const char *what, uint32_t seed, float *moved,
                                   size_t n, double kink, const float *gradient)
{
    sim_random r = {.seed = seed, .purpose = SIM_RANDOM_INIT, .epoch = 78};
    float *from = NULL, *direction = NULL, *y = NULL, *dy = NULL;
    float scale = (float)(norm(n, moved) / sqrt((double)n));
    double exact = 0;

    ASSERT_OK(sim_alloc(&from, n, "test"));
    ASSERT_OK(sim_alloc(&direction, n, "test"));
    ASSERT_OK(sim_alloc(&y, N_POINTS * p->n_y, "test"));
    ASSERT_OK(sim_alloc(&dy, p->n_y, "test"));
    memcpy(from, moved, n * sizeof *from);
    fill_normal(&r, n, scale, direction);
    evaluate_points(p, moved, from, n, direction, y);
    mask_kinks(p, what, y, kink, dy);
    sim_net_backward(p->tape, dy, p->dx, p->grads, p->n_w);
    for (size_t i = 0; i < n; i++)
        exact += (double)gradient[i] * (double)direction[i];
    double numeric = five_point(y, dy, p->n_y);
    /* The standard deviation of the derivative over directions. */
    double size = (double)scale * norm(n, gradient);
    if (!(size > 0) || !(fabs(exact - numeric) <= BOUND * size))
        fail_msg("%s, seed %u: gradient %.9g, finite differences %.9g, scale %.3g", what,
                 (unsigned)seed, exact, numeric, size);
    memcpy(moved, from, n * sizeof *moved);
    sim_free(from);
    sim_free(direction);
    sim_free(y);
    sim_free(dy);
}

/* Checks the gradients of the weights and of the input; outputs with a second difference above
 * `kink` of their rms are left out. */
static inline void check_gradients(pass *p, const char *what, uint32_t seed, double kink)
{
    check_direction(p, what, seed, sim_net_weights(p->net), p->n_w, kink, p->grads);
    check_direction(p, what, seed, p->x, p->n_x, kink, p->dx);
}

#endif
