/*
 * arrays.c - rows by name into the form that the losses take, and gradients back.
 */
#include "arrays.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>

static void name_of(const char *prefix, size_t view, char out[32])
{
    (void)snprintf(out, 32, "%s%zu", prefix, view + 1);
}

static sim_status read_shape(const sim_arrays *a, const char *prefix, size_t first,
                             size_t views, sim_rows_shape *s)
{
    sim_status st = SIM_OK;
    size_t dims[SIM_MAX_DIMS];
    char name[32];

    *s = (sim_rows_shape){.unit = ARRAY_UNIT, .views = views};
    for (size_t v = 0; v < views; v++) {
        name_of(prefix, first + v, name);
        SIM_TRY(a->dims(a->ctx, name, 2, dims));
        SIM_CHECK(dims[0] >= 2 && dims[1] >= 1, SIM_E_DATA,
                  "/%s is %zu x %zu, expected two rows or more", name, dims[0], dims[1]);
        SIM_CHECK(v == 0 || (dims[0] == s->n && dims[1] == s->d), SIM_E_DATA,
                  "/%s is %zu x %zu, but /%s%zu is %zu x %zu", name, dims[0], dims[1],
                  prefix, first + 1, s->n, s->d);
        s->n = dims[0];
        s->d = dims[1];
    }
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
    sim_status st = SIM_OK;
    char name[32];

    *out = (array_rows){.first = first};
    SIM_TRY(read_shape(a, prefix, first, views, &out->shape));
    out->mine = sim_rows_local(sim_comm_partition(c), &out->shape);
    size_t mine = out->mine.hi - out->mine.lo, d = out->shape.d, n = views * mine;
    SIM_TRY(sim_alloc(&out->raw, n * d, "method/arrays"));
    SIM_TRY(sim_alloc(&out->z, n * d, "method/arrays"));
    SIM_TRY(sim_alloc(&out->dz, n * d, "method/arrays"));
    SIM_TRY(sim_alloc(&out->norm, n, "method/arrays"));
    for (size_t v = 0; v < views; v++) {
        name_of(prefix, first + v, name);
        SIM_TRY(
            a->floats(a->ctx, name, out->mine.lo, mine, true, out->raw + v * mine * d));
    }
    sim_unit_rows(n, d, out->raw, out->z, out->norm);
done:
    return st;
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
    SIM_FREE(r->raw);
    SIM_FREE(r->z);
    SIM_FREE(r->norm);
    SIM_FREE(r->dz);
}

sim_status sim_array_rows_write(const sim_arrays *a, const char *prefix, array_rows *r)
{
    sim_status st = SIM_OK;
    size_t mine = r->mine.hi - r->mine.lo, d = r->shape.d;
    char name[32];

    sim_unit_rows_backward(r->shape.views * mine, d, r->z, r->norm, r->dz, r->dz);
    for (size_t v = 0; v < r->shape.views; v++) {
        name_of(prefix, r->first + v, name);
        const sim_tensor t = {.name = name,
                              .type = SIM_F32,
                              .n_dims = 2,
                              .dims = {r->shape.n, d},
                              .data = r->dz + v * mine * d,
                              .row_lo = r->mine.lo,
                              .row_hi = r->mine.hi};
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

/* Rows of the file's queue, each rank its own slots, of unit length. */
static sim_status read_store(const sim_arrays *a, sim_queue *q, size_t d)
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
              "/queue is %zu x %zu, expected one row or more of %zu", dims[0], dims[1],
              rows->d);
    shape.k = dims[0];
    SIM_TRY(a->number(a->ctx, "queue", "pointer", 0, &pointer));
    SIM_CHECK(pointer >= 0 && (size_t)pointer < shape.k, SIM_E_DATA,
              "/queue: its pointer is %lld, expected 0 to %zu", (long long)pointer,
              shape.k - 1);
    SIM_TRY(sim_queue_create(c, &shape, out));
    SIM_TRY(read_store(a, *out, rows->d));
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
