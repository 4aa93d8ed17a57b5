/*
 * test_hostile.c - jobs that could make a parser hang, exhaust memory or crash; failed allocations.
 */
#include "job.h"

#include "simile/clock.h"
#include "simile/random.h"

#include <sys/stat.h>
#include <unistd.h>

enum { JOB_BYTES = 1000000 };

/* Asserts that a job is refused in bounded time and memory. */
static void assert_refused(const char *name, const char *text, size_t n)
{
    static job_options o;
    const double started = sim_clock_s();
    const size_t allocated = sim_memory_bytes(), process_peak = sim_memory_process_peak();

    sim_status st = job_parse(text, n, &o);
    const double elapsed_s = sim_clock_s() - started;
    if (st != SIM_E_CONFIG)
        fail_msg("%s: %d %s", name, (int)st, sim_error_message());
    if (elapsed_s > 3.0)
        fail_msg("%s took %.2f s", name, elapsed_s);
    if (sim_memory_process_peak() > process_peak + ((size_t)128 << 20))
        fail_msg("%s: the process grew by over 128 MiB", name);
    assert_int_equal(sim_memory_bytes(), allocated);
}

/* A million bytes that repeat `unit`. */
static char *repeat(const char *unit)
{
    char *text = malloc(JOB_BYTES);
    size_t n = strlen(unit);
    assert_non_null(text);
    for (size_t i = 0; i < JOB_BYTES; i++)
        text[i] = unit[i % n];
    return text;
}

static void a_million_repetitions_of_any_token_are_refused(void **state)
{
    (void)state;
    static const char *const units[] = {
        "[",    "{",      "]",      "- ",   "-\n",          "? ",    "a: {", "a: [",
        "{a: ", "&a ",    "*a ",    "!a ",  "---\n",        "...\n", "%T ",  "'",
        "\"",   "\"\\",   "\t",     " ",    "\n",           "#",     "x",    ":",
        ": ",   ",",      "a: b: ", "[{",   "a:\n ",        "? [",   "|\n ", ">\n",
        "\\x",  "a: 1\n", "- a\n",  "<<: ", "\xef\xbb\xbf",
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        char *text = repeat(units[i]);
        assert_refused(units[i], text, JOB_BYTES);
        free(text);
    }
}

static void deeply_nested_blocks_are_refused(void **state)
{
    (void)state;
    char *text = malloc(JOB_BYTES);
    size_t n = 0;
    assert_non_null(text);
    for (size_t depth = 0; n + depth + 3 < JOB_BYTES; depth++) {
        memset(text + n, ' ', depth);
        n += depth;
        memcpy(text + n, "a:\n", 3);
        n += 3;
    }
    assert_refused("nested blocks", text, n);
    free(text);
}

static void too_many_values_are_refused(void **state)
{
    (void)state;
    char *text = malloc(JOB_BYTES);
    size_t n = 0;
    assert_non_null(text);
    /* Long common prefixes are the slowest case for the search of duplicates. */
    for (int i = 0; n + 300 < JOB_BYTES; i++)
        n += (size_t)snprintf(text + n, 300, "%0200d: 1\n", i);
    assert_refused("many keys", text, n);
    assert_non_null(strstr(sim_error_message(), "more than 1024 values"));
    free(text);
}

static void exponential_aliases_are_refused_at_the_first_anchor(void **state)
{
    (void)state;
    const char *text = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a]\n"
                       "c: &c [*b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c]\n";
    assert_refused("aliases", text, strlen(text));
    assert_non_null(strstr(sim_error_message(), "job.yaml:1: anchors"));
}

#define BYTES(text) text, sizeof text - 1

static void invalid_bytes_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *expected;
    } jobs[] = {
        {BYTES("path: x\nopt: {rate: \xff}"), "job.yaml:2: not YAML: byte 0xff"},
        {BYTES("path: x\n\n# \xc3"), "job.yaml:3: not YAML: byte 0xc3"},
        {BYTES("path: \xc0\xaf"), "byte 0xc0"},
        {BYTES("path: \xe0\x80\xaf"), "byte 0xe0"},
        {BYTES("path: \xed\xa0\x80"), "byte 0xed"},
        {BYTES("path: \xf4\x90\x80\x80"), "byte 0xf4"},
        {BYTES("path: \x80"), "byte 0x80"},
        {BYTES("path: x\0y"), "job.yaml:1: not YAML: character U+0000"},
        {BYTES("path: x\nopt: \x1b[31m"), "job.yaml:2: not YAML: character U+001B"},
        {BYTES("path: \xc2\x85"), "U+0085"},
        {BYTES("\xff\xfep\0a\0t\0h\0:\0 \0x\0"), "byte 0xff"},
        {BYTES("path: x\nopt:\n\trate: 1"), "job.yaml:3: not YAML: found character that "
                                            "cannot start any token (a tab?"},
    };
    static job_options o;
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        ASSERT_REFUSED(job_parse(jobs[i].text, jobs[i].n, &o), SIM_E_CONFIG,
                       jobs[i].expected);
}

static void a_byte_order_mark_and_crlf_are_read(void **state)
{
    (void)state;
    static job_options o;
    const char *text = "\xef\xbb\xbfpath: x\r\nopt:\r\n  rate: 2\r\n";
    ASSERT_OK(job_parse(text, strlen(text), &o));
    assert_true(o.rate == 2);
    ASSERT_OK(job_parse("path: \xc3\xa9", 8, &o));
    assert_string_equal(o.path, "\xc3\xa9");
}

static void a_job_has_at_most_one_mebibyte(void **state)
{
    (void)state;
    static job_options o;
    enum { LIMIT = 1 << 20 };
    char path[32], *text = malloc(LIMIT + 1);
    sim_config *c = NULL;
    assert_non_null(text);
    memset(text, ' ', LIMIT + 1);
    memcpy(text, "path: x\n#", 9);
    ASSERT_OK(job_parse(text, LIMIT, &o));
    ASSERT_REFUSED(job_parse(text, LIMIT + 1, &o), SIM_E_CONFIG, "1048576");
    job_write(path, text, LIMIT + 1);
    sim_status st = sim_config_read(path, 0, NULL, NULL, &c);
    /* A sparse file of 1 TiB is refused before memory is allocated. */
    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    sim_status sparse = sim_config_read(path, 0, NULL, NULL, &c);
    (void)remove(path);
    free(text);
    assert_int_equal(st, SIM_E_CONFIG);
    assert_int_equal(sparse, SIM_E_CONFIG);
}

static void missing_files_and_directories_are_input_errors(void **state)
{
    (void)state;
    sim_config *c = NULL;
    ASSERT_REFUSED(sim_config_read("no/such/job.yaml", 0, NULL, NULL, &c), SIM_E_INPUT,
                   "no/such/job.yaml");
    ASSERT_REFUSED(sim_config_read(".", 0, NULL, NULL, &c), SIM_E_INPUT, ". is not");
    ASSERT_REFUSED(sim_config_read("/dev/zero", 0, NULL, NULL, &c), SIM_E_INPUT,
                   "/dev/zero");
    assert_null(c);
}

static void a_long_path_is_truncated_before_the_line_number(void **state)
{
    (void)state;
    char name[400];
    sim_config *c = NULL;
    memset(name, 'p', sizeof name);
    memcpy(name + sizeof name - 10, "/job.yaml", 10);
    ASSERT_REFUSED(sim_config_parse("a: 1\nb: *c", 10, name, &c), SIM_E_CONFIG,
                   "pp/job.yaml:2: aliases");
}

/* ---- faults and mutations ---- */

static const char good_job[] =
    "# a job\npath: \"a b/\\u00e9\"\nopt: {rate: 1e-3, kind: lars, flag: true,\n"
    "  note: 'it''s'}\nview:\n  ops:\n  - flip\n  - {op: crop, p: 0.25, size: 1e1}\n";
static const char plain_job[] =
    "path: 'it''s'\nopt: {rate: 1e-3}\nview: {ops: [flip, {op: crop, p: 0.25}]}\n";

/* Reads and fills a job and formats all texts. */
static sim_status process_job(const char *path, size_t n, char *const *overrides)
{
    static job_options o;
    const int numbers[] = {2, 3, 4};
    sim_config *c = NULL;
    char *yaml = NULL, *identity = NULL, *help = NULL;
    sim_status st = sim_config_read(path, n, overrides, numbers, &c);
    st = st == SIM_OK ? job_fill(c, &o) : st;
    st = st == SIM_OK ? sim_config_resolved(c, &yaml) : st;
    st = st == SIM_OK ? sim_config_identity(c, &identity) : st;
    st = st == SIM_OK ? sim_config_help(&job_top, &help) : st;
    sim_free(yaml);
    sim_free(identity);
    sim_free(help);
    sim_config_destroy(&c);
    return st;
}

static void every_failed_allocation_is_reported_without_a_leak(void **state)
{
    (void)state;
    char path[32], a[] = "opt.steps=3", b[] = "view.ops=[crop]";
    char *const overrides[] = {a, b};
    job_write(path, plain_job, sizeof plain_job - 1);
    const size_t allocated = sim_memory_bytes();
    sim_status st = SIM_E_IO;
    uint64_t k = 1;
    for (; st != SIM_OK && k < 1000; k++) {
        sim_memory_fail_at(k);
        st = process_job(path, 2, overrides);
        sim_memory_fail_at(0);
        if (st != SIM_OK &&
            (st != SIM_E_IO || !strstr(sim_error_message(), "out of memory")))
            fail_msg("allocation %d: %d %s", (int)k, (int)st, sim_error_message());
        assert_int_equal(sim_memory_bytes(), allocated);
    }
    (void)remove(path);
    assert_int_equal(st, SIM_OK);
    assert_true(k > 30);
}

/* Changes, removes, duplicates and copies parts of a text; returns its new length. */
static size_t mutate(sim_random *r, char *text, size_t n, size_t capacity)
{
    static const char special_bytes[] =
        "{}[]:,-?&*!|>'\"%@`#~.\t\n\r =\\0123456789eE\xff\xc3";
    for (uint32_t n_changes = 1 + sim_random_below(r, 3); n_changes > 0 && n > 8;
         n_changes--) {
        size_t at = sim_random_below(r, (uint32_t)n);
        size_t length = 1 + sim_random_below(r, 12);
        length = at + length > n ? n - at : length;
        switch (sim_random_below(r, 6)) {
        case 0:
            text[at] = (char)sim_random_below(r, 256);
            break;
        case 1:
            text[at] = special_bytes[sim_random_below(r, sizeof special_bytes - 1)];
            break;
        case 2: /* flips a bit: digits stay digits */
            text[at] = (char)(text[at] ^ 1);
            break;
        case 3:
            memmove(text + at, text + at + length, n - at - length);
            n -= length;
            break;
        case 4:
            if (n + length <= capacity) {
                memmove(text + at + length, text + at, n - at);
                n += length;
            }
            break;
        default:
            memmove(text + at, text + sim_random_below(r, (uint32_t)(n - length + 1)),
                    length);
        }
    }
    return n;
}

/* A job that is accepted must equal the job parsed from its resolved text. */
static void check_resolved_job(uint32_t seed, sim_config *c, const job_options *o)
{
    static job_options reparsed;
    char *resolved = NULL, *resolved_again = NULL;
    sim_config *second = NULL;
    ASSERT_OK(sim_config_resolved(c, &resolved));
    sim_status st = sim_config_parse(resolved, strlen(resolved), "resolved", &second);
    st = st == SIM_OK ? job_fill(second, &reparsed) : st;
    st = st == SIM_OK ? sim_config_resolved(second, &resolved_again) : st;
    if (st != SIM_OK || strcmp(resolved, resolved_again) != 0 ||
        memcmp(o, &reparsed, sizeof *o) != 0)
        fail_msg("seed %u: %s\n%s", seed, sim_error_message(), resolved);
    sim_config_destroy(&second);
    sim_free(resolved);
    sim_free(resolved_again);
}

static void mutated_jobs_are_accepted_completely_or_refused(void **state)
{
    (void)state;
    static job_options o;
    const size_t allocated = sim_memory_bytes();
    size_t accepted = 0;
    ASSERT_OK(job_parse(good_job, strlen(good_job), &o));
    ASSERT_OK(job_parse(plain_job, strlen(plain_job), &o));
    for (uint32_t seed = 0; seed < 10000; seed++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = seed};
        const char *from = seed % 2 ? good_job : plain_job;
        size_t n = strlen(from);
        char *text = malloc(
            2 * n); /* exact size, so AddressSanitizer detects reads past the end */
        assert_non_null(text);
        memcpy(text, from, n);
        n = mutate(&r, text, n, 2 * n);
        char *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, text, n);
        sim_config *c = NULL;
        sim_status st = sim_config_parse(exact, n, "job.yaml", &c);
        st = st == SIM_OK ? job_fill(c, &o) : st;
        if (st == SIM_OK)
            check_resolved_job(seed, c, &o);
        else if (st != SIM_E_CONFIG || !sim_error_message()[0])
            fail_msg("seed %u: %d %s", seed, (int)st, sim_error_message());
        accepted += st == SIM_OK;
        sim_config_destroy(&c);
        free(exact);
        free(text);
    }
    assert_int_equal(sim_memory_bytes(), allocated);
    print_message("%zu of 10000 mutations accepted\n", accepted);
    assert_in_range(accepted, 100, 9900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_repetitions_of_any_token_are_refused),
        cmocka_unit_test(deeply_nested_blocks_are_refused),
        cmocka_unit_test(too_many_values_are_refused),
        cmocka_unit_test(exponential_aliases_are_refused_at_the_first_anchor),
        cmocka_unit_test(invalid_bytes_are_refused_with_their_line),
        cmocka_unit_test(a_byte_order_mark_and_crlf_are_read),
        cmocka_unit_test(a_job_has_at_most_one_mebibyte),
        cmocka_unit_test(missing_files_and_directories_are_input_errors),
        cmocka_unit_test(a_long_path_is_truncated_before_the_line_number),
        cmocka_unit_test(every_failed_allocation_is_reported_without_a_leak),
        cmocka_unit_test(mutated_jobs_are_accepted_completely_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
