/*
 * test_rows.c - rows of similarities against plain double loops, for every instruction set
 * this machine runs.
 */
#include "simile_test.h"

#include "simile/kernel.h"
#include "simile/random.h"

#include <math.h>

enum { MOST = 67 };

static void fill(float *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .draw = (uint32_t)i};
        s[i] = sim_random_between(&r, -3, 3);
    }
}

/* Calls `check` with each set that this machine runs; `portable` is always one of them. */
static void for_every_set(void (*check)(void))
{
    static const char *const names[] = {"portable", "v3", "v4"};
    for (size_t i = 0; i < 3; i++)
        if (sim_kernels_pick(names[i]) == SIM_OK)
            check();
}

static double softplus(double x)
{
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static void check_softplus(void)
{
    static const float scales[] = {1, 10, 100}, biases[] = {0, -10, 40};
    float s[MOST];
    fill(s, MOST);
    for (size_t n = 1; n <= MOST; n++)
        for (size_t i = 0; i < 9; i++) {
            float scale = scales[i / 3], bias = biases[i % 3];
            double want = 0;
            for (size_t j = 0; j < n; j++)
                want += softplus((double)s[j] * (double)scale + (double)bias);
            double got = (double)sim_row_softplus_sum(n, s, scale, bias);
            if (fabs(got - want) > 1e-6 * want + 1e-37) /* below e^-87 all is 0 */
                fail_msg("%s n %zu scale %g bias %g: %.9g, wanted %.9g",
                         sim_kernels_name(), n, (double)scale, (double)bias, got, want);
        }
    s[3] = -INFINITY;
    assert_true(sim_row_softplus_sum(1, s + 3, 10, -10) == 0);
}

static void sums_of_softplus_match_a_plain_loop(void **state)
{
    (void)state;
    for_every_set(check_softplus);
}

static void check_infinite_row(void)
{
    float s[MOST], column[MOST], p[MOST];
    fill(s, MOST);
    fill(column, MOST);
    for (size_t n = 1; n <= MOST; n++) {
        sim_row_softmax_two(n, s, 20, INFINITY, column, p);
        for (size_t j = 0; j < n; j++) {
            double want = exp(20 * (double)s[j] - (double)column[j]);
            assert_true(fabs((double)p[j] - want) <= 1e-5 * want);
        }
    }
}

static void a_row_of_infinite_sum_leaves_the_column_alone(void **state)
{
    (void)state;
    for_every_set(check_infinite_row);
}

static void check_shares(void)
{
    float s[MOST], column[MOST], p[MOST];
    fill(s, MOST);
    for (size_t j = 0; j < MOST; j++)
        column[j] = 0.5f + 3 * (float)j;
    for (size_t n = 1; n <= MOST; n++)
        for (int two = 0; two < 2; two++) {
            sim_row_shares(n, s, 20, 20, 7, two ? column : NULL, p);
            for (size_t j = 0; j < n; j++) {
                double weight = 7 + (two ? (double)column[j] : 0);
                double want = exp(20 * (double)s[j] - 20) * weight;
                assert_true(fabs((double)p[j] - want) <=
                            4e-6 * want); /* the logit's ulp */
            }
        }
    s[0] = -INFINITY;
    sim_row_shares(1, s, 20, 20, 7, NULL, p);
    assert_true(p[0] == 0);
}

static void shares_match_a_plain_loop(void **state)
{
    (void)state;
    for_every_set(check_shares);
}

static void fast_sets_have_equal_bits(void **state)
{
    (void)state;
    float s[MOST], v3[MOST];
    fill(s, MOST);
    if (sim_kernels_pick("v3") != SIM_OK || sim_kernels_pick("v4") != SIM_OK)
        skip();
    for (int set = 0; set < 2; set++) {
        ASSERT_OK(sim_kernels_pick(set ? "v4" : "v3"));
        for (size_t n = 1; n <= MOST; n++) {
            float sum = sim_row_softplus_sum(n, s, 7, -3);
            if (set)
                assert_memory_equal(&sum, &v3[n - 1], sizeof sum);
            v3[n - 1] = sum;
        }
    }
}

static void a_dot_product_is_exact_to_double(void **state)
{
    (void)state;
    float a[MOST], b[MOST];
    fill(a, MOST);
    for (size_t i = 0; i < MOST; i++)
        b[i] = a[MOST - 1 - i];
    for (size_t d = 1; d <= MOST; d++) {
        double want = 0;
        for (size_t i = 0; i < d; i++)
            want += (double)a[i] * (double)b[i];
        assert_true(fabs(sim_dot(d, a, b) - want) <= 1e-13 * (double)d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_softplus_match_a_plain_loop),
        cmocka_unit_test(a_row_of_infinite_sum_leaves_the_column_alone),
        cmocka_unit_test(shares_match_a_plain_loop),
        cmocka_unit_test(fast_sets_have_equal_bits),
        cmocka_unit_test(a_dot_product_is_exact_to_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
