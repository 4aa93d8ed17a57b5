/*
 * test_numbers.c - lists of numbers: as a YAML sequence, as on a command line, empty, in a resolved job
 * and in the identity.
 */
#include "simile_test.h"

#include "simile/config.h"
#include "simile/memory.h"

#include <unistd.h>

typedef struct {
    sim_option_numbers marks, whole;
} list_job;

static const sim_option list_rows[] = {
    {.name = "marks",
     .type = SIM_OPTION_NUMBERS,
     .offset = offsetof(list_job, marks),
     .max = 100,
     .fallback = "",
     .unit = "",
     .help = "may be empty",
     .kind = SIM_IDENTITY},
    {.name = "whole",
     .type = SIM_OPTION_NUMBERS,
     .offset = offsetof(list_job, whole),
     .max = 100,
     .choices = SIM_WHOLE_NUMBERS,
     .fallback = "7",
     .unit = "",
     .help = "may not be empty",
     .kind = SIM_IDENTITY},
};
static const sim_option_table list_table = {"opt", list_rows, 2, sizeof(list_job)};

static sim_status fill(const char *text, sim_config **c, list_job *o)
{
    sim_status st = sim_config_parse(text, strlen(text), "job.yaml", c);
    st = st == SIM_OK ? sim_config_fill(*c, &list_table, o) : st;
    return st == SIM_OK ? sim_config_finish(*c) : st;
}

/* The job, and the values and the texts that follow from it. */
static const struct {
    const char *job;
    size_t n;
    double marks[3];
    const char *text;
} jobs[] = {
    {"{}", 0, {0}, "[]"},
    {"opt: {marks: []}", 0, {0}, "[]"},
    {"opt: {marks: [12, 1.5, 100]}", 3, {12, 1.5, 100}, "[12,1.5,100]"},
    {"opt:\n  marks:\n  - 3\n  - 1e1\n", 2, {3, 10}, "[3,10]"},
    {"opt: {marks: 4}", 1, {4}, "[4]"},
    {"opt:\n  marks: 4,5\n", 2, {4, 5}, "[4,5]"},
};

static void check_text(const sim_config *c, const char *text)
{
    char *resolved = NULL, *identity = NULL, want[64];

    ASSERT_OK(sim_config_resolved(c, &resolved));
    ASSERT_OK(sim_config_identity(c, &identity));
    (void)snprintf(want, sizeof want, "opt.marks: %s\n", text);
    assert_non_null(strstr(identity, want));
    (void)snprintf(want, sizeof want, "marks: %s\n", text);
    assert_non_null(strstr(resolved, want));
    sim_free(resolved);
    sim_free(identity);
}

static void expect_job(const char *job, size_t n, const double *marks, const char *text)
{
    list_job o;
    sim_config *c = NULL;
    ASSERT_OK(fill(job, &c, &o));
    assert_true(o.marks.n == n);
    assert_memory_equal(o.marks.values, marks, n * sizeof *marks);
    assert_true(o.whole.n == 1 && o.whole.values[0] == 7);
    check_text(c, text);
    sim_config_destroy(&c);
}

static void a_list_of_numbers_is_a_sequence_or_a_text_with_commas(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        expect_job(jobs[i].job, jobs[i].n, jobs[i].marks, jobs[i].text);
}

static void a_resolved_job_has_the_same_list(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        list_job o;
        sim_config *c = NULL;
        char *resolved = NULL;
        ASSERT_OK(fill(jobs[i].job, &c, &o));
        ASSERT_OK(sim_config_resolved(c, &resolved));
        sim_config_destroy(&c);
        expect_job(resolved, jobs[i].n, jobs[i].marks, jobs[i].text);
        sim_free(resolved);
    }
}

static const char *const refused[][2] = {
    {"opt: {marks: [1, 101]}", "opt.marks: 101 is out of range"},
    {"opt: {marks: [1, x]}", "opt.marks: \"x\""},
    {"opt: {marks: [1, '2']}", "opt.marks.1"},
    {"opt: {marks: [[1]]}", "opt.marks"},
    {"opt: {marks: [1, [2]]}", "opt.marks.1"},
    {"opt: {marks: [[]]}", "opt.marks.0"},
    {"opt: {marks: {a: 1}}", "opt.marks "},
    {"opt: {marks: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "at most 16 numbers"},
    {"opt: {whole: []}", "opt.whole"},
    {"opt: {whole: [1.5]}", "whole numbers"},
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

static void a_list_of_the_command_line_replaces_that_of_the_job(void **state)
{
    static const char *const texts[] = {"opt.marks=[8, 9]", "opt.marks=8,9"};
    char path[] = "simile-job-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    assert_true(fputs("opt: {marks: [1, 2, 3]}\n", f) >= 0 && fclose(f) == 0);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        list_job o;
        sim_config *c = NULL;
        char text[32], *overrides[] = {text};
        (void)snprintf(text, sizeof text, "%s", texts[i]);
        ASSERT_OK(sim_config_read(path, 1, overrides, (int[]){1}, &c));
        ASSERT_OK(sim_config_fill(c, &list_table, &o));
        assert_true(o.marks.n == 2 && o.marks.values[0] == 8 && o.marks.values[1] == 9);
        sim_config_destroy(&c);
    }
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_numbers_is_a_sequence_or_a_text_with_commas),
        cmocka_unit_test(a_resolved_job_has_the_same_list),
        cmocka_unit_test(other_values_are_refused_with_the_key),
        cmocka_unit_test(a_list_of_the_command_line_replaces_that_of_the_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
