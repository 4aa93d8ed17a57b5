/*
 * test_place.c - where a process runs, as the header and the history tell it.
 */
#include "simile_test.h"

#include "simile/file.h"
#include "simile/json.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <sched.h>
#include <unistd.h>

static void cores_are_told_as_ranges(void **state)
{
    cpu_set_t before, set;
    char text[64], tiny[3], want[64];
    size_t least = 0;
    uint64_t mask[SIM_CORE_WORDS];
    (void)state;

    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(least, &before))
        least++;
    CPU_ZERO(&set);
    CPU_SET(least, &set);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
    assert_int_equal(sim_cores_allowed(), 1);
    sim_cores_mask(mask);
    for (size_t i = 0; i < SIM_CORE_WORDS; i++)
        assert_true(mask[i] == (i == least / 64 ? UINT64_C(1) << least % 64 : 0));
    sim_cores_text(text, sizeof text);
    (void)snprintf(want, sizeof want, "%zu", least);
    assert_string_equal(text, want);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_true(sim_cores_present() >= sim_cores_allowed());
    if (CPU_COUNT(&before) > 1 && CPU_ISSET(least + 1, &before)) {
        CPU_SET(least + 1, &set);
        assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
        sim_cores_text(text, sizeof text);
        (void)snprintf(want, sizeof want, "%zu-%zu", least, least + 1);
        assert_string_equal(text, want);
        sim_cores_text(tiny, sizeof tiny); /* cut, never beyond its end */
        assert_memory_equal(tiny, want, 2);
        assert_int_equal(tiny[2], '\0');
        assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    }
}

static void the_host_has_its_name(void **state)
{
    char name[256], want[256] = "", cut[2];
    (void)state;
    assert_int_equal(gethostname(want, sizeof want - 1), 0);
    sim_host_name(name, sizeof name);
    assert_string_equal(name, want);
    sim_host_name(cut, sizeof cut);
    assert_int_equal(cut[1], '\0');
}

static void a_copy_of_a_value_outlives_it(void **state)
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
        cmocka_unit_test(cores_are_told_as_ranges),
        cmocka_unit_test(the_host_has_its_name),
        cmocka_unit_test(a_copy_of_a_value_outlives_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
