/*
 * test_log.c - output of the log on a terminal, on a pipe and in the log file; text formats of
 * the clock.
 */
#include "simile_test.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

static char captured[8192]; /* stderr of the last call of capture */

static void read_captured(int from)
{
    size_t n = 0;
    ssize_t n_read;
    (void)fcntl(from, F_SETFL, O_NONBLOCK);
    while (n < sizeof captured - 1 &&
           (n_read = read(from, captured + n, sizeof captured - 1 - n)) > 0)
        n += (size_t)n_read;
    captured[n] = '\0';
}

/* Calls `run` with stderr connected to a terminal of 20 columns or to a pipe. */
static void capture(void (*run)(void), bool terminal)
{
    int ends[2], old = dup(STDERR_FILENO);
    const struct winsize size = {.ws_row = 5, .ws_col = 20};
    if (terminal)
        assert_int_equal(openpty(&ends[0], &ends[1], NULL, NULL, &size), 0);
    else
        assert_int_equal(pipe(ends), 0);
    (void)dup2(ends[1], STDERR_FILENO);
    run();
    (void)dup2(old, STDERR_FILENO);
    read_captured(ends[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)close(old);
}

static void log_all_kinds(void)
{
    sim_log_progress("step %d", 1);
    sim_log_progress("step %d", 2);
    sim_log("plain");
    sim_log_record("record");
    sim_log_warn("hot");
    sim_log_each("here");
}

static void print_urgent(void)
{
    sim_log_urgent("now", 60);
}

static void an_urgent_line_is_printed(void **state)
{
    (void)state;
    capture(print_urgent, false);
    assert_string_equal(captured, "now\n");
}

static void fill_pipe(int fd)
{
    char bytes[4096] = {0};
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, bytes, sizeof bytes) > 0)
        ;
    (void)fcntl(fd, F_SETFL, 0);
}

/* stdio's lock of stderr is held, as by a thread that is blocked in a write. */
static void an_urgent_line_does_not_wait_for_a_full_pipe(void **state)
{
    (void)state;
    int ends[2], old = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    fill_pipe(ends[1]);
    (void)dup2(ends[1], STDERR_FILENO);
    flockfile(stderr);
    sim_log_urgent("late", 0.1);
    funlockfile(stderr);
    (void)dup2(old, STDERR_FILENO);
    (void)close(ends[1]);
    captured[0] = '\0';
    while (!strstr(captured, "late\n")) { /* printed once the pipe is read */
        const ssize_t n = read(ends[0], captured, sizeof captured - 1);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            captured[i] = captured[i] ? captured[i] : ' ';
        captured[n] = '\0';
    }
    (void)close(ends[0]);
    (void)close(old);
}

static void a_terminal_shows_progress_in_place(void **state)
{
    (void)state;
    capture(log_all_kinds, true); /* the terminal converts \n to \r\n */
    assert_string_equal(captured, "\r\033[Kstep 1\r\033[Kstep 2\r\033[Kplain\r\n"
                                  "warning: hot\r\nrank 0 on : here\r\n");
}

static void without_a_terminal_lines_are_plain(void **state)
{
    (void)state;
    static const char expected[] = "plain\nrecord\nwarning: hot\nrank 0 on : here\n";
    capture(log_all_kinds, false);
    assert_string_equal(captured, expected);
    (void)setenv("NO_COLOR", "1", 1);
    capture(log_all_kinds, true);
    (void)unsetenv("NO_COLOR");
    assert_null(strchr(captured, '\033'));
    assert_non_null(strstr(captured, "record"));
    (void)setenv("TERM", "dumb", 1);
    capture(log_all_kinds, true);
    (void)setenv("TERM", "xterm", 1);
    assert_null(strchr(captured, '\033'));
}

static void log_long_progress(void)
{
    sim_log_progress("0123456789abcdefghijklmnopqrstuvwxyz");
    sim_log("end");
}

static void progress_is_truncated_to_the_terminal_width(void **state)
{
    (void)state;
    capture(log_long_progress, true);
    assert_string_equal(captured, "\r\033[K0123456789abcdefghi\r\033[Kend\r\n");
}

static void log_as_rank_3(void)
{
    sim_log_identity(3, 4, "node7");
    log_all_kinds();
    sim_log_identity(0, 1, "");
}

static void other_ranks_log_only_with_log_each(void **state)
{
    (void)state;
    capture(log_as_rank_3, false);
    assert_string_equal(captured, "rank 3 on node7: here\n");
}

static void log_failure_twice(void)
{
    (void)sim_error_begin(SIM_E_DATA, "src/core/x.c", 3, "a.h5 is truncated");
    sim_log_failure(SIM_E_DATA);
    (void)setenv("SIMILE_TRACE", "1", 1);
    sim_log_failure(SIM_E_DATA);
    (void)unsetenv("SIMILE_TRACE");
}

static void a_failure_prints_its_message_and_with_simile_trace_its_backtrace(void **state)
{
    (void)state;
    capture(log_failure_twice, false);
    assert_string_equal(captured, "simile: a.h5 is truncated\nsimile: a.h5 is truncated\n"
                                  "simile: code 65 (bad data), at core/x.c:3\n");
}

static char directory[] = "/tmp/simile-test-XXXXXX", path[64];

static void lines_in_the_log_file_have_a_time_stamp(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    ASSERT_OK(sim_log_file(path));
    capture(log_all_kinds, true);
    ASSERT_OK(sim_log_file(NULL));
    capture(log_all_kinds, false); /* the file is closed: nothing is added */
    ASSERT_OK(sim_file_load(path, 10000, &text, &n));
    size_t lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 4);
    assert_true(text[4] == '-' && text[10] == 'T' && text[19] == 'Z');
    assert_non_null(strstr(text, "Z plain\n"));
    assert_non_null(strstr(text, "Z record\n"));
    assert_null(strstr(text, "step"));
    sim_free(text);
    ASSERT_REFUSED(sim_log_file("/nowhere/at/all"), SIM_E_CREATE, "/nowhere");
}

static ssize_t fail_with_enospc(int fd, const void *data, size_t n)
{
    (void)fd;
    (void)data;
    (void)n;
    errno = ENOSPC;
    return -1;
}

static void log_twice(void)
{
    sim_log("one");
    sim_log("two");
}

static void a_full_disk_closes_the_log_file_and_keeps_the_error_message(void **state)
{
    (void)state;
    sim_file_calls calls = sim_file_posix;
    calls.write = fail_with_enospc;
    ASSERT_OK(sim_log_file(path));
    sim_error_set("an earlier error");
    sim_file_use(&calls);
    capture(log_twice, false);
    sim_file_use(NULL);
    assert_string_equal(sim_error_message(), "an earlier error");
    const char *warning = strstr(captured, "log file is no longer written");
    assert_non_null(warning);
    assert_null(strstr(warning + 1, "log file is no longer written"));
    assert_non_null(strstr(captured, "two\n"));
}

static void durations_and_times_are_formatted(void **state)
{
    (void)state;
    static const struct {
        double s;
        const char *text;
    } spans[] = {{0, "0 s"},     {45, "45 s"},     {59.6, "1m00s"},
                 {307, "5m07s"}, {11520, "3h12m"}, {187200, "2d4h"},
                 {-1, "?"},      {1e300, "?"},     {0.0 / 1e9, "0 s"}};
    char out[32], iso[21];
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        sim_clock_span(spans[i].s, out, sizeof out);
        assert_string_equal(out, spans[i].text);
    }
    sim_clock_iso(1795509935.9, iso); /* `date -u -d @1795509935` */
    assert_string_equal(iso, "2026-11-24T08:45:35Z");
    sim_clock_iso(0, iso);
    assert_string_equal(iso, "1970-01-01T00:00:00Z");
    sim_clock_iso(1e300, iso);
    assert_string_equal(iso, "9999-12-31T23:59:59Z");
    double a = sim_clock_s(), b = sim_clock_s();
    assert_true(b >= a && sim_clock_wall_s() > 1.7e9);
}

static int set_up(void **state)
{
    (void)state;
    (void)unsetenv("NO_COLOR");
    (void)setenv("TERM", "xterm", 1);
    if (!mkdtemp(directory))
        return -1;
    (void)snprintf(path, sizeof path, "%s/log", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(directory);
}

/* The forms of `sbatch --time` as its manual page defines them, and durations with a unit. */
static void a_time_limit_has_the_meaning_of_slurm(void **state)
{
    static const struct {
        const char *text;
        double s;
    } limits[] = {
        {"90", 90 * 60},
        {"0", 0},
        {"10:30", 630},
        {"90:00", 5400},
        {"1:00:00", 3600},
        {"12:30:05", 45005},
        {"2-12", 2 * 86400 + 12 * 3600},
        {"1-12:30", 86400 + 12 * 3600 + 30 * 60},
        {"2-00:00:00", 172800},
        {"0-00:02:00", 120},
        {"90s", 90},
        {"15min", 900},
        {"45m", 2700},
        {"2h", 7200},
        {"1d", 86400},
        {"1.5h", 5400},
        {"1h30min", 5400},
        {"1d 2h", 93600},
        {"3 hours", 10800},
    };
    static const char *const bad[] = {
        "",          "soon",  "90x",        "-5",   "5-",     "1-2-3",
        "1:2:3:4",   "1:",    ":5",         "1.5",  "1e3",    "30min1h",
        "1h1h",      "h",     "nan",        "2-1h", "12:00h", "0x10",
        "1-1:2:3:4", "1..5h", "9999999999", "5 ",   " 5"};
    double s = 0;
    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        s = -1;
        if (!sim_clock_limit(limits[i].text, &s) || s != limits[i].s)
            fail_msg("\"%s\" is %g s, expected %g", limits[i].text, s, limits[i].s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (sim_clock_limit(bad[i], &s))
            fail_msg("\"%s\" is accepted as %g s", bad[i], s);
    assert_false(sim_clock_duration("90", &s)); /* what is counted is unknown */
    assert_false(sim_clock_duration("1:00", &s));
}

static void control_characters_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *lines;
    } cases[] = {{"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", NULL, NULL},
                 {"a\033[31m\a\x7f", "a\\x1b[31m\\x07\\x7f", "a\\x1b[31m\\x07\\x7f"},
                 {"a\nb\tc\r", "a\\nb\\tc\\x0d", "a\nb\tc\\x0d"},
                 {"\xc2\x9b\xe2\x80\xae\xc2\xa0", "\\u009b\\u202e\xc2\xa0",
                  "\\u009b\\u202e\xc2\xa0"},
                 {"\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82", "\\xff\\xc3(\\xe2\\x82"}};
    char out[64];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_text_escape(cases[i].text, false, out, sizeof out);
        assert_string_equal(out, cases[i].line ? cases[i].line : cases[i].text);
        sim_text_escape(cases[i].text, true, out, sizeof out);
        assert_string_equal(out, cases[i].lines ? cases[i].lines : cases[i].text);
    }
    sim_text_escape("ab\xe2\x82\xac", false, out, 5); /* truncated before a character */
    assert_string_equal(out, "ab");
}

static void log_evil_names(void)
{
    sim_log("%s", "a\nb\033c");
    (void)sim_error_begin(SIM_E_IO, "f", 1, "%s: cannot be opened", "d\ne");
    sim_log_failure(SIM_E_IO);
    (void)sim_error_begin(SIM_E_IO, "f", 1, "two\nlines of %s", "\033");
    sim_log_failure(SIM_E_IO);
    sim_error_clear();
}

static void no_name_begins_a_line_of_the_log(void **state)
{
    (void)state;
    capture(log_evil_names, false);
    assert_string_equal(captured, "a\\nb\\x1bc\nsimile: d\\ne: cannot be opened\n"
                                  "simile: two\n  lines of \\x1b\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_shows_progress_in_place),
        cmocka_unit_test(an_urgent_line_is_printed),
        cmocka_unit_test(an_urgent_line_does_not_wait_for_a_full_pipe),
        cmocka_unit_test(without_a_terminal_lines_are_plain),
        cmocka_unit_test(progress_is_truncated_to_the_terminal_width),
        cmocka_unit_test(other_ranks_log_only_with_log_each),
        cmocka_unit_test(
            a_failure_prints_its_message_and_with_simile_trace_its_backtrace),
        cmocka_unit_test(lines_in_the_log_file_have_a_time_stamp),
        cmocka_unit_test(a_full_disk_closes_the_log_file_and_keeps_the_error_message),
        cmocka_unit_test(durations_and_times_are_formatted),
        cmocka_unit_test(control_characters_are_escaped),
        cmocka_unit_test(no_name_begins_a_line_of_the_log),
        cmocka_unit_test(a_time_limit_has_the_meaning_of_slurm),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
