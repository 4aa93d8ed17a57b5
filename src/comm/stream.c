/*
 * stream.c - rows of all ranks, in global order, to every rank: two chunks at a time.
 *
 * Each owner of rows of a chunk broadcasts them. All ranks start the same broadcasts in the same
 * order. MPI_Ibcast forwards large messages from rank to rank in segments, so that no owner sends
 * its rows to each of the others; the traffic is that of an all-gather.
 * Invariant: the chunk that the caller reads and the chunk under way are in different buffers.
 */
#include "private.h"

#include "simile/memory.h"

#include <limits.h>
#include <string.h>

struct sim_comm_stream {
    const sim_comm *comm;
    sim_stream_shape shape;
    size_t piece;            /* rows of a message at most */
    sim_range own;           /* rows of this rank, of each array */
    char *chunks[2];         /* even and odd chunks */
    MPI_Request *requests;   /* of the chunk under way */
    size_t n_requests, next; /* the next chunk of the caller, over all arrays */
    const char *local;
};

static size_t chunks_per_array(const sim_stream_shape *s)
{
    return (s->n_rows + s->chunk_rows - 1) / s->chunk_rows;
}

/* Rows of chunk k, counted over all arrays. */
static sim_stream_chunk chunk_of(const sim_stream_shape *s, size_t k)
{
    const size_t per_array = chunks_per_array(s), lo = k % per_array * s->chunk_rows;
    const size_t left = s->n_rows - lo;
    return (sim_stream_chunk){.array = k / per_array,
                              .lo = lo,
                              .hi = lo + (left < s->chunk_rows ? left : s->chunk_rows)};
}

/* Rows of the rank that are in the chunk. */
static sim_range part_of(sim_partition p, const sim_stream_shape *s,
                         const sim_stream_chunk *chunk)
{
    const sim_range rows = sim_comm_rows_of(p, s->n_units, s->rows_per_unit, s->n_rows);
    const size_t lo = rows.lo > chunk->lo ? rows.lo : chunk->lo;
    const size_t hi = rows.hi < chunk->hi ? rows.hi : chunk->hi;
    return (sim_range){lo, hi > lo ? hi : lo};
}

static size_t messages_of(size_t rows, size_t piece)
{
    return (rows + piece - 1) / piece;
}

/* The largest number of messages of a chunk. */
static size_t most_messages(size_t n_ranks, const sim_stream_shape *s, size_t piece)
{
    size_t most = 0;
    for (size_t k = 0; k < chunks_per_array(s); k++) {
        const sim_stream_chunk chunk = chunk_of(s, k);
        size_t n = 0;
        for (size_t r = 0; r < n_ranks; r++) {
            const sim_range part =
                part_of((sim_partition){.size = n_ranks, .rank = r}, s, &chunk);
            n += messages_of(part.hi - part.lo, piece);
        }
        most = n > most ? n : most;
    }
    return most;
}

enum { STREAM_BUFFERS = 3 };

static void list_stream_buffers(sim_comm_stream *e, size_t n_ranks,
                                const sim_stream_shape *s,
                                sim_buffer list[STREAM_BUFFERS])
{
    const size_t piece = sim_comm_rows_per_piece(s->row_bytes);
    const size_t rows = s->n_rows < s->chunk_rows ? s->n_rows : s->chunk_rows;

    list[0] = SIM_BUFFER(e->chunks[0], rows * s->row_bytes);
    list[1] = SIM_BUFFER(e->chunks[1], rows * s->row_bytes);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): a request is a pointer in Open MPI */
    list[2] = SIM_BUFFER(e->requests, most_messages(n_ranks, s, piece));
}

size_t sim_comm_stream_bytes(sim_partition p, const sim_stream_shape *shape)
{
    sim_comm_stream none = {0};
    sim_buffer list[STREAM_BUFFERS];

    list_stream_buffers(&none, p.size, shape, list);
    return sizeof none + sim_buffers_bytes(list, STREAM_BUFFERS);
}

sim_status sim_comm_stream_create(const sim_comm *c, const sim_stream_shape *shape,
                                  sim_comm_stream **out)
{
    sim_status st = SIM_OK;
    sim_comm_stream *s = NULL;
    sim_buffer list[STREAM_BUFFERS];

    SIM_ASSERT(shape->n_arrays > 0 && shape->n_rows > 0 && shape->chunk_rows > 0);
    SIM_TRY(sim_new(&s, "comm/stream"));
    s->comm = c;
    s->shape = *shape;
    s->piece = sim_comm_rows_per_piece(shape->row_bytes);
    s->own = sim_comm_rows_of(sim_comm_partition(c), shape->n_units, shape->rows_per_unit,
                              shape->n_rows);
    list_stream_buffers(s, (size_t)c->size, shape, list);
    SIM_TRY(sim_buffers_create(list, STREAM_BUFFERS, "comm/stream"));
    *out = s;
    s = NULL;
done:
    sim_comm_stream_destroy(&s);
    return st;
}

void sim_comm_stream_destroy(sim_comm_stream **s)
{
    sim_buffer list[STREAM_BUFFERS];
    if (!*s)
        return;
    SIM_ASSERT((*s)->n_requests == 0);
    list_stream_buffers(*s, 0, &(*s)->shape, list); /* counts are not used */
    sim_buffers_destroy(list, STREAM_BUFFERS);
    sim_free(*s);
    *s = NULL;
}

/* Starts the broadcasts of rows [part.lo, part.hi) by `owner`, which are at `to` in the chunk. */
static void start_part(sim_comm_stream *s, int owner, sim_range part, char *to)
{
    const size_t row_bytes = s->shape.row_bytes;
    for (size_t at = part.lo; at < part.hi; at += s->piece) {
        const size_t bytes = sim_comm_piece(part.hi - at, s->piece) * row_bytes;
        SIM_ASSERT(bytes <= INT_MAX);
        MPI_Ibcast(to + (at - part.lo) * row_bytes, (int)bytes, MPI_BYTE, owner,
                   sim_comm_mpi(s->comm), &s->requests[s->n_requests++]);
    }
}

/* Returns the bytes that this rank sends. */
static size_t start_chunk(sim_comm_stream *s, size_t k)
{
    const size_t row_bytes = s->shape.row_bytes;
    const sim_stream_chunk chunk = chunk_of(&s->shape, k);
    char *rows = s->chunks[k % 2];
    size_t sent = 0;

    for (int r = 0; r < s->comm->size; r++) {
        const sim_partition p = {.size = (size_t)s->comm->size, .rank = (size_t)r};
        const sim_range part = part_of(p, &s->shape, &chunk);
        char *to = rows + (part.lo - chunk.lo) * row_bytes;
        if (part.hi == part.lo)
            continue;
        if (r == s->comm->rank) {
            const size_t before = chunk.array * (s->own.hi - s->own.lo);
            sent = (part.hi - part.lo) * row_bytes;
            memcpy(to, s->local + (before + part.lo - s->own.lo) * row_bytes, sent);
        }
        start_part(s, r, part, to);
    }
    return s->comm->size > 1 ? sent : 0;
}

static size_t n_chunks(const sim_stream_shape *s)
{
    return s->n_arrays * chunks_per_array(s);
}

void sim_comm_stream_begin(sim_comm_stream *s, const void *local)
{
    const double entered = sim_comm_enter();
    const sim_stream_shape *shape = &s->shape;

    SIM_ASSERT(s->n_requests == 0);
    sim_comm_count_gather(shape->n_arrays * (s->own.hi - s->own.lo) * shape->row_bytes);
    s->local = local;
    s->next = 0;
    sim_comm_leave(entered, start_chunk(s, 0));
}

bool sim_comm_stream_next(sim_comm_stream *s, sim_stream_chunk *out)
{
    if (s->next == n_chunks(&s->shape))
        return false;
    const double entered = sim_comm_enter();
    size_t sent = 0;

    MPI_Waitall((int)s->n_requests, s->requests, MPI_STATUSES_IGNORE);
    s->n_requests = 0;
    *out = chunk_of(&s->shape, s->next);
    out->rows = s->chunks[s->next % 2];
    if (++s->next < n_chunks(&s->shape))
        sent = start_chunk(s, s->next);
    sim_comm_leave(entered, sent);
    return true;
}

void sim_comm_stream_progress(sim_comm_stream *s)
{
    int complete = 0;
    if (s->n_requests == 0)
        return;
    const double entered = sim_comm_enter();
    MPI_Testall((int)s->n_requests, s->requests, &complete, MPI_STATUSES_IGNORE);
    sim_comm_leave(entered, 0);
}
