/*
 * test_rows.c - rows of similarities against plain loops in double, for every instruction set
 * of this machine.
 */
#include "simile_test.h"

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
    float s[MAX_N];
    fill(s, MAX_N);
    for (size_t n = 1; n <= MAX_N; n++)
        for (size_t i = 0; i < 9; i++) {
            float scale = scales[i / 3], bias = biases[i % 3];
            double want = 0;
            for (size_t j = 0; j < n; j++)
                want += softplus((double)s[j] * (double)scale + (double)bias);
            double got = (double)sim_row_softplus_sum(n, s, scale, bias);
            if (fabs(got - want) > 1e-6 * want + 1e-37) /* exp is 0 below -87 */
                fail_msg("%s n %zu scale %g bias %g: %.9g, wanted %.9g",
                         sim_kernels_name(), n, (double)scale, (double)bias, got, want);
        }
    s[3] = -INFINITY;
    assert_true(sim_row_softplus_sum(1, s + 3, 10, -10) == 0);
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
            double want = exp(20 * (double)s[j] - (double)column[j]);
            assert_true(fabs((double)p[j] - want) <= 1e-5 * want);
        }
    }
}

static void an_infinite_row_sum_drops_the_row_term(void **state)
{
    (void)state;
    for_every_isa(check_infinite_row);
}

static void check_shares(void)
{
    float s[MAX_N], column[MAX_N], p[MAX_N];
    fill(s, MAX_N);
    for (size_t j = 0; j < MAX_N; j++)
        column[j] = 0.5f + 3 * (float)j;
    for (size_t n = 1; n <= MAX_N; n++)
        for (int two = 0; two < 2; two++) {
            sim_row_shares(n, s, 20, 20, 7, two ? column : NULL, p);
            for (size_t j = 0; j < n; j++) {
                double weight = 7 + (two ? (double)column[j] : 0);
                double want = exp(20 * (double)s[j] - 20) * weight;
                assert_true(fabs((double)p[j] - want) <=
                            4e-6 * want); /* one ulp of the logit */
            }
        }
    s[0] = -INFINITY;
    sim_row_shares(1, s, 20, 20, 7, NULL, p);
    assert_true(p[0] == 0);
}

static void shares_match_a_plain_loop(void **state)
{
    (void)state;
    for_every_isa(check_shares);
}

static void v3_and_v4_produce_equal_bits(void **state)
{
    (void)state;
    float s[MAX_N], v3[MAX_N];
    fill(s, MAX_N);
    if (sim_kernels_pick("v3") != SIM_OK || sim_kernels_pick("v4") != SIM_OK)
        skip();
    for (int v4 = 0; v4 < 2; v4++) {
        ASSERT_OK(sim_kernels_pick(v4 ? "v4" : "v3"));
        for (size_t n = 1; n <= MAX_N; n++) {
            float sum = sim_row_softplus_sum(n, s, 7, -3);
            if (v4)
                assert_memory_equal(&sum, &v3[n - 1], sizeof sum);
            v3[n - 1] = sum;
        }
    }
}

static void a_dot_product_is_exact_to_double(void **state)
{
    (void)state;
    float a[MAX_N], b[MAX_N];
    fill(a, MAX_N);
    for (size_t i = 0; i < MAX_N; i++)
        b[i] = a[MAX_N - 1 - i];
    for (size_t d = 1; d <= MAX_N; d++) {
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
        cmocka_unit_test(an_infinite_row_sum_drops_the_row_term),
        cmocka_unit_test(shares_match_a_plain_loop),
        cmocka_unit_test(v3_and_v4_produce_equal_bits),
        cmocka_unit_test(a_dot_product_is_exact_to_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
