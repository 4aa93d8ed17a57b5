/*
 * private.h - declarations shared by the files of comm.
 */
#ifndef SIMILE_COMM_PRIVATE_H
#define SIMILE_COMM_PRIVATE_H

#include "simile/comm.h"

#include <mpi.h>

/* Bracket every call into MPI, for sim_comm_seconds and sim_comm_bytes. They do not nest. */
double sim_comm_enter(void);
void sim_comm_leave(double entered, size_t sent_bytes);

/* For sim_comm_traffic_total: one call, and the bytes that this rank contributes. */
void sim_comm_count_gather(size_t n_bytes);
void sim_comm_count_reduction(size_t n_bytes);

struct sim_comm_handle {
    MPI_Comm mpi;
};

static inline MPI_Comm sim_comm_mpi(const sim_comm *c)
{
    return c->handle ? c->handle->mpi : MPI_COMM_WORLD;
}

/* Largest number of rows per message, for rows of this size. */
size_t sim_comm_rows_per_piece(size_t row_bytes);

/* Rows of the next message: min(left, piece). */
size_t sim_comm_piece(size_t left, size_t piece);

/* Rows [lo, hi) of a rank that holds whole units; the last unit may be short. */
sim_range sim_comm_rows_of(sim_partition p, size_t n_units, size_t rows_per_unit,
                           size_t n_rows);

/*
 * Collective. In-place all-gather: rank r provides rows [first[r], first[r + 1]) of `all`, which
 * it holds there already. Returns the bytes that this rank sent.
 */
size_t sim_comm_allgather(const sim_comm *c, const size_t *first, size_t row_bytes,
                          void *all);

/* [2 * size] counts and displacements of a message, allocated by sim_comm_begin. */
int *sim_comm_counts(void);

/* How the processes of this job were started, according to the environment. */
typedef enum { SIM_START_ALONE, SIM_START_MPIRUN, SIM_START_SRUN } sim_start;

/*
 * Number of processes that the launcher started, this one included; 1 by default. Call it
 * before MPI starts, since MPI_Init sets some of these variables itself.
 */
long sim_comm_launched(sim_start *how);

/* Whether srun started processes that cannot connect to each other. MPI_Init would end them
 * with many lines and no advice. */
bool sim_comm_is_scattered(void);

#endif
