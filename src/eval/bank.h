/*
 * bank.h - search for the most similar rows of a sharded bank.
 */
#ifndef SIMILE_EVAL_BANK_H
#define SIMILE_EVAL_BANK_H

#include "simile/eval.h"
#include "simile/memory.h"

enum { BANK_TILE = 1024 };

/*
 * Receives the similarities of local query i and the rows of the present tile; rows before `first` are not
 * searched.  Called inside sim_for, by one thread per query at a time, and in the order of the tiles.
 *   similarity  [tile_n]
 */
typedef void bank_take(void *ctx, size_t i, size_t first, const float *similarity);

/* Sizes and state of a search on one rank. */
typedef struct {
    size_t dim, k, n_rows;    /* of the bank, over all ranks */
    size_t n_queries, n_bank; /* of this rank */
    size_t first_query;       /* global index */
    bool is_upper;            /* compares rows after the query only */
    float *queries;           /* [n_queries][dim] unit rows */
    float *bank;              /* [n_bank][dim] unit rows */
    float *norms;             /* of queries or bank; only used at the start */
    sim_neighbour *best;      /* [n_queries][k] sorted after the search */
    size_t *n_best;           /* [n_queries] */
    float *tile, *panel;      /* present rows of the bank, as stored and packed */
    size_t tile_lo, tile_n;
    bank_take *take;
    void *ctx;
} bank_search;

bank_search sim_bank_sizes(sim_partition p, size_t dim, size_t k, size_t n_bank,
                           size_t n_queries);
/* Bytes that sim_bank_create allocates. */
size_t sim_bank_bytes(bank_search sizes);
/* Local.  queries [n_queries][dim], bank [n_bank][dim]. */
SIM_MUST_USE sim_status sim_bank_create(bank_search *q, const float *queries,
                                        const float *bank);
void sim_bank_destroy(bank_search *q);

/*
 * Compares all queries with all rows, tile by tile.  after_tile (or NULL) is called on all ranks and may
 * be collective; the pass ends when it fails.  Collective.
 */
void sim_bank_pass(const sim_comm *c, bank_search *q, bank_take *take, void *ctx,
                   sim_status (*after_tile)(void *ctx), sim_status *status);
/* Fills `best` and n_best.  Collective. */
void sim_bank_search(const sim_comm *c, bank_search *q);

#endif
