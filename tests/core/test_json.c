/*
 * test_json.c - writing and parsing JSON: order, nesting, errors, failed allocations.
 */
#include "simile_test.h"

#include "simile/json.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <jansson.h>

static void keys_keep_their_insertion_order(void **state)
{
    (void)state;
    sim_json *j = NULL;
    char *text = NULL;
    ASSERT_OK(sim_json_create(&j));
    sim_json_text(j, "z", "quote \" and \xc3\xa9");
    sim_json_bool(j, "a", true);
    sim_json *o = sim_json_object(j, "m");
    sim_json_int(o, "least", INT64_MIN);
    sim_json *list = sim_json_array(o, "list");
    sim_json_int(list, NULL, 1);
    sim_json_text(sim_json_object(list, NULL), "k", "v");
    sim_json_text(j, "latin", "caf\xe9");
    ASSERT_OK(sim_json_dump(j, 0, &text));
    assert_string_equal(text,
                        "{\"z\":\"quote \\\" and \xc3\xa9\",\"a\":true,\"m\":{\"least\":"
                        "-9223372036854775808,\"list\":[1,{\"k\":\"v\"}]},"
                        "\"latin\":\"caf?\"}");
    sim_free(text);
    ASSERT_OK(sim_json_dump(j, 2, &text));
    assert_non_null(strstr(text, "\n  \"a\": true"));
    sim_free(text);
    sim_json_destroy(&j);
    assert_null(j);
    sim_json_destroy(&j);
}

static void reals_are_unchanged_after_dump_and_parse(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = i};
        uint32_t w[4];
        double x, parsed = 0;
        char *text = NULL;
        sim_json *j = NULL;
        sim_random_words(&r, w);
        memcpy(&x, w, sizeof x);
        if (x - x != 0) /* not finite */
            continue;
        ASSERT_OK(sim_json_create(&j));
        sim_json_real(j, "x", x);
        ASSERT_OK(sim_json_dump(j, 0, &text));
        sim_json_destroy(&j);
        ASSERT_OK(sim_json_parse(text, strlen(text), &j));
        assert_true(sim_json_get_real(j, "x", &parsed));
        if (memcmp(&x, &parsed, sizeof x) != 0)
            fail_msg("sample %u: %.17g was parsed as %.17g", i, x, parsed);
        sim_json_destroy(&j);
        sim_free(text);
    }
}

/* Appends key, and "+" if the value is an object or array; fails at the key "stop". */
static sim_status list_key(void *ctx, const char *key, const sim_json *value)
{
    (void)strcat(strcat(ctx, key), value ? "+ " : " ");
    return strcmp(key, "stop") == 0 ? SIM_E_DATA : SIM_OK;
}

static void each_visits_the_keys_in_order_until_a_failure(void **state)
{
    (void)state;
    static const char text[] =
        "{\"z\":1,\"a\":{\"in\":2},\"m\":[],\"b\":null,\"stop\":\"x\",\"c\":1}";
    char keys[64] = "";
    sim_json *j = NULL;

    ASSERT_OK(sim_json_parse(text, sizeof text - 1, &j));
    assert_int_equal(sim_json_each(j, list_key, keys), SIM_E_DATA);
    assert_string_equal(keys, "z a+ m+ b stop ");
    sim_json_destroy(&j);
}

static void getters_reject_other_types(void **state)
{
    (void)state;
    static const char text[] =
        "{\"i\":3,\"r\":0.5,\"t\":\"x\",\"n\":null,\"l\":[{\"k\":1}]}";
    sim_json *j = NULL, *sub = NULL;
    const char *t = "unchanged";
    int64_t i = -1;
    double r = -1;
    ASSERT_OK(sim_json_parse(text, sizeof text - 1, &j));
    assert_false(sim_json_get_text(j, "i", &t) || sim_json_get_text(j, "n", &t));
    assert_false(sim_json_get_int(j, "r", &i) || sim_json_get_int(j, "t", &i));
    assert_false(sim_json_get_real(j, "t", &r) || sim_json_get_object(j, "i", &sub));
    assert_string_equal(t, "unchanged");
    assert_true(i == -1 && r == -1 && sub == NULL);
    assert_true(sim_json_get_real(j, "i", &r) && r == 3);
    assert_true(sim_json_get_object(j, "l", &sub) && sim_json_size(sub) == 1);
    assert_true(sim_json_get_int(sim_json_at(sub, 0), "k", &i) && i == 1);
    assert_null(sim_json_at(sub, 1));
    assert_int_equal(sim_json_size(j), 0);
    sim_json_destroy(&j);
}

static void invalid_json_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "{",       "{\"a\":}",     "{\"a\":1} x", "{\"a\":nan}",
        "\"text\"", "{'a':1}", "{\"a\":1e999}"};
    sim_json *j = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ASSERT_REFUSED(sim_json_parse(bad[i], strlen(bad[i]), &j), SIM_E_DATA, "line ");
    ASSERT_REFUSED(sim_json_parse("{\n\"a\":1,\n\"b\":?}", 15, &j), SIM_E_DATA, "line 3");
    ASSERT_REFUSED(sim_json_parse("{\"a\":1,\"a\":2}", 13, &j), SIM_E_DATA, "line ");
    assert_null(j);
}

/* Allocations of jansson up to the one that fails; 0: none fails. */
static int allocations_left;

static void *failing_malloc(size_t n)
{
    return allocations_left > 0 && --allocations_left == 0 ? NULL : malloc(n);
}

/* Builds and dumps an object; any failed allocation must be reported. */
static sim_status dump_object(char **text)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "name", "a value of some length");
    for (int i = 0; i < 20; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key %d", i);
        sim_json_int(j, key, i);
    }
    sim_json_real(sim_json_object(j, "o"), "x", 0.5);
    SIM_TRY(sim_json_dump(j, 0, text));
done:
    sim_json_destroy(&j);
    return st;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    char *complete = NULL, *text = NULL;
    int refused = 0;
    ASSERT_OK(dump_object(&complete));
    json_set_alloc_funcs(failing_malloc, free);
    for (int k = 1; k < 200; k++) {
        /* Alternately in jansson and in sim_alloc. */
        allocations_left = k % 2 ? k / 2 + 1 : 0;
        sim_memory_fail_at(k % 2 ? 0 : (uint64_t)k / 2);
        if (dump_object(&text) != SIM_OK) {
            refused++;
            continue;
        }
        assert_string_equal(text, complete); /* complete, never partial */
        sim_free(text);
    }
    allocations_left = 0;
    sim_memory_fail_at(0);
    json_set_alloc_funcs(malloc, free);
    assert_true(refused > 20 && refused < 199);
    ASSERT_OK(dump_object(&text));
    assert_string_equal(text, complete);
    sim_free(text);
    sim_free(complete);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_keep_their_insertion_order),
        cmocka_unit_test(reals_are_unchanged_after_dump_and_parse),
        cmocka_unit_test(each_visits_the_keys_in_order_until_a_failure),
        cmocka_unit_test(getters_reject_other_types),
        cmocka_unit_test(invalid_json_is_refused_with_its_line),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
