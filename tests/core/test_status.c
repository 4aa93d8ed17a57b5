/*
 * test_status.c - error messages, backtraces and failed assertions.
 */
#include "simile_test.h"

#include "simile/thread.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static sim_status inner(void)
{
    sim_status st = SIM_OK;
    SIM_FAIL(SIM_E_DATA, "row %d is bad", 7);
done:
    return st;
}

static sim_status outer(void)
{
    sim_status st = SIM_OK;
    SIM_TRY(inner());
done:
    return st;
}

static void an_error_is_passed_with_its_message_and_backtrace(void **state)
{
    (void)state;
    ASSERT_REFUSED(outer(), SIM_E_DATA, "row 7 is bad");
    const char *first = strstr(sim_error_backtrace(), "core/test_status.c:");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, " < core/test_status.c:"));
    sim_error_clear();
    assert_string_equal(sim_error_message(), "");
    assert_string_equal(sim_error_backtrace(), "");
}

static void a_message_that_is_too_long_is_truncated(void **state)
{
    (void)state;
    static char text[10000];
    memset(text, 'x', sizeof text - 1);
    (void)sim_error_begin(SIM_E_IO, "a.c", 1, "%s", text);
    size_t n = strlen(sim_error_message());
    assert_true(n > 1000 && n < sizeof text - 1);
    sim_error_prefix("%s", text); /* does not fit: the message is unchanged */
    assert_int_equal(strlen(sim_error_message()), n);
    for (int i = 0; i < 1000; i++)
        sim_error_add_frame("src/core/somewhere.c", i);
    assert_true(strlen(sim_error_backtrace()) < 10000);
    sim_error_set(text);
    assert_int_equal(strlen(sim_error_message()), n);
}

static void a_message_may_be_set_from_its_own_suffix(void **state)
{
    (void)state;
    sim_error_set("file: the reason, at length");
    sim_error_set(sim_error_message() + 6);
    assert_string_equal(sim_error_message(), "the reason, at length");
    sim_error_set(sim_error_message());
    assert_string_equal(sim_error_message(), "the reason, at length");
}

static void *other_thread(void *arg)
{
    bool *empty = arg;
    *empty = sim_error_message()[0] == '\0';
    sim_error_set("of the other thread");
    return NULL;
}

static void each_thread_has_its_own_message(void **state)
{
    (void)state;
    sim_thread t;
    bool empty = false;
    sim_error_set("of the main thread");
    ASSERT_OK(sim_thread_start(&t, other_thread, &empty));
    sim_thread_join(&t);
    assert_true(empty);
    assert_string_equal(sim_error_message(), "of the main thread");
}

static void every_code_has_a_distinct_name(void **state)
{
    (void)state;
    static const sim_status codes[] = {
        SIM_OK,   SIM_E_USAGE,  SIM_E_DATA,  SIM_E_INPUT,  SIM_E_INSTALL, SIM_E_BUG,
        SIM_E_IO, SIM_E_CREATE, SIM_E_AGAIN, SIM_E_ACCESS, SIM_E_CONFIG};
    enum { N = sizeof codes / sizeof codes[0] };
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(sim_status_name(codes[i]), sim_status_name(codes[j]));
    assert_string_equal(sim_status_name((sim_status)1), "unknown");
}

static void exit_with_70(void)
{
    _exit(SIM_E_BUG);
}

/* Runs a failing assertion in a child process; returns its wait status and stores its output. */
static int run_failing_assertion(void (*hook)(void), char *output, size_t output_bytes)
{
    int ends[2], wait_status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL); /* cmocka has a handler */
        (void)dup2(ends[1], STDERR_FILENO);
        sim_assert_hook(hook);
        SIM_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    (void)close(ends[1]);
    ssize_t n = read(ends[0], output, output_bytes - 1);
    output[n > 0 ? n : 0] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    return wait_status;
}

static void a_failed_assertion_calls_the_hook(void **state)
{
    (void)state;
    char output[500];
    int wait_status = run_failing_assertion(exit_with_70, output, sizeof output);
    assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 70);
    assert_non_null(strstr(output, "1 + 1 == 3"));
    assert_non_null(strstr(output, "core/test_status.c:"));
    wait_status = run_failing_assertion(NULL, output, sizeof output);
    assert_true(WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_is_passed_with_its_message_and_backtrace),
        cmocka_unit_test(a_message_that_is_too_long_is_truncated),
        cmocka_unit_test(a_message_may_be_set_from_its_own_suffix),
        cmocka_unit_test(each_thread_has_its_own_message),
        cmocka_unit_test(every_code_has_a_distinct_name),
        cmocka_unit_test(a_failed_assertion_calls_the_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
