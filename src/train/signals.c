/*
 * signals.c - requests to stop by USR1, TERM and INT.
 *
 * The handler only sets a flag, which the loop reads once per step; then all ranks agree.  After a
 * second INT (Ctrl-C) the next one ends the process at once: `timeout` delivers one INT twice.  A
 * second TERM ends rank 0 if it made no progress since the first and 5 s have passed: Slurm sends TERM
 * again to a job that it is about to kill, which may be writing its last checkpoint.
 */
#include "state.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t pending;
static atomic_int_fast64_t term_s; /* time of the first TERM; 0: none */
static atomic_uint_fast64_t term_beats;
static atomic_bool ends_at_second_term;

static int64_t monotonic_s(void)
{
    struct timespec now = {.tv_sec = 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec;
}

/* True for a TERM that comes late after the first one, without progress since. */
static bool is_second_term(void)
{
    enum { APART_S = 5 };
    const uint64_t beats = sim_heartbeat_now().beats;
    const int64_t now_s = monotonic_s();

    if (atomic_load(&term_s) == 0 || atomic_load(&term_beats) != beats) {
        atomic_store(&term_s, now_s);
        atomic_store(&term_beats, beats);
        return false;
    }
    return atomic_load(&ends_at_second_term) && now_s - atomic_load(&term_s) >= APART_S;
}

/* Uses only async-signal-safe functions. */
static void set_flag(int number)
{
    if (number == SIGINT && pending == SIGINT)
        (void)signal(SIGINT, SIG_DFL);
    if (number == SIGTERM && is_second_term()) {
        (void)signal(SIGTERM, SIG_DFL);
        (void)raise(SIGTERM);
    }
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
    atomic_store(&term_s, 0);
    set_handlers(set_flag);
}

/* The process is about to exit.  Neither a late USR1 nor the TERM that srun sends to the other
 * ranks as soon as the first has exited with 75 may change the exit code. */
void sim_signals_unwatch(void)
{
    set_handlers(SIG_IGN);
}

void sim_signals_hold(bool held)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)pthread_sigmask(held ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

void sim_signals_end_at_second_term(bool ends)
{
    atomic_store(&ends_at_second_term, ends);
}

int sim_signals_pending(void)
{
    return (int)pending;
}

const char *sim_signals_name(int number)
{
    return number == SIGUSR1 ? "USR1" : number == SIGTERM ? "TERM" : "INT";
}
