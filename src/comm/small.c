/*
 * small.c - broadcast, barrier, and reductions that are exact in any order.
 *
 * Integer sums, extrema and bitwise operations do not depend on the order, so MPI_Allreduce is used. Floating-point
 * sums are in sum.c and reduce.c.
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
                  root, sim_comm_mpi(c));
    sim_comm_leave(entered, c->rank == root ? n_bytes : 0);
}

/* Reduces n values of `value_bytes` bytes in place. */
static void reduce_values(const sim_comm *c, void *values, size_t n, size_t value_bytes,
                          MPI_Datatype type, MPI_Op op)
{
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    size_t piece = sim_comm_rows_per_piece(value_bytes);
    for (size_t at = 0; at < n; at += piece)
        MPI_Allreduce(MPI_IN_PLACE, (char *)values + at * value_bytes,
                      (int)sim_comm_piece(n - at, piece), type, op, sim_comm_mpi(c));
    sim_comm_leave(entered, n * value_bytes);
}

void sim_comm_max_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_values(c, values, n, sizeof *values, MPI_INT64_T, MPI_MAX);
}

void sim_comm_min_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_values(c, values, n, sizeof *values, MPI_INT64_T, MPI_MIN);
}

void sim_comm_sum_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_values(c, values, n, sizeof *values, MPI_INT64_T, MPI_SUM);
}

void sim_comm_max_f64(const sim_comm *c, double *values, size_t n)
{
    reduce_values(c, values, n, sizeof *values, MPI_DOUBLE, MPI_MAX);
}

void sim_comm_or_bytes(const sim_comm *c, void *data, size_t n_bytes)
{
    reduce_values(c, data, n_bytes, 1, MPI_BYTE, MPI_BOR);
}

void sim_comm_barrier(const sim_comm *c)
{
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    MPI_Barrier(sim_comm_mpi(c));
    sim_comm_leave(entered, 0);
}
