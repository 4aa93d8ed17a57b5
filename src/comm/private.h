/*
 * private.h - what the files of this room share.
 */
#ifndef SIMILE_COMM_PRIVATE_H
#define SIMILE_COMM_PRIVATE_H

#include "simile/comm.h"

#include <mpi.h>

/* Time spent in this room is counted between these two. */
double sim_comm_enter(void);
void sim_comm_leave(double entered, size_t sent_bytes);

/* Rows of a message at most, for rows of this size. */
size_t sim_comm_rows_per_piece(size_t row_bytes);

/* Ranges of leaves of all ranks' maximal nodes, rank after rank; their number.  `first`
 * [size + 1] tells where each rank's begin.  Both the caller's, by sim_free. */
SIM_MUST_USE sim_status sim_comm_all_nodes(size_t size, size_t n_leaves,
                                           sim_range **nodes, size_t **first);

#endif
