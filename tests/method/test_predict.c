/*
 * test_predict.c - which comparisons CPC takes on.
 */
#include "simile_test.h"

#include "predict.h"

#include <string.h>

static sim_status check(size_t n_blocks, size_t slots, size_t grid)
{
    const predict_spec spec = {
        .images = {.n_blocks = n_blocks, .views = 1, .slots = slots},
        .grid = grid,
        .d = 8,
        .steps = 1};
    return sim_predict_check(&spec);
}

/* Positives and drawn negatives are 32-bit numbers of patches. */
static void more_patches_than_32_bits_count_are_refused(void **state)
{
    (void)state;
    ASSERT_OK(check(1 << 15, 63, 32));
    assert_int_equal(check(1 << 15, 64, 32), SIM_E_CONFIG); /* 2^31 */
    assert_non_null(strstr(sim_error_message(), "nearest batch: 2097151"));
    assert_int_equal(check(1 << 16, 256, 32), SIM_E_CONFIG); /* 2^34, 0 in 32 bits */
    ASSERT_OK(check(1 << 16, 256, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_patches_than_32_bits_count_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
