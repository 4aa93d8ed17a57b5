/*
 * bytes.c - byte strings in data sets, such as image files.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

typedef enum { NO_BYTES, BYTE_ARRAY, OPAQUE, VARIABLE } bytes_kind;

typedef struct {
    hid_t set, space, type;
    bytes_kind kind;
    int n_dims;
    hsize_t n; /* length of the only dimension; 1 of a scalar */
} bytes_set;

static void close_bytes(bytes_set *s)
{
    if (s->type >= 0)
        (void)H5Tclose(s->type);
    if (s->space >= 0)
        (void)H5Sclose(s->space);
    if (s->set >= 0)
        (void)H5Dclose(s->set);
}

static bool is_byte_type(hid_t type)
{
    return H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) == 1 &&
           H5Tget_sign(type) == H5T_SGN_NONE;
}

static bytes_kind kind_of(const bytes_set *s)
{
    bytes_kind kind = NO_BYTES;

    if (s->n_dims == 1 && is_byte_type(s->type)) {
        kind = BYTE_ARRAY;
    } else if (H5Tget_class(s->type) == H5T_OPAQUE) {
        kind = OPAQUE;
    } else if (s->n_dims == 1 && H5Tget_class(s->type) == H5T_VLEN) {
        hid_t base = H5Tget_super(s->type);
        kind = base >= 0 && is_byte_type(base) ? VARIABLE : NO_BYTES;
        if (base >= 0)
            (void)H5Tclose(base);
    }
    return kind;
}

static sim_status open_bytes(const sim_h5 *f, const char *name, bytes_set *s)
{
    sim_status st = SIM_OK;

    *s = (bytes_set){.set = -1, .space = -1, .type = -1, .n = 1};
    SIM_TRY(sim_h5_open_set(f, name, &s->set));
    s->space = H5Dget_space(s->set);
    s->type = H5Dget_type(s->set);
    SIM_CHECK(s->space >= 0 && s->type >= 0, SIM_E_DATA, "%s: %s: %s", f->name, name,
              sim_h5_reason());
    s->n_dims = H5Sget_simple_extent_ndims(s->space);
    if (s->n_dims == 1)
        (void)H5Sget_simple_extent_dims(s->space, &s->n, NULL);
    s->kind = s->n_dims == 0 || s->n_dims == 1 ? kind_of(s) : NO_BYTES;
done:
    return st;
}

sim_h5_bytes sim_h5_bytes_of(const sim_h5 *f, const char *name)
{
    bytes_set s;
    sim_h5_bytes about = {0};

    if (open_bytes(f, name, &s) == SIM_OK && s.kind != NO_BYTES && s.n > 0) {
        about.is_list = s.kind == VARIABLE || (s.kind == OPAQUE && s.n_dims == 1);
        about.n = about.is_list ? (size_t)s.n : 1;
    }
    close_bytes(&s);
    sim_error_clear();
    return about;
}

/* ---- reading ---- */

/* Reads one element to `data`. */
static sim_status read_element(const sim_h5 *f, const char *name, const bytes_set *s,
                               hsize_t i, hid_t type, hid_t transfer, void *data)
{
    sim_status st = SIM_OK;
    const hsize_t one = 1;
    hid_t memory = H5Screate_simple(1, &one, NULL);

    SIM_CHECK(memory >= 0 &&
                  (s->n_dims == 0 || H5Sselect_hyperslab(s->space, H5S_SELECT_SET, &i,
                                                         NULL, &one, NULL) >= 0),
              SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
    SIM_CHECK(H5Dread(s->set, type, memory, s->space, transfer, data) >= 0, SIM_E_DATA,
              "%s: %s: %s", f->name, name, sim_h5_reason());
done:
    if (memory >= 0)
        (void)H5Sclose(memory);
    return st;
}

static sim_status read_array(const sim_h5 *f, const char *name, const bytes_set *s,
                             size_t limit, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;

    SIM_CHECK(s->n <= limit, SIM_E_DATA, "%s: %s has %llu bytes, expected at most %zu",
              f->name, name, (unsigned long long)s->n, limit);
    SIM_TRY(sim_alloc(bytes, (size_t)s->n, "h5/bytes"));
    SIM_CHECK(H5Dread(s->set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, *bytes) >=
                  0,
              SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
    *n = (size_t)s->n;
done:
    return st;
}

static sim_status read_opaque(const sim_h5 *f, const char *name, const bytes_set *s,
                              size_t i, size_t limit, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    const size_t size = H5Tget_size(s->type);

    SIM_CHECK(size > 0 && size <= limit, SIM_E_DATA,
              "%s: %s has values of %zu bytes, expected 1 to %zu", f->name, name, size,
              limit);
    SIM_TRY(sim_alloc(bytes, size, "h5/bytes"));
    SIM_TRY(read_element(f, name, s, i, s->type, H5P_DEFAULT, *bytes));
    *n = size;
done:
    return st;
}

/* For the memory that HDF5 requests for an element. */
static void *alloc_limited(size_t n, void *limit)
{
    void *p = NULL;
    return n <= *(const size_t *)limit && sim_alloc_bytes(n, 1, "h5/bytes", &p) == SIM_OK
               ? p
               : NULL;
}

static void free_limited(void *p, void *limit)
{
    (void)limit;
    sim_free(p);
}

static sim_status read_variable(const sim_h5 *f, const char *name, const bytes_set *s,
                                size_t i, size_t limit, uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    hvl_t element = {0};
    hid_t type = H5Tvlen_create(H5T_NATIVE_UINT8), transfer = H5Pcreate(H5P_DATASET_XFER);

    SIM_CHECK(type >= 0 && transfer >= 0 &&
                  H5Pset_vlen_mem_manager(transfer, alloc_limited, &limit, free_limited,
                                          NULL) >= 0,
              SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
    SIM_TRY(read_element(f, name, s, i, type, transfer, &element));
    *bytes = element.p;
    *n = element.len;
done:
    if (transfer >= 0)
        (void)H5Pclose(transfer);
    if (type >= 0)
        (void)H5Tclose(type);
    return st;
}

sim_status sim_h5_read_bytes(const sim_h5 *f, const char *name, size_t i, size_t limit,
                             uint8_t **bytes, size_t *n)
{
    sim_status st = SIM_OK;
    bytes_set s;
    uint8_t *p = NULL;

    st = open_bytes(f, name, &s);
    if (st != SIM_OK)
        goto done;
    SIM_CHECK(s.kind != NO_BYTES && (s.kind == BYTE_ARRAY ? i == 0 : i < s.n), SIM_E_DATA,
              "%s: %s contains no byte string %zu", f->name, name, i);
    SIM_TRY(s.kind == BYTE_ARRAY ? read_array(f, name, &s, limit, &p, n)
            : s.kind == OPAQUE   ? read_opaque(f, name, &s, i, limit, &p, n)
                                 : read_variable(f, name, &s, i, limit, &p, n));
    *bytes = p;
    p = NULL;
done:
    sim_free(p);
    close_bytes(&s);
    return st;
}
