/*
 * read.c - reads safetensors files of any origin; every number of the header is checked before it
 * is used.
 *
 * In: a file.  Out: its tensors, sorted by the offsets of their values.
 * Invariant: after a successful open, the values of the tensors cover the bytes between the header
 * and the end of the file exactly, each byte once.
 */
#include "simile/safetensors.h"

#include "simile/file.h"
#include "simile/json.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8 }; /* the length of the header, at the start of the file */

static const char metadata_key[] = "__metadata__";

/* Bytes per element. */
static const struct {
    const char *name;
    size_t n_bytes;
} dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
    {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8},
};

struct sim_safetensors {
    char *path;
    int fd;
    sim_json *header, *metadata; /* metadata: borrowed from the header; or NULL */
    sim_safetensor *tensors;     /* [n], sorted by offset */
    size_t n, capacity;
};

/* ---- one tensor ---- */

/* 0: not a dtype. */
static size_t bytes_of_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return dtypes[i].n_bytes;
    return 0;
}

/* Reads dims and their product times the bytes of an element. */
static sim_status read_shape(const char *path, const sim_json *shape, sim_safetensor *t)
{
    sim_status st = SIM_OK;

    SIM_CHECK(sim_json_size(shape) <= SIM_SAFETENSORS_MAX_DIMS, SIM_E_DATA,
              "%s: tensor %.100s has %zu dimensions; at most %d are supported", path,
              t->name, sim_json_size(shape), SIM_SAFETENSORS_MAX_DIMS);
    t->n_dims = (int)sim_json_size(shape);
    t->n_bytes = bytes_of_dtype(t->dtype);
    for (int i = 0; i < t->n_dims; i++) {
        int64_t dim = sim_json_int_at(shape, (size_t)i);
        SIM_CHECK(dim >= 0, SIM_E_DATA,
                  "%s: tensor %.100s: dimension %d is not a non-negative integer", path,
                  t->name, i);
        t->dims[i] = (size_t)dim;
        SIM_CHECK(!__builtin_mul_overflow(t->n_bytes, t->dims[i], &t->n_bytes),
                  SIM_E_DATA, "%s: tensor %.100s is larger than the address space", path,
                  t->name);
    }
done:
    return st;
}

static sim_status read_offsets(const char *path, const sim_json *offsets,
                               sim_safetensor *t)
{
    sim_status st = SIM_OK;
    int64_t begin = sim_json_int_at(offsets, 0), end = sim_json_int_at(offsets, 1);

    SIM_CHECK(sim_json_size(offsets) == 2 && begin >= 0 && end >= begin, SIM_E_DATA,
              "%s: tensor %.100s: data_offsets are not two ascending integers", path,
              t->name);
    SIM_CHECK((uint64_t)(end - begin) == t->n_bytes, SIM_E_DATA,
              "%s: tensor %.100s: data_offsets span %lld bytes, but its dtype and shape "
              "need %zu",
              path, t->name, (long long)(end - begin), t->n_bytes);
    t->at = (uint64_t)begin;
done:
    return st;
}

static sim_status read_tensor(const char *path, const char *name, const sim_json *entry,
                              sim_safetensor *out)
{
    sim_status st = SIM_OK;
    sim_json *shape = NULL, *offsets = NULL;
    sim_safetensor t = {.name = name};

    SIM_CHECK(entry && !sim_json_is_array(entry), SIM_E_DATA,
              "%s: the header entry %.100s is not an object", path, name);
    SIM_CHECK(sim_json_get_text(entry, "dtype", &t.dtype) && bytes_of_dtype(t.dtype),
              SIM_E_DATA, "%s: tensor %.100s: dtype %.20s is unknown", path, name,
              t.dtype ? t.dtype : "is absent or");
    SIM_CHECK(sim_json_get_object(entry, "shape", &shape) && sim_json_is_array(shape) &&
                  sim_json_get_object(entry, "data_offsets", &offsets) &&
                  sim_json_is_array(offsets),
              SIM_E_DATA, "%s: tensor %.100s: shape or data_offsets is not an array",
              path, name);
    SIM_TRY(read_shape(path, shape, &t));
    SIM_TRY(read_offsets(path, offsets, &t));
    *out = t;
done:
    return st;
}

/* ---- the header ---- */

static sim_status check_text(void *ctx, const char *name, const sim_json *value)
{
    sim_status st = SIM_OK;
    const sim_safetensors *f = ctx;
    const char *text = NULL;

    (void)value;
    SIM_CHECK(sim_json_get_text(f->metadata, name, &text), SIM_E_DATA,
              "%s: __metadata__ %.100s is not a text", f->path, name);
done:
    return st;
}

static sim_status add_entry(void *ctx, const char *name, const sim_json *value)
{
    sim_status st = SIM_OK;
    sim_safetensors *f = ctx;

    if (strcmp(name, metadata_key) == 0) {
        SIM_CHECK(sim_json_get_object(f->header, metadata_key, &f->metadata) &&
                      !sim_json_is_array(f->metadata),
                  SIM_E_DATA, "%s: __metadata__ is not an object", f->path);
        SIM_TRY(sim_json_each(f->metadata, check_text, f));
        goto done;
    }
    if (f->n == f->capacity) {
        f->capacity = f->capacity ? 2 * f->capacity : 64;
        SIM_TRY(sim_grow(&f->tensors, f->capacity, "safetensors/header"));
    }
    SIM_TRY(read_tensor(f->path, name, value, &f->tensors[f->n]));
    f->n++;
done:
    return st;
}

static int compare_offsets(const void *a, const void *b)
{
    const sim_safetensor *p = a, *q = b;
    if (p->at != q->at)
        return p->at < q->at ? -1 : 1;
    return (p->n_bytes > q->n_bytes) - (p->n_bytes < q->n_bytes); /* empty ones first */
}

/* Sorts the tensors and replaces offsets within the values by offsets in the file. */
static sim_status place_tensors(sim_safetensors *f, uint64_t values_at, uint64_t n_bytes)
{
    sim_status st = SIM_OK;
    uint64_t end = 0;

    if (f->n)
        qsort(f->tensors, f->n, sizeof *f->tensors, compare_offsets);
    for (size_t i = 0; i < f->n; i++) {
        sim_safetensor *t = &f->tensors[i];
        SIM_CHECK(
            t->at == end, SIM_E_DATA,
            "%s: tensor %.100s begins at byte %llu, but the values before it end at "
            "byte %llu",
            f->path, t->name, (unsigned long long)t->at, (unsigned long long)end);
        SIM_CHECK(t->n_bytes <= n_bytes - end, SIM_E_DATA,
                  "%s: tensor %.100s exceeds the file, which has %llu bytes of values",
                  f->path, t->name, (unsigned long long)n_bytes);
        end += t->n_bytes;
        t->at += values_at;
    }
    SIM_CHECK(end == n_bytes, SIM_E_DATA,
              "%s has %llu bytes of values, but its tensors need %llu", f->path,
              (unsigned long long)n_bytes, (unsigned long long)end);
done:
    return st;
}

/* The length of the header, at most that of the file and the limit. */
static sim_status read_length(const sim_safetensors *f, uint64_t file_bytes,
                              size_t *n_bytes)
{
    sim_status st = SIM_OK;
    uint8_t bytes[LENGTH_BYTES];
    uint64_t length = 0;

    SIM_CHECK(file_bytes >= LENGTH_BYTES, SIM_E_DATA,
              "%s is not a safetensors file: it has only %llu bytes", f->path,
              (unsigned long long)file_bytes);
    SIM_TRY(sim_file_read_at(f->fd, f->path, 0, bytes, sizeof bytes));
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | bytes[i];
    SIM_CHECK(length <= SIM_SAFETENSORS_MAX_HEADER && length <= file_bytes - LENGTH_BYTES,
              SIM_E_DATA,
              "%s is not a safetensors file, or it is truncated: its header has %llu "
              "bytes, the file %llu",
              f->path, (unsigned long long)length, (unsigned long long)file_bytes);
    *n_bytes = (size_t)length;
done:
    return st;
}

static sim_status parse_header(sim_safetensors *f, size_t n_bytes)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_alloc(&text, n_bytes + 1, "safetensors/header"));
    SIM_TRY(sim_file_read_at(f->fd, f->path, LENGTH_BYTES, text, n_bytes));
    SIM_CHECK(text[0] == '{', SIM_E_DATA,
              "%s is not a safetensors file: its header is not a JSON object", f->path);
    st = sim_json_parse(text, n_bytes, &f->header);
    if (st != SIM_OK)
        sim_error_prefix("%s: header: ", f->path);
    SIM_TRY(st);
done:
    sim_free(text);
    return st;
}

sim_status sim_safetensors_open(const char *path, sim_safetensors **out)
{
    sim_status st = SIM_OK;
    sim_safetensors *f = NULL;
    uint64_t file_bytes = 0;
    size_t header_bytes = 0;

    SIM_TRY(sim_new(&f, "safetensors/file"));
    f->fd = -1;
    SIM_TRY(sim_text_copy(path, "safetensors/file", &f->path));
    SIM_TRY(sim_file_open_read(path, &f->fd, &file_bytes));
    SIM_TRY(read_length(f, file_bytes, &header_bytes));
    SIM_TRY(parse_header(f, header_bytes));
    SIM_TRY(sim_json_each(f->header, add_entry, f));
    SIM_TRY(place_tensors(f, LENGTH_BYTES + header_bytes,
                          file_bytes - LENGTH_BYTES - header_bytes));
    *out = f;
    f = NULL;
done:
    sim_safetensors_close(&f);
    return st;
}

void sim_safetensors_close(sim_safetensors **f)
{
    sim_safetensors *s = *f;

    *f = NULL;
    if (!s)
        return;
    SIM_IGNORE(sim_file_close(&s->fd, s->path)); /* it was only read */
    sim_json_destroy(&s->header);
    sim_free(s->tensors);
    sim_free(s->path);
    sim_free(s);
}

/* ---- contents ---- */

size_t sim_safetensors_count(const sim_safetensors *f)
{
    return f->n;
}

const sim_safetensor *sim_safetensors_at(const sim_safetensors *f, size_t i)
{
    SIM_ASSERT(i < f->n);
    return &f->tensors[i];
}

const sim_safetensor *sim_safetensors_find(const sim_safetensors *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

const char *sim_safetensors_metadata(const sim_safetensors *f, const char *name)
{
    const char *text = NULL;

    if (f->metadata)
        (void)sim_json_get_text(f->metadata, name, &text);
    return text;
}

sim_status sim_safetensors_read(const sim_safetensors *f, const sim_safetensor *t,
                                void *data, size_t data_bytes)
{
    SIM_ASSERT(data_bytes == t->n_bytes);
    return sim_file_read_at(f->fd, f->path, t->at, data, data_bytes);
}
