/*
 * test_identity.c - identities of checkpoints that were written with other option tables.
 *
 * A section with the keys `rate` and `mode` represents an old program; the same section with
 * `smooth` and `depth` added represents the current one.
 */
#include "simile_test.h"

#include "state.h"

#include "simile/config.h"
#include "simile/memory.h"

typedef struct {
    double rate, smooth;
    int64_t depth;
    int mode;
} options;

static const sim_option rows[] = {
    {.name = "rate",
     .type = SIM_OPTION_REAL,
     .offset = offsetof(options, rate),
     .max = 10,
     .help = "required"},
    {.name = "mode",
     .type = SIM_OPTION_ENUM,
     .offset = offsetof(options, mode),
     .choices = "soft|hard",
     .fallback = "soft",
     .help = "default"},
    {.name = "smooth", /* its default changes results, so `before` states the old value */
     .type = SIM_OPTION_REAL,
     .offset = offsetof(options, smooth),
     .max = 1,
     .fallback = "0.1",
     .before = "0.00",
     .help = "new key with another value before it existed"},
    {.name = "depth",
     .type = SIM_OPTION_INT,
     .offset = offsetof(options, depth),
     .max = 9,
     .fallback = "3",
     .help = "new key whose default describes older jobs"},
};

static const sim_option_table old_table = {
    .section = "part", .rows = rows, .n_rows = 2, .struct_bytes = sizeof(options)};
static const sim_option_table new_table = {
    .section = "part", .rows = rows, .n_rows = 4, .struct_bytes = sizeof(options)};

static options filled;

/* Identity and identity_before of a job text. */
static void read_job(const sim_option_table *table, const char *yaml, bool is_saved,
                     char **identity, char **before)
{
    sim_config *c = NULL;
    ASSERT_OK(sim_config_parse(yaml, strlen(yaml), "job", &c));
    if (is_saved)
        sim_config_read_as_saved(c);
    ASSERT_OK(sim_config_fill(c, table, &filled));
    ASSERT_OK(sim_config_finish(c));
    ASSERT_OK(sim_config_identity(c, identity));
    ASSERT_OK(sim_config_identity_before(c, before));
    sim_config_destroy(&c);
}

/* Resumes a checkpoint of the job `then` (old or new table) with the job `now`. */
static sim_status resume(const sim_option_table *then_table, const char *then,
                         const sim_option_table *now_table, const char *now)
{
    char *saved = NULL, *ours = NULL, *before = NULL, *unused = NULL;
    sim_changes changes = {0};

    read_job(then_table, then, false, &saved, &unused);
    read_job(now_table, now, false, &ours, &before);
    const sim_identity job = {
        .ours = ours, .before = before, .accept = "", .data_path = "train.h5"};
    sim_status st = sim_identity_compare(&job, saved, "step-000000004.h5", &changes);
    assert_false(changes.any);
    sim_free(saved);
    sim_free(ours);
    sim_free(before);
    sim_free(unused);
    return st;
}

static void a_key_that_the_checkpoint_lacks_has_the_value_before_it_existed(void **state)
{
    (void)state;
    ASSERT_OK(
        resume(&old_table, "part: {rate: 1}", &new_table, "part: {rate: 1, smooth: 0}"));
    ASSERT_REFUSED(resume(&old_table, "part: {rate: 1}", &new_table, "part: {rate: 1}"),
                   SIM_E_CONFIG, "part.smooth");
    assert_non_null(strstr(sim_error_message(), " 0.1"));
    assert_null(strstr(sim_error_message(), "part.depth"));
}

static void without_a_value_before_it_has_the_default(void **state)
{
    (void)state;
    ASSERT_OK(resume(&old_table, "part: {rate: 1}", &new_table,
                     "part: {rate: 1, smooth: 0, depth: 3}"));
    ASSERT_REFUSED(resume(&old_table, "part: {rate: 1}", &new_table,
                          "part: {rate: 1, smooth: 0, depth: 4}"),
                   SIM_E_CONFIG, "part.depth");
}

static void keys_of_both_are_compared(void **state)
{
    (void)state;
    ASSERT_OK(resume(&new_table, "part: {rate: 1}", &new_table, "part: {rate: 1.0}"));
    ASSERT_REFUSED(
        resume(&new_table, "part: {rate: 1, smooth: 0}", &new_table, "part: {rate: 1}"),
        SIM_E_CONFIG, "part.smooth");
    ASSERT_REFUSED(
        resume(&old_table, "part: {rate: 2}", &new_table, "part: {rate: 1, smooth: 0}"),
        SIM_E_CONFIG, "part.rate");
}

static void a_key_that_this_program_lacks_is_refused_by_name(void **state)
{
    (void)state;
    ASSERT_REFUSED(resume(&new_table, "part: {rate: 2}", &old_table, "part: {rate: 1}"),
                   SIM_E_CONFIG, "part.smooth: 0.1");
    assert_non_null(strstr(sim_error_message(), "part.depth: 3"));
    assert_null(strstr(sim_error_message(), "part.rate"));
}

static void the_job_of_a_checkpoint_is_read_with_the_values_before(void **state)
{
    char *identity = NULL, *before = NULL;
    (void)state;
    read_job(&new_table, "part: {rate: 1}", true, &identity, &before);
    assert_true(filled.smooth == 0 && filled.depth == 3);
    assert_string_equal(identity, "part.depth: 3\npart.mode: soft\npart.rate: 1\n"
                                  "part.smooth: 0\n");
    assert_string_equal(before, "part.depth: 3\npart.mode: soft\npart.rate: \n"
                                "part.smooth: 0\n");
    sim_free(identity);
    sim_free(before);
}

/* Resumes a checkpoint whose identity has the line `then` with a program of arithmetic `now`. */
static sim_status resume_arithmetic(const char *then, const char *now, const char *accept,
                                    sim_changes *changes)
{
    char ours[64];
    (void)snprintf(ours, sizeof ours, "seed: 1\narithmetic: %s\n", now);
    const sim_identity job = {
        .ours = ours, .before = "", .accept = accept, .data_path = "train.h5"};
    *changes = (sim_changes){0};
    return sim_identity_compare(&job, then, "step-000000004.h5", changes);
}

static void an_arithmetic_without_a_version_is_version_1(void **state)
{
    sim_changes changes;
    (void)state;
    ASSERT_OK(resume_arithmetic("seed: 1\narithmetic: fast\n", "fast-1", "", &changes));
    ASSERT_OK(
        resume_arithmetic("seed: 1\narithmetic: portable\n", "portable-1", "", &changes));
    ASSERT_OK(resume_arithmetic("seed: 1\narithmetic: fast-1\n", "fast-1", "", &changes));
    assert_false(changes.any);
    ASSERT_REFUSED(
        resume_arithmetic("seed: 1\narithmetic: faster\n", "fast-1", "", &changes),
        SIM_E_CONFIG, "arithmetic");
}

static void another_arithmetic_is_refused_unless_accepted(void **state)
{
    static const char *const saved[] = {"seed: 1\narithmetic: portable\n",
                                        "seed: 1\narithmetic: portable-1\n"};
    sim_changes changes;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        ASSERT_REFUSED(resume_arithmetic(saved[i], "portable-2", "", &changes),
                       SIM_E_CONFIG, "--accept arithmetic");
        assert_non_null(strstr(sim_error_message(), "portable-1"));
        ASSERT_REFUSED(resume_arithmetic(saved[i], "portable-2", "batch", &changes),
                       SIM_E_CONFIG, "arithmetic");
        assert_false(changes.any);
        ASSERT_OK(resume_arithmetic(saved[i], "portable-2", "arithmetic", &changes));
        assert_true(changes.any);
        assert_string_equal(changes.text, "arithmetic portable-1 -> portable-2");
    }
    ASSERT_REFUSED(resume_arithmetic("seed: 2\narithmetic: fast\n", "fast-2",
                                     "arithmetic", &changes),
                   SIM_E_CONFIG, "seed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_that_the_checkpoint_lacks_has_the_value_before_it_existed),
        cmocka_unit_test(without_a_value_before_it_has_the_default),
        cmocka_unit_test(keys_of_both_are_compared),
        cmocka_unit_test(a_key_that_this_program_lacks_is_refused_by_name),
        cmocka_unit_test(the_job_of_a_checkpoint_is_read_with_the_values_before),
        cmocka_unit_test(an_arithmetic_without_a_version_is_version_1),
        cmocka_unit_test(another_arithmetic_is_refused_unless_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
