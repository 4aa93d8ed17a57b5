/*
 * small.c - broadcast, barrier, and reductions that are exact in any order.
 *
 * Integer sums and extrema do not depend on the order, so MPI_Allreduce is used.  Floating-point
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
                  root, MPI_COMM_WORLD);
    sim_comm_leave(entered, c->rank == root ? n_bytes : 0);
}

/* Reduces n values of 8 bytes in place. */
static void reduce_words(const sim_comm *c, void *values, size_t n, MPI_Datatype type,
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
    reduce_words(c, values, n, MPI_INT64_T, MPI_MAX);
}

void sim_comm_min_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_words(c, values, n, MPI_INT64_T, MPI_MIN);
}

void sim_comm_sum_i64(const sim_comm *c, int64_t *values, size_t n)
{
    reduce_words(c, values, n, MPI_INT64_T, MPI_SUM);
}

void sim_comm_max_f64(const sim_comm *c, double *values, size_t n)
{
    reduce_words(c, values, n, MPI_DOUBLE, MPI_MAX);
}

void sim_comm_barrier(const sim_comm *c)
{
    if (c->size == 1)
        return;
    double entered = sim_comm_enter();
    MPI_Barrier(MPI_COMM_WORLD);
    sim_comm_leave(entered, 0);
}
