/*
 * gather.c - rows of all ranks, in global order, to every rank or to one.
 *
 * Messages are split in pieces, so that no count exceeds an int.
 */
#include "private.h"

#include "simile/thread.h"

#include <limits.h>
#include <string.h>

sim_range sim_comm_rows_of(sim_partition p, size_t n_units, size_t rows_per_unit,
                           size_t n_rows)
{
    sim_range r = sim_partition_range(p, n_units);
    r.lo *= rows_per_unit;
    r.hi *= rows_per_unit;
    r.lo = r.lo < n_rows ? r.lo : n_rows;
    r.hi = r.hi < n_rows ? r.hi : n_rows;
    return r;
}

static sim_range rows_of(const sim_comm *c, size_t n_units, size_t rows_per_unit,
                         size_t n_rows, int rank)
{
    const sim_partition p = {.size = (size_t)c->size, .rank = (size_t)rank};
    return sim_comm_rows_of(p, n_units, rows_per_unit, n_rows);
}

/* ---- to all ranks ---- */

/* Counts and displacements of the piece of every rank's rows that begins at row `at`; returns
 * its number of rows. */
static size_t set_piece(size_t size, const size_t *first, size_t at, size_t piece,
                        int *counts, int *displacements)
{
    size_t sum = 0;
    for (size_t r = 0; r < size; r++) {
        size_t have = first[r + 1] - first[r];
        size_t n = at < have ? sim_comm_piece(have - at, piece) : 0;
        counts[r] = (int)n;
        displacements[r] = n ? (int)(first[r] + at) : 0;
        sum += n;
    }
    return sum;
}

size_t sim_comm_allgather(const sim_comm *c, const size_t *first, size_t row_bytes,
                          void *all)
{
    size_t size = (size_t)c->size, piece = sim_comm_rows_per_piece(row_bytes);
    int *counts = sim_comm_counts(), *displacements = counts + size;
    MPI_Datatype row;

    SIM_ASSERT(first[size] <= INT_MAX);
    MPI_Type_contiguous((int)row_bytes, MPI_BYTE, &row);
    MPI_Type_commit(&row);
    for (size_t at = 0; set_piece(size, first, at, piece, counts, displacements);
         at += piece)
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, counts, displacements,
                       row, sim_comm_mpi(c));
    MPI_Type_free(&row);
    return (first[c->rank + 1] - first[c->rank]) * row_bytes;
}

void sim_comm_gather_rows(const sim_comm *c, size_t n_units, size_t rows_per_unit,
                          size_t n_rows, size_t row_bytes, const void *local, void *all)
{
    double entered = sim_comm_enter();
    size_t sent = 0;
    sim_range own = rows_of(c, n_units, rows_per_unit, n_rows, c->rank);
    char *place = all ? (char *)all + own.lo * row_bytes : NULL;

    SIM_ASSERT(all || c->size == 1);
    sim_comm_count_gather((own.hi - own.lo) * row_bytes);
    if (all && own.hi > own.lo && place != (const char *)local)
        memmove(place, local, (own.hi - own.lo) * row_bytes);
    if (c->size > 1) {
        size_t *first = sim_scratch(((size_t)c->size + 1) * sizeof *first);
        for (int r = 0; r < c->size; r++) {
            sim_range rows = rows_of(c, n_units, rows_per_unit, n_rows, r);
            first[r] = rows.lo;
            first[r + 1] = rows.hi;
        }
        sent = sim_comm_allgather(c, first, row_bytes, all);
    }
    sim_comm_leave(entered, sent);
}

/* ---- to one rank ---- */

/* Sends rows of the owner, at `from`, to the root, at `to`, in pieces. */
static void send_rows(const sim_comm *c, int root, int owner, sim_range rows,
                      size_t row_bytes, const void *from, void *to)
{
    enum { TAG = 7 };
    size_t piece = sim_comm_rows_per_piece(row_bytes);
    for (size_t at = rows.lo; at < rows.hi; at += piece) {
        int bytes = (int)(sim_comm_piece(rows.hi - at, piece) * row_bytes);
        if (c->rank == owner)
            MPI_Send((const char *)from + (at - rows.lo) * row_bytes, bytes, MPI_BYTE,
                     root, TAG, sim_comm_mpi(c));
        else
            MPI_Recv((char *)to + (at - rows.lo) * row_bytes, bytes, MPI_BYTE, owner, TAG,
                     sim_comm_mpi(c), MPI_STATUS_IGNORE);
    }
}

void sim_comm_collect_rows(const sim_comm *c, int root, size_t n_units,
                           size_t rows_per_unit, size_t n_rows, size_t row_bytes,
                           const void *local, void *all)
{
    double entered = sim_comm_enter();
    sim_range own = rows_of(c, n_units, rows_per_unit, n_rows, c->rank);
    size_t own_bytes = (own.hi - own.lo) * row_bytes;

    if (c->rank == root && own_bytes)
        memmove((char *)all + own.lo * row_bytes, local, own_bytes);
    for (int r = 0; r < c->size; r++)
        if (r != root && (c->rank == r || c->rank == root)) {
            sim_range rows = rows_of(c, n_units, rows_per_unit, n_rows, r);
            send_rows(c, root, r, rows, row_bytes, local,
                      c->rank == root ? (char *)all + rows.lo * row_bytes : NULL);
        }
    sim_comm_leave(entered, c->rank == root ? 0 : own_bytes);
}

void sim_comm_fetch_rows(const sim_comm *c, int root, const size_t *first, sim_range rows,
                         size_t row_bytes, const void *local, void *out)
{
    double entered = sim_comm_enter();
    size_t sent = 0;
    for (int r = 0; r < c->size; r++) {
        sim_range part = {first[r] > rows.lo ? first[r] : rows.lo,
                          first[r + 1] < rows.hi ? first[r + 1] : rows.hi};
        if (part.lo >= part.hi || (c->rank != r && c->rank != root))
            continue;
        size_t n_bytes = (part.hi - part.lo) * row_bytes;
        const char *from =
            c->rank == r ? (const char *)local + (part.lo - first[r]) * row_bytes : NULL;
        char *to = c->rank == root ? (char *)out + (part.lo - rows.lo) * row_bytes : NULL;
        if (r == root)
            memmove(to, from, n_bytes);
        else
            send_rows(c, root, r, part, row_bytes, from, to);
        sent += c->rank == root ? 0 : n_bytes;
    }
    sim_comm_leave(entered, sent);
}
