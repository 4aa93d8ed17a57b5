/*
 * test_sampled_mpi.c - anchors against sampled columns on 1 to 4 ranks: compared with plain loops in
 * double, and bit by bit with the results of one rank, which every rank also computes.
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/loss.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

static const sim_comm *comm;
static const sim_comm alone = {.rank = 0, .size = 1};
static int failures; /* asserted after the last collective call of a test */

/* All rows are on every rank; an image has two anchors and three targets. */
enum { ANCHORS = 2, TARGETS = 3 };

typedef struct {
    sim_sampled_shape shape;
    float *a, *b;
    int32_t *positive, *negatives;
    bool decoupled;
    double *da, *db; /* reference gradients */
} inputs;

static float draw(uint32_t sample, size_t i)
{
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = sample, .draw = (uint32_t)i};
    return sim_random_between(&r, -1, 1);
}

/* One of the first n_candidates targets; few candidates make samples repeat or equal the positive. */
static int32_t draw_target(uint32_t sample, size_t i, size_t n_candidates)
{
    return (int32_t)((double)(draw(sample, i) + 1) / 2 * (double)n_candidates * 0.999);
}

static inputs make_inputs(size_t images, size_t d, size_t m, size_t n_candidates,
                          float length)
{
    const sim_rows_shape anchors = {
        .n = images * ANCHORS, .unit = 4 * ANCHORS, .views = 1, .d = d};
    const sim_rows_shape targets = {
        .n = images * TARGETS, .unit = 4 * TARGETS, .views = 1, .d = d};
    inputs x = {.shape = {.anchors = anchors, .targets = targets, .m = m}};
    ASSERT_OK(sim_alloc(&x.a, anchors.n * d, "test/sampled"));
    ASSERT_OK(sim_alloc(&x.b, targets.n * d, "test/sampled"));
    ASSERT_OK(sim_alloc(&x.da, anchors.n * d, "test/sampled"));
    ASSERT_OK(sim_alloc(&x.db, targets.n * d, "test/sampled"));
    ASSERT_OK(sim_alloc(&x.positive, anchors.n, "test/sampled"));
    ASSERT_OK(sim_alloc(&x.negatives, anchors.n * m, "test/sampled"));
    for (size_t i = 0; i < anchors.n * d; i++)
        x.a[i] = length * draw(1, i);
    for (size_t i = 0; i < targets.n * d; i++)
        x.b[i] = length * draw(2, i);
    for (size_t i = 0; i < anchors.n; i++)
        x.positive[i] = draw_target(3, i, n_candidates);
    for (size_t i = 0; i < anchors.n * m; i++)
        x.negatives[i] = draw_target(4, i, n_candidates);
    return x;
}

static void free_inputs(inputs *x)
{
    sim_free(x->a);
    sim_free(x->b);
    sim_free(x->da);
    sim_free(x->db);
    sim_free(x->positive);
    sim_free(x->negatives);
}

/* ---- plain loops in double ---- */

static const int32_t *candidate(const inputs *x, size_t i, size_t k)
{
    return k ? &x->negatives[i * x->shape.m + k - 1] : &x->positive[i];
}

static double logit(const inputs *x, size_t i, size_t k, double t)
{
    size_t d = x->shape.anchors.d;
    double s = 0;
    for (size_t c = 0; c < d; c++)
        s += (double)x->a[i * d + c] * (double)x->b[(size_t)*candidate(x, i, k) * d + c];
    return s / t;
}

static double reference_lse(const inputs *x, size_t i, double t)
{
    double max_value = -(double)INFINITY, sum = 0;
    for (size_t k = x->decoupled; k <= x->shape.m; k++)
        max_value = fmax(max_value, logit(x, i, k, t));
    for (size_t k = x->decoupled; k <= x->shape.m; k++)
        sum += exp(logit(x, i, k, t) - max_value);
    return max_value + log(sum);
}

static double reference_loss(const inputs *x, double t)
{
    double loss = 0;
    for (size_t i = 0; i < x->shape.anchors.n; i++)
        loss += reference_lse(x, i, t) - logit(x, i, 0, t);
    return loss / (double)x->shape.anchors.n;
}

static void reference_gradient(const inputs *x, double t)
{
    size_t d = x->shape.anchors.d, n = x->shape.anchors.n;
    memset(x->da, 0, n * d * sizeof *x->da);
    memset(x->db, 0, x->shape.targets.n * d * sizeof *x->db);
    for (size_t i = 0; i < n; i++) {
        double lse = reference_lse(x, i, t);
        for (size_t k = 0; k <= x->shape.m; k++) {
            size_t j = (size_t)*candidate(x, i, k);
            double share = k == 0 && x->decoupled ? 0 : exp(logit(x, i, k, t) - lse);
            double g = (share - (k == 0)) / (t * (double)n);
            for (size_t c = 0; c < d; c++) {
                x->da[i * d + c] += g * (double)x->b[j * d + c];
                x->db[j * d + c] += g * (double)x->a[i * d + c];
            }
        }
    }
}

static double reference_accuracy(const inputs *x)
{
    double hits = 0;
    for (size_t i = 0; i < x->shape.anchors.n; i++) {
        bool hit = true;
        for (size_t k = 1; k <= x->shape.m; k++)
            hit &= *candidate(x, i, k) == *candidate(x, i, 0) ||
                   logit(x, i, 0, 1) > logit(x, i, k, 1);
        hits += hit;
    }
    return hits / (double)x->shape.anchors.n;
}

/* Largest error of rows [lo, hi), relative to the largest entry of all n rows. */
static double error_of(size_t n, size_t d, sim_range rows, const float *local,
                       const double *expected)
{
    double max_error = 0, max_value = 0;
    for (size_t i = 0; i < n * d; i++)
        max_value = fmax(max_value, fabs(expected[i]));
    for (size_t i = rows.lo * d; i < rows.hi * d; i++) {
        double e = fabs(expected[i] - (double)local[i - rows.lo * d]);
        max_error = e <= max_error ? max_error : e; /* a NaN is stored */
    }
    return max_error / max_value;
}

/* ---- the results of the engine ---- */

typedef struct {
    sim_range anchors, targets;
    float *da, *db;
    sim_loss_report report;
    size_t bytes_difference; /* allocated minus announced */
} result;

static result compute(const sim_comm *c, const inputs *x, double t, bool no_da,
                      bool no_db)
{
    size_t d = x->shape.anchors.d, before = sim_memory_bytes();
    result r = {.anchors = sim_rows_local(sim_comm_partition(c), &x->shape.anchors),
                .targets = sim_rows_local(sim_comm_partition(c), &x->shape.targets)};
    const sim_cross_options options = {.temperature = t, .decoupled = x->decoupled};
    sim_sampled *e = NULL;
    ASSERT_OK(sim_sampled_create(c, &x->shape, &e));
    r.bytes_difference = sim_memory_bytes() - before - sim_sampled_bytes(&x->shape);
    if (!no_da)
        ASSERT_OK(sim_alloc(&r.da, (r.anchors.hi - r.anchors.lo) * d, "test/sampled"));
    if (!no_db)
        ASSERT_OK(sim_alloc(&r.db, (r.targets.hi - r.targets.lo) * d, "test/sampled"));
    sim_sampled_softmax(e, &options, x->a + r.anchors.lo * d, x->b + r.targets.lo * d,
                        x->positive + r.anchors.lo,
                        x->negatives + r.anchors.lo * x->shape.m, r.da, r.db, &r.report);
    sim_sampled_destroy(&e);
    return r;
}

static void free_result(result *r)
{
    sim_free(r->da);
    sim_free(r->db);
}

/* Whether the rows of this rank in `r` have the bits of `one`, which contains all rows. */
static bool same_bits(const result *r, const result *one, size_t d)
{
    size_t row = d * sizeof(float);
    return (!r->da || memcmp(r->da, one->da + r->anchors.lo * d,
                             (r->anchors.hi - r->anchors.lo) * row) == 0) &&
           (!r->db || memcmp(r->db, one->db + r->targets.lo * d,
                             (r->targets.hi - r->targets.lo) * row) == 0);
}

static void expect(bool good, const char *what, const inputs *x, double t, double got,
                   double expected)
{
    if (good)
        return;
    failures++;
    print_error("%s: anchors %zu d %zu m %zu T %g: %.10g, expected %.10g\n", what,
                x->shape.anchors.n, x->shape.anchors.d, x->shape.m, t, got, expected);
}

static void check_inputs(const inputs *x, double t)
{
    size_t d = x->shape.anchors.d;
    result r = compute(comm, x, t, false, false),
           one = compute(&alone, x, t, false, false);
    double h = 1e-5, expected = reference_loss(x, t);
    double inner =
        (reference_loss(x, t * exp(h)) - reference_loss(x, t * exp(-h))) / (2 * h);
    reference_gradient(x, t);
    double ea = error_of(x->shape.anchors.n, d, r.anchors, r.da, x->da);
    double eb = error_of(x->shape.targets.n, d, r.targets, r.db, x->db);

    expect(same_bits(&r, &one, d), "bits", x, t, 0, 0);
    expect(memcmp(&r.report, &one.report, sizeof r.report) == 0, "report", x, t, 0, 0);
    expect(r.bytes_difference == 0, "bytes", x, t, (double)r.bytes_difference, 0);
    expect(fabs(r.report.loss - expected) <= 1e-6 * fmax(1, fabs(expected)), "loss", x, t,
           r.report.loss, expected);
    expect(ea <= 1e-5, "da", x, t, ea, 0);
    expect(eb <= 1e-5, "db", x, t, eb, 0);
    expect(fabs(r.report.d_log_temperature - inner) <= 1e-5 * fmax(1, fabs(inner)),
           "d_log_temperature", x, t, r.report.d_log_temperature, inner);
    expect(fabs(r.report.accuracy - reference_accuracy(x)) < 1e-12, "accuracy", x, t,
           r.report.accuracy, reference_accuracy(x));
    free_result(&r);
    free_result(&one);
}

static void sampled_softmax_matches_plain_loops(void **state)
{
    (void)state;
    static const size_t images[] = {1, 5, 33, 150}, widths[] = {3, 16, 65};
    failures = 0;
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 3; j++)
            for (size_t m = 1; m <= 16; m += 15) {
                inputs x = make_inputs(images[i], widths[j], m, images[i] * TARGETS, 1);
                check_inputs(&x, 0.1);
                check_inputs(&x, 1);
                check_inputs(&x, 10);
                free_inputs(&x);
            }
    assert_int_equal(failures, 0);
}

static void decoupled_excludes_the_positive(void **state)
{
    (void)state;
    failures = 0;
    for (size_t n_candidates = 2; n_candidates <= 70;
         n_candidates += 68) { /* samples that equal the positive remain */
        inputs x = make_inputs(33, 16, 5, n_candidates, 1);
        x.decoupled = true;
        check_inputs(&x, 0.3);
        free_inputs(&x);
    }
    assert_int_equal(failures, 0);
}

static void samples_may_repeat_and_equal_the_positive(void **state)
{
    (void)state;
    failures = 0;
    for (size_t n_candidates = 2; n_candidates <= 7; n_candidates += 5) {
        inputs x = make_inputs(70, 16, 16, n_candidates, 1);
        check_inputs(&x, 0.5);
        free_inputs(&x);
    }
    assert_int_equal(failures, 0);
}

static void large_logits_do_not_overflow(void **state)
{
    (void)state;
    failures = 0;
    inputs x = make_inputs(33, 16, 16, 33 * TARGETS, 20);
    check_inputs(&x, 0.5);
    free_inputs(&x);
    assert_int_equal(failures, 0);
}

static void gradients_are_optional_and_threads_do_not_change_the_bits(void **state)
{
    (void)state;
    failures = 0;
    inputs x = make_inputs(150, 16, 16, 150 * TARGETS, 1);
    result one = compute(&alone, &x, 0.5, false, false);
    double inner = one.report.d_log_temperature;
    sim_threads_set(3);
    for (int absent = 0; absent < 4; absent++) {
        result r = compute(comm, &x, 0.5, absent & 1, absent & 2);
        double got = r.report.d_log_temperature, expected = absent == 3 ? 0 : inner;
        expect(fabs(got - expected) <= 1e-6, "d_log_temperature", &x, 0.5, got, expected);
        expect(same_bits(&r, &one, 16), "bits", &x, 0.5, absent, 0);
        expect(r.report.loss == one.report.loss, "loss", &x, 0.5, absent, 0);
        free_result(&r);
    }
    sim_threads_set(1);
    free_result(&one);
    free_inputs(&x);
    assert_int_equal(failures, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampled_softmax_matches_plain_loops),
        cmocka_unit_test(decoupled_excludes_the_positive),
        cmocka_unit_test(samples_may_repeat_and_equal_the_positive),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(gradients_are_optional_and_threads_do_not_change_the_bits),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
