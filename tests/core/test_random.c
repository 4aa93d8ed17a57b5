/*
 * test_random.c - words, integers, intervals and normal deviates against independent code.
 */
#include "simile_test.h"

#include "simile/random.h"

#include <math.h>

/* Philox4x32-10 as in the paper (Salmon et al. 2011). */
static void philox_rounds(const uint32_t counter[4], const uint32_t key[2],
                          uint32_t out[4])
{
    uint32_t c[4], k0 = key[0], k1 = key[1];
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < 10; round++) {
        uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
        const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                                  (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

static void words_match_the_paper_and_draw_advances(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        sim_random r = {.seed = i * 7919,
                        .purpose = SIM_RANDOM_TEST,
                        .sample = i * 104729,
                        .epoch = i ^ 0xdeadbeef,
                        .view_op = i << 16 | 3,
                        .draw = i};
        const uint32_t counter[] = {r.sample, r.epoch, r.view_op, r.draw};
        const uint32_t key[] = {r.seed, r.purpose};
        uint32_t expected[4], got[4];
        philox_rounds(counter, key, expected);
        sim_random_words(&r, got);
        assert_memory_equal(got, expected, sizeof expected);
        assert_int_equal(r.draw, i + 1);
    }
}

static void integers_are_unbiased(void **state)
{
    (void)state;
    enum { DRAWS = 30000 };
    /* Without rejection half of the draws would be in the first third. */
    const uint32_t n = 3u << 30;
    size_t counts[3] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        sim_random r = {.seed = 5, .purpose = SIM_RANDOM_TEST, .sample = i};
        uint32_t x = sim_random_below(&r, n);
        assert_true(x < n);
        counts[x >> 30]++;
        assert_int_equal(sim_random_below(&r, 1), 0);
    }
    double chi = 0;
    for (int i = 0; i < 3; i++)
        chi += pow((double)counts[i] - DRAWS / 3.0, 2) / (DRAWS / 3.0);
    assert_true(chi < 13.8); /* 2 degrees of freedom: probability 0.001 */
}

static void the_upper_end_of_an_interval_is_excluded(void **state)
{
    (void)state;
    const float lo = 1, hi = nextafterf(1, 2);
    sim_random r = {.purpose = SIM_RANDOM_TEST};
    for (int i = 0; i < 1000; i++)
        assert_true(sim_random_between(&r, lo, hi) == lo);
    for (int i = 0; i < 1000; i++) {
        float x = sim_random_between(&r, -3, 5);
        assert_true(x >= -3 && x < 5);
    }
}

/* The polar method with the C library's logarithm. */
static double normal_by_libm(sim_random r)
{
    for (;; r.draw++) {
        const uint32_t counter[] = {r.sample, r.epoch, r.view_op, r.draw};
        const uint32_t key[] = {r.seed, r.purpose};
        uint32_t w[4];
        philox_rounds(counter, key, w);
        double u = (w[0] + 0.5) / 2147483648.0 - 1, v = (w[1] + 0.5) / 2147483648.0 - 1;
        double q = u * u + v * v;
        if (q > 0 && q < 1)
            return u * sqrt(-2 * log(q) / q);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void normal_deviates_match_those_with_libm_log(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    static double x[DRAWS];
    double distance = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        sim_random r = {.seed = 1, .purpose = SIM_RANDOM_TEST, .sample = i};
        double expected = normal_by_libm(r);
        x[i] = (double)sim_random_normal(&r);
        if (x[i] != (double)(float)expected)
            fail_msg("sample %u: %.9g, with libm %.17g", i, x[i], expected);
    }
    qsort(x, DRAWS, sizeof *x, ascending);
    for (size_t i = 0; i < DRAWS; i++) {
        double p = 0.5 * erfc(-x[i] / sqrt(2));
        distance =
            fmax(distance, fmax(p - (double)i / DRAWS, (double)(i + 1) / DRAWS - p));
    }
    assert_true(distance * sqrt(DRAWS) < 1.95); /* Kolmogorov: probability 0.001 */
}

/* Reads all deviates of the blocks, and stops within a block. */
static void many_deviates_match_those_with_libm_log(void **state)
{
    (void)state;
    enum { DRAWS = 100000, SHORT = 7 };
    static float x[DRAWS], few[SHORT + 1];
    sim_random r = {.seed = 1, .purpose = SIM_RANDOM_TEST, .sample = 5}, from = r;
    double squares = 0, products = 0;
    size_t n = 0;

    sim_random_normals(&r, DRAWS, x);
    for (uint32_t draw = 0; n < DRAWS; draw++) {
        const uint32_t counter[] = {5, 0, 0, draw}, key[] = {1, SIM_RANDOM_TEST};
        uint32_t w[4];
        philox_rounds(counter, key, w);
        for (int k = 0; k < 4; k += 2) {
            double u = (w[k] + 0.5) / 2147483648.0 - 1;
            double v = (w[k + 1] + 0.5) / 2147483648.0 - 1;
            double q = u * u + v * v, scale = sqrt(-2 * log(q) / q);
            if (q >= 1)
                continue;
            for (int i = 0; i < 2 && n < DRAWS; i++, n++)
                if (x[n] != (float)((i ? v : u) * scale))
                    fail_msg("deviate %zu: %.9g", n, (double)x[n]);
        }
        assert_int_equal(n < DRAWS || r.draw == draw + 1, true);
    }
    for (size_t i = 1; i < DRAWS; i++) {
        squares += (double)x[i] * (double)x[i];
        products += (double)x[i] * (double)x[i - 1];
    }
    assert_true(fabs(squares / DRAWS - 1) < 4 * sqrt(2.0 / DRAWS));
    assert_true(fabs(products / DRAWS) <
                4 * sqrt(1.0 / DRAWS)); /* neighbours of a pair too */
    few[SHORT] = 99;
    sim_random_normals(&from, SHORT, few);
    assert_memory_equal(few, x, SHORT * sizeof *x);
    assert_true(few[SHORT] == 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_match_the_paper_and_draw_advances),
        cmocka_unit_test(integers_are_unbiased),
        cmocka_unit_test(the_upper_end_of_an_interval_is_excluded),
        cmocka_unit_test(normal_deviates_match_those_with_libm_log),
        cmocka_unit_test(many_deviates_match_those_with_libm_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
