/*
 * unit_rows.c - embeddings normalized to unit length, and the gradient of normalization.
 *
 * In: outputs of a head, by block.  Out: unit rows by view for the loss; gradients by block.
 * Called by the methods before and after their loss, and by arrays.c.
 */
#include "unit_rows.h"

#include "simile/kernel.h"
#include "simile/memory.h"

enum { N_BUFFERS = 4 };

static void list_unit_row_buffers(unit_rows *r, size_t n, size_t d,
                                  sim_buffer list[N_BUFFERS])
{
    list[0] = SIM_BUFFER(r->raw, n * d);
    list[1] = SIM_BUFFER(r->z, n * d);
    list[2] = SIM_BUFFER(r->dz, n * d);
    list[3] = SIM_BUFFER(r->norm, n);
}

sim_status sim_unit_rows_create(size_t views, size_t slots, size_t d, unit_rows *out)
{
    sim_buffer list[N_BUFFERS];
    *out = (unit_rows){.views = views, .n = views * slots, .d = d};
    list_unit_row_buffers(out, out->n, d, list);
    return sim_buffers_create(list, N_BUFFERS, "method/rows");
}

void sim_unit_rows_destroy(unit_rows *r)
{
    sim_buffer list[N_BUFFERS];
    list_unit_row_buffers(r, 0, 0, list);
    sim_buffers_destroy(list, N_BUFFERS);
}

size_t sim_unit_rows_bytes(size_t n, size_t d)
{
    unit_rows none = {0};
    sim_buffer list[N_BUFFERS];
    list_unit_row_buffers(&none, n, d, list);
    return sim_buffers_bytes(list, N_BUFFERS);
}

void sim_unit_rows_load(unit_rows *r, const sim_batch_shape *s, const float *by_block)
{
    sim_rows_by_view(s, r->d, by_block, r->raw);
    sim_unit_rows_normalize(r);
}

void sim_unit_rows_normalize(unit_rows *r)
{
    sim_unit_rows(r->n, r->d, r->raw, r->z, r->norm);
}

void sim_unit_rows_differentiate(unit_rows *r)
{
    sim_unit_rows_backward(r->n, r->d, r->z, r->norm, r->dz, r->raw);
}
