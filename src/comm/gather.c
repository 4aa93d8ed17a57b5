/*
 * gather.c - rows from their owners to all ranks, or to one, in global order.
 *
 * Plain copies: each owner's rows travel in pieces by broadcasts (to all) or by messages
 * (to one), so that no count passes an int.
 */
#include "private.h"

#include <string.h>

/* Rows [lo, hi) that a rank owns. */
static sim_range rows_of(const sim_comm *c, size_t n_units, size_t rows_per_unit,
                         size_t n_rows, int rank)
{
    sim_range r = sim_tree_part(n_units, (size_t)c->size, (size_t)rank);
    r.lo *= rows_per_unit;
    r.hi *= rows_per_unit;
    r.lo = r.lo < n_rows ? r.lo : n_rows;
    r.hi = r.hi < n_rows ? r.hi : n_rows;
    return r;
}

void sim_comm_gather_rows(const sim_comm *c, size_t n_units, size_t rows_per_unit,
                          size_t n_rows, size_t row_bytes, const void *mine, void *all)
{
    double entered = sim_comm_enter();
    sim_range own = rows_of(c, n_units, rows_per_unit, n_rows, c->rank);
    char *place = (char *)all + own.lo * row_bytes;
    size_t piece = sim_comm_rows_per_piece(row_bytes), sent = 0;

    if (own.hi > own.lo && place != (const char *)mine)
        memmove(place, mine, (own.hi - own.lo) * row_bytes);
    for (int r = 0; c->size > 1 && r < c->size; r++) {
        sim_range rows = rows_of(c, n_units, rows_per_unit, n_rows, r);
        for (size_t at = rows.lo; at < rows.hi; at += piece) {
            size_t n = rows.hi - at < piece ? rows.hi - at : piece;
            MPI_Bcast((char *)all + at * row_bytes, (int)(n * row_bytes), MPI_BYTE, r,
                      MPI_COMM_WORLD);
            sent += r == c->rank ? n * row_bytes : 0;
        }
    }
    sim_comm_leave(entered, sent);
}

/* One owner's rows to the root, piece by piece. */
static void carry(const sim_comm *c, int root, int owner, sim_range rows,
                  size_t row_bytes, const void *mine, void *all)
{
    enum { TAG = 7 };
    size_t piece = sim_comm_rows_per_piece(row_bytes);
    for (size_t at = rows.lo; at < rows.hi; at += piece) {
        size_t n = rows.hi - at < piece ? rows.hi - at : piece;
        int bytes = (int)(n * row_bytes);
        if (c->rank == owner)
            MPI_Send((const char *)mine + (at - rows.lo) * row_bytes, bytes, MPI_BYTE,
                     root, TAG, MPI_COMM_WORLD);
        else
            MPI_Recv((char *)all + at * row_bytes, bytes, MPI_BYTE, owner, TAG,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
}

void sim_comm_collect_rows(const sim_comm *c, int root, size_t n_units,
                           size_t rows_per_unit, size_t n_rows, size_t row_bytes,
                           const void *mine, void *all)
{
    double entered = sim_comm_enter();
    sim_range own = rows_of(c, n_units, rows_per_unit, n_rows, c->rank);
    size_t own_bytes = (own.hi - own.lo) * row_bytes;

    for (int r = 0; r < c->size; r++) {
        if (r == root && c->rank == root && own_bytes)
            memmove((char *)all + own.lo * row_bytes, mine, own_bytes);
        else if (r != root && (c->rank == r || c->rank == root))
            carry(c, root, r, rows_of(c, n_units, rows_per_unit, n_rows, r), row_bytes,
                  mine, all);
    }
    sim_comm_leave(entered, c->rank == root ? 0 : own_bytes);
}
