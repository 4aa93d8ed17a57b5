/*
 * abort.c - ends the job from any state: after a failure, from another thread, after a timeout.
 *
 * Called by the other files of comm and calls none of them.
 */
#include "private.h"

#include "simile/log.h"
#include "simile/thread.h"

#include <stdlib.h>
#include <unistd.h>

void sim_comm_abort(sim_status code)
{
    sim_log_each("%s", sim_error_message());
    (void)MPI_Abort(MPI_COMM_WORLD, (int)code);
    abort();
}

void sim_comm_abort_within(unsigned seconds)
{
    (void)alarm(seconds); /* SIGALRM has no handler and ends the process */
}

static void *call_abort(void *ctx)
{
    const sim_status *code = ctx;
    (void)MPI_Abort(MPI_COMM_WORLD, (int)*code);
    return NULL;
}

static void wait_for_launcher(unsigned seconds)
{
    while (seconds > 0)
        seconds = sleep(seconds); /* a signal may interrupt it */
}

void sim_comm_abort_from_thread(sim_status code)
{
    enum { LAUNCHER_S = 5 };
    sim_thread thread;
    int started = 0;

    sim_comm_abort_within(2 * LAUNCHER_S); /* in case the process cannot exit by itself */
    (void)MPI_Initialized(&started);
    if (started && sim_thread_start(&thread, call_abort, &code) == SIM_OK)
        wait_for_launcher(
            LAUNCHER_S); /* it ends this process, unless it does not respond */
    _exit((int)code);
}
