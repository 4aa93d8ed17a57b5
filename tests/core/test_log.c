/*
 * test_log.c - what the log says on a terminal, in a batch file, and in its own file; and
 * the clock's texts for people.
 */
#include "simile_test.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

static char heard[8192]; /* what the last speech left on stderr */

static void listen_to(int from)
{
    size_t n = 0;
    ssize_t got;
    (void)fcntl(from, F_SETFL, O_NONBLOCK);
    while (n < sizeof heard - 1 &&
           (got = read(from, heard + n, sizeof heard - 1 - n)) > 0)
        n += (size_t)got;
    heard[n] = '\0';
}

/* Runs `speak` with stderr on a terminal of 20 columns, or on a pipe. */
static void hear(void (*speak)(void), bool terminal)
{
    int ends[2], old = dup(STDERR_FILENO);
    const struct winsize size = {.ws_row = 5, .ws_col = 20};
    if (terminal)
        assert_int_equal(openpty(&ends[0], &ends[1], NULL, NULL, &size), 0);
    else
        assert_int_equal(pipe(ends), 0);
    (void)dup2(ends[1], STDERR_FILENO);
    speak();
    (void)dup2(old, STDERR_FILENO);
    listen_to(ends[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)close(old);
}

static void speak_all(void)
{
    sim_log_progress("step %d", 1);
    sim_log_progress("step %d", 2);
    sim_log("plain");
    sim_log_record("record");
    sim_log_warn("hot");
    sim_log_each("here");
}

static void a_terminal_shows_progress_in_place(void **state)
{
    (void)state;
    hear(speak_all, true); /* the terminal turns \n to \r\n */
    assert_string_equal(heard, "\r\033[Kstep 1\r\033[Kstep 2\r\033[Kplain\r\n"
                               "warning: hot\r\nrank 0 on : here\r\n");
}

static void elsewhere_there_are_plain_lines(void **state)
{
    (void)state;
    static const char want[] = "plain\nrecord\nwarning: hot\nrank 0 on : here\n";
    hear(speak_all, false);
    assert_string_equal(heard, want);
    (void)setenv("NO_COLOR", "1", 1);
    hear(speak_all, true);
    (void)unsetenv("NO_COLOR");
    assert_null(strchr(heard, '\033'));
    assert_non_null(strstr(heard, "record"));
    (void)setenv("TERM", "dumb", 1);
    hear(speak_all, true);
    (void)setenv("TERM", "xterm", 1);
    assert_null(strchr(heard, '\033'));
}

static void speak_at_length(void)
{
    sim_log_progress("0123456789abcdefghijklmnopqrstuvwxyz");
    sim_log("end");
}

static void progress_is_cut_at_the_edge(void **state)
{
    (void)state;
    hear(speak_at_length, true);
    assert_string_equal(heard, "\r\033[K0123456789abcdefghi\r\033[Kend\r\n");
}

static void speak_as_rank_3(void)
{
    sim_log_identity(3, 4, "node7");
    speak_all();
    sim_log_identity(0, 1, "");
}

static void other_ranks_speak_only_where_they_must(void **state)
{
    (void)state;
    hear(speak_as_rank_3, false);
    assert_string_equal(heard, "rank 3 on node7: here\n");
}

static void speak_of_failure(void)
{
    (void)sim_error_begin(SIM_E_DATA, "src/core/x.c", 3, "a.h5 is cut");
    sim_log_failure(SIM_E_DATA);
    (void)setenv("SIMILE_TRACE", "1", 1);
    sim_log_failure(SIM_E_DATA);
    (void)unsetenv("SIMILE_TRACE");
}

static void a_failure_tells_its_story_and_where_asked_its_trail(void **state)
{
    (void)state;
    hear(speak_of_failure, false);
    assert_string_equal(heard, "simile: a.h5 is cut\nsimile: a.h5 is cut\n"
                               "simile: code 65 (bad data), at core/x.c:3\n");
}

static char folder[] = "/tmp/simile-test-XXXXXX", path[64];

static void the_file_gets_lines_with_their_time(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    ASSERT_OK(sim_log_file(path));
    hear(speak_all, true);
    ASSERT_OK(sim_log_file(NULL));
    hear(speak_all, false); /* the file is closed: nothing more arrives */
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

static ssize_t full(int fd, const void *data, size_t n)
{
    (void)fd;
    (void)data;
    (void)n;
    errno = ENOSPC;
    return -1;
}

static void speak_twice(void)
{
    sim_log("one");
    sim_log("two");
}

static void a_full_disk_ends_the_file_but_not_the_story(void **state)
{
    (void)state;
    sim_file_calls calls = sim_file_posix;
    calls.write = full;
    ASSERT_OK(sim_log_file(path));
    sim_error_set("what went wrong before");
    sim_file_use(&calls);
    hear(speak_twice, false);
    sim_file_use(NULL);
    assert_string_equal(sim_error_message(), "what went wrong before");
    const char *warning = strstr(heard, "log file is no longer written");
    assert_non_null(warning);
    assert_null(strstr(warning + 1, "log file is no longer written"));
    assert_non_null(strstr(heard, "two\n"));
}

static void times_are_written_for_people(void **state)
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
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/log", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_shows_progress_in_place),
        cmocka_unit_test(elsewhere_there_are_plain_lines),
        cmocka_unit_test(progress_is_cut_at_the_edge),
        cmocka_unit_test(other_ranks_speak_only_where_they_must),
        cmocka_unit_test(a_failure_tells_its_story_and_where_asked_its_trail),
        cmocka_unit_test(the_file_gets_lines_with_their_time),
        cmocka_unit_test(a_full_disk_ends_the_file_but_not_the_story),
        cmocka_unit_test(times_are_written_for_people),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down) != 0;
}
