/*
 * queue_nearest.c - the most similar slot of each row, and a copy of what it holds.
 *
 * A rank keeps the best of its own slots as one integer that orders (similarity, slot), so
 * that one maximum over ranks decides.  The winners' rows are added as integers to zeros
 * elsewhere: an exact exchange.
 * Paper: Dwibedi et al. 2021, arXiv 2104.14548.
 */
#include "queue.h"

#include "simile/kernel.h"

#include <math.h>
#include <string.h>

/* Greater for the greater similarity, of equals for the lower slot. */
static int64_t place(float s, size_t slot)
{
    int32_t order = 0;
    s += 0.0f; /* -0 equals 0 */
    memcpy(&order, &s, sizeof order);
    if (order < 0)
        order ^= INT32_MAX; /* the bits of negative floats run backwards */
    return (int64_t)order * ((int64_t)1 << 32) + (int64_t)(UINT32_MAX - slot);
}

static size_t slot_of(int64_t best)
{
    return UINT32_MAX - (size_t)((uint64_t)best & UINT32_MAX);
}

static void see_best(const queue_loop *w, const queue_tile *t, sim_range anchors,
                     float *s)
{
    for (size_t i = anchors.lo; i < anchors.hi; i++, s += QUEUE_TILE) {
        float most = sim_row_max(t->n, s);
        size_t at = 0;
        if (!(most > -INFINITY))
            continue; /* no slot of this tile takes part */
        while (at + 1 < t->n && s[at] < most)
            at++;
        int64_t here = place(most, t->lo + at);
        if (here > w->q->best[i])
            w->q->best[i] = here;
    }
}

/* Rows of the winners, [n][d] on every rank, in the place of the gradients. */
static const float *bring_rows(sim_queue *q)
{
    size_t n = q->shape.rows.n, d = q->shape.rows.d, pairs = (n * d + 1) / 2;

    memset(q->partials, 0, 2 * pairs * sizeof *q->partials);
    for (size_t i = 0; i < n; i++) {
        size_t slot = slot_of(q->best[i]);
        if (slot >= q->slots.lo && slot < q->slots.hi)
            memcpy(q->partials + i * d, q->store + (slot - q->slots.lo) * d,
                   d * sizeof *q->store);
    }
    sim_comm_sum_i64(q->comm, (int64_t *)(void *)q->partials, pairs);
    return q->partials;
}

void sim_queue_nearest(sim_queue *q, const float *z, float *nearest, int64_t *slots,
                       double *embedding_std)
{
    const sim_range mine = q->mine;
    const queue_active active = sim_queue_active_slots(q);
    size_t n = q->shape.rows.n, d = q->shape.rows.d;

    SIM_ASSERT(active.n > 0);
    sim_queue_gather(q, z);
    sim_leaf_moments(&q->leaves, q->z);
    *embedding_std = sim_leaf_std(&q->leaves);
    /* Rows that are not finite compare with nothing: they too need a slot. */
    size_t first = active.part[active.part[0].lo == active.part[0].hi].lo;
    for (size_t i = 0; i < n; i++)
        q->best[i] = place(-INFINITY, first);
    sim_queue_for_tiles(q, see_best, NULL, false);
    sim_comm_max_i64(q->comm, q->best, n);
    const float *rows = bring_rows(q);
    for (size_t i = mine.lo; i < mine.hi; i++) {
        memcpy(nearest + (i - mine.lo) * d, rows + i * d, d * sizeof *rows);
        slots[i - mine.lo] = (int64_t)slot_of(q->best[i]);
    }
}
