/*
 * signals.c - the wish to stop, from outside: USR1, TERM and INT.
 *
 * A handler only sets a flag; the loop reads it once a step and all ranks agree.  A second
 * INT ends the process at once, for the person at the keyboard.
 */
#include "state.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t seen;

static void note(int number)
{
    if (number == SIGINT && seen == SIGINT)
        (void)signal(SIGINT, SIG_DFL);
    seen = number;
}

static void set_all(void (*handler)(int))
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)sigaction(numbers[i], &action, NULL);
}

void sim_train_watch_signals(void)
{
    seen = 0;
    set_all(note);
}

/* Now the process only leaves.  A late USR1 must not kill a run that is complete, nor the
 * TERM that srun sends to the others as soon as the first rank has left with 75. */
void sim_signals_unwatch(void)
{
    set_all(SIG_IGN);
}

int sim_signals_pending(void)
{
    return (int)seen;
}

const char *sim_signals_name(int number)
{
    return number == SIGUSR1 ? "USR1" : number == SIGTERM ? "TERM" : "INT";
}
