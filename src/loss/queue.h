/*
 * queue.h - the sharded queue and the loop over its tiles.
 */
#ifndef SIMILE_LOSS_QUEUE_H
#define SIMILE_LOSS_QUEUE_H

#include "tiles.h"

/* Slots of a tile, with fixed global boundaries; tiles packed at a time. */
enum { QUEUE_TILE = SIM_QUEUE_TILE, QUEUE_WAVE = 8 };

/* Partial log-sum-exp of an anchor over some tiles. */
typedef struct {
    double shift, sum; /* sum of exp(s / T - shift) */
    double max;        /* largest s */
} slot_sum;

/* Results of an anchor, gathered on every rank. */
typedef struct {
    double loss, positive, correct;
    double share;    /* of the slots in the whole sum; 1 when decoupled */
    double a_dot_da; /* a . da, times n */
} anchor_record;

struct sim_queue {
    const sim_comm *comm;
    sim_queue_shape shape;
    size_t n_tiles;         /* of all ranks */
    sim_range tiles, slots; /* of this rank */
    float *store;           /* [slots][d] */
    int64_t pointer, filled;
    bool only_filled;

    sim_range local;        /* of the batch, this rank's */
    float *z;               /* [n][d] the compared or pushed rows, on every rank */
    anchor_record *records; /* [n] */
    float *lse;             /* [n] log-sum-exp over the slots */
    leaf_sums leaves;
    float *panels;   /* of a wave */
    slot_sum *sums;  /* [stack][n] */
    slot_sum *total; /* [n] over all slots */
    /* [stack][n][d] gradients; also the workspace of the sum over ranks. */
    float *partials;
    double *tile_sums; /* [n_tiles] similarities of all anchors to a tile's slots */
    int64_t *best;     /* [n] the most similar slot */
};

/* Active slots: two ranges, ascending, either may be empty. */
typedef struct {
    sim_range part[2];
    size_t n;
} queue_active;
queue_active sim_queue_active_slots(const sim_queue *q);

/* Gathers the rows of all ranks in q->z; local [local][d]. */
void sim_queue_gather(sim_queue *q, const float *local);

/* A tile of this rank. Its partials are stored at level `height` of the stack; then the two topmost
 * levels are merged `merges` times. */
typedef struct {
    size_t lo, n; /* slots [lo, lo + n) */
    size_t height, merges;
    const float *panel, *back; /* for products over d, and over the tile's slots */
} queue_tile;

/*
 * All anchors against this rank's tiles, in ascending order. `visit` receives similarities
 * s [anchors][QUEUE_TILE] of anchors [lo, hi), -INFINITY where a slot is not active, and
 * may overwrite them; calls for different anchors run in parallel.
 */
typedef struct queue_loop queue_loop;
typedef void queue_tile_fn(const queue_loop *w, const queue_tile *t, sim_range anchors,
                           float *s);
struct queue_loop {
    sim_queue *q;
    queue_tile_fn *visit;
    const void *ctx;
    bool back; /* `visit` reads the tiles' `back` */
    queue_active active;
    size_t item_rows; /* anchors per iteration of sim_for; does not affect results */
    size_t n_tiles;   /* of the wave */
    queue_tile tiles[QUEUE_WAVE];
};
void sim_queue_for_tiles(sim_queue *q, queue_tile_fn *visit, const void *ctx, bool back);

#endif
