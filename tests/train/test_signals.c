/*
 * test_signals.c - a signal is a request to stop while the loop runs, and ignored afterwards.
 */
#include "simile_test.h"

#include "state.h"

#include <signal.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_is_pending_and_a_late_one_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
