/*
 * part.c - communicators of the first ranks of another.
 *
 * Used to measure a step on fewer ranks than the job has.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

static sim_status create_handle(sim_comm **out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_new(out, "comm/part"));
    SIM_TRY(sim_new(&(*out)->handle, "comm/part"));
done:
    return st;
}

static void free_handle(sim_comm **c)
{
    if (*c)
        SIM_FREE((*c)->handle);
    SIM_FREE(*c);
}

sim_status sim_comm_create(const sim_comm *c, int n_ranks, sim_comm **out)
{
    sim_status st = SIM_OK;
    MPI_Comm mpi = MPI_COMM_NULL;
    sim_comm *part = NULL;
    const bool is_member = c->rank < n_ranks;

    SIM_ASSERT(n_ranks >= 1 && n_ranks <= c->size);
    SIM_TRY(sim_comm_agree(c, create_handle(&part)));
    double entered = sim_comm_enter();
    MPI_Comm_split(sim_comm_mpi(c), is_member ? 0 : MPI_UNDEFINED, c->rank, &mpi);
    sim_comm_leave(entered, 0);
    if (is_member) {
        part->rank = c->rank;
        part->size = n_ranks;
        memcpy(part->host, c->host, sizeof part->host);
        part->handle->mpi = mpi;
        *out = part;
        part = NULL;
    } else
        *out = NULL;
done:
    free_handle(&part);
    return st;
}

void sim_comm_destroy(sim_comm **c)
{
    if (!*c)
        return;
    SIM_ASSERT((*c)->handle);
    MPI_Comm_free(&(*c)->handle->mpi);
    free_handle(c);
}
