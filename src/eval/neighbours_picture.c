/*
 * neighbours_picture.c - a picture of images and their nearest neighbours.
 */
#include "simile/eval.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/report.h"

#include <string.h>

enum { QUERIES = 12, NEIGHBOURS = 8, SMALL = 48 };

/* The cells of a row: the query, an empty one, its neighbours; of its k + 1 nearest it is left out. */
static void fill_row(size_t self, const sim_neighbour *found, size_t k, size_t cell_bytes,
                     const uint8_t *thumbnails, const uint8_t **cells)
{
    size_t m = 0;

    cells[0] = thumbnails + self * cell_bytes;
    for (size_t j = 0; j <= k && m < k; j++)
        if (found[j].index != self)
            cells[2 + m++] = thumbnails + found[j].index * cell_bytes;
}

sim_status sim_neighbours_draw(size_t n, size_t dim, const float *features,
                               const sim_thumbnails *t, const uint8_t *thumbnails,
                               uint8_t **png, sim_picture *out)
{
    static const sim_comm alone = {.rank = 0, .size = 1};
    sim_status st = SIM_OK;
    const size_t n_queries = n < QUERIES ? n : QUERIES,
                 k = n - 1 < NEIGHBOURS ? n - 1 : NEIGHBOURS, columns = k + 2;
    float *queries = NULL;
    sim_neighbour *found = NULL;
    const uint8_t **cells = NULL;

    SIM_TRY(sim_alloc(&queries, n_queries * dim, "eval/neighbours"));
    SIM_TRY(sim_alloc(&cells, n_queries * columns, "eval/neighbours"));
    for (size_t q = 0; q < n_queries; q++)
        memcpy(queries + q * dim, features + sim_sample_image(n, n_queries, q) * dim,
               dim * sizeof *queries);
    const sim_feature_sets sets = {.dim = dim,
                                   .n_bank = n,
                                   .n_queries = n_queries,
                                   .bank = features,
                                   .queries = queries};
    SIM_TRY(sim_neighbours(&alone, &sets, k + 1, &found));
    for (size_t q = 0; q < n_queries; q++)
        fill_row(sim_sample_image(n, n_queries, q), found + q * (k + 1), k, t->bytes,
                 thumbnails, cells + q * columns);
    const sim_grid grid = {.rows = n_queries,
                           .columns = columns,
                           .h = t->h,
                           .w = t->w,
                           .c = 3,
                           .zoom = t->h < SMALL ? 2 : 1,
                           .gap = 4,
                           .cells = cells};
    *out = (sim_picture){.name = "neighbours"};
    SIM_TRY(sim_grid_encode(&grid, png, &out->n_bytes, &out->w, &out->h));
    out->png = *png;
done:
    sim_free(queries);
    sim_free(found);
    sim_free(cells);
    return st;
}
