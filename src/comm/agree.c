/*
 * agree.c - one outcome for all ranks: the code and message of the lowest failing rank.
 */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int code;
    char message[4096];
} outcome;

static bool begins_with_rank(const char *text)
{
    static const char begin[] = "rank ";
    char *end = NULL;
    if (strncmp(text, begin, strlen(begin)) != 0)
        return false;
    const char *digits = text + strlen(begin);
    (void)strtol(digits, &end, 10);
    return end != digits && strncmp(end, " on ", 4) == 0;
}

/* Whether the message names a rank already, from an earlier agreement. A caller may have
 * prefixed a file since: "z.h5: rank 2 on node1: ...". */
static bool names_a_rank(const char *message)
{
    bool named = begins_with_rank(message);
    for (const char *at = strstr(message, ": "); at && !named; at = strstr(at + 2, ": "))
        named = begins_with_rank(at + 2);
    return named;
}

static outcome local_outcome(const sim_comm *c, sim_status local)
{
    outcome v = {.code = (int)local};
    const char *message = sim_error_message();
    if (local == SIM_E_AGAIN ||
        names_a_rank(message)) /* SIM_E_AGAIN: all ranks stop alike */
        (void)snprintf(v.message, sizeof v.message, "%s", message);
    else
        (void)snprintf(v.message, sizeof v.message, "rank %d on %s: %s", c->rank, c->host,
                       message);
    return v;
}

sim_status sim_comm_agree(const sim_comm *c, sim_status local)
{
    int candidate = local == SIM_OK ? c->size : c->rank, lowest = 0;
    outcome v = {.code = SIM_OK};

    if (c->size == 1)
        return local;
    double entered = sim_comm_enter();
    size_t sent = sizeof candidate;
    MPI_Allreduce(&candidate, &lowest, 1, MPI_INT, MPI_MIN, sim_comm_mpi(c));
    if (lowest < c->size) {
        if (c->rank == lowest)
            v = local_outcome(c, local);
        MPI_Bcast(&v, (int)sizeof v, MPI_BYTE, lowest, sim_comm_mpi(c));
        sim_error_set(v.message);
        sent += c->rank == lowest ? sizeof v : 0;
    }
    sim_comm_leave(entered, sent);
    return (sim_status)v.code;
}
