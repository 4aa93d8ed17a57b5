/*
 * test_signals.c - a signal is a request to stop while the loop runs, and ignored afterwards.
 */
#include "simile_test.h"

#include "state.h"

#include "simile/heartbeat.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_signal_is_pending_and_a_late_one_ignored(void **state)
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT};

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sim_train_watch_signals();
        assert_int_equal(sim_signals_pending(), 0);
        assert_int_equal(raise(numbers[i]), 0);
        assert_int_equal(sim_signals_pending(), numbers[i]);
        sim_signals_unwatch();
        assert_int_equal(raise(numbers[i]), 0);
    }
}

/* Raises TERM twice in another process; returns the signal that ended it, or 0. */
static int raise_twice(bool ends, unsigned apart_s, bool progress)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        sim_train_watch_signals();
        sim_signals_end_at_second_term(ends);
        (void)raise(SIGTERM);
        (void)sleep(apart_s);
        if (progress)
            sim_heartbeat_tick();
        (void)raise(SIGTERM);
        _exit(sim_signals_pending() == SIGTERM ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void a_second_term_ends_a_process_that_makes_no_progress(void **state)
{
    (void)state;
    assert_int_equal(raise_twice(true, 7, false), SIGTERM);
    assert_int_equal(raise_twice(true, 7, true), 0);
    assert_int_equal(raise_twice(false, 7, false),
                     0); /* a rank that may wait for rank 0 */
    assert_int_equal(raise_twice(true, 0, false),
                     0); /* one TERM that is delivered twice */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_is_pending_and_a_late_one_ignored),
        cmocka_unit_test(a_second_term_ends_a_process_that_makes_no_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
