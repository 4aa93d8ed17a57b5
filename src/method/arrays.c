/*
 * arrays.c - `simile loss`: arrays of a file as unit rows, and gradients with respect to them.
 *
 * In: arrays by name (sim_arrays).  Out: unit rows for the losses; arrays of gradients.
 * Called by: sim_method_row.compute of all methods.
 */
#include "arrays.h"

#include "view_pairs.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>

/* The name of a view; r has `first` and `large`. */
static void array_name(const array_rows *r, const char *prefix, size_t view, char out[32])
{
    if (view < r->large)
        (void)snprintf(out, 32, "%s%zu", prefix, r->first + view + 1);
    else
        (void)snprintf(out, 32, "%s_small%zu", prefix, view - r->large + 1);
}

static sim_status read_shape(const sim_arrays *a, const char *prefix, size_t views,
                             array_rows *r)
{
    sim_status st = SIM_OK;
    sim_rows_shape *s = &r->shape;
    size_t dims[SIM_MAX_DIMS];
    char name[32];

    *s = (sim_rows_shape){.unit = ARRAY_UNIT, .views = views, .gather = a->gather};
    for (size_t v = 0; v < views; v++) {
        array_name(r, prefix, v, name);
        SIM_TRY(a->dims(a->ctx, name, 2, dims));
        SIM_CHECK(dims[0] >= 2 && dims[1] >= 1, SIM_E_DATA,
                  "/%s is %zu x %zu, expected at least two rows", name, dims[0], dims[1]);
        SIM_CHECK(v == 0 || (dims[0] == s->n && dims[1] == s->d), SIM_E_DATA,
                  "/%s is %zu x %zu, but /%s%zu is %zu x %zu", name, dims[0], dims[1],
                  prefix, r->first + 1, s->n, s->d);
        s->n = dims[0];
        s->d = dims[1];
    }
done:
    return st;
}

static sim_status read_views(const sim_comm *c, const sim_arrays *a, const char *prefix,
                             size_t views, array_rows *out)
{
    sim_status st = SIM_OK;
    char name[32];

    SIM_TRY(read_shape(a, prefix, views, out));
    out->local = sim_rows_local(sim_comm_partition(c), &out->shape);
    size_t local = out->local.hi - out->local.lo, d = out->shape.d;
    SIM_TRY(sim_unit_rows_create(views, local, d, &out->rows));
    for (size_t v = 0; v < views; v++) {
        array_name(out, prefix, v, name);
        SIM_TRY(a->floats(a->ctx, name, out->local.lo, local, true,
                          out->rows.raw + v * local * d));
    }
    sim_unit_rows(out->rows.n, d, out->rows.raw, out->rows.z, out->rows.norm);
done:
    return st;
}

sim_status sim_array_rows_read(const sim_comm *c, const sim_arrays *a, const char *prefix,
                               size_t views, array_rows *out)
{
    return sim_array_rows_read_from(c, a, prefix, 0, views, out);
}

sim_status sim_array_rows_read_from(const sim_comm *c, const sim_arrays *a,
                                    const char *prefix, size_t first, size_t views,
                                    array_rows *out)
{
    *out = (array_rows){.first = first, .large = views};
    return read_views(c, a, prefix, views, out);
}

sim_status sim_array_rows_read_small(const sim_comm *c, const sim_arrays *a,
                                     const char *prefix, size_t views, array_rows *out)
{
    char name[32];
    size_t all = views;

    *out = (array_rows){.large = views};
    for (; all < views + SIM_MAX_PART_VIEWS; all++) {
        array_name(out, prefix, all, name);
        if (!a->has(a->ctx, name))
            break;
    }
    return read_views(c, a, prefix, all, out);
}

sim_status sim_array_pairs_work(size_t targets, const array_rows *r, float **work)
{
    const size_t floats = r->rows.n / r->shape.views * r->shape.d;
    return sim_alloc(work, sim_pairs_work(targets, r->shape.views, floats),
                     "method/arrays");
}

sim_status sim_array_rows_same(const array_rows *a, const char *a_name,
                               const array_rows *b, const char *b_name)
{
    sim_status st = SIM_OK;
    SIM_CHECK(a->shape.n == b->shape.n && a->shape.d == b->shape.d, SIM_E_DATA,
              "/%s is %zu x %zu, but /%s is %zu x %zu", a_name, a->shape.n, a->shape.d,
              b_name, b->shape.n, b->shape.d);
done:
    return st;
}

void sim_array_rows_release(array_rows *r)
{
    sim_unit_rows_destroy(&r->rows);
}

sim_status sim_array_rows_write(const sim_arrays *a, const char *prefix, array_rows *r)
{
    sim_status st = SIM_OK;
    size_t local = r->local.hi - r->local.lo, d = r->shape.d;
    const unit_rows *rows = &r->rows;
    char name[32];

    sim_unit_rows_backward(rows->n, d, rows->z, rows->norm, rows->dz, rows->dz);
    for (size_t v = 0; v < r->shape.views; v++) {
        array_name(r, prefix, v, name);
        const sim_tensor t = {.name = name,
                              .type = SIM_F32,
                              .n_dims = 2,
                              .dims = {r->shape.n, d},
                              .data = rows->dz + v * local * d,
                              .row_lo = r->local.lo,
                              .row_hi = r->local.hi};
        SIM_TRY(a->put(a->ctx, &t, ARRAY_UNIT));
    }
done:
    return st;
}

sim_status sim_array_put_scalar(const sim_arrays *a, const char *name, double value)
{
    float single = (float)value;
    const sim_tensor t = {.name = name, .type = SIM_F32, .data = &single};
    return a->put(a->ctx, &t, 1);
}

/* Reads and normalizes the local slots. */
static sim_status read_local_slots(const sim_arrays *a, sim_queue *q, size_t d)
{
    sim_status st = SIM_OK;
    sim_range slots = sim_queue_local(q);
    size_t n = slots.hi - slots.lo;
    float *norm = NULL, *rows = sim_queue_rows(q);

    SIM_TRY(sim_alloc(&norm, n, "method/arrays"));
    SIM_TRY(a->floats(a->ctx, "queue", slots.lo, n, true, rows));
    sim_unit_rows(n, d, rows, rows, norm);
done:
    sim_free(norm);
    return st;
}

sim_status sim_array_queue_read(const sim_comm *c, const sim_arrays *a,
                                const sim_rows_shape *rows, sim_queue **out)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS];
    int64_t pointer = 0;
    sim_queue_shape shape = {.rows = *rows};

    shape.rows.views = 1;
    SIM_TRY(a->dims(a->ctx, "queue", 2, dims));
    SIM_CHECK(dims[0] >= 1 && dims[0] <= UINT32_MAX && dims[1] == rows->d, SIM_E_DATA,
              "/queue is %zu x %zu, expected at least one row of %zu", dims[0], dims[1],
              rows->d);
    shape.k = dims[0];
    SIM_TRY(a->number(a->ctx, "queue", "pointer", 0, &pointer));
    SIM_CHECK(pointer >= 0 && (size_t)pointer < shape.k, SIM_E_DATA,
              "/queue: attribute pointer is %lld, expected 0 to %zu", (long long)pointer,
              shape.k - 1);
    SIM_TRY(sim_queue_create(c, &shape, out));
    SIM_TRY(read_local_slots(a, *out, rows->d));
    sim_queue_set_pointer(*out, pointer);
done:
    return st;
}

sim_status sim_array_queue_write(const sim_arrays *a, sim_queue *q, size_t d)
{
    sim_status st = SIM_OK;
    sim_range slots = sim_queue_local(q);
    const sim_tensor t = {.name = "queue_after",
                          .type = SIM_F32,
                          .n_dims = 2,
                          .dims = {sim_queue_slots(q), d},
                          .data = sim_queue_rows(q),
                          .row_lo = slots.lo,
                          .row_hi = slots.hi};
    SIM_TRY(a->put(a->ctx, &t, SIM_QUEUE_TILE));
    SIM_TRY(a->put_number(a->ctx, "queue_after", "pointer", sim_queue_pointer(q)));
done:
    return st;
}
