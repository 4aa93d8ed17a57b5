/*
 * test_exp.c - exp of every float, for every instruction set of this machine, against exp of the C
 * library in double.
 *
 * simile-test: timeout 1800 labels long
 */
#include "simile_test.h"

#include "isas.h"

#include "simile/kernel.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 4096, MAX_ULP = 2 };
static const float lo = -87, hi = 88; /* exp is 0 below, exp(88) above */

/* exp of the floats whose bits are `first`, `first` + step, ... */
typedef struct {
    uint32_t first, step;
    float x[CHUNK], y[CHUNK];
} chunk;

static void compute(chunk *c)
{
    for (uint32_t i = 0; i < CHUNK; i++) {
        const uint32_t bits = c->first + i * c->step;
        memcpy(&c->x[i], &bits, sizeof bits);
    }
    sim_row_softmax_two(CHUNK, c->x, 1, 0, NULL, c->y);
}

/* In units in the last place of a float of the size of `expected`. */
static double error_ulp(double actual, double expected)
{
    int exponent = 0;
    (void)frexp(expected, &exponent);
    return fabs(actual - expected) / ldexp(1, exponent - 24);
}

static bool is_right(float x, float y)
{
    if (x != x)
        return y != y;
    if (x < lo)
        return y == 0 && !signbit(y);
    return error_ulp((double)y, exp((double)(x > hi ? hi : x))) <= MAX_ULP;
}

static void check(const chunk *c)
{
    for (size_t i = 0; i < CHUNK; i++)
        if (!is_right(c->x[i], c->y[i]))
            fail_msg("%s: exp(%a) is %a, expected %a", sim_kernels_name(),
                     (double)c->x[i], (double)c->y[i], exp((double)c->x[i]));
}

/* exp by the vector kernels of every instruction set: the same bits.  The number of sets. */
static size_t compute_in_vectors(chunk *c)
{
    static chunk other;
    size_t n = 0;
    other.first = c->first;
    other.step = c->step;
    for (size_t i = 0; i < N_ISAS; i++) {
        if (strcmp(isas[i], "portable") == 0 || sim_kernels_pick(isas[i]) != SIM_OK)
            continue;
        compute(n ? &other : c);
        if (n++ > 0)
            assert_memory_equal(c->y, other.y, sizeof c->y);
    }
    return n;
}

static void vectors_have_2_ulp_and_equal_bits(void **state)
{
    (void)state;
    static chunk c = {.step = 1};
    do {
        if (compute_in_vectors(&c) == 0)
            skip();
        check(&c);
        c.first += CHUNK;
    } while (c.first != 0);
}

/* Every 16th float: it divides once per term. */
static void portable_has_2_ulp(void **state)
{
    (void)state;
    static chunk c = {.step = 16};
    assert_int_equal(sim_kernels_pick("portable"), SIM_OK);
    do {
        compute(&c);
        check(&c);
        c.first += CHUNK * c.step;
    } while (c.first != 0);
}

static void check_order(float end)
{
    static chunk c = {.step = 1};
    memcpy(&c.first, &end, sizeof c.first);
    c.first -= CHUNK / 2;
    compute(&c);
    for (size_t i = 1; i < CHUNK; i++)
        assert_true(end < 0 ? c.y[i] <= c.y[i - 1] : c.y[i] >= c.y[i - 1]);
}

static void it_is_monotonic_at_both_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ISAS; i++)
        if (sim_kernels_pick(isas[i]) == SIM_OK) {
            check_order(lo);
            check_order(hi);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_have_2_ulp_and_equal_bits),
        cmocka_unit_test(portable_has_2_ulp),
        cmocka_unit_test(it_is_monotonic_at_both_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
