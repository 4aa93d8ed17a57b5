/*
 * test_norm.c - norms are summed by a fixed tree on any number of threads.
 */
#include "simile_test.h"

#include "optim_row.h"

#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

static float number(uint32_t sample, uint32_t draw)
{
    sim_random r = {
        .seed = 1, .purpose = SIM_RANDOM_TEST, .sample = sample, .draw = draw};
    return sim_random_normal(&r);
}

/* ---- independent implementation of the tree ---- */

static double squares(const void *ctx, size_t lo, size_t hi)
{
    const float *x = ctx;
    double sum = 0;
    for (size_t i = lo; i < hi; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

static double reference_norm_squared(const float *x, size_t n, size_t lo, size_t hi)
{
    if (hi - lo == 1)
        return squares(x, lo * 4096, hi * 4096 < n ? hi * 4096 : n);
    size_t middle = lo + (hi - lo) / 2;
    double left = reference_norm_squared(x, n, lo, middle),
           right = reference_norm_squared(x, n, middle, hi);
    return left + right;
}

static void norms_are_summed_by_the_midpoint_tree(void **unused)
{
    static const size_t sizes[] = {1, 4095, 4096, 4097, 12289, 100000, 300001, 700000};
    float *x = NULL;
    size_t n_order_dependent = 0;
    (void)unused;
    ASSERT_OK(sim_alloc(&x, 700000, "test/norm"));
    for (uint32_t i = 0; i < 700000; i++)
        x[i] = number(99, i);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        for (int threads = 1; threads <= 3; threads += 2) {
            size_t n = sizes[k];
            bool bad = true;
            double expected = sqrt(reference_norm_squared(x, n, 0, (n + 4095) / 4096)),
                   serial = 0;
            for (size_t lo = 0; lo < n; lo += 4096)
                serial += squares(x, lo, lo + 4096 < n ? lo + 4096 : n);
            n_order_dependent += sqrt(serial) != expected;
            sim_threads_set(threads);
            assert_true(sim_norm_l2(x, n, &bad) == expected);
            assert_false(bad);
            assert_true(sim_optim_norm(n, x, squares) == expected);
        }
    assert_true(n_order_dependent > 0); /* otherwise every order would pass */
    x[5] = INFINITY;
    bool bad = false;
    (void)sim_norm_l2(x, 9000, &bad);
    assert_true(bad);
    sim_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_summed_by_the_midpoint_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
