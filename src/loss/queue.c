/*
 * queue.c - the sharded first-in-first-out store: tiles of slots to ranks, pushes, state.
 *
 * In: the batch's unit rows. Out: K rows, of which a rank stores its own tiles.
 * A push gathers the batch (small compared with K), and each rank stores the rows that belong
 * to its slots. All memory is allocated in create.
 */
#include "queue.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/random.h"
#include "simile/thread.h"

#include <string.h>

/* ---- sizes ---- */

/* Elements of each buffer. */
typedef struct {
    size_t n_tiles;
    sim_range tiles, slots;
    size_t store, panels, sums, partials;
} sizes;

static sizes measure(sim_partition p, const sim_queue_shape *s)
{
    sizes z = {.n_tiles = (s->k + QUEUE_TILE - 1) / QUEUE_TILE};
    size_t n = s->rows.n, d = s->rows.d;

    z.tiles = sim_partition_range(p, z.n_tiles);
    size_t lo = z.tiles.lo * QUEUE_TILE, hi = z.tiles.hi * QUEUE_TILE;
    z.slots = (sim_range){lo < s->k ? lo : s->k, hi < s->k ? hi : s->k};
    size_t own = z.tiles.hi - z.tiles.lo, depth = sim_tree_depth(z.n_tiles, z.tiles);
    size_t work = sim_comm_sum_leaves_capacity(p, z.n_tiles, n * d);
    z.store = (z.slots.hi - z.slots.lo) * d;
    z.panels = (own < QUEUE_WAVE ? own : QUEUE_WAVE) *
               (sim_panel_floats(d, QUEUE_TILE) + sim_panel_floats(QUEUE_TILE, d));
    z.sums = depth * n;
    /* One more: the exchange of rows reads pairs of floats. */
    z.partials = (depth * n * d > work ? depth * n * d : work) + 1;
    return z;
}

enum { QUEUE_BUFFERS = 10 };

static void list_queue_buffers(sim_queue *q, const sim_rows_shape *s, const sizes *z,
                               sim_buffer list[QUEUE_BUFFERS])
{
    list[0] = SIM_BUFFER(q->store, z->store);
    list[1] = SIM_BUFFER(q->z, s->n * s->d);
    list[2] = SIM_BUFFER(q->records, s->n);
    list[3] = SIM_BUFFER(q->lse, s->n);
    list[4] = SIM_BUFFER(q->panels, z->panels);
    list[5] = SIM_BUFFER(q->sums, z->sums);
    list[6] = SIM_BUFFER(q->total, s->n);
    list[7] = SIM_BUFFER(q->partials, z->partials);
    list[8] = SIM_BUFFER(q->tile_sums, z->n_tiles);
    list[9] = SIM_BUFFER(q->best, s->n);
}

size_t sim_queue_bytes(sim_partition p, const sim_queue_shape *shape)
{
    const sizes z = measure(p, shape);
    sim_queue none = {0};
    sim_buffer list[QUEUE_BUFFERS];

    list_queue_buffers(&none, &shape->rows, &z, list);
    return sizeof none + sim_buffers_bytes(list, QUEUE_BUFFERS) +
           sim_leaf_sums_bytes(&shape->rows, sim_leaf_count(shape->rows.n));
}

sim_status sim_queue_create(const sim_comm *c, const sim_queue_shape *shape,
                            sim_queue **out)
{
    sim_status st = SIM_OK;
    sim_buffer list[QUEUE_BUFFERS];
    sim_queue *q = NULL;
    const sizes z = measure(sim_comm_partition(c), shape);

    /* Slots are numbered by 32 bits. */
    SIM_ASSERT(shape->k >= 1 && shape->k <= UINT32_MAX && shape->rows.views == 1);
    SIM_TRY(sim_new(&q, "loss/queue"));
    q->comm = c;
    q->shape = *shape;
    q->n_tiles = z.n_tiles;
    q->tiles = z.tiles;
    q->slots = z.slots;
    q->local = sim_rows_local(sim_comm_partition(c), &shape->rows);
    SIM_TRY(sim_leaf_sums_create(&shape->rows, sim_leaf_count(shape->rows.n),
                                 "loss/queue", &q->leaves));
    list_queue_buffers(q, &shape->rows, &z, list);
    SIM_TRY(sim_buffers_create(list, QUEUE_BUFFERS, "loss/queue"));
    *out = q;
    q = NULL;
done:
    sim_queue_destroy(&q);
    return st;
}

void sim_queue_destroy(sim_queue **q)
{
    sim_buffer list[QUEUE_BUFFERS];
    if (!*q)
        return;
    const sizes z = {0}; /* counts are not used */
    list_queue_buffers(*q, &(*q)->shape.rows, &z, list);
    sim_buffers_destroy(list, QUEUE_BUFFERS);
    sim_leaf_sums_destroy(&(*q)->leaves);
    sim_free(*q);
    *q = NULL;
}

/* ---- the store ---- */

typedef struct {
    sim_queue *q;
    uint32_t seed;
} draw_call;

static void draw_slot(size_t i, void *ctx)
{
    const draw_call *call = ctx;
    size_t d = call->q->shape.rows.d;
    float *row = call->q->store + i * d, norm = 0;
    sim_random r = {.seed = call->seed,
                    .purpose = SIM_RANDOM_QUEUE,
                    .sample = (uint32_t)(call->q->slots.lo + i)};
    for (size_t j = 0; j < d; j++)
        row[j] = sim_random_normal(&r);
    sim_unit_rows(1, d, row, row, &norm);
}

void sim_queue_draw(sim_queue *q, uint32_t seed)
{
    draw_call call = {q, seed};
    sim_for(q->slots.hi - q->slots.lo, draw_slot, &call);
}

sim_range sim_queue_local(const sim_queue *q)
{
    return q->slots;
}

size_t sim_queue_slots(const sim_queue *q)
{
    return q->shape.k;
}

float *sim_queue_rows(sim_queue *q)
{
    return q->store;
}

int64_t sim_queue_pointer(const sim_queue *q)
{
    return q->pointer;
}

void sim_queue_set_pointer(sim_queue *q, int64_t pointer)
{
    SIM_ASSERT(pointer >= 0 && (size_t)pointer < q->shape.k);
    q->pointer = pointer;
}

void sim_queue_set_full(sim_queue *q)
{
    q->filled = (int64_t)q->shape.k;
}

int64_t sim_queue_filled(const sim_queue *q)
{
    return q->filled;
}

void sim_queue_only_filled(sim_queue *q, bool only_filled)
{
    q->only_filled = only_filled;
}

/* The filled slots are the last before the pointer, modulo K. */
queue_active sim_queue_active_slots(const sim_queue *q)
{
    size_t k = q->shape.k, n = q->only_filled ? (size_t)q->filled : k;
    size_t end = n < k ? (size_t)q->pointer : k;
    if (n <= end)
        return (queue_active){{{end - n, end}, {k, k}}, n};
    return (queue_active){{{0, end}, {k - (n - end), k}}, n};
}

void sim_queue_gather(sim_queue *q, const float *local)
{
    const sim_rows_shape *s = &q->shape.rows;
    sim_tile_gather(q->comm, s, s->d * sizeof *local, local, q->z);
}

void sim_queue_push(sim_queue *q, const float *local)
{
    size_t k = q->shape.k, n = q->shape.rows.n, d = q->shape.rows.d;
    size_t filled = (size_t)q->filled + n;

    sim_queue_gather(q, local);
    for (size_t i = n > k ? n - k : 0; i < n; i++) {
        size_t slot = ((size_t)q->pointer + i) % k;
        if (slot >= q->slots.lo && slot < q->slots.hi)
            memcpy(q->store + (slot - q->slots.lo) * d, q->z + i * d, d * sizeof *local);
    }
    q->pointer = (int64_t)(((size_t)q->pointer + n) % k);
    q->filled = (int64_t)(filled < k ? filled : k);
}

sim_status sim_queue_visit(sim_queue *q, const char *group, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    const double k = (double)q->shape.k;
    const sim_tensor rows = {.name = "rows",
                             .type = SIM_F32,
                             .n_dims = 2,
                             .dims = {q->shape.k, q->shape.rows.d},
                             .data = q->store,
                             .sharded = true,
                             .row_lo = q->slots.lo,
                             .row_hi = q->slots.hi,
                             .bounded = true, /* unit rows, rounded */
                             .least = -1.001,
                             .most = 1.001};

    SIM_TRY(sim_visit(v, group, &rows));
    SIM_TRY(sim_visit_count(v, group, "pointer", k - 1, &q->pointer));
    SIM_TRY(sim_visit_count(v, group, "filled", k, &q->filled));
done:
    return st;
}

static sim_hash hash_of_tile(const sim_queue *q, size_t tile)
{
    size_t lo = tile * QUEUE_TILE, hi = lo + QUEUE_TILE, d = q->shape.rows.d;
    size_t n = (hi < q->shape.k ? hi : q->shape.k) - lo;
    return sim_hash_bytes(q->store + (lo - q->slots.lo) * d, n * d * sizeof *q->store);
}

sim_status sim_queue_hash(const sim_queue *q, sim_hash *out)
{
    sim_status st = SIM_OK;
    sim_hash *all = NULL;
    const size_t n = q->n_tiles;

    SIM_TRY(sim_comm_agree(q->comm, sim_alloc(&all, n + 1, "loss/hash")));
    for (size_t i = q->tiles.lo; i < q->tiles.hi; i++)
        all[i] = hash_of_tile(q, i);
    sim_comm_gather_rows(q->comm, n, 1, n, sizeof *all, all + q->tiles.lo, all);
    all[n] = (sim_hash){.low = (uint64_t)q->pointer, .high = (uint64_t)q->filled};
    *out = sim_hash_bytes(all, (n + 1) * sizeof *all);
done:
    sim_free(all);
    return st;
}
