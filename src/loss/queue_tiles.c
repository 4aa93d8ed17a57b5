/*
 * queue_tiles.c - all anchors against a rank's tiles, a few tiles at a time.
 *
 * Called by: queue_contrast.c, queue_nearest.c.
 * The panels of a wave of tiles are packed once for all anchors; then each sim_for item
 * compares some anchors with all tiles of the wave, which stay in its L2 cache. Anchors are
 * independent: their number per item depends on the threads and does not affect the results.
 */
#include "queue.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>

/* The micro-kernel processes 12 rows at a time; 96 rows of similarities and a tile's panels
 * fit in a L2 cache. */
enum { ROW_STEP = 12, MAX_ROWS = 96 };

static size_t rows_of_item(size_t n)
{
    size_t items = 2 * (size_t)sim_threads();
    size_t rows = (n + items - 1) / items;
    rows = (rows + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
    return rows < MAX_ROWS ? rows : MAX_ROWS;
}

static size_t panel_floats(size_t d)
{
    return sim_panel_floats(d, QUEUE_TILE) + sim_panel_floats(QUEUE_TILE, d);
}

static void pack_tile(size_t i, void *ctx)
{
    queue_loop *w = ctx;
    sim_queue *q = w->q;
    queue_tile *t = &w->tiles[i];
    size_t d = q->shape.rows.d;
    const float *rows = q->store + (t->lo - q->slots.lo) * d;
    float *panel = q->panels + i * panel_floats(d);
    float *back = panel + sim_panel_floats(d, QUEUE_TILE);

    sim_panel_pack(d, t->n, rows, d, true, panel);
    if (w->back)
        sim_panel_pack(t->n, d, rows, d, false, back);
    t->panel = panel;
    t->back = back;
}

static bool is_active(const queue_active *a, size_t slot)
{
    return (slot >= a->part[0].lo && slot < a->part[0].hi) ||
           (slot >= a->part[1].lo && slot < a->part[1].hi);
}

static void mask(const queue_loop *w, const queue_tile *t, size_t m, float *s)
{
    for (size_t j = 0; j < t->n; j++)
        for (size_t i = 0; i < m && !is_active(&w->active, t->lo + j); i++)
            s[i * QUEUE_TILE + j] = -INFINITY;
}

static void compare_anchors(size_t item, void *ctx)
{
    const queue_loop *w = ctx;
    const sim_rows_shape *shape = &w->q->shape.rows;
    size_t lo = item * w->item_rows, hi = lo + w->item_rows;
    const sim_range anchors = {lo, hi < shape->n ? hi : shape->n};
    size_t m = anchors.hi - lo;
    float *s = sim_scratch(m * QUEUE_TILE * sizeof *s);

    for (size_t i = 0; i < w->n_tiles; i++) {
        const queue_tile *t = &w->tiles[i];
        sim_product(m, t->n, shape->d, w->q->z + lo * shape->d, shape->d, t->panel, s,
                    QUEUE_TILE);
        if (w->active.n < w->q->shape.k)
            mask(w, t, m, s);
        w->visit(w, t, anchors, s);
    }
}

size_t sim_queue_scratch(size_t d)
{
    size_t similarities = (size_t)MAX_ROWS * QUEUE_TILE * sizeof(float);
    size_t key = sim_panel_floats(d, 1) * sizeof(float), sums = d * sizeof(double);
    size_t max = key > sums ? key : sums;
    return similarities > max ? similarities : max;
}

/* The wave that begins at tile `first`, and its positions on a stack of that height. */
static size_t form_wave(queue_loop *w, size_t first, size_t height)
{
    const sim_queue *q = w->q;
    w->n_tiles = 0;
    for (size_t i = first; i < q->tiles.hi && w->n_tiles < QUEUE_WAVE; i++) {
        size_t lo = i * QUEUE_TILE, left = q->shape.k - lo;
        size_t merges = sim_tree_merges(q->n_tiles, q->tiles, i);
        w->tiles[w->n_tiles++] = (queue_tile){.lo = lo,
                                              .n = left < QUEUE_TILE ? left : QUEUE_TILE,
                                              .height = height,
                                              .merges = merges};
        height += 1 - merges;
    }
    return height;
}

void sim_queue_for_tiles(sim_queue *q, queue_tile_fn *visit, const void *ctx, bool back)
{
    size_t n = q->shape.rows.n, height = 0;
    queue_loop w = {.q = q,
                    .visit = visit,
                    .ctx = ctx,
                    .back = back,
                    .active = sim_queue_active_slots(q),
                    .item_rows = rows_of_item(n)};

    for (size_t first = q->tiles.lo; first < q->tiles.hi; first += QUEUE_WAVE) {
        height = form_wave(&w, first, height);
        sim_for(w.n_tiles, pack_tile, &w);
        sim_for((n + w.item_rows - 1) / w.item_rows, compare_anchors, &w);
    }
}
