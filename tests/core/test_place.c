/*
 * test_place.c - cores and host of a process, and copies of JSON values.
 */
#include "simile_test.h"

#include "simile/file.h"
#include "simile/json.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <sched.h>
#include <unistd.h>

static void cores_are_printed_as_ranges(void **state)
{
    cpu_set_t before, set;
    char text[64], tiny[3], expected[64];
    size_t first_core = 0;
    uint64_t mask[SIM_CORE_WORDS];
    (void)state;

    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(first_core, &before))
        first_core++;
    CPU_ZERO(&set);
    CPU_SET(first_core, &set);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
    assert_int_equal(sim_cores_allowed(), 1);
    sim_cores_mask(mask);
    for (size_t i = 0; i < SIM_CORE_WORDS; i++)
        assert_true(mask[i] ==
                    (i == first_core / 64 ? UINT64_C(1) << first_core % 64 : 0));
    sim_cores_text(text, sizeof text);
    (void)snprintf(expected, sizeof expected, "%zu", first_core);
    assert_string_equal(text, expected);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_true(sim_cores_present() >= sim_cores_allowed());
    if (CPU_COUNT(&before) > 1 && CPU_ISSET(first_core + 1, &before)) {
        CPU_SET(first_core + 1, &set);
        assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
        sim_cores_text(text, sizeof text);
        (void)snprintf(expected, sizeof expected, "%zu-%zu", first_core, first_core + 1);
        assert_string_equal(text, expected);
        sim_cores_text(tiny, sizeof tiny); /* truncated, never written beyond its end */
        assert_memory_equal(tiny, expected, 2);
        assert_int_equal(tiny[2], '\0');
        assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    }
}

static void the_host_name_is_that_of_the_system(void **state)
{
    char name[256], expected[256] = "", too_small[2];
    (void)state;
    assert_int_equal(gethostname(expected, sizeof expected - 1), 0);
    sim_host_name(name, sizeof name);
    assert_string_equal(name, expected);
    sim_host_name(too_small, sizeof too_small);
    assert_int_equal(too_small[1], '\0');
}

static void a_copied_value_outlives_its_source(void **state)
{
    static const char text[] = "[{\"a\":[\"x\",2,\"y\"]}]";
    sim_json *from = NULL, *to = NULL, *list = NULL;
    char *dumped = NULL;
    (void)state;

    ASSERT_OK(sim_json_parse(text, strlen(text), &from));
    ASSERT_OK(sim_json_create(&to));
    sim_json_put(to, "all", from);
    sim_json_destroy(&from);
    assert_true(sim_json_get_object(to, "all", &list));
    ASSERT_OK(sim_json_dump(list, 0, &dumped));
    assert_string_equal(dumped, text);
    assert_true(sim_json_get_object(sim_json_at(list, 0), "a", &list));
    assert_string_equal(sim_json_text_at(list, 0), "x");
    assert_string_equal(sim_json_text_at(list, 1), "");
    assert_string_equal(sim_json_text_at(list, 2), "y");
    assert_string_equal(sim_json_text_at(list, 3), "");
    sim_free(dumped);
    sim_json_destroy(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cores_are_printed_as_ranges),
        cmocka_unit_test(the_host_name_is_that_of_the_system),
        cmocka_unit_test(a_copied_value_outlives_its_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
