/*
 * deadline.c - a deadline for the start, from MPI_Init until the ranks have compared what they run, and
 * for the end, from the last result to MPI_Finalize.  Between them are the commands: a run has its
 * watchdog.
 *
 * A thread counts short waits instead of comparing clocks, so that a suspended job does not
 * miss the deadline when it resumes. It can end the process while MPI or a file system blocks: it
 * touches neither files nor stderr.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/log.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>

enum { START_S = 600 };

static struct {
    sim_thread thread;
    sim_mutex lock;
    sim_signal wake;
    const char *what;
    double seconds;
    bool started, met;
} deadline;

static void expire(void)
{
    enum { MESSAGE_S = 3, END_S = 20 };
    char host[64], text[512];

    sim_comm_abort_within(END_S);
    sim_host_name(host, sizeof host);
    (void)snprintf(
        text, sizeof text,
        "simile: %s for %g s on %s; a process, a node or a disk of this job does "
        "not respond, or nothing reads its messages: the job ends; run the same "
        "command again",
        deadline.what, deadline.seconds, host);
    sim_log_urgent(text, MESSAGE_S);
    sim_comm_abort_from_thread(SIM_E_BUG);
}

static void *wait_for_deadline(void *ctx)
{
    enum { TICKS = 40 };
    (void)ctx;
    sim_heartbeat_mute();
    sim_mutex_lock(&deadline.lock);
    for (int i = 0; i < TICKS && !deadline.met; i++)
        sim_signal_wait_for(&deadline.wake, &deadline.lock, deadline.seconds / TICKS);
    bool late = !deadline.met;
    sim_mutex_unlock(&deadline.lock);
    if (late)
        expire();
    return NULL;
}

double sim_comm_start_seconds(void)
{
    const char *text = getenv("SIMILE_START_SECONDS");
    char *end = NULL;
    double seconds = text ? strtod(text, &end) : START_S;
    return end != text && seconds >= 0 ? seconds : START_S;
}

void sim_comm_deadline_begin(double seconds, const char *what)
{
    sim_comm_deadline_end();
    if (!(seconds > 0))
        return;
    deadline.seconds = seconds;
    deadline.what = what;
    deadline.met = false;
    sim_mutex_init(&deadline.lock);
    sim_signal_init(&deadline.wake);
    deadline.started =
        sim_thread_start(&deadline.thread, wait_for_deadline, NULL) == SIM_OK;
    if (deadline.started)
        return;
    sim_error_clear(); /* without the thread a hang lasts until the job's time limit */
    sim_signal_destroy(&deadline.wake);
    sim_mutex_destroy(&deadline.lock);
}

void sim_comm_deadline_end(void)
{
    if (!deadline.started)
        return;
    sim_mutex_lock(&deadline.lock);
    deadline.met = true;
    sim_signal_all(&deadline.wake);
    sim_mutex_unlock(&deadline.lock);
    sim_thread_join(&deadline.thread);
    sim_signal_destroy(&deadline.wake);
    sim_mutex_destroy(&deadline.lock);
    deadline.started = false;
}
