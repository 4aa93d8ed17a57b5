/*
 * abort.c - ends the job from any state: after a failure, from another thread, after a timeout.
 *
 * Called by the other files of comm and calls none of them.
 */
#include "private.h"

#include "simile/log.h"

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

void sim_comm_abort_from_thread(sim_status code)
{
    enum { LAUNCHER_S = 5 };
    sim_comm_abort_within(LAUNCHER_S); /* in case the launcher does not respond */
    (void)MPI_Abort(MPI_COMM_WORLD, (int)code);
    abort();
}
