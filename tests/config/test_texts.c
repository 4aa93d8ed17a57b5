/*
 * test_texts.c - lists of texts: as a YAML sequence, as a text with commas, a single text in quotes, in a
 * resolved job and in the identity.
 */
#include "simile_test.h"

#include "simile/config.h"
#include "simile/memory.h"

typedef struct {
    sim_option_texts paths;
} list_job;

static const sim_option list_rows[] = {
    {.name = "paths",
     .type = SIM_OPTION_TEXTS,
     .offset = offsetof(list_job, paths),
     .fallback = "",
     .unit = "",
     .help = "may be empty",
     .kind = SIM_IDENTITY},
};
static const sim_option_table list_table = {"opt", list_rows, 1, sizeof(list_job)};

static sim_status fill(const char *text, sim_config **c, list_job *o)
{
    sim_status st = sim_config_parse(text, strlen(text), "job.yaml", c);
    st = st == SIM_OK ? sim_config_fill(*c, &list_table, o) : st;
    return st == SIM_OK ? sim_config_finish(*c) : st;
}

/* The job, its texts, and the line that follows from them. */
static const struct {
    const char *job;
    size_t n;
    const char *paths[3];
    const char *text;
} jobs[] = {
    {"{}", 0, {0}, "''"},
    {"opt: {paths: ''}", 0, {0}, "''"},
    {"opt: {paths: a.h5}", 1, {"a.h5"}, "'a.h5'"},
    {"opt: {paths: 'a,b.h5'}", 1, {"a,b.h5"}, "'a,b.h5'"},
    {"opt: {paths: it's}", 1, {"it's"}, "'it''s'"},
    {"opt:\n  paths: a.h5,b.h5\n", 2, {"a.h5", "b.h5"}, "['a.h5', 'b.h5']"},
    {"opt:\n  paths: a b.h5,  c.h5\n", 2, {"a b.h5", "c.h5"}, "['a b.h5', 'c.h5']"},
    {"opt: {paths: [a.h5]}", 1, {"a.h5"}, "'a.h5'"},
    {"opt: {paths: [a.h5, 'b,c.h5', it's]}",
     3,
     {"a.h5", "b,c.h5", "it's"},
     "['a.h5', 'b,c.h5', 'it''s']"},
    {"opt:\n  paths:\n  - a.h5\n  - b.h5\n", 2, {"a.h5", "b.h5"}, "['a.h5', 'b.h5']"},
};

/* Returns the resolved job, which the caller releases. */
static char *expect_texts(const char *job, size_t i)
{
    list_job o;
    sim_config *c = NULL;
    char *resolved = NULL, *identity = NULL, want[128];

    ASSERT_OK(fill(job, &c, &o));
    assert_true(o.paths.n == jobs[i].n);
    for (size_t k = 0; k < o.paths.n; k++)
        assert_string_equal(o.paths.text[k], jobs[i].paths[k]);
    ASSERT_OK(sim_config_resolved(c, &resolved));
    ASSERT_OK(sim_config_identity(c, &identity));
    (void)snprintf(want, sizeof want, "opt.paths: %s\n", jobs[i].text);
    assert_string_equal(identity, want);
    (void)snprintf(want, sizeof want, "paths: %s\n", jobs[i].text);
    assert_non_null(strstr(resolved, want));
    sim_free(identity);
    sim_config_destroy(&c);
    return resolved;
}

static void a_list_of_texts_is_a_sequence_or_a_text_with_commas(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        char *resolved = expect_texts(jobs[i].job, i);
        sim_free(expect_texts(resolved, i)); /* a resolved job has the same list */
        sim_free(resolved);
    }
}

static const char *const refused[][2] = {
    {"opt: {paths: [a, '']}", "opt.paths contains an empty text"},
    {"opt:\n  paths: a,,b\n", "opt.paths contains an empty text"},
    {"opt:\n  paths: a,\n", "opt.paths contains an empty text"},
    {"opt: {paths: []}", "opt.paths"},
    {"opt: {paths: [[a]]}", "opt.paths"},
    {"opt: {paths: [a, []]}", "opt.paths.1"},
    {"opt: {paths: {a: 1}}", "opt.paths "},
    {"opt: {paths: [a, \"b\\x01\"]}", "control character"},
    {"opt: {paths: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "more than 16"},
};

static void other_values_are_refused_with_the_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        list_job o;
        sim_config *c = NULL;
        ASSERT_REFUSED(fill(refused[i][0], &c, &o), SIM_E_CONFIG, refused[i][1]);
        sim_config_destroy(&c);
    }
}

/* Sixteen texts of the largest size, all of quotes, are stored and read again. */
static void the_longest_list_is_kept(void **state)
{
    enum { BYTES = SIM_OPTION_TEXT_BYTES - 1, ALL = SIM_OPTION_MAX_TEXTS };
    static char text[ALL * (2 * BYTES + 8) + 64];
    char *at = text + sprintf(text, "opt:\n  paths:\n");
    list_job o;
    sim_config *c = NULL;
    char *resolved = NULL;

    (void)state;
    for (size_t k = 0; k < ALL; k++) {
        at = stpcpy(at, "  - '");
        memset(at, '\'', 2 * (size_t)BYTES);
        at = stpcpy(at + 2 * (size_t)BYTES, "'\n");
    }
    for (int round = 0; round < 2; round++) {
        ASSERT_OK(fill(resolved ? resolved : text, &c, &o));
        assert_true(o.paths.n == ALL && strlen(o.paths.text[ALL - 1]) == BYTES);
        sim_free(resolved);
        ASSERT_OK(sim_config_resolved(c, &resolved));
        sim_config_destroy(&c);
    }
    sim_free(resolved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_texts_is_a_sequence_or_a_text_with_commas),
        cmocka_unit_test(other_values_are_refused_with_the_key),
        cmocka_unit_test(the_longest_list_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
