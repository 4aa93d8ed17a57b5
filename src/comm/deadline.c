/*
 * deadline.c - a start that hangs must end: in MPI_Init, or before a run has its watchdog.
 *
 * A thread counts the time in ticks, so that a job that is suspended as a whole is not late
 * when it goes on, and ends the process where MPI itself cannot.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { START_S = 600 };

static struct {
    sim_thread thread;
    sim_mutex lock;
    sim_signal wake;
    const char *where;
    double seconds;
    bool started, over;
} deadline;

static void expire(void)
{
    char host[64];
    int started = 0;

    sim_host_name(host, sizeof host);
    (void)fprintf(stderr,
                  "simile: the start hangs on %s: %s for %g s; a process or node of this "
                  "job, or a disk, does not answer.  Nothing was begun: run the same "
                  "command again\n",
                  host, deadline.where, deadline.seconds);
    (void)MPI_Initialized(&started);
    if (started)
        sim_comm_abort_from_thread(SIM_E_BUG);
    _exit(SIM_E_BUG);
}

static void *count(void *ctx)
{
    enum { TICKS = 40 };
    (void)ctx;
    sim_heartbeat_mute();
    sim_mutex_lock(&deadline.lock);
    for (int i = 0; i < TICKS && !deadline.over; i++)
        sim_signal_wait_for(&deadline.wake, &deadline.lock, deadline.seconds / TICKS);
    bool late = !deadline.over;
    sim_mutex_unlock(&deadline.lock);
    if (late)
        expire();
    return NULL;
}

double sim_comm_start_seconds(void)
{
    const char *text = getenv("SIMILE_START_SECONDS");
    double seconds = text ? strtod(text, NULL) : 0;
    return seconds > 0 ? seconds : START_S;
}

void sim_comm_deadline_begin(double seconds, const char *where)
{
    SIM_ASSERT(!deadline.started);
    deadline.seconds = seconds;
    deadline.where = where;
    deadline.over = false;
    sim_mutex_init(&deadline.lock);
    sim_signal_init(&deadline.wake);
    deadline.started = sim_thread_start(&deadline.thread, count, NULL) == SIM_OK;
    if (deadline.started)
        return;
    sim_error_clear(); /* without it a hang lasts until the job's limit */
    sim_signal_destroy(&deadline.wake);
    sim_mutex_destroy(&deadline.lock);
}

void sim_comm_deadline_end(void)
{
    if (!deadline.started)
        return;
    sim_mutex_lock(&deadline.lock);
    deadline.over = true;
    sim_signal_all(&deadline.wake);
    sim_mutex_unlock(&deadline.lock);
    sim_thread_join(&deadline.thread);
    sim_signal_destroy(&deadline.wake);
    sim_mutex_destroy(&deadline.lock);
    deadline.started = false;
}
