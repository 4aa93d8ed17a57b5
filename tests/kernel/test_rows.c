/*
 * test_rows.c - limits of the row functions, for every instruction set of this machine; dot
 * products.  test_table.c covers the row functions in general.
 */
#include "simile_test.h"

#include "isas.h"

#include "simile/kernel.h"
#include "simile/random.h"

#include <math.h>

enum { MAX_N = 67 };

static void fill(float *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .draw = (uint32_t)i};
        s[i] = sim_random_between(&r, -3, 3);
    }
}

/* Calls `check` for each instruction set that this machine supports. */
static void for_every_isa(void (*check)(void))
{
    for (size_t i = 0; i < N_ISAS; i++)
        if (sim_kernels_pick(isas[i]) == SIM_OK)
            check();
}

static double softplus(double x)
{
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static void check_softplus(void)
{
    static const float scales[] = {1, 10, 100}, biases[] = {0, -10, 40};
    float s[MAX_N];
    fill(s, MAX_N);
    for (size_t n = 1; n <= MAX_N; n++)
        for (size_t i = 0; i < 9; i++) {
            float scale = scales[i / 3], bias = biases[i % 3];
            double expected = 0;
            for (size_t j = 0; j < n; j++)
                expected += softplus((double)s[j] * (double)scale + (double)bias);
            double actual = (double)sim_row_softplus_sum(n, s, scale, bias);
            if (fabs(actual - expected) >
                1e-6 * expected + 1e-37) /* exp is 0 below -87 */
                fail_msg("%s n %zu scale %g bias %g: %.9g, wanted %.9g",
                         sim_kernels_name(), n, (double)scale, (double)bias, actual,
                         expected);
        }
}

static void sums_of_softplus_match_a_plain_loop(void **state)
{
    (void)state;
    for_every_isa(check_softplus);
}

static void check_infinite_row(void)
{
    float s[MAX_N], column[MAX_N], p[MAX_N];
    fill(s, MAX_N);
    fill(column, MAX_N);
    for (size_t n = 1; n <= MAX_N; n++) {
        sim_row_softmax_two(n, s, 20, INFINITY, column, p);
        for (size_t j = 0; j < n; j++) {
            double expected = exp(20 * (double)s[j] - (double)column[j]);
            assert_true(fabs((double)p[j] - expected) <= 1e-5 * expected);
        }
    }
}

static void an_infinite_row_sum_drops_the_row_term(void **state)
{
    (void)state;
    for_every_isa(check_infinite_row);
}

static void check_infinite_similarity(void)
{
    const float s = -INFINITY;
    float p = 1;
    assert_true(sim_row_softplus_sum(1, &s, 10, -10) == 0);
    sim_row_shares(1, &s, 20, 20, 7, NULL, &p);
    assert_true(p == 0);
}

static void a_similarity_of_minus_infinity_contributes_zero(void **state)
{
    (void)state;
    for_every_isa(check_infinite_similarity);
}

static void check_exp_limits(void)
{
    const float largest = sim_exp(88), below = nextafterf(-87, -INFINITY);
    assert_true(fabs((double)sim_exp(-87) / exp(-87) - 1) < 2.4e-7); /* 2 ulp */
    assert_true(fabs((double)largest / exp(88) - 1) < 2.4e-7);
    assert_true(sim_exp(below) == 0 && sim_exp(-1e30f) == 0 && sim_exp(-INFINITY) == 0);
    assert_true(sim_exp(88.5f) == largest && sim_exp(1e30f) == largest);
    assert_true(sim_exp(INFINITY) == largest);
    assert_true(isnan(sim_exp(NAN)) && isnan(sim_exp(-NAN)));
}

static void exp_is_clamped_and_keeps_nan(void **state)
{
    (void)state;
    for_every_isa(check_exp_limits);
}

static void a_dot_product_is_exact_to_double(void **state)
{
    (void)state;
    float a[MAX_N], b[MAX_N];
    fill(a, MAX_N);
    for (size_t i = 0; i < MAX_N; i++)
        b[i] = a[MAX_N - 1 - i];
    for (size_t d = 1; d <= MAX_N; d++) {
        double expected = 0;
        for (size_t i = 0; i < d; i++)
            expected += (double)a[i] * (double)b[i];
        assert_true(fabs(sim_dot(d, a, b) - expected) <= 1e-13 * (double)d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_softplus_match_a_plain_loop),
        cmocka_unit_test(an_infinite_row_sum_drops_the_row_term),
        cmocka_unit_test(a_similarity_of_minus_infinity_contributes_zero),
        cmocka_unit_test(exp_is_clamped_and_keeps_nan),
        cmocka_unit_test(a_dot_product_is_exact_to_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
