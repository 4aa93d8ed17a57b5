/*
 * test_gradients.c - every row of methods.def: the gradient of a step against finite differences
 * of the loss that it reports.
 *
 * simile-test: timeout 600 labels tsan
 *
 * A probe moves one tensor, all tensors, or a trained scalar, along its gradient and a random
 * direction in equal parts: the first makes the change of the loss large, the second finds
 * elements whose gradient is missing.
 */
#include "method_cases.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>

/*
 * Central differences D(h) of steps FIRST_STEP, FIRST_STEP / 2, ... (relative to the norm of a
 * tensor) are combined to R(h) = (4 D(h) - D(2 h)) / 3, whose error is in h^4.  The loss is
 * computed from float32 outputs: along a line it changes by jumps near 1e-7 of its value
 * (measured: up to 4e-7), which is an error of LOSS_ROUNDING / h of the derivative.  The first
 * R(h) is taken that differs from R(2 h) by no more than SMOOTH and that error; its own error is
 * about a fifteenth of that.  A longer step meets a curvature of the loss, or changes the
 * nearest neighbour of an nnclr embedding.
 */
static const double FIRST_STEP = 1.0 / 64, SMOOTH = 3e-4, BOUND = 1e-3,
                    LOSS_ROUNDING = 1e-6;
enum { MAX_HALVINGS = 10 };

/* A sample of the tensors: every PROBED of them. */
enum { PROBED = 7 };

static const sim_comm alone = {.rank = 0, .size = 1};

/* Options with which the gradient is the derivative of the loss, and fast. */
static const char *const derivative_options[] = {
    "momentum=1",       /* the keys do not depend on trained weights */
    "weight_grad=flow", /* the weights of positives are not constants */
    "queue_size=3",     /* nearest neighbours change rarely; filled after one step */
};

typedef struct {
    trainer t;
    sim_method_batch batch;
    saved_state state;
    size_t n; /* trained floats */
    /* [n], by offset of the parameter: */
    float *weights, *gradient, *direction;
} fixture;

static float *new_floats(size_t n)
{
    float *x = NULL;
    ASSERT_OK(sim_alloc(&x, n, "test/gradients"));
    return x;
}

/* Away from the initial values, where biases are 0 and the momentum encoder is a copy. */
static void move_weights(trainer *t)
{
    sim_random r = {.purpose = SIM_RANDOM_TEST, .epoch = 98};
    for (size_t i = 0; i < t->n_parameters; i++)
        for (size_t k = 0; k < t->parameters[i].count; k++)
            t->parameters[i].weights[k] +=
                (t->parameters[i].bn_or_bias ? 0.2f : 0.05f) * sim_random_normal(&r);
    sim_method_updated(&t->method);
}

/* The gradient of the first step that has a loss. */
static void compute_gradient(fixture *f)
{
    uint32_t step = 0;
    trainer_gradient(&f->t, step);
    while (trainer_idle(&f->t)) {
        assert_true(step < 8);
        trainer_update(&f->t);
        trainer_gradient(&f->t, ++step);
    }
    f->batch = trainer_batch(&f->t, step);
    memcpy(f->gradient, f->t.grads, f->n * sizeof *f->gradient);
}

static void fixture_create(const method_case *c, fixture *f)
{
    *f = (fixture){.t = trainer_create(&alone, c)};
    f->n = f->t.method.gradient_floats;
    f->weights = new_floats(f->n);
    f->gradient = new_floats(f->n);
    f->direction = new_floats(f->n);
    move_weights(&f->t);
    compute_gradient(f);
    f->state = state_save(&f->t);
    for (size_t i = 0; i < f->t.n_parameters; i++) {
        const sim_parameter *q = &f->t.parameters[i];
        memcpy(f->weights + q->offset, q->weights, q->count * sizeof *q->weights);
    }
}

static void fixture_destroy(fixture *f)
{
    trainer_destroy(&f->t);
    state_destroy(&f->state);
    sim_free(f->weights);
    sim_free(f->gradient);
    sim_free(f->direction);
}

/* ---- directions ---- */

static double norm(size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static bool is_scalar(const sim_parameter *q)
{
    return strcmp(q->group, "method") == 0;
}

/* Sets the direction of a parameter, as long as its weights (a scalar: 1).  Adds the inner
 * product with the gradient to *exact, and the largest possible one to *scale. */
static void set_direction(const fixture *f, const sim_parameter *q, double *exact,
                          double *scale)
{
    const float *g = f->gradient + q->offset;
    float *d = f->direction + q->offset;
    sim_random r = {
        .purpose = SIM_RANDOM_TEST, .sample = (uint32_t)q->offset, .epoch = 99};
    double length = is_scalar(q) ? 1 : norm(q->count, f->weights + q->offset);
    double g_norm = norm(q->count, g);

    for (size_t k = 0; k < q->count; k++)
        d[k] = sim_random_normal(&r);
    double d_norm = norm(q->count, d);
    for (size_t k = 0; k < q->count; k++) {
        double along = g_norm > 0 ? (double)g[k] / g_norm : 0;
        d[k] = (float)(length / 2 * (along + (double)d[k] / d_norm));
        *exact += (double)d[k] * (double)g[k];
    }
    *scale += length * g_norm;
}

/* The loss at weights + h * direction, of parameters [lo, hi); all other state as saved. */
static double loss_at(fixture *f, size_t lo, size_t hi, double h)
{
    const sim_method *m = &f->t.method;
    sim_loss_report report = {0};

    state_restore(&f->t, &f->state);
    for (size_t i = lo; i < hi; i++) {
        const sim_parameter *q = &f->t.parameters[i];
        for (size_t k = q->offset; k < q->offset + q->count; k++)
            q->weights[k - q->offset] =
                (float)((double)f->weights[k] + h * (double)f->direction[k]);
    }
    sim_method_updated(m);
    m->row->forward(m->self, &f->batch);
    m->row->loss(m->self, &f->batch, &report, f->t.grads);
    return report.loss;
}

/* ---- probes ---- */

static double central_difference(fixture *f, size_t lo, size_t hi, double h)
{
    return (loss_at(f, lo, hi, h) - loss_at(f, lo, hi, -h)) / (2 * h);
}

/* The derivative along the directions of parameters [lo, hi); *rounding receives the bound of
 * its error by float32 outputs. */
static double finite_difference(fixture *f, const char *what, size_t lo, size_t hi,
                                double scale, double *rounding)
{
    double h = FIRST_STEP / (double)(hi - lo), previous = 0;
    double coarse = central_difference(f, lo, hi, h);

    for (int k = 0; k < MAX_HALVINGS; k++) {
        h /= 2;
        double fine = central_difference(f, lo, hi, h);
        double extrapolated = (4 * fine - coarse) / 3;
        *rounding = LOSS_ROUNDING * fmax(1, f->t.report.loss) / h;
        if (k > 0 && fabs(extrapolated - previous) <= SMOOTH * scale + *rounding)
            return extrapolated;
        coarse = fine;
        previous = extrapolated;
    }
    fail_msg("%s: the loss is not smooth: %.9g for steps of %g, scale %g", what, previous,
             h, scale);
    return 0;
}

static void check_probe(const method_case *c, fixture *f, size_t lo, size_t hi)
{
    const sim_parameter *q = &f->t.parameters[lo];
    bool one = hi - lo == 1;
    char what[256];
    double exact = 0, scale = 0, rounding = 0;

    (void)snprintf(what, sizeof what, "%s, %s %s", c->name, one ? q->group : "all",
                   one ? q->name : "weights");
    for (size_t i = lo; i < hi; i++)
        set_direction(f, &f->t.parameters[i], &exact, &scale);
    double numeric = finite_difference(f, what, lo, hi, scale, &rounding);
    if (!(fabs(numeric - exact) <= BOUND * scale + rounding))
        fail_msg("%s: gradient %.9g, finite differences %.9g, scale %.3g, rounding %.3g",
                 what, exact, numeric, scale, rounding);
}

/* All weights at once and each scalar; with default options, also a sample of the tensors. */
static void check_case(const method_case *defined)
{
    method_case c = *defined;
    fixture f;
    size_t n = 0;

    for (size_t i = 0; i < sizeof derivative_options / sizeof derivative_options[0]; i++)
        (void)set_option(&c, derivative_options[i]);
    fixture_create(&c, &f);
    while (n < f.t.n_parameters && !is_scalar(&f.t.parameters[n]))
        n++;
    check_probe(&c, &f, 0, n);
    for (size_t i = n; i < f.t.n_parameters; i++)
        check_probe(&c, &f, i, i + 1);
    for (size_t i = 0; defined->defaults && i < n; i += PROBED)
        check_probe(&c, &f, i, i + 1);
    fixture_destroy(&f);
}

static void gradients_of_every_method_match_finite_differences(void **state)
{
    (void)state;
    for_each_case(check_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_every_method_match_finite_differences),
    };
    if (sim_kernels_pick("auto") != SIM_OK)
        return 1;
    sim_threads_set(2); /* for ThreadSanitizer */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
