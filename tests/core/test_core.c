/*
 * test_core.c - basic properties of random numbers, memory, error messages, choices and JSON.
 */
#include "simile_test.h"

#include "simile/json.h"
#include "simile/memory.h"
#include "simile/option.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <math.h>

/* Vectors of Random123 (kat_vectors) for philox4x32-10. */
static void philox_matches_published_vectors(void **state)
{
    (void)state;
    static const uint32_t cases[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
         0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
         0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (size_t i = 0; i < 3; i++) {
        const uint32_t *c = cases[i];
        uint32_t out[4];
        sim_random r = {.sample = c[0],
                        .epoch = c[1],
                        .view_op = c[2],
                        .draw = c[3],
                        .seed = c[4],
                        .purpose = c[5]};
        sim_random_words(&r, out);
        assert_memory_equal(out, c + 6, sizeof out);
    }
}

static void samples_have_the_expected_moments(void **state)
{
    (void)state;
    enum { N = 40000 };
    sim_random r = {.purpose = SIM_RANDOM_TEST};
    double sum = 0, squares = 0, unit = 0;
    size_t counts[7] = {0};
    for (int i = 0; i < N; i++) {
        double x = (double)sim_random_normal(&r);
        sum += x;
        squares += x * x;
        float u = sim_random_unit(&r);
        assert_true(u >= 0 && u < 1);
        unit += (double)u;
        counts[sim_random_below(&r, 7)]++;
    }
    assert_true(fabs(sum / N) < 0.02 && fabs(squares / N - 1) < 0.03);
    assert_true(fabs(unit / N - 0.5) < 0.01);
    for (int i = 0; i < 7; i++)
        assert_true(fabs((double)counts[i] * 7 / N - 1) < 0.06);
}

static void allocations_are_counted_zeroed_and_aligned(void **state)
{
    (void)state;
    float *p = NULL;
    size_t before = sim_memory_bytes();
    ASSERT_OK(sim_alloc(&p, 1000, "test/ledger"));
    assert_int_equal((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < 1000; i++)
        assert_true(p[i] == 0);
    assert_int_equal(sim_memory_bytes() - before, 4000);
    p[999] = 7;
    ASSERT_OK(
        sim_grow(&p, 1 << 20, "test/ledger")); /* moves from the heap to a mapping */
    assert_true(p[999] == 7 && p[1000] == 0);
    sim_free(p);
    assert_int_equal(sim_memory_bytes(), before);
}

static void a_failed_allocation_is_an_error_that_contains_the_tag(void **state)
{
    (void)state;
    float *p = NULL;
    ASSERT_REFUSED(sim_alloc(&p, (size_t)-1 / 2, "test/huge"), SIM_E_IO, "test/huge");
    sim_memory_fail_at(2);
    ASSERT_OK(sim_alloc(&p, 1, "test/kth"));
    sim_free(p);
    ASSERT_REFUSED(sim_alloc(&p, 1, "test/kth"), SIM_E_IO, "out of memory");
}

static void an_error_message_may_contain_the_previous_one(void **state)
{
    (void)state;
    assert_int_equal(sim_error_begin(SIM_E_DATA, "src/core/x.c", 3, "first"), SIM_E_DATA);
    (void)sim_error_begin(SIM_E_IO, "src/core/y.c", 4, "second after %s",
                          sim_error_message());
    assert_string_equal(sim_error_message(), "second after first");
    sim_error_prefix("%s: ", "file");
    assert_string_equal(sim_error_message(), "file: second after first");
    assert_string_equal(sim_error_backtrace(), "core/y.c:4");
}

static void choices_are_found_by_text_and_by_index(void **state)
{
    (void)state;
    char text[8];
    assert_int_equal(sim_choices_find("sgd|lars|adamw", "lars"), 1);
    assert_int_equal(sim_choices_find("sgd|lars", "lar"), -1);
    assert_true(sim_choices_text("a|bc", 1, text, sizeof text));
    assert_string_equal(text, "bc");
    assert_false(sim_choices_text("a|bc", 2, text, sizeof text));
    assert_int_equal(sim_choices_count("a|b|c"), 3);
    assert_int_equal(sim_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(sim_edit_distance("", "abc"), 3);
    assert_int_equal(sim_edit_distance("temperature", "temprature"), 1);
    assert_int_equal(sim_edit_distance("lasr", "lars"), 1);
    assert_int_equal(sim_choices_count(""), 0);
    assert_int_equal(sim_choices_find("sgd|lars", ""), -1);
    assert_false(sim_choices_text("a|bc", -1, text, sizeof text));
    assert_false(sim_choices_text("a|longer than it", 1, text, sizeof text));
}

static void only_misspellings_are_corrected(void **state)
{
    static const char methods[] = "simclr|supcon|mocov1|mocov2|siglip|nnclr";
    static const struct {
        const char *choices, *text;
        int expected;
    } cases[] = {
        {methods, "simcrl", 0},
        {methods, "simclrr", 0},
        {methods, "sup", 1},
        {methods, "moco", -1}, /* two choices are equally near */
        {methods, "mocov11", 2},
        {methods, "byol", -1},
        {methods, "swav", -1},
        {methods, "vicreg", -1},
        {methods, "", -1},
        {methods, "simsiam", -1},
        {"relu|silu", "gelu", -1}, /* another first letter */
        {"p|size", "q", -1},
        {"ops|rate", "opt", -1},
        {"sgd|lars|adamw", "adam", 2},
        {"sgd|lars|adamw", "lamb", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (sim_choices_suggest(cases[i].choices, cases[i].text) != cases[i].expected)
            fail_msg(
                "\"%s\" in %s: choice %d, expected %d", cases[i].text, cases[i].choices,
                sim_choices_suggest(cases[i].choices, cases[i].text), cases[i].expected);
}

static void json_that_is_dumped_and_parsed_is_unchanged(void **state)
{
    (void)state;
    sim_json *j = NULL;
    char *text = NULL;
    int64_t n = 0;
    double x = 0;
    ASSERT_OK(sim_json_create(&j));
    sim_json_int(j, "n", 7);
    sim_json_real(j, "x", 0.1);
    sim_json_real(j, "bad", (double)NAN);
    sim_json_int(sim_json_array(j, "list"), NULL, 1);
    ASSERT_OK(sim_json_dump(j, 0, &text));
    assert_non_null(strstr(text, "\"bad\":null"));
    sim_json_destroy(&j);
    ASSERT_OK(sim_json_parse(text, strlen(text), &j));
    assert_true(sim_json_get_int(j, "n", &n) && n == 7);
    assert_true(sim_json_get_real(j, "x", &x) && x == 0.1);
    assert_false(sim_json_get_int(j, "absent", &n));
    sim_json_destroy(&j);
    sim_free(text);
    ASSERT_REFUSED(sim_json_parse("{\"a\":1,\"a\":2}", 13, &j), SIM_E_DATA,
                   "invalid JSON");
}

static void add_one(size_t i, void *ctx)
{
    ((int *)ctx)[i]++;
}

static void every_iteration_runs_once_on_any_number_of_threads(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        int counts[1000] = {0};
        sim_threads_set(threads);
        sim_for(1000, add_one, counts);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(counts[i], 1);
    }
    sim_threads_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_matches_published_vectors),
        cmocka_unit_test(only_misspellings_are_corrected),
        cmocka_unit_test(samples_have_the_expected_moments),
        cmocka_unit_test(allocations_are_counted_zeroed_and_aligned),
        cmocka_unit_test(a_failed_allocation_is_an_error_that_contains_the_tag),
        cmocka_unit_test(an_error_message_may_contain_the_previous_one),
        cmocka_unit_test(choices_are_found_by_text_and_by_index),
        cmocka_unit_test(json_that_is_dumped_and_parsed_is_unchanged),
        cmocka_unit_test(every_iteration_runs_once_on_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
