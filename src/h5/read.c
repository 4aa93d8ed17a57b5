/*
 * read.c - shapes and values of data sets and attributes, checked before allocation and conversion.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

hid_t sim_h5_memory_type(sim_type type)
{
    switch (type) {
    case SIM_F32:
        return H5T_NATIVE_FLOAT;
    case SIM_F64:
        return H5T_NATIVE_DOUBLE;
    case SIM_I64:
        return H5T_NATIVE_INT64;
    case SIM_U64:
        return H5T_NATIVE_UINT64;
    case SIM_I32:
        return H5T_NATIVE_INT32;
    case SIM_U16:
        return H5T_NATIVE_UINT16;
    case SIM_U8:
        return H5T_NATIVE_UINT8;
    }
    return -1;
}

sim_status sim_h5_type_of(const sim_h5 *f, const char *name, hid_t type, sim_type *out,
                          bool *exact)
{
    sim_status st = SIM_OK;
    H5T_class_t class = H5Tget_class(type);
    size_t bytes = H5Tget_size(type);
    bool is_signed = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;

    SIM_CHECK((class == H5T_INTEGER || class == H5T_FLOAT) && bytes >= 1 && bytes <= 8,
              SIM_E_DATA,
              "%s: the type of %s is not an integer or float of at most 8 bytes", f->name,
              name);
    if (class == H5T_FLOAT)
        *out = bytes <= 4 ? SIM_F32 : SIM_F64;
    else if (bytes == 1 && !is_signed)
        *out = SIM_U8;
    else if (bytes == 2 && !is_signed)
        *out = SIM_U16;
    else if (bytes < 4 || (bytes == 4 && is_signed))
        *out = SIM_I32;
    else
        *out = bytes == 8 && !is_signed ? SIM_U64 : SIM_I64;
    *exact = H5Tequal(type, sim_h5_memory_type(*out)) > 0;
done:
    return st;
}

/* A bool of h5py is an enumeration of 0 and 1; one of PyTables is a bit field. */
static bool is_bool_type(hid_t type)
{
    signed char value[2] = {-1, -1};

    if (H5Tget_size(type) != 1)
        return false;
    if (H5Tget_class(type) == H5T_BITFIELD)
        return true;
    return H5Tget_class(type) == H5T_ENUM && H5Tget_nmembers(type) == 2 &&
           H5Tget_member_value(type, 0, &value[0]) >= 0 &&
           H5Tget_member_value(type, 1, &value[1]) >= 0 && (value[0] | value[1]) == 1 &&
           (value[0] & value[1]) == 0;
}

static sim_status shape_of_set(const sim_h5 *f, const char *name, hid_t set,
                               sim_h5_shape *out)
{
    sim_status st = SIM_OK;
    hsize_t dims[H5S_MAX_RANK];
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    size_t count = 1;

    memset(out, 0, sizeof *out);
    SIM_CHECK(space >= 0 && type >= 0, SIM_E_DATA, "%s: %s: %s", f->name, name,
              sim_h5_reason());
    SIM_CHECK(H5Sget_simple_extent_type(space) != H5S_NULL, SIM_E_DATA, "%s: %s is empty",
              f->name, name);
    int n = H5Sget_simple_extent_ndims(space);
    SIM_CHECK(n >= 0 && n <= SIM_MAX_DIMS, SIM_E_DATA,
              "%s: %s has %d dimensions; at most %d are supported", f->name, name, n,
              SIM_MAX_DIMS);
    (void)H5Sget_simple_extent_dims(space, dims, NULL);
    out->n_dims = n;
    for (int i = 0; i < n; i++) {
        out->dims[i] = (size_t)dims[i];
        SIM_CHECK(!__builtin_mul_overflow(count, out->dims[i], &count), SIM_E_DATA,
                  "%s: the dimensions of %s overflow", f->name, name);
    }
    out->type = SIM_U8;
    out->is_bool = is_bool_type(type);
    if (!out->is_bool)
        SIM_TRY(sim_h5_type_of(f, name, type, &out->type, &out->exact));
done:
    if (space >= 0)
        (void)H5Sclose(space);
    if (type >= 0)
        (void)H5Tclose(type);
    return st;
}

sim_status sim_h5_shape_of(const sim_h5 *f, const char *name, sim_h5_shape *out)
{
    sim_status st = SIM_OK;
    hid_t set = -1;

    SIM_TRY(sim_h5_open_set(f, name, &set));
    SIM_TRY(shape_of_set(f, name, set, out));
done:
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

static sim_status read_chunk_shape(const sim_h5 *f, const char *name, hid_t set,
                                   hid_t plist, sim_h5_storage *out)
{
    sim_status st = SIM_OK;
    hsize_t chunk[H5S_MAX_RANK];
    hid_t type = H5Dget_type(set);
    int n = H5Pget_chunk(plist, H5S_MAX_RANK, chunk);

    SIM_CHECK(n > 0 && type >= 0, SIM_E_DATA, "%s: %s: %s", f->name, name,
              sim_h5_reason());
    size_t bytes = H5Tget_size(type);
    for (int i = 0; i < n; i++)
        SIM_CHECK(!__builtin_mul_overflow(bytes, (size_t)chunk[i], &bytes), SIM_E_DATA,
                  "%s: the chunks of %s overflow", f->name, name);
    out->piece_rows = (size_t)chunk[0];
    out->chunk_bytes = bytes;
done:
    if (type >= 0)
        (void)H5Tclose(type);
    return st;
}

sim_status sim_h5_storage_of(const sim_h5 *f, const char *name, sim_h5_storage *out)
{
    sim_status st = SIM_OK;
    hid_t set = -1, plist = -1;

    SIM_TRY(sim_h5_open_set(f, name, &set));
    *out = (sim_h5_storage){.stored_bytes = H5Dget_storage_size(set), .piece_rows = 1};
    plist = H5Dget_create_plist(set);
    SIM_CHECK(plist >= 0, SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
    if (H5Pget_layout(plist) == H5D_CHUNKED)
        SIM_TRY(read_chunk_shape(f, name, set, plist, out));
done:
    if (plist >= 0)
        (void)H5Pclose(plist);
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

/* Whether a conversion loses no information: not float to integer, nor to a smaller integer. */
static bool is_lossless(sim_type from, sim_type to)
{
    if (from == to)
        return true;
    if (to == SIM_F64) /* integers above 2^53 are rounded */
        return true;
    if (to == SIM_F32)
        return from == SIM_F32 || from == SIM_F64 || from == SIM_U16 || from == SIM_U8;
    if (from == SIM_F32 || from == SIM_F64)
        return false;
    return sim_type_bytes(from) < sim_type_bytes(to);
}

/* Selects rows [row, row + n) of the first dimension. */
static sim_status select_rows(const sim_h5 *f, const char *name,
                              const sim_h5_shape *shape, size_t row, size_t n,
                              hid_t space)
{
    sim_status st = SIM_OK;
    hsize_t start[SIM_MAX_DIMS] = {row}, count[SIM_MAX_DIMS];

    SIM_CHECK(shape->n_dims > 0 && row <= shape->dims[0] && n <= shape->dims[0] - row,
              SIM_E_DATA, "%s: %s has no rows %zu to %zu", f->name, name, row, row + n);
    for (int i = 0; i < shape->n_dims; i++)
        count[i] = i ? shape->dims[i] : n;
    SIM_CHECK(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0,
              SIM_E_DATA, "%s: %s: %s", f->name, name, sim_h5_reason());
done:
    return st;
}

/* HDF5 converts enumerations to numbers, but not bit fields. */
static hid_t memory_type_for(hid_t set, sim_type type)
{
    hid_t stored = H5Dget_type(set);
    const bool is_bits =
        type == SIM_U8 && stored >= 0 && H5Tget_class(stored) == H5T_BITFIELD;

    if (stored >= 0)
        (void)H5Tclose(stored);
    return is_bits ? H5T_NATIVE_B8 : sim_h5_memory_type(type);
}

sim_status sim_h5_read(const sim_h5 *f, const char *name, sim_type type, size_t row,
                       size_t n_rows, void *data, size_t capacity)
{
    sim_status st = SIM_OK;
    hid_t set = -1, space = -1, memory = -1;
    sim_h5_shape shape;
    size_t count = 1;

    SIM_TRY(sim_h5_open_set(f, name, &set));
    SIM_TRY(shape_of_set(f, name, set, &shape));
    SIM_CHECK(is_lossless(shape.type, type), SIM_E_DATA,
              "%s: %s has type %s, expected %s; convert it in Python: "
              "f[\"%s\"] = x.astype(\"%s\")",
              f->name, name, sim_type_name(shape.type), sim_type_name(type), name,
              sim_type_name(type));
    space = H5Dget_space(set);
    for (int i = 0; i < shape.n_dims; i++)
        count *= i == 0 && n_rows != SIM_H5_ALL ? n_rows : shape.dims[i];
    SIM_CHECK(count == capacity, SIM_E_DATA, "%s: %s has %zu values, expected %zu",
              f->name, name, count, capacity);
    if (n_rows != SIM_H5_ALL)
        SIM_TRY(select_rows(f, name, &shape, row, n_rows, space));
    if (capacity == 0)
        goto done;
    const hsize_t flat = capacity;
    memory = H5Screate_simple(1, &flat, NULL);
    if (H5Dread(set, memory_type_for(set, type), memory, space, H5P_DEFAULT, data) < 0) {
        const char *reason = sim_h5_reason();
        SIM_FAIL(sim_h5_system_error(reason) ? SIM_E_IO : SIM_E_DATA,
                 "%s: %s cannot be read: %s", f->name, name, reason);
    }
done:
    if (memory >= 0)
        (void)H5Sclose(memory);
    if (space >= 0)
        (void)H5Sclose(space);
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

sim_status sim_h5_read_new(const sim_h5 *f, const char *name, sim_type type, size_t limit,
                           void **data, sim_h5_shape *shape)
{
    sim_status st = SIM_OK;
    void *p = NULL;
    size_t count = 1;

    SIM_TRY(sim_h5_shape_of(f, name, shape));
    for (int i = 0; i < shape->n_dims; i++)
        count *= shape->dims[i];
    SIM_CHECK(count <= limit, SIM_E_DATA,
              "%s: %s has %zu values; at most %zu are expected", f->name, name, count,
              limit);
    SIM_TRY(sim_alloc_bytes(count, sim_type_bytes(type), "h5/data", &p));
    SIM_TRY(sim_h5_read(f, name, type, 0, SIM_H5_ALL, p, count));
    *data = p;
    p = NULL;
done:
    sim_free(p);
    return st;
}

sim_status sim_h5_read_text(const sim_h5 *f, const char *name, char **text)
{
    sim_status st = SIM_OK;
    enum { LIMIT = 64 << 20 };
    sim_h5_shape shape;
    char *p = NULL;

    SIM_TRY(sim_h5_shape_of(f, name, &shape));
    SIM_CHECK(shape.type == SIM_U8 && shape.n_dims == 1 && shape.dims[0] <= LIMIT,
              SIM_E_DATA, "%s: %s is not a text (uint8 [n], at most 64 MiB)", f->name,
              name);
    SIM_TRY(sim_alloc(&p, shape.dims[0] + 1, "h5/text"));
    SIM_TRY(sim_h5_read(f, name, SIM_U8, 0, SIM_H5_ALL, p, shape.dims[0]));
    SIM_CHECK(strlen(p) == shape.dims[0], SIM_E_DATA, "%s: %s holds a zero byte", f->name,
              name);
    *text = p;
    p = NULL;
done:
    sim_free(p);
    return st;
}

/* ---- attributes ---- */

sim_status sim_h5_read_attribute_text(const sim_h5 *f, const char *name, char *out,
                                      size_t out_bytes)
{
    sim_status st = SIM_OK;
    hid_t attribute = -1, type = -1, space = -1, memory = -1;
    char buffer[1024] = "";

    SIM_CHECK(sim_h5_has_attribute(f, name), SIM_E_DATA, "%s has no attribute %s",
              f->name, name);
    attribute = H5Aopen(f->file, name, H5P_DEFAULT);
    type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    SIM_CHECK(type >= 0 && H5Tget_class(type) == H5T_STRING &&
                  H5Tis_variable_str(type) == 0 && space >= 0 &&
                  H5Sget_simple_extent_npoints(space) == 1,
              SIM_E_DATA, "%s: attribute %s is not a fixed-length string", f->name, name);
    size_t n = H5Tget_size(type);
    SIM_CHECK(n < sizeof buffer && n < out_bytes, SIM_E_DATA,
              "%s: attribute %s is too long", f->name, name);
    memory = H5Tcopy(type);
    SIM_CHECK(H5Aread(attribute, memory, buffer) >= 0, SIM_E_DATA, "%s: attribute %s: %s",
              f->name, name, sim_h5_reason());
    buffer[n] = '\0';
    memcpy(out, buffer, n + 1);
done:
    if (memory >= 0)
        (void)H5Tclose(memory);
    if (type >= 0)
        (void)H5Tclose(type);
    if (space >= 0)
        (void)H5Sclose(space);
    if (attribute >= 0)
        (void)H5Aclose(attribute);
    return st;
}

sim_status sim_h5_check_version(const sim_h5 *f, const char *path, int64_t newest,
                                int64_t *out)
{
    sim_status st = SIM_OK;
    int64_t version = 1;

    if (sim_h5_has_attribute(f, "format_version"))
        SIM_TRY(sim_h5_read_attribute(f, "format_version", SIM_I64, &version, 1));
    SIM_CHECK(version >= 1, SIM_E_DATA, "%s: format_version is %lld, expected 1 to %lld",
              path, (long long)version, (long long)newest);
    SIM_CHECK(
        version <= newest, SIM_E_INSTALL,
        "%s has format_version %lld; this simile reads versions up to %lld: use the "
        "simile that wrote the file, or a newer one",
        path, (long long)version, (long long)newest);
    *out = version;
done:
    return st;
}

static sim_status read_numbers(const sim_h5 *f, const char *name, hid_t attribute,
                               sim_type type, void *data, size_t capacity)
{
    sim_status st = SIM_OK;
    hid_t space = -1, file_type = -1;
    sim_type stored = SIM_U8;
    bool exact = false;

    SIM_CHECK(attribute >= 0, SIM_E_DATA, "%s has no attribute %s", f->name, name);
    space = H5Aget_space(attribute);
    file_type = H5Aget_type(attribute);
    SIM_TRY(sim_h5_type_of(f, name, file_type, &stored, &exact));
    SIM_CHECK(is_lossless(stored, type) && space >= 0 &&
                  H5Sget_simple_extent_npoints(space) == (hssize_t)capacity,
              SIM_E_DATA, "%s: attribute %s: expected %zu numbers of type %s", f->name,
              name, capacity, sim_type_name(type));
    SIM_CHECK(H5Aread(attribute, sim_h5_memory_type(type), data) >= 0, SIM_E_DATA,
              "%s: attribute %s: %s", f->name, name, sim_h5_reason());
done:
    if (space >= 0)
        (void)H5Sclose(space);
    if (file_type >= 0)
        (void)H5Tclose(file_type);
    if (attribute >= 0)
        (void)H5Aclose(attribute);
    return st;
}

sim_status sim_h5_read_attribute(const sim_h5 *f, const char *name, sim_type type,
                                 void *data, size_t capacity)
{
    hid_t attribute =
        sim_h5_has_attribute(f, name) ? H5Aopen(f->file, name, H5P_DEFAULT) : -1;
    return read_numbers(f, name, attribute, type, data, capacity);
}

sim_status sim_h5_read_attribute_of(const sim_h5 *f, const char *data_set,
                                    const char *name, sim_type type, void *data,
                                    size_t capacity)
{
    hid_t attribute = -1;
    if (sim_h5_has_attribute_of(f, data_set, name))
        attribute = H5Aopen_by_name(f->file, data_set, name, H5P_DEFAULT, H5P_DEFAULT);
    return read_numbers(f, name, attribute, type, data, capacity);
}

/* ---- bulk data ---- */

sim_status sim_h5_bytes_at(const sim_h5 *f, const char *name, uint64_t *at,
                           uint64_t *n_bytes)
{
    sim_status st = SIM_OK;
    hid_t set = -1, plist = -1;
    sim_h5_shape shape;
    int fd = -1;
    uint64_t length = 0, n = 1;

    SIM_TRY(sim_h5_open_set(f, name, &set));
    SIM_TRY(shape_of_set(f, name, set, &shape));
    plist = H5Dget_create_plist(set);
    SIM_CHECK(
        shape.exact && H5Pget_layout(plist) == H5D_CONTIGUOUS &&
            H5Pget_nfilters(plist) == 0,
        SIM_E_DATA,
        "%s: %s is not contiguous, little-endian and without filters; convert the file "
        "with simile prepare",
        f->name, name);
    n = sim_type_bytes(shape.type);
    for (int i = 0; i < shape.n_dims; i++)
        n *= shape.dims[i];
    haddr_t offset = H5Dget_offset(set);
    SIM_CHECK(offset != HADDR_UNDEF, SIM_E_DATA, "%s: %s was never written", f->name,
              name);
    SIM_TRY(sim_file_open_read(f->path, &fd, &length));
    SIM_CHECK(
        offset <= length && n <= length - offset, SIM_E_DATA,
        "%s: %s extends beyond the end of the file (%llu bytes): the file is truncated",
        f->name, name, (unsigned long long)length);
    *at = offset;
    *n_bytes = n;
done:
    SIM_IGNORE(sim_file_close(&fd, f->name));
    if (plist >= 0)
        (void)H5Pclose(plist);
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

/* ---- visiting ---- */

/* Hard links may form cycles, so the number of members is bounded.  ImageNet as one data set per image
 * has 1.3 million. */
enum { MAX_DEPTH = 16, MAX_VISITED = 1 << 22 };

typedef struct {
    const sim_h5 *f;
    sim_status (*visit)(void *ctx, const char *path);
    void *ctx;
    size_t n;
} traversal;

/* A group that is being visited. */
typedef struct {
    traversal *w;
    const char *group;
    int depth;
} visited_group;

static sim_status visit_name(void *ctx, const char *name);

static sim_status visit_group(traversal *w, const char *group, int depth)
{
    sim_status st = SIM_OK;
    visited_group g = {w, group, depth};

    SIM_CHECK(depth < MAX_DEPTH, SIM_E_DATA, "%s: the group %s cannot be listed",
              w->f->name, group);
    SIM_TRY(sim_h5_each_name(w->f, group, visit_name, &g));
done:
    return st;
}

static sim_status visit_member(traversal *w, const char *path, int depth)
{
    sim_status st = SIM_OK;
    H5O_info_t info;

    if (H5Oget_info_by_name(w->f->file, path, &info, H5P_DEFAULT) < 0)
        SIM_FAIL(SIM_E_DATA, "%s: %s: %s", w->f->name, path, sim_h5_reason());
    if (info.type == H5O_TYPE_GROUP) {
        SIM_TRY(visit_group(w, path, depth + 1));
        goto done;
    }
    SIM_TRY(w->visit(w->ctx, path));
done:
    return st;
}

static sim_status visit_name(void *ctx, const char *name)
{
    sim_status st = SIM_OK;
    const visited_group *g = ctx;
    const sim_h5 *f = g->w->f;
    const char *parent = strcmp(g->group, "/") == 0 ? "" : g->group;
    char path[512];

    const int n = snprintf(path, sizeof path, "%s/%s", parent, name);
    SIM_CHECK(n > 0 && (size_t)n < sizeof path, SIM_E_DATA,
              "%s: a name in %s is too long", f->name, g->group);
    SIM_CHECK(++g->w->n <= MAX_VISITED, SIM_E_DATA, "%s: %s has more than %d members",
              f->name, g->group, MAX_VISITED);
    SIM_CHECK(sim_h5_has(f, path), SIM_E_DATA, "%s: %s is a link, which is not followed",
              f->name, path);
    SIM_TRY(visit_member(g->w, path, g->depth));
done:
    return st;
}

sim_status sim_h5_visit_sets(const sim_h5 *f, const char *group,
                             sim_status (*visit)(void *ctx, const char *name), void *ctx)
{
    traversal w = {.f = f, .visit = visit, .ctx = ctx};
    if (strcmp(group, "/") != 0 && !sim_h5_has(f, group))
        return SIM_OK;
    return visit_group(&w, group, 0);
}

/* A visit of data sets as tensors. */
typedef struct {
    const sim_h5 *f;
    sim_status (*visit)(void *ctx, const sim_tensor *t);
    void *ctx;
} tensor_visit;

static sim_status visit_tensor(void *ctx, const char *path)
{
    sim_status st = SIM_OK;
    const tensor_visit *v = ctx;
    sim_h5_shape shape;

    SIM_TRY(sim_h5_shape_of(v->f, path, &shape));
    sim_tensor t = {.name = path + 1, .type = shape.type, .n_dims = shape.n_dims};
    memcpy(t.dims, shape.dims, sizeof t.dims);
    SIM_TRY(v->visit(v->ctx, &t));
done:
    return st;
}

sim_status sim_h5_visit(const sim_h5 *f, const char *group,
                        sim_status (*visit)(void *ctx, const sim_tensor *t), void *ctx)
{
    tensor_visit v = {.f = f, .visit = visit, .ctx = ctx};
    return sim_h5_visit_sets(f, group, visit_tensor, &v);
}
