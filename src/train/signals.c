/*
 * signals.c - requests to stop by USR1, TERM and INT.
 *
 * The handler only sets a flag, which the loop reads once per step; then all ranks agree.  A
 * second INT (Ctrl-C) ends the process at once.
 */
#include "state.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t pending;

static void set_flag(int number)
{
    if (number == SIGINT && pending == SIGINT)
        (void)signal(SIGINT, SIG_DFL);
    pending = number;
}

static void set_handlers(void (*handler)(int))
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
    pending = 0;
    set_handlers(set_flag);
}

/* The process is about to exit.  Neither a late USR1 nor the TERM that srun sends to the other
 * ranks as soon as the first has exited with 75 may change the exit code. */
void sim_signals_unwatch(void)
{
    set_handlers(SIG_IGN);
}

int sim_signals_pending(void)
{
    return (int)pending;
}

const char *sim_signals_name(int number)
{
    return number == SIGUSR1 ? "USR1" : number == SIGTERM ? "TERM" : "INT";
}
