/*
 * shard.c - writes a sharded tensor to rank 0's image or to part files, piece by piece.
 *
 * In: each rank's rows.  Out: the same bytes for any number of ranks: rows are written in
 * global order, and part boundaries depend only on the row size.  Peak memory per rank: its
 * own rows and one piece (for part files, two).
 * Called by write.c.  Collective; every function ends in one agreement.
 */
#include "private.h"

#include "simile/memory.h"

enum { PIECE_BYTES = 64 << 20 };

/* State of the save of one sharded tensor. */
typedef struct {
    const sim_comm *comm;
    const sim_tensor *tensor;
    size_t *first;   /* [size + 1]; rank r has rows [first[r], first[r + 1]) */
    int64_t *bounds; /* [size][2]; the ranges that the ranks report */
    size_t row_bytes, piece_rows;
    char *piece; /* [piece_rows][row_bytes] */
} shard;

enum { SHARD_BUFFERS = 3 };

static void list_shard_buffers(shard *s, sim_buffer list[SHARD_BUFFERS])
{
    const size_t size = (size_t)s->comm->size, n_rows = s->tensor->dims[0];
    const size_t rows = s->piece_rows < n_rows ? s->piece_rows : n_rows;

    list[0] = SIM_BUFFER(s->first, size + 1);
    list[1] = SIM_BUFFER(s->bounds, 2 * size);
    list[2] = (sim_buffer){&s->piece, rows, s->row_bytes};
}

/* Gathers the row ranges of all ranks.  They are consecutive and cover all rows; the bounds
 * of an empty range are arbitrary. */
static void find_owners(const shard *s)
{
    const sim_tensor *t = s->tensor;
    int64_t *bounds = s->bounds;
    const size_t size = (size_t)s->comm->size, rank = (size_t)s->comm->rank;

    SIM_ASSERT(t->n_dims > 0 && t->row_lo <= t->row_hi && t->row_hi <= t->dims[0]);
    bounds[2 * rank] = (int64_t)t->row_lo;
    bounds[2 * rank + 1] = (int64_t)t->row_hi;
    sim_comm_sum_i64(s->comm, bounds, 2 * size);
    for (size_t r = 0; r < size; r++) {
        size_t lo = (size_t)bounds[2 * r], hi = (size_t)bounds[2 * r + 1];
        SIM_ASSERT(lo == hi || lo == s->first[r]);
        s->first[r + 1] = s->first[r] + (hi - lo);
    }
    SIM_ASSERT(s->first[size] == t->dims[0]);
}

static sim_status shard_begin(const sim_comm *c, const sim_tensor *t, size_t piece_bytes,
                              shard *s)
{
    sim_status st = SIM_OK;
    sim_buffer list[SHARD_BUFFERS];
    const size_t row_bytes = sim_tensor_row_bytes(t);

    *s = (shard){.comm = c, .tensor = t, .row_bytes = row_bytes};
    s->piece_rows = row_bytes && piece_bytes > row_bytes ? piece_bytes / row_bytes : 1;
    list_shard_buffers(s, list);
    SIM_TRY(
        sim_comm_agree(c, sim_buffers_create(list, SHARD_BUFFERS, "checkpoint/shard")));
    find_owners(s);
done:
    return st;
}

static void shard_end(shard *s)
{
    sim_buffer list[SHARD_BUFFERS];

    list_shard_buffers(s, list);
    sim_buffers_destroy(list, SHARD_BUFFERS);
}

/* Makes rows available on rank `root`: in place if it has them, else gathered to s->piece. */
static const void *fetch_rows(const shard *s, int root, sim_range rows)
{
    const char *local = s->tensor->data;
    if (s->first[root] <= rows.lo && rows.hi <= s->first[root + 1])
        return s->comm->rank == root ? local + (rows.lo - s->first[root]) * s->row_bytes
                                     : NULL;
    sim_comm_fetch_rows(s->comm, root, s->first, rows, s->row_bytes, local, s->piece);
    return s->piece;
}

static sim_range next_rows(const shard *s, size_t at, size_t end_row)
{
    size_t n = end_row - at < s->piece_rows ? end_row - at : s->piece_rows;
    return (sim_range){at, at + n};
}

sim_status sim_checkpoint_shard_to_image(const sim_comm *c, const sim_tensor *t,
                                         sim_h5 *file, const char *path, sim_hash *hash)
{
    sim_status st = SIM_OK;
    shard s = {.first = NULL};
    sim_hasher *hasher = NULL;
    const bool is_root = c->rank == 0;

    SIM_TRY(shard_begin(c, t, PIECE_BYTES, &s));
    if (is_root)
        st = sim_hasher_create(&hasher);
    if (is_root && st == SIM_OK) {
        sim_tensor_hash_begin(t, hasher);
        st = sim_h5_begin_rows(file, path, t);
    }
    /* A failure is reported after the last piece: the other ranks send all pieces. */
    for (size_t at = 0; at < t->dims[0]; at += s.piece_rows) {
        const sim_range rows = next_rows(&s, at, t->dims[0]);
        const void *data = fetch_rows(&s, 0, rows);
        if (!is_root || st != SIM_OK)
            continue;
        sim_hasher_add(hasher, data, (rows.hi - rows.lo) * s.row_bytes);
        st = sim_h5_write_rows(file, path, t->type, rows.lo, rows.hi - rows.lo, data);
    }
    SIM_TRY(sim_comm_agree(c, st));
    if (is_root)
        *hash = sim_hasher_value(hasher);
done:
    sim_hasher_destroy(&hasher);
    shard_end(&s);
    return st;
}

/* ---- part files ---- */

/* The rank that writes a part: the owner of its first row. */
static int writer_of(const shard *s, sim_range rows)
{
    int r = 0;
    while (s->first[r + 1] <= rows.lo)
        r++;
    return r;
}

/* Writes the part that starts at row `at`, if this rank is its writer and it has (`crosses`)
 * or has not rows of other ranks.  Returns `before` if it writes nothing. */
static sim_status write_part(const shard *s, const checkpoint_parts *p, size_t at,
                             bool crosses, sim_hash *digests, sim_status before)
{
    const sim_range rows = next_rows(s, at, s->tensor->dims[0]);
    const size_t i = at / s->piece_rows;
    const int writer = writer_of(s, rows);
    sim_tensor part = *s->tensor;

    if ((rows.hi > s->first[writer + 1]) != crosses)
        return before;
    const void *data = fetch_rows(s, writer, rows);
    if (s->comm->rank != writer || before != SIM_OK)
        return before;
    part.dims[0] = rows.hi - rows.lo;
    part.row_lo = rows.lo;
    part.data = (void *)data;
    return sim_checkpoint_part_write(p->directory, p->step, p->index + i, &part,
                                     &digests[i]);
}

/* Parts with rows of one rank need no messages: they come first, so all ranks write at the
 * same time. */
static sim_status write_parts(const shard *s, const checkpoint_parts *p,
                              sim_hash *digests)
{
    sim_status st = SIM_OK;
    for (int crosses = 0; crosses < 2; crosses++)
        for (size_t at = 0; at < s->tensor->dims[0]; at += s->piece_rows)
            st = write_part(s, p, at, crosses, digests, st);
    return st;
}

/* Hash over name, dims and the digests of the parts. */
static sim_status hash_of_parts(const sim_tensor *t, const sim_hash *digests, size_t n,
                                sim_hash *hash)
{
    sim_status st = SIM_OK;
    sim_hasher *hasher = NULL;
    SIM_TRY(sim_hasher_create(&hasher));
    sim_tensor_hash_begin(t, hasher);
    sim_hasher_add(hasher, digests, n * sizeof *digests);
    *hash = sim_hasher_value(hasher);
done:
    sim_hasher_destroy(&hasher);
    return st;
}

sim_status sim_checkpoint_shard_to_parts(const sim_comm *c, const sim_tensor *t,
                                         checkpoint_parts *parts, sim_hash *hash)
{
    sim_status st = SIM_OK;
    shard s = {.first = NULL};
    sim_hash *digests = NULL;

    SIM_TRY(shard_begin(c, t, sim_checkpoint_part_size(), &s));
    const size_t n = (t->dims[0] + s.piece_rows - 1) / s.piece_rows;
    SIM_TRY(sim_comm_agree(c, sim_alloc(&digests, n, "checkpoint/shard")));
    const checkpoint_parts first = *parts;
    parts->index += n; /* also on failure: some files may exist */
    SIM_TRY(sim_comm_agree(c, write_parts(&s, &first, digests)));
    /* A digest is zero except on the rank that wrote the part. */
    sim_comm_sum_i64(c, (int64_t *)digests, 2 * n);
    if (c->rank == 0) {
        sim_checkpoint_part_table(parts->table, parts->step, t, s.piece_rows, first.index,
                                  digests);
        st = hash_of_parts(t, digests, n, hash);
    }
    SIM_TRY(sim_comm_agree(c, st));
done:
    sim_free(digests);
    shard_end(&s);
    return st;
}
