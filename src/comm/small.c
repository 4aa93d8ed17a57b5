/*
 * small.c - small things that all ranks share: bytes of one rank, extrema, counts.
 *
 * Integers add up the same in any order, and a maximum knows none, so MPI's own
 * reductions serve here; sums of floating point are in sum.c and reduce.c.
 */
#include "private.h"

void sim_comm_broadcast(const sim_comm *c, int root, void *data, size_t n_bytes)
{
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    size_t piece = sim_comm_rows_per_piece(1);
    for (size_t at = 0; at < n_bytes; at += piece)
        MPI_Bcast((char *)data + at, (int)sim_comm_piece(n_bytes - at, piece), MPI_BYTE,
                  root, MPI_COMM_WORLD);
    sim_comm_leave(entered, c->rank == root ? n_bytes : 0);
}

/* Values of 8 bytes, in place. */
static void reduce(const sim_comm *c, void *values, size_t n, MPI_Datatype type,
                   MPI_Op op)
{
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    size_t piece = sim_comm_rows_per_piece(8);
    for (size_t at = 0; at < n; at += piece)
        MPI_Allreduce(MPI_IN_PLACE, (char *)values + at * 8,
                      (int)sim_comm_piece(n - at, piece), type, op, MPI_COMM_WORLD);
    sim_comm_leave(entered, n * 8);
}

void sim_comm_max_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce(c, values, n, MPI_INT64_T, MPI_MAX);
}

void sim_comm_min_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce(c, values, n, MPI_INT64_T, MPI_MIN);
}

void sim_comm_sum_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce(c, values, n, MPI_INT64_T, MPI_SUM);
}

void sim_comm_max_f64(const sim_comm *c, double *values, size_t n)
{
    reduce(c, values, n, MPI_DOUBLE, MPI_MAX);
}

void sim_comm_barrier(const sim_comm *c)
{
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    MPI_Barrier(MPI_COMM_WORLD);
    sim_comm_leave(entered, 0);
}
