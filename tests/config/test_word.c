/*
 * test_word.c - an integer option with a word for the value 0, such as "negatives: all".
 */
#include "simile_test.h"

#include "simile/config.h"
#include "simile/memory.h"

#include <stdio.h>

typedef struct {
    int64_t count;
} options;

static const sim_option rows[] = {
    {.name = "count",
     .type = SIM_OPTION_INT,
     .offset = offsetof(options, count),
     .max = 9,
     .choices = "all",
     .fallback = "all",
     .unit = "things",
     .help = "a number",
     .kind = SIM_IDENTITY},
};
static const sim_option_table table = {"opt", rows, 1, sizeof(options)};

/* Parses a job; *resolved becomes the caller's. */
static sim_status parse_job(const char *text, int64_t *count, char **resolved)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;
    options o = {0};

    SIM_TRY(sim_config_parse(text, strlen(text), "job.yaml", &c));
    SIM_TRY(sim_config_fill(c, &table, &o));
    SIM_TRY(sim_config_finish(c));
    SIM_TRY(sim_config_resolved(c, resolved));
    *count = o.count;
done:
    sim_config_destroy(&c);
    return st;
}

static void the_word_means_zero_in_the_job_and_the_resolved_job(void **state)
{
    (void)state;
    static const char *const texts[] = {"opt: {count: all}", "opt: {count: 0}"};
    for (size_t i = 0; i < 2; i++) {
        char *resolved = NULL;
        int64_t count = -1;
        ASSERT_OK(parse_job(texts[i], &count, &resolved));
        assert_int_equal(count, 0);
        assert_non_null(strstr(resolved, "count: all\n"));
        sim_free(resolved);
    }
}

static void other_numbers_are_formatted_as_numbers(void **state)
{
    (void)state;
    char *resolved = NULL;
    int64_t count = -1;
    ASSERT_OK(parse_job("opt: {count: 7}", &count, &resolved));
    assert_int_equal(count, 7);
    assert_non_null(strstr(resolved, "count: 7\n"));
    sim_free(resolved);
}

static void other_words_are_refused(void **state)
{
    (void)state;
    char *resolved = NULL;
    int64_t count = -1;
    ASSERT_REFUSED(parse_job("opt: {count: al}", &count, &resolved), SIM_E_CONFIG,
                   "opt.count: \"al\" ");
    ASSERT_REFUSED(parse_job("opt: {count: 10}", &count, &resolved), SIM_E_CONFIG,
                   "opt.count: 10 is out of range (0 to 9 things)");
    assert_int_equal(count, -1);
}

static void help_contains_the_word(void **state)
{
    (void)state;
    char *text = NULL;
    ASSERT_OK(sim_config_help(&table, &text));
    assert_non_null(strstr(text, "[all]"));
    assert_non_null(strstr(text, "all, or 0 to 9 things"));
    sim_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_word_means_zero_in_the_job_and_the_resolved_job),
        cmocka_unit_test(other_numbers_are_formatted_as_numbers),
        cmocka_unit_test(other_words_are_refused),
        cmocka_unit_test(help_contains_the_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
