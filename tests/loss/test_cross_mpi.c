/*
 * test_cross_mpi.c - the losses of anchors against columns on 1 to 4 ranks: compared with plain
 * loops in double, and bit by bit with the results of one rank, which every rank also computes.
 *
 * simile-test: timeout 300
 */
#include "simile_test.h"

#include "simile/comm.h"
#include "simile/kernel.h"
#include "simile/loss.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

static const sim_comm *comm;
static const sim_comm alone = {.rank = 0, .size = 1};

/* ---- inputs: all rows on every rank ---- */

typedef struct {
    size_t n, d, unit;
    double length; /* of rows; 0: unit rows */
    float *a, *b;
    double *s,
        *g; /* [n][n] similarities and the reference gradient with respect to them */
} inputs;

static float *new_floats(size_t n)
{
    float *x = NULL;
    ASSERT_OK(sim_alloc(&x, n, "test/cross"));
    return x;
}

static double *new_doubles(size_t n)
{
    double *x = NULL;
    ASSERT_OK(sim_alloc(&x, n, "test/cross"));
    return x;
}

static float draw(uint32_t sample, size_t i)
{
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = sample, .draw = (uint32_t)i};
    return sim_random_between(&r, -1, 1);
}

static inputs make_inputs(size_t n, size_t d, double length)
{
    inputs x = {.n = n, .d = d, .unit = 8, .length = length};
    float *norm = new_floats(n);
    x.a = new_floats(n * d);
    x.b = new_floats(n * d);
    x.s = new_doubles(n * n);
    x.g = new_doubles(n * n);
    for (size_t i = 0; i < n * d; i++) {
        x.a[i] = draw(1, i);
        x.b[i] = x.a[i] + 0.7f * draw(2, i);
    }
    sim_unit_rows(n, d, x.a, x.a, norm);
    sim_unit_rows(n, d, x.b, x.b, norm);
    for (size_t i = 0; length > 0 && i < n * d; i++) {
        x.a[i] *= (float)length * (1 + draw(3, i / d) / 2);
        x.b[i] *= (float)length * (1 + draw(4, i / d) / 2);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < d; k++)
                x.s[i * n + j] += (double)x.a[i * d + k] * (double)x.b[j * d + k];
    sim_free(norm);
    return x;
}

static void free_inputs(inputs *x)
{
    sim_free(x->a);
    sim_free(x->b);
    sim_free(x->s);
    sim_free(x->g);
}

/* ---- plain loops in double ---- */

/* log-sum-exp of row i or column i, without the positive if decoupled. */
static double reference_lse(const inputs *x, size_t i, bool column, double t,
                            bool decoupled)
{
    double max_value = -(double)INFINITY, sum = 0;
    for (int round = 0; round < 2; round++)
        for (size_t j = 0; j < x->n; j++) {
            double s = x->s[column ? j * x->n + i : i * x->n + j] / t;
            if (decoupled && i == j)
                continue;
            if (round)
                sum += exp(s - max_value);
            else
                max_value = s > max_value ? s : max_value;
        }
    return max_value + log(sum);
}

/* The loss; with `gradient` also x->g. */
static double reference_softmax(const inputs *x, const sim_cross_options *o, double t,
                                bool gradient)
{
    double loss = 0, n = (double)x->n, terms = o->columns ? 2 : 1;
    double factor = o->factor > 0 ? o->factor : 1;
    memset(x->g, 0, gradient ? x->n * x->n * sizeof *x->g : 0);
    for (size_t c = 0; c < (o->columns ? 2 : 1); c++)
        for (size_t i = 0; i < x->n; i++) {
            double lse = reference_lse(x, i, c, t, o->decoupled);
            loss += lse - x->s[i * x->n + i] / t;
            double weight = factor / (t * n * terms), others = 0;
            for (size_t j = 0; gradient && j < x->n; j++) {
                size_t at = c ? j * x->n + i : i * x->n + j;
                double p = i == j ? 0 : exp(x->s[at] / t - lse);
                x->g[at] += weight * p;
                others += p; /* 1 - P of the positive without cancellation */
            }
            if (gradient)
                x->g[i * x->n + i] -= weight * (o->decoupled ? 1 : others);
        }
    return factor * loss / (n * terms);
}

static double reference_sigmoid(const inputs *x, double scale, double bias, bool gradient)
{
    double loss = 0, n = (double)x->n;
    for (size_t i = 0; i < x->n; i++)
        for (size_t j = 0; j < x->n; j++) {
            double y = i == j ? 1 : -1, u = y * (scale * x->s[i * x->n + j] + bias);
            loss += (u < 0 ? -u : 0) + log1p(exp(-fabs(u)));
            if (gradient)
                x->g[i * x->n + j] = -y * scale / (n * (1 + exp(u)));
        }
    return loss / n;
}

/* Largest error of rows [lo, hi) of da or db, relative to the largest entry of all rows. */
static double gradient_error(const inputs *x, bool of_b, sim_range rows,
                             const float *local)
{
    double max_error = 0,
           max_value = 1e-30; /* avoids division by values below the range of float */
    double *sum = new_doubles(x->d);
    const float *other = of_b ? x->a : x->b;
    for (size_t i = 0; i < x->n; i++) {
        memset(sum, 0, x->d * sizeof *sum);
        for (size_t j = 0; j < x->n; j++)
            for (size_t k = 0; k < x->d; k++)
                sum[k] += x->g[of_b ? j * x->n + i : i * x->n + j] *
                          (double)other[j * x->d + k];
        for (size_t k = 0; k < x->d; k++) {
            max_value = fmax(max_value, fabs(sum[k]));
            if (i >= rows.lo && i < rows.hi) {
                double e = fabs(sum[k] - (double)local[(i - rows.lo) * x->d + k]);
                max_error = e <= max_error ? max_error : e; /* a NaN is stored */
            }
        }
    }
    sim_free(sum);
    return max_error / max_value;
}

/* ---- the results of the engine, on all ranks or on one ---- */

typedef struct {
    sim_range rows;
    float *da, *db;
    sim_loss_report report;
    size_t bytes_difference; /* allocated minus announced */
} result;

typedef struct {
    const sim_cross_options *softmax; /* NULL: sigmoid */
    double scale, bias;
    bool no_da, no_db;
} request;

static result compute(const sim_comm *c, const inputs *x, const request *q)
{
    const sim_rows_shape shape = {.n = x->n, .unit = x->unit, .views = 1, .d = x->d};
    sim_cross *e = NULL;
    result r = {.rows = sim_rows_local(sim_comm_partition(c), &shape)};
    size_t n = (r.rows.hi - r.rows.lo) * x->d, before = sim_memory_bytes();
    const float *a = x->a + r.rows.lo * x->d, *b = x->b + r.rows.lo * x->d;

    ASSERT_OK(sim_cross_create(c, &shape, &e));
    r.bytes_difference =
        sim_memory_bytes() - before - sim_cross_bytes(sim_comm_partition(c), &shape);
    r.da = q->no_da ? NULL : new_floats(n);
    r.db = q->no_db ? NULL : new_floats(n);
    if (q->softmax)
        sim_cross_softmax(e, q->softmax, a, b, r.da, r.db, &r.report);
    else
        sim_cross_sigmoid(e, q->scale, q->bias, a, b, r.da, r.db, &r.report);
    sim_cross_destroy(&e);
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
    size_t bytes = (r->rows.hi - r->rows.lo) * d * sizeof(float);
    return memcmp(&r->report, &one->report, sizeof r->report) == 0 &&
           (!r->da || memcmp(r->da, one->da + r->rows.lo * d, bytes) == 0) &&
           (!r->db || memcmp(r->db, one->db + r->rows.lo * d, bytes) == 0);
}

/* Failures are counted, and asserted after the last collective call of a test. */
static int failures;

static void expect(bool ok, const char *what, const inputs *x, double t, int flags,
                   double got, double expected)
{
    if (ok)
        return;
    failures++;
    print_error("%s: n %zu d %zu T %g flags %d: %.10g, expected %.10g\n", what, x->n,
                x->d, t, flags, got, expected);
}

static void check_statistics(const inputs *x, const sim_loss_report *r)
{
    double hits = 0, positive = 0, all = 0, embedding_std = 0, n = (double)x->n;
    double unit = x->length > 0 ? x->length * x->length : 1;
    for (size_t i = 0; i < x->n; i++) {
        bool hit = true;
        for (size_t j = 0; j < x->n; j++) {
            hit &= j == i || x->s[i * x->n + i] > x->s[i * x->n + j];
            all += x->s[i * x->n + j];
        }
        hits += hit;
        positive += x->s[i * x->n + i];
    }
    for (size_t k = 0; k < x->d; k++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < x->n; i++) {
            sum += (double)x->a[i * x->d + k];
            squares += (double)x->a[i * x->d + k] * (double)x->a[i * x->d + k];
        }
        embedding_std += sqrt(fmax(0, squares / n - sum * sum / (n * n))) / (double)x->d;
    }
    double negative = (all - positive) / (n * (n - 1));
    expect(fabs(r->accuracy - hits / n) <= 1 / n, "accuracy", x, 0, 0, r->accuracy,
           hits / n);
    expect(fabs(r->positive - positive / n) <= 1e-6 * unit, "positive", x, 0, 0,
           r->positive, positive / n);
    expect(fabs(r->negative - negative) <= 1e-6 * unit, "negative", x, 0, 0, r->negative,
           negative);
    expect(fabs(r->embedding_std - embedding_std) <= 1e-6 * sqrt(unit), "embedding_std",
           x, 0, 0, r->embedding_std, embedding_std);
}

/* ---- softmax ---- */

/*
 * The tolerance 1e-5 of the gradient applies to T from 0.05 to 1. Long rows have logits of several
 * hundred, whose rounding to fp32 alone is 3e-5.
 */
static void check_softmax(const inputs *x, double t, int flags)
{
    const sim_cross_options o = {.temperature = t,
                                 .decoupled = flags & 1,
                                 .columns = flags & 2,
                                 .any_length = flags & 4,
                                 .factor = flags & 2 ? 2 * t : 0};
    const request q = {.softmax = &o};
    result r = compute(comm, x, &q), one = compute(&alone, x, &q);
    double h = 1e-5, factor = flags & 2 ? 2 * t : 1;
    double up = reference_softmax(x, &o, t * exp(h), false),
           down = reference_softmax(x, &o, t * exp(-h), false);
    double expected = reference_softmax(x, &o, t, true), inner = (up - down) / (2 * h);
    double logits = (x->length > 0 ? x->length * x->length : 1) / t;
    bool ok = t >= 0.05 && t <= 1 && x->length <= 0;
    double bound = 1e-6 * fmax(1, logits / 20) * fmax(factor, fabs(expected));
    double ea = gradient_error(x, false, r.rows, r.da);
    double eb = gradient_error(x, true, r.rows, r.db);

    expect(same_bits(&r, &one, x->d), "bits", x, t, flags, r.report.loss,
           one.report.loss);
    expect(r.bytes_difference == 0, "bytes", x, t, flags, (double)r.bytes_difference, 0);
    expect(fabs(r.report.loss - expected) <= bound, "loss", x, t, flags, r.report.loss,
           expected);
    expect(ea <= (ok ? 1e-5 : 1e-3), "da", x, t, flags, ea, 0);
    expect(eb <= (ok ? 1e-5 : 1e-3), "db", x, t, flags, eb, 0);
    expect(fabs(r.report.d_log_temperature - inner) <=
               1e-5 * factor * fmax(1, logits) + (ok ? 1e-6 : 1e-3) * fabs(inner),
           "d_log_temperature", x, t, flags, r.report.d_log_temperature, inner);
    check_statistics(x, &r.report);
    free_result(&r);
    free_result(&one);
}

static const size_t counts[] = {2, 5, 33, 200, 513, 700}, widths[] = {3, 16, 65};
static const double temperatures[] = {0.005, 0.05, 0.1, 1, 10};

/* Large inputs have one width each, because the reference loops are slow. */
static bool is_tested(size_t n, size_t d)
{
    return n < 500 || (n == 513 ? d == 3 : d == 65);
}

static void softmax_matches_plain_loops(void **state)
{
    (void)state;
    failures = 0;
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 3; j++) {
            if (!is_tested(counts[i], widths[j]))
                continue;
            inputs x = make_inputs(counts[i], widths[j], 0);
            for (size_t t = 0; t < 5; t++)
                for (int flags = 0; flags < (counts[i] < 500 ? 8 : 4); flags++)
                    check_softmax(&x, temperatures[t], flags);
            free_inputs(&x);
        }
    assert_int_equal(failures, 0);
}

static void large_logits_do_not_overflow(void **state)
{
    (void)state;
    failures = 0;
    for (size_t i = 0; i < 4; i++) {
        inputs x = make_inputs(counts[i], 16, 10);
        for (int flags = 4; flags < 8; flags++) {
            check_softmax(&x, 1, flags);
            check_softmax(&x, 0.1, flags);
            check_softmax(&x, 0.05, flags);
        }
        free_inputs(&x);
    }
    assert_int_equal(failures, 0);
}

/* ---- sigmoid ---- */

static void check_sigmoid(const inputs *x, double scale, double bias)
{
    const request q = {.scale = scale, .bias = bias};
    result r = compute(comm, x, &q), one = compute(&alone, x, &q);
    double h = 1e-5;
    double by_scale = (reference_sigmoid(x, scale * exp(h), bias, false) -
                       reference_sigmoid(x, scale * exp(-h), bias, false)) /
                      (2 * h);
    double by_bias = (reference_sigmoid(x, scale, bias + h, false) -
                      reference_sigmoid(x, scale, bias - h, false)) /
                     (2 * h);
    double expected = reference_sigmoid(x, scale, bias, true);
    double ea = gradient_error(x, false, r.rows, r.da);
    double eb = gradient_error(x, true, r.rows, r.db);

    expect(same_bits(&r, &one, x->d), "bits", x, scale, 0, r.report.loss,
           one.report.loss);
    expect(fabs(r.report.loss - expected) <= 1e-6 * fmax(1, expected), "loss", x, scale,
           0, r.report.loss, expected);
    expect(ea <= 1e-5, "da", x, scale, 0, ea, 0);
    expect(eb <= 1e-5, "db", x, scale, 0, eb, 0);
    expect(fabs(r.report.d_log_scale - by_scale) <= 1e-6 * fmax(scale, fabs(by_scale)),
           "d_log_scale", x, scale, 0, r.report.d_log_scale, by_scale);
    expect(fabs(r.report.d_bias - by_bias) <= 1e-6 * fmax(1, fabs(by_bias)), "d_bias", x,
           scale, 0, r.report.d_bias, by_bias);
    check_statistics(x, &r.report);
    free_result(&r);
    free_result(&one);
}

static void sigmoid_matches_plain_loops(void **state)
{
    (void)state;
    failures = 0;
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 3; j++) {
            if (!is_tested(counts[i], widths[j]))
                continue;
            inputs x = make_inputs(counts[i], widths[j], 0);
            check_sigmoid(&x, 10, -10);
            check_sigmoid(&x, 1, 0);
            free_inputs(&x);
        }
    assert_int_equal(failures, 0);
}

/* ---- optional gradients, threads, units ---- */

/* Without one gradient the other has the same bits, and scalar derivatives agree up to rounding. */
static void check_absent(const inputs *x, request q, bool no_da, bool no_db)
{
    result all = compute(comm, x, &q);
    q.no_da = no_da;
    q.no_db = no_db;
    result partial = compute(comm, x, &q);
    double inner = all.report.d_log_temperature + all.report.d_log_scale;
    double got = partial.report.d_log_temperature + partial.report.d_log_scale;
    double expected = no_da && no_db ? 0 : inner;

    expect(fabs(got - expected) <= 1e-5, "scalar derivatives", x, 0, no_da + 2 * no_db,
           got, expected);
    partial.report.d_log_temperature = all.report.d_log_temperature;
    partial.report.d_log_scale = all.report.d_log_scale;
    result own = all; /* treats the rows of this rank as all rows */
    own.rows.lo = 0;
    partial.rows = (sim_range){0, partial.rows.hi - partial.rows.lo};
    expect(same_bits(&partial, &own, x->d), "bits", x, 0, no_da + 2 * no_db, 0, 0);
    free_result(&all);
    free_result(&partial);
}

static void gradients_are_optional(void **state)
{
    (void)state;
    const sim_cross_options one_way = {.temperature = 0.2},
                            both_ways = {.temperature = 0.2, .columns = true};
    const request requests[] = {
        {.softmax = &one_way}, {.softmax = &both_ways}, {.scale = 10, .bias = -10}};
    inputs x = make_inputs(200, 16, 0);
    failures = 0;
    for (size_t i = 0; i < 3; i++)
        for (int absent = 1; absent < 4; absent++)
            check_absent(&x, requests[i], absent & 1, absent & 2);
    free_inputs(&x);
    assert_int_equal(failures, 0);
}

static void threads_and_units_do_not_change_the_bits(void **state)
{
    (void)state;
    const sim_cross_options o = {.temperature = 0.1, .columns = true};
    const request requests[] = {{.softmax = &o}, {.scale = 10, .bias = -10}};
    static const size_t units[] = {1, 32, 300, 700};
    inputs x = make_inputs(700, 16, 0);
    failures = 0;
    for (size_t i = 0; i < 2; i++) {
        result one = compute(&alone, &x, &requests[i]);
        sim_threads_set(3);
        for (size_t u = 0; u < 4; u++) {
            x.unit = units[u];
            result r = compute(comm, &x, &requests[i]);
            expect(same_bits(&r, &one, x.d), "bits", &x, 0, (int)u, 0, 0);
            free_result(&r);
        }
        sim_threads_set(1);
        free_result(&one);
    }
    free_inputs(&x);
    assert_int_equal(failures, 0);
}

static void equal_rows_have_an_accuracy_of_zero(void **state)
{
    (void)state;
    inputs x = make_inputs(33, 16, 0);
    for (size_t i = 0; i < x.n; i++) {
        memcpy(x.a + i * x.d, x.a, x.d * sizeof *x.a);
        memcpy(x.b + i * x.d, x.a, x.d * sizeof *x.a);
    }
    const sim_cross_options o = {.temperature = 0.1};
    const request q = {.softmax = &o};
    result r = compute(comm, &x, &q);
    double loss = r.report.loss, accuracy = r.report.accuracy;
    free_result(&r);
    free_inputs(&x);
    assert_true(fabs(loss - log(33)) < 1e-6);
    assert_true(accuracy == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_matches_plain_loops),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(sigmoid_matches_plain_loops),
        cmocka_unit_test(gradients_are_optional),
        cmocka_unit_test(threads_and_units_do_not_change_the_bits),
        cmocka_unit_test(equal_rows_have_an_accuracy_of_zero),
    };
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sim_comm_end();
    return failed != 0;
}
