/*
 * queue_nearest.c - the most similar slot of each row, and a copy of its row.
 *
 * A rank encodes (similarity, slot) of its best slot as one ordered integer, so that one
 * maximum over ranks selects the nearest. The selected rows are combined by a bitwise or, to
 * which all other ranks contribute zeros, so their bits are preserved.
 * Paper: Dwibedi et al. 2021, arXiv 2104.14548.
 */
#include "queue.h"

#include "simile/kernel.h"

#include <math.h>
#include <string.h>

/* Greater for the greater similarity; of equals, for the lower slot. */
static int64_t encode_match(float s, size_t slot)
{
    int32_t order = 0;
    s += 0.0f; /* -0 equals 0 */
    memcpy(&order, &s, sizeof order);
    if (order < 0)
        order ^= INT32_MAX; /* bits of negative floats order in reverse */
    return (int64_t)order * ((int64_t)1 << 32) + (int64_t)(UINT32_MAX - slot);
}

static size_t slot_of(int64_t best)
{
    return UINT32_MAX - (size_t)((uint64_t)best & UINT32_MAX);
}

static void update_best(const queue_loop *w, const queue_tile *t, sim_range anchors,
                        float *s)
{
    for (size_t i = anchors.lo; i < anchors.hi; i++, s += QUEUE_TILE) {
        float max = sim_row_max(t->n, s);
        size_t at = 0;
        if (!(max > -INFINITY))
            continue; /* no slot of this tile is active */
        while (at + 1 < t->n && s[at] < max)
            at++;
        int64_t here = encode_match(max, t->lo + at);
        if (here > w->q->best[i])
            w->q->best[i] = here;
    }
}

/* Returns the rows of the selected slots, [n][d] on every rank, in the buffer of the gradients. */
static const float *fetch_rows(sim_queue *q)
{
    size_t n = q->shape.rows.n, d = q->shape.rows.d;

    memset(q->partials, 0, n * d * sizeof *q->partials);
    for (size_t i = 0; i < n; i++) {
        size_t slot = slot_of(q->best[i]);
        if (slot >= q->slots.lo && slot < q->slots.hi)
            memcpy(q->partials + i * d, q->store + (slot - q->slots.lo) * d,
                   d * sizeof *q->store);
    }
    sim_comm_or_bytes(q->comm, q->partials, n * d * sizeof *q->partials);
    return q->partials;
}

void sim_queue_nearest(sim_queue *q, const float *z, float *nearest, int64_t *slots,
                       double *embedding_std)
{
    const sim_range local = q->local;
    const queue_active active = sim_queue_active_slots(q);
    size_t n = q->shape.rows.n, d = q->shape.rows.d;

    SIM_ASSERT(active.n > 0);
    sim_queue_gather(q, z);
    sim_leaf_moments(&q->leaves, q->z);
    *embedding_std = sim_leaf_std(&q->leaves);
    /* A row that is not finite matches no slot and is assigned the first active one. */
    size_t first = active.part[active.part[0].lo == active.part[0].hi].lo;
    for (size_t i = 0; i < n; i++)
        q->best[i] = encode_match(-INFINITY, first);
    sim_queue_for_tiles(q, update_best, NULL, false);
    sim_comm_max_i64(q->comm, q->best, n);
    const float *rows = fetch_rows(q);
    for (size_t i = local.lo; i < local.hi; i++) {
        memcpy(nearest + (i - local.lo) * d, rows + i * d, d * sizeof *rows);
        slots[i - local.lo] = (int64_t)slot_of(q->best[i]);
    }
}
