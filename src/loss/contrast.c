/*
 * contrast.c - buffers of rows against themselves, and sums over all rows in fixed order.
 */
#include "contrast.h"

#include "simile/memory.h"

sim_range sim_rows_local(sim_partition p, const sim_rows_shape *s)
{
    sim_range r = sim_partition_range(p, sim_tile_units(s));
    r.lo *= s->unit;
    r.hi *= s->unit;
    return (sim_range){r.lo < s->n ? r.lo : s->n, r.hi < s->n ? r.hi : s->n};
}

enum { CONTRAST_BUFFERS = 5 };

static void list_contrast_buffers(sim_contrast *e, sim_partition p,
                                  const sim_rows_shape *s,
                                  sim_buffer list[CONTRAST_BUFFERS])
{
    size_t rows = s->views * s->n;
    bool copies = p.size > 1 && !sim_passes_stream(p, s, 1);

    list[0] = SIM_BUFFER(e->gathered, copies ? rows * s->d : 0);
    list[1] = SIM_BUFFER(e->records, rows);
    list[2] = SIM_BUFFER(e->weights, rows);
    list[3] = SIM_BUFFER(e->positives, rows * (s->views - 1));
    list[4] = SIM_BUFFER(e->z_dot_dz, rows);
}

size_t sim_contrast_bytes(sim_partition p, const sim_rows_shape *s)
{
    sim_contrast none = {0};
    sim_buffer list[CONTRAST_BUFFERS];

    list_contrast_buffers(&none, p, s, list);
    return sizeof none + sim_buffers_bytes(list, CONTRAST_BUFFERS) +
           sim_leaf_sums_bytes(s, sim_passes_moments(p, s, 1)) +
           sim_passes_bytes(p, s, 1);
}

sim_status sim_contrast_create(const sim_comm *c, const sim_rows_shape *shape,
                               sim_contrast **out)
{
    sim_status st = SIM_OK;
    const sim_partition p = sim_comm_partition(c);
    sim_buffer list[CONTRAST_BUFFERS];
    sim_contrast *e = NULL;

    SIM_TRY(sim_new(&e, "loss/contrast"));
    e->comm = c;
    e->shape = *shape;
    e->local = sim_rows_local(p, shape);
    SIM_TRY(sim_leaf_sums_create(shape, sim_passes_moments(p, shape, 1), "loss/contrast",
                                 &e->sums));
    list_contrast_buffers(e, p, shape, list);
    SIM_TRY(sim_buffers_create(list, CONTRAST_BUFFERS, "loss/contrast"));
    SIM_TRY(sim_passes_create(c, shape, 1, "loss/contrast", &e->passes));
    *out = e;
    e = NULL;
done:
    sim_contrast_destroy(&e);
    return st;
}

void sim_contrast_destroy(sim_contrast **e)
{
    sim_buffer list[CONTRAST_BUFFERS];
    if (!*e)
        return;
    list_contrast_buffers(*e, sim_comm_partition((*e)->comm), &(*e)->shape, list);
    sim_buffers_destroy(list, CONTRAST_BUFFERS);
    sim_leaf_sums_destroy(&(*e)->sums);
    sim_passes_destroy(&(*e)->passes);
    sim_free(*e);
    *e = NULL;
}

/* ---- gathers ---- */

/* Completes `all` [views][n], of which each rank has written its own rows. */
static void gather_own(const sim_contrast *e, size_t row_bytes, void *all)
{
    const sim_rows_shape *s = &e->shape;
    for (size_t v = 0; v < s->views; v++) {
        char *view = (char *)all + v * s->n * row_bytes;
        sim_tile_gather(e->comm, s, row_bytes, view + e->local.lo * row_bytes, view);
    }
}

void sim_contrast_gather_records(sim_contrast *e)
{
    gather_own(e, sizeof *e->records, e->records);
}

void sim_contrast_gather_z_dot_dz(sim_contrast *e)
{
    gather_own(e, sizeof *e->z_dot_dz, e->z_dot_dz);
}

/* ---- sums over all rows ---- */

double sim_contrast_sum(sim_contrast *e, size_t field_offset)
{
    const char *field = (const char *)e->records + field_offset;
    return sim_leaf_sum(&e->sums, (const double *)(const void *)field,
                        sizeof *e->records);
}

double sim_contrast_mean(sim_contrast *e, size_t field_offset)
{
    return sim_contrast_sum(e, field_offset) / (double)(e->shape.views * e->shape.n);
}

double sim_contrast_sum_z_dot_dz(sim_contrast *e)
{
    return sim_leaf_sum(&e->sums, e->z_dot_dz, sizeof *e->z_dot_dz);
}

void sim_contrast_statistics(sim_contrast *e, double *embedding_std, double *pairs)
{
    const double *sums = e->sums.values;
    size_t d = e->shape.d;
    double between = 0, within = 0;

    sim_passes_moments_run(&e->passes, &e->z, &e->sums);
    for (size_t k = 0; k < d; k++) {
        between += sums[k] * sums[k];
        within += sums[d + k];
    }
    *embedding_std = sim_leaf_std(&e->sums);
    *pairs = between - within;
}
