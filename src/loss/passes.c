/*
 * passes.c - the loop of row tiles over column tiles, with all columns in memory or streamed.
 *
 * In memory, a row tile is compared with all columns before the next one, so that its sums stay in
 * the cache. In a stream, all row tiles of a group are compared with a chunk of columns while the
 * next chunk is under way.
 * Invariant: a row meets the columns in the same order and tiles, so its bits do not depend on this.
 */
#include "passes.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <string.h>

/* ---- sizes ---- */

/* Gathered rows of more bytes are streamed by `gather: auto`. */
static const size_t stream_above = (size_t)256 << 20;
/* Of a chunk, and of the sums of a group: large enough that the transfer is short compared with
 * the products, small compared with stream_above. */
static const size_t chunk_bytes = (size_t)4 << 20, group_bytes = (size_t)32 << 20;

bool sim_passes_stream(sim_partition p, const sim_rows_shape *s, size_t n_sets)
{
    const size_t gathered = n_sets * s->views * s->n * s->d * sizeof(float);
    if (p.size == 1 || s->gather == SIM_GATHER_ALL)
        return false;
    return s->gather == SIM_GATHER_STREAM || gathered > stream_above;
}

/* Whole column tiles. */
static size_t chunk_rows(const sim_rows_shape *s)
{
    const size_t tiles = chunk_bytes / (COLUMN_TILE * s->d * sizeof(float));
    return s->stream_rows ? s->stream_rows : (tiles > 0 ? tiles : 1) * COLUMN_TILE;
}

/* The most slots of a rank. */
static size_t most_slots(sim_partition p, const sim_rows_shape *s)
{
    size_t most = 0;
    for (size_t r = 0; r < p.size; r++) {
        const sim_range own =
            sim_rows_local((sim_partition){.size = p.size, .rank = r}, s);
        most = own.hi - own.lo > most ? own.hi - own.lo : most;
    }
    return most;
}

static size_t group_slots(sim_partition p, const sim_rows_shape *s)
{
    const size_t fits = group_bytes / (s->views * s->d * sizeof(double));
    const size_t most = most_slots(p, s),
                 slots = s->stream_rows ? s->stream_rows : (fits > 0 ? fits : 1);
    return slots < most ? slots : most;
}

static sim_stream_shape stream_shape(const sim_rows_shape *s)
{
    return (sim_stream_shape){.n_units = sim_tile_units(s),
                              .rows_per_unit = s->unit,
                              .n_rows = s->n,
                              .row_bytes = s->d * sizeof(float),
                              .n_arrays = s->views,
                              .chunk_rows = chunk_rows(s)};
}

/* ---- creation ---- */

enum { PASS_BUFFERS = 2 };

static void list_pass_buffers(pass_engine *e, size_t slots, const sim_rows_shape *s,
                              sim_buffer list[PASS_BUFFERS])
{
    list[0] = SIM_BUFFER(e->sums, s->views * slots * s->d);
    list[1] = SIM_BUFFER(e->states, s->views * slots * MAX_ROW_STATE);
}

size_t sim_passes_bytes(sim_partition p, const sim_rows_shape *shape, size_t n_sets)
{
    pass_engine none = {0};
    sim_buffer list[PASS_BUFFERS];
    const sim_stream_shape stream = stream_shape(shape);

    if (!sim_passes_stream(p, shape, n_sets))
        return 0;
    list_pass_buffers(&none, group_slots(p, shape), shape, list);
    return sim_buffers_bytes(list, PASS_BUFFERS) + sim_comm_stream_bytes(p, &stream);
}

sim_status sim_passes_create(const sim_comm *c, const sim_rows_shape *shape,
                             size_t n_sets, const char *tag, pass_engine *out)
{
    sim_status st = SIM_OK;
    const sim_partition p = sim_comm_partition(c);
    const sim_stream_shape stream = stream_shape(shape);
    sim_buffer list[PASS_BUFFERS];

    SIM_ASSERT(shape->stream_rows % COLUMN_TILE == 0);
    *out = (pass_engine){.comm = c, .shape = *shape, .local = sim_rows_local(p, shape)};
    if (!sim_passes_stream(p, shape, n_sets))
        goto done;
    out->group = group_slots(p, shape);
    SIM_ASSERT(out->group > 0);
    out->n_groups = (most_slots(p, shape) + out->group - 1) / out->group;
    list_pass_buffers(out, out->group, shape, list);
    SIM_TRY(sim_buffers_create(list, PASS_BUFFERS, tag));
    SIM_TRY(sim_comm_stream_create(c, &stream, &out->stream));
done:
    return st;
}

void sim_passes_destroy(pass_engine *e)
{
    sim_buffer list[PASS_BUFFERS];
    list_pass_buffers(e, 0, &e->shape, list); /* counts are not used */
    sim_buffers_destroy(list, PASS_BUFFERS);
    sim_comm_stream_destroy(&e->stream);
}

/* ---- rows ---- */

void sim_passes_gather(const pass_engine *e, const float *local, float *gathered,
                       row_set *out)
{
    const sim_rows_shape *s = &e->shape;
    const size_t own = e->local.hi - e->local.lo;
    const bool alone = e->comm->size == 1;

    *out = (row_set){.local = local, .all = alone ? local : gathered};
    if (e->stream)
        out->all = NULL;
    for (size_t v = 0; v < s->views && !e->stream; v++)
        sim_tile_gather(e->comm, s, s->d * sizeof *local, local + v * own * s->d,
                        alone ? NULL : gathered + v * s->n * s->d);
}

const float *sim_passes_row(const pass_engine *e, const row_set *set, size_t view,
                            size_t slot)
{
    const size_t own = e->local.hi - e->local.lo;
    return set->local + (view * own + slot - e->local.lo) * e->shape.d;
}

/* ---- a row tile against columns ---- */

/* Slots [slots.lo, slots.hi) of a view, with their states and sums. */
typedef struct {
    size_t view;
    sim_range slots;
    char *states; /* [slots][MAX_ROW_STATE] */
    double *sums; /* [slots][d] */
} row_tile;

typedef struct {
    pass_engine *e;
    const row_pass *pass;
    sim_range slots; /* of this rank that pass now */
    size_t view;     /* the columns that they meet: [lo, hi) of this view */
    sim_range range;
    const float *columns;
} pass_call;

static pass_row row_at(const pass_call *q, const row_tile *t, size_t i)
{
    return (pass_row){.view = t->view,
                      .slot = t->slots.lo + i,
                      .state = t->states + i * MAX_ROW_STATE,
                      .sum = t->sums + i * q->e->shape.d};
}

static void begin_rows(const pass_call *q, const row_tile *t)
{
    const size_t n = t->slots.hi - t->slots.lo;
    if (q->pass->accumulate)
        memset(t->sums, 0, n * q->e->shape.d * sizeof *t->sums);
    for (size_t i = 0; i < n && q->pass->begin; i++) {
        const pass_row row = row_at(q, t, i);
        q->pass->begin(q->pass->ctx, &row);
    }
}

static void end_rows(const pass_call *q, const row_tile *t)
{
    for (size_t i = 0; i < t->slots.hi - t->slots.lo; i++) {
        const pass_row row = row_at(q, t, i);
        q->pass->end(q->pass->ctx, &row);
    }
}

/* Up to PRODUCT_ROWS rows, from the i-th of the tile, against packed columns. */
static void compare_rows(const pass_call *q, const tile_workspace *work,
                         const row_tile *t, size_t i, column_tile c)
{
    const size_t d = q->e->shape.d, left = t->slots.hi - t->slots.lo - i;
    const size_t m = left < PRODUCT_ROWS ? left : PRODUCT_ROWS;

    sim_product(m, c.n, d, sim_passes_row(q->e, &q->pass->rows, t->view, t->slots.lo + i),
                d, work->panel, work->s, COLUMN_TILE);
    for (size_t j = 0; j < m; j++) {
        const pass_row row = row_at(q, t, i + j);
        q->pass->compare(q->pass->ctx, &row, c, work->s + j * COLUMN_TILE);
    }
    if (q->pass->accumulate)
        sim_tile_accumulate(work, d, m, c.n, t->sums + i * d);
}

/* Compares a row tile with the columns of the call, one column tile after the other. */
static void compare_tile(const pass_call *q, const tile_workspace *work,
                         const row_tile *t)
{
    const size_t d = q->e->shape.d, n_rows = t->slots.hi - t->slots.lo;

    for (size_t lo = q->range.lo; lo < q->range.hi; lo += COLUMN_TILE) {
        const sim_range range = sim_tile_columns(q->range.hi, lo);
        const column_tile c = {q->view, lo, range.hi - lo};
        const float *columns = q->columns + (lo - q->range.lo) * d;
        sim_panel_pack(d, c.n, columns, d, true, work->panel);
        if (q->pass->accumulate)
            sim_panel_pack(c.n, d, columns, d, false, work->back);
        for (size_t i = 0; i < n_rows; i += PRODUCT_ROWS)
            compare_rows(q, work, t, i, c);
        if (q->e->stream && sim_thread_index() == 0)
            sim_comm_stream_progress(q->e->stream); /* thread 0 is the main thread */
    }
}

static size_t n_row_tiles(const pass_call *q)
{
    return q->e->shape.views * sim_row_tiles(q->slots, q->e->shape.d);
}

/* The i-th row tile; states and sums are not set. */
static row_tile find_row_tile(const pass_call *q, size_t i)
{
    const size_t per_view = sim_row_tiles(q->slots, q->e->shape.d);
    return (row_tile){.view = i / per_view,
                      .slots = sim_row_tile(q->slots, q->e->shape.d, i % per_view)};
}

/* ---- all columns in memory ---- */

static void pass_in_memory(size_t tile_index, void *ctx)
{
    pass_call q = *(const pass_call *)ctx;
    const sim_rows_shape *s = &q.e->shape;
    const tile_workspace work = sim_tile_scratch(s->d);
    _Alignas(double) char states[ROW_TILE * MAX_ROW_STATE];
    row_tile tile = find_row_tile(&q, tile_index);

    tile.states = states;
    tile.sums = work.sum;
    begin_rows(&q, &tile);
    for (q.view = 0; q.view < s->views; q.view++) {
        q.columns = q.pass->columns.all + q.view * s->n * s->d;
        compare_tile(&q, &work, &tile);
    }
    end_rows(&q, &tile);
}

/* ---- streamed columns ---- */

static row_tile streamed_tile(const pass_call *q, size_t i)
{
    row_tile t = find_row_tile(q, i);
    const size_t row = t.view * q->e->group + t.slots.lo - q->slots.lo;
    t.states = q->e->states + row * MAX_ROW_STATE;
    t.sums = q->e->sums + row * q->e->shape.d;
    return t;
}

static void begin_tile(size_t tile_index, void *ctx)
{
    const row_tile tile = streamed_tile(ctx, tile_index);
    begin_rows(ctx, &tile);
}

static void pass_chunk(size_t tile_index, void *ctx)
{
    const pass_call *q = ctx;
    const tile_workspace work = sim_tile_scratch(q->e->shape.d);
    const row_tile tile = streamed_tile(q, tile_index);
    compare_tile(q, &work, &tile);
}

static void end_tile(size_t tile_index, void *ctx)
{
    const row_tile tile = streamed_tile(ctx, tile_index);
    end_rows(ctx, &tile);
}

/* A rank with fewer rows than others takes part in the stream without rows. */
static void pass_group(pass_call *q)
{
    sim_stream_chunk chunk;

    sim_for(n_row_tiles(q), begin_tile, q);
    sim_comm_stream_begin(q->e->stream, q->pass->columns.local);
    while (sim_comm_stream_next(q->e->stream, &chunk)) {
        q->view = chunk.array;
        q->range = (sim_range){chunk.lo, chunk.hi};
        q->columns = chunk.rows;
        sim_for(n_row_tiles(q), pass_chunk, q);
    }
    sim_for(n_row_tiles(q), end_tile, q);
}

void sim_passes_run(pass_engine *e, const row_pass *pass)
{
    pass_call q = {.e = e, .pass = pass};

    if (!e->stream) {
        q.slots = pass->slots;
        q.range = (sim_range){0, e->shape.n};
        sim_for(n_row_tiles(&q), pass_in_memory, &q);
        return;
    }
    for (size_t g = 0; g < e->n_groups; g++) {
        const size_t lo = pass->slots.lo + g * e->group, hi = lo + e->group;
        q.slots.lo = lo < pass->slots.hi ? lo : pass->slots.hi;
        q.slots.hi = hi < pass->slots.hi ? hi : pass->slots.hi;
        pass_group(&q);
    }
}

/* ---- moments ---- */

/* Leaves of the sum over all rows that this rank computes. */
static sim_range own_leaves(sim_partition p, const sim_rows_shape *s)
{
    return sim_partition_range(p, sim_leaf_count(s->n));
}

size_t sim_passes_moments(sim_partition p, const sim_rows_shape *shape, size_t n_sets)
{
    const sim_range own = own_leaves(p, shape);
    if (!sim_passes_stream(p, shape, n_sets))
        return sim_leaf_count(shape->n);
    return own.hi - own.lo + 1; /* and the result */
}

typedef struct {
    const leaf_sums *f;
    sim_range leaves; /* of this rank */
    size_t first;     /* leaf of the chunk that is the first of this rank */
    const sim_stream_chunk *chunk;
} moments_call;

static void add_chunk_to_leaf(size_t i, void *ctx)
{
    const moments_call *q = ctx;
    const size_t leaf = q->first + i, d = q->f->d, lo = leaf * LEAF_SLOTS;
    const size_t hi = lo + LEAF_SLOTS < q->chunk->hi ? lo + LEAF_SLOTS : q->chunk->hi;
    const float *rows = q->chunk->rows;

    sim_leaf_add_moments(d, hi - lo, rows + (lo - q->chunk->lo) * d,
                         q->f->values + (leaf - q->leaves.lo) * 2 * d);
}

/* A leaf is part of one chunk of each view, which pass in their order. */
static void add_chunk_moments(moments_call *q)
{
    const size_t lo = q->chunk->lo / LEAF_SLOTS, hi = sim_leaf_count(q->chunk->hi);
    q->first = lo > q->leaves.lo ? lo : q->leaves.lo;
    const size_t end = hi < q->leaves.hi ? hi : q->leaves.hi;
    sim_for(end > q->first ? end - q->first : 0, add_chunk_to_leaf, q);
}

void sim_passes_moments_run(pass_engine *e, const row_set *rows, leaf_sums *f)
{
    const sim_range own = own_leaves(sim_comm_partition(e->comm), &e->shape);
    const size_t width = 2 * f->d, n = own.hi - own.lo;
    sim_stream_chunk chunk;
    moments_call q = {.f = f, .leaves = own, .chunk = &chunk};
    const sim_reduce_shape all = {.n_units = sim_leaf_count(e->shape.n),
                                  .leaves_per_unit = 1,
                                  .width = width,
                                  .merge = sim_merge_sum};

    if (rows->all) {
        sim_leaf_moments(f, rows->all);
        return;
    }
    memset(f->values, 0, n * width * sizeof *f->values);
    sim_comm_stream_begin(e->stream, rows->local);
    while (sim_comm_stream_next(e->stream, &chunk))
        add_chunk_moments(&q);
    sim_comm_reduce_doubles(e->comm, &all, f->values, f->values + n * width);
    memmove(f->values, f->values + n * width, width * sizeof *f->values);
}
