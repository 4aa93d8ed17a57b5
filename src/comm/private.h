/*
 * private.h - what the files of this room share.
 */
#ifndef SIMILE_COMM_PRIVATE_H
#define SIMILE_COMM_PRIVATE_H

#include "simile/comm.h"

#include <mpi.h>

/* Time spent in this room is counted between these two; calls do not nest. */
double sim_comm_enter(void);
void sim_comm_leave(double entered, size_t sent_bytes);

/* Rows of a message at most, for rows of this size. */
size_t sim_comm_rows_per_piece(size_t row_bytes);

/* The smaller of what is left and what a message may carry. */
size_t sim_comm_piece(size_t left, size_t piece);

/*
 * Collective.  Rows [first[r], first[r + 1]) of `all` go from rank r to every rank, in
 * pieces; this rank's stand there already.  Returns the bytes this rank gave.
 */
size_t sim_comm_allgather(const sim_comm *c, const size_t *first, size_t row_bytes,
                          void *all);

/* Room for two ints a rank, counts and places of a message; taken when MPI starts. */
int *sim_comm_counts(void);

/* How the processes around this one were started, as the environment tells. */
typedef enum { SIM_START_ALONE, SIM_START_MPIRUN, SIM_START_SRUN } sim_start;

/*
 * Number of processes that the launcher started together with this one; 1 when nothing
 * says otherwise.  To be read before MPI starts, which sets some of these names itself.
 */
long sim_comm_launched(sim_start *how);

/* Seconds that MPI_Init may take. */
double sim_comm_start_seconds(void);

/* Did srun start processes that have no way to find each other?  MPI_Init would end them
 * with many lines that do not say what to type. */
bool sim_comm_is_scattered(void);

#endif
