/*
 * npz.c - reads files of NumPy: archives of arrays (.npz, stored or compressed) and single arrays (.npy).
 *
 * An archive is a zip file, read as a stream: rows in ascending order are read in one pass, and a row
 * before the current one restarts it.  Python objects are never read.
 */
#include "npz.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <string.h>

enum {
    MAX_MEMBERS = 1 << 16,
    PROBLEM = 160,
    SKIP_BYTES = 1 << 16,
    CHUNK_VALUES = 1 << 16
};

/* A name, and the array of it. */
typedef struct {
    size_t entry; /* of the archive */
    sim_npy header;
    char problem[PROBLEM]; /* why it cannot be read; "" if it can */
} member;

/* What is read next: a byte of a member. */
typedef struct {
    prep_tar *archive; /* NULL: not open */
    size_t entry;      /* that is open */
    uint64_t at;
} stream;

typedef struct {
    char path[PATH_MAX];
    int fd; /* of .npy; -1: an archive */
    uint64_t file_bytes;
    prep_names names; /* with a slash */
    member *members;  /* [names.n] */
    size_t capacity;
    stream *stream; /* of an archive */
} npz;

/* ---- members ---- */

/* The message without "NAME: ", which is printed before it. */
static void keep_problem(const char *name, member *m)
{
    const char *text = sim_error_message();
    const size_t n = strlen(name);

    if (strncmp(text, name, n) == 0)
        text += n + strspn(text + n, ": ");
    (void)snprintf(m->problem, sizeof m->problem, "%s", text);
    sim_error_clear();
}

static sim_status add_member(npz *z, const char *name, const member *m)
{
    sim_status st = SIM_OK;
    char full[ARRAY_NAME];

    SIM_CHECK(z->names.n < MAX_MEMBERS, SIM_E_DATA, "%s has more than %d arrays", z->path,
              MAX_MEMBERS);
    if (z->names.n == z->capacity) {
        z->capacity = 2 * z->capacity + 16;
        SIM_TRY(sim_grow(&z->members, z->capacity, "prep/npz"));
    }
    array_full_name(name, full);
    z->members[z->names.n] = *m;
    SIM_TRY(sim_prep_names_add(&z->names, full));
done:
    return st;
}

/* Reads a header from the entry of an archive. */
static sim_status read_header(prep_tar *t, const char *name, sim_npy *out)
{
    sim_status st = SIM_OK;
    uint8_t prefix[SIM_NPY_PREFIX], *bytes = NULL;

    SIM_TRY(sim_prep_tar_read(t, prefix, sizeof prefix));
    const size_t n = sim_npy_header_bytes(prefix, sizeof prefix);
    SIM_CHECK(n >= sizeof prefix && n <= SIM_NPY_MAX_HEADER, SIM_E_DATA,
              "%s is not a NumPy array with a header of up to %d bytes", name,
              SIM_NPY_MAX_HEADER);
    SIM_TRY(sim_alloc(&bytes, n, "prep/npz"));
    memcpy(bytes, prefix, sizeof prefix);
    SIM_TRY(sim_prep_tar_read(t, bytes + sizeof prefix, n - sizeof prefix));
    SIM_TRY(sim_npy_parse(name, bytes, n, out));
done:
    sim_free(bytes);
    return st;
}

/* An entry that is no array is reported where arrays are listed. */
static sim_status add_entry(npz *z, prep_tar *t, const char *path, size_t entry)
{
    sim_status st = SIM_OK;
    char name[ARRAY_NAME];
    member m = {.entry = entry};
    const size_t n = strlen(path) - (sim_text_ends_with(path, ".npy") ? 4 : 0);

    SIM_CHECK(n + 1 < sizeof name, SIM_E_DATA, "%s: the name %.100s... is too long",
              z->path, path);
    (void)snprintf(name, sizeof name, "%.*s", (int)n, path);
    if (read_header(t, name, &m.header) != SIM_OK)
        keep_problem(name, &m);
    SIM_TRY(add_member(z, name, &m));
done:
    return st;
}

static sim_status list_archive(npz *z)
{
    sim_status st = SIM_OK;
    prep_tar *t = NULL;
    prep_entry e = {0};

    SIM_TRY(sim_prep_tar_open(z->path, false, &t));
    for (size_t entry = 0;; entry++) {
        SIM_TRY(sim_prep_tar_next(t, &e));
        if (!e.name)
            break;
        SIM_TRY(add_entry(z, t, e.name, entry));
    }
    SIM_TRY(sim_new(&z->stream, "prep/npz"));
done:
    sim_prep_tar_close(&t);
    return st;
}

static sim_status open_array(npz *z)
{
    sim_status st = SIM_OK;
    uint8_t *bytes = NULL;
    member m = {0};

    SIM_TRY(sim_file_open_read(z->path, &z->fd, &z->file_bytes));
    const size_t n =
        z->file_bytes < SIM_NPY_MAX_HEADER ? (size_t)z->file_bytes : SIM_NPY_MAX_HEADER;
    SIM_TRY(sim_alloc(&bytes, n + 1, "prep/npz"));
    SIM_TRY(sim_file_read_at(z->fd, z->path, 0, bytes, n));
    SIM_TRY(sim_npy_parse(z->path, bytes, n, &m.header));
    const size_t need = m.header.n_values * m.header.item_bytes;
    SIM_CHECK(need <= z->file_bytes - m.header.data_at, SIM_E_DATA,
              "%s is truncated: the array needs %zu bytes, but %llu are stored", z->path,
              need, (unsigned long long)(z->file_bytes - m.header.data_at));
    SIM_TRY(add_member(z, "images", &m));
done:
    sim_free(bytes);
    return st;
}

static const member *find_member(const npz *z, const char *name)
{
    for (size_t i = 0; i < z->names.n; i++)
        if (strcmp(sim_prep_names_get(&z->names, i), name) == 0)
            return &z->members[i];
    return NULL;
}

/* ---- bytes ---- */

static void close_stream(stream *s)
{
    sim_prep_tar_close(&s->archive);
    s->entry = 0;
    s->at = 0;
}

static sim_status skip(stream *s, uint64_t to)
{
    sim_status st = SIM_OK;
    uint8_t bytes[SKIP_BYTES];

    while (s->at < to) {
        const size_t n = to - s->at < sizeof bytes ? (size_t)(to - s->at) : sizeof bytes;
        SIM_TRY(sim_prep_tar_read(s->archive, bytes, n));
        s->at += n;
    }
done:
    return st;
}

/* Opens the entry, unless it is open at an earlier or the same byte. */
static sim_status open_entry(const npz *z, size_t entry, uint64_t at)
{
    sim_status st = SIM_OK;
    stream *s = z->stream;
    prep_entry e = {0};

    if (s->archive && s->entry == entry && s->at <= at)
        goto done;
    close_stream(s);
    SIM_TRY(sim_prep_tar_open(z->path, false, &s->archive));
    for (size_t i = 0; i <= entry; i++) {
        SIM_TRY(sim_prep_tar_next(s->archive, &e));
        SIM_CHECK(e.name, SIM_E_DATA, "%s changed while it was read", z->path);
    }
    s->entry = entry;
done:
    return st;
}

static sim_status read_bytes(const npz *z, const member *m, uint64_t at, void *out,
                             size_t n)
{
    sim_status st = SIM_OK;

    if (z->fd >= 0) {
        SIM_TRY(sim_file_read_at(z->fd, z->path, at, out, n));
        goto done;
    }
    SIM_TRY(open_entry(z, m->entry, at));
    st = skip(z->stream, at);
    if (st == SIM_OK)
        st = sim_prep_tar_read(z->stream->archive, out, n);
    z->stream->at += n;
    if (st != SIM_OK)
        close_stream(z->stream);
done:
    return st;
}

/* ---- operations ---- */

static bool has(const void *file, const char *name)
{
    return find_member(file, name) != NULL;
}

static bool resolve(const void *file, char *name, size_t name_bytes)
{
    (void)name_bytes;
    return has(file, name);
}

static void list(const void *file, arrays_member *call, void *ctx)
{
    const npz *z = file;
    for (size_t i = 0; i < z->names.n; i++)
        call(ctx, sim_prep_names_get(&z->names, i), z->members[i].problem);
}

static sim_status find_readable(const npz *z, const char *name, const member **out)
{
    sim_status st = SIM_OK;

    *out = find_member(z, name);
    SIM_CHECK(*out, SIM_E_DATA, "%s contains no array %s", z->path, name);
    SIM_CHECK(!(*out)->problem[0], SIM_E_DATA, "%s: %s: %s", z->path, name,
              (*out)->problem);
done:
    return st;
}

/* The smallest type that holds the values, as sim_h5_shape_of. */
static sim_type holding_type(const sim_npy *a)
{
    switch (a->kind) {
    case 'f':
        return a->item_bytes == 8 ? SIM_F64 : SIM_F32;
    case 'i':
        return a->item_bytes == 8 ? SIM_I64 : SIM_I32;
    default:
        return a->item_bytes == 1   ? SIM_U8
               : a->item_bytes == 2 ? SIM_U16
               : a->item_bytes == 4 ? SIM_I64
                                    : SIM_U64;
    }
}

static bool is_text(const sim_npy *a)
{
    return a->kind == 'S' || a->kind == 'U';
}

static sim_status shape_of(const void *file, const char *name, sim_h5_shape *out)
{
    sim_status st = SIM_OK;
    const npz *z = file;
    const member *m = NULL;

    SIM_TRY(find_readable(z, name, &m));
    const sim_npy *a = &m->header;
    SIM_CHECK(!is_text(a), SIM_E_DATA, "%s: %s is text, not numbers", z->path, name);
    *out = (sim_h5_shape){
        .type = holding_type(a), .n_dims = a->n_dims, .is_bool = a->kind == 'b'};
    memcpy(out->dims, a->dims, sizeof out->dims);
done:
    return st;
}

/* The bytes of the archive bound those of a compressed array. */
static sim_status storage_of(const void *file, const char *name, sim_h5_storage *out)
{
    const npz *z = file;

    (void)name;
    *out = (sim_h5_storage){.stored_bytes = z->file_bytes, .piece_rows = 1};
    return SIM_OK;
}

/* Reads n values from value `at` on, in chunks. */
static sim_status read_values(const npz *z, const member *m, size_t at, size_t n,
                              sim_type type, void *out)
{
    sim_status st = SIM_OK;
    const sim_npy *a = &m->header;
    uint8_t *bytes = NULL;

    SIM_TRY(sim_alloc(&bytes, CHUNK_VALUES * a->item_bytes, "prep/npz"));
    for (size_t i = 0; i < n; i += CHUNK_VALUES) {
        const size_t some = n - i < CHUNK_VALUES ? n - i : CHUNK_VALUES;
        SIM_TRY(read_bytes(z, m, a->data_at + (uint64_t)(at + i) * a->item_bytes, bytes,
                           some * a->item_bytes));
        sim_npy_convert(a, bytes, some, type, (char *)out + i * sim_type_bytes(type));
    }
done:
    sim_free(bytes);
    return st;
}

static sim_status read_rows(const void *file, const char *name, sim_type type, size_t row,
                            size_t n_rows, void *data, size_t capacity)
{
    sim_status st = SIM_OK;
    const npz *z = file;
    const member *m = NULL;
    sim_h5_shape s = {0};

    SIM_TRY(shape_of(file, name, &s));
    SIM_TRY(find_readable(z, name, &m));
    const size_t per_row = array_values_per_row(&s), all = s.n_dims ? s.dims[0] : 1;
    const size_t rows = n_rows == SIM_H5_ALL ? all : n_rows;
    SIM_CHECK(row <= all && rows <= all - row && rows * per_row == capacity, SIM_E_DATA,
              "%s: %s has %zu rows of %zu values, expected %zu values", z->path, name,
              all, per_row, capacity);
    SIM_TRY(read_values(z, m, row * per_row, capacity, type, data));
done:
    return st;
}

/* ---- text ---- */

/* bool is text too, as of HDF5: its values name classes. */
static bool is_strings(const void *file, const char *name)
{
    const member *m = find_member(file, name);
    return m && !m->problem[0] && (is_text(&m->header) || m->header.kind == 'b');
}

/* A character in UTF-8; returns the end. */
static char *put_utf8(uint32_t c, char *to)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | (c >> 18 & 7));
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* A value as text that ends with a zero; `to` has a byte more than the value. */
static void put_text(const sim_npy *a, uint8_t *value, char *to)
{
    uint32_t c = 0;

    if (a->kind == 'b') {
        memcpy(to, value[0] ? "TRUE" : "FALSE", value[0] ? 5 : 6);
    } else if (a->kind == 'S') {
        memcpy(to, value, a->item_bytes);
    } else {
        if (a->is_swapped)
            sim_swap_bytes(value, sizeof c, a->item_bytes / sizeof c);
        for (size_t i = 0; i < a->item_bytes; i += sizeof c) {
            memcpy(&c, value + i, sizeof c);
            if (c)
                to = put_utf8(c, to);
        }
    }
}

static sim_status read_strings(const void *file, const char *name, size_t limit,
                               size_t *n, size_t *width, char **text)
{
    sim_status st = SIM_OK;
    const npz *z = file;
    const member *m = NULL;
    uint8_t *value = NULL;
    void *rows = NULL;

    SIM_TRY(find_readable(z, name, &m));
    const sim_npy *a = &m->header;
    const bool is_list = a->n_dims > 0 && a->n_values == a->dims[0];
    const size_t row = a->kind == 'b' ? sizeof "FALSE" : a->item_bytes + 1;
    SIM_CHECK(is_list && a->n_values > 0 && a->n_values <= limit, SIM_E_DATA,
              "%s: %s has %zu texts in %d dimensions, expected 1 to %zu in one", z->path,
              name, a->n_values, a->n_dims, limit);
    SIM_CHECK(a->n_values <= z->file_bytes * 1100 / row, SIM_E_DATA,
              "%s: %s has %zu texts, more than the file stores", z->path, name,
              a->n_values);
    SIM_TRY(sim_alloc_bytes(a->n_values, row, "prep/npz", &rows));
    SIM_TRY(sim_alloc(&value, a->item_bytes, "prep/npz"));
    for (size_t i = 0; i < a->n_values; i++) {
        SIM_TRY(read_bytes(z, m, a->data_at + (uint64_t)i * a->item_bytes, value,
                           a->item_bytes));
        put_text(a, value, (char *)rows + i * row);
    }
    *n = a->n_values;
    *width = row;
    *text = rows;
    rows = NULL;
done:
    sim_free(value);
    sim_free(rows);
    return st;
}

static void close_file(void *file)
{
    npz *z = file;

    if (!z)
        return;
    if (z->stream)
        close_stream(z->stream);
    sim_free(z->stream);
    SIM_IGNORE(sim_file_close(&z->fd, z->path));
    sim_prep_names_clear(&z->names);
    sim_free(z->members);
    sim_free(z);
}

/* ---- open ---- */

bool sim_npz_is_archive(const char *path)
{
    prep_tar *t = NULL;
    prep_entry e = {0};
    const bool yes = sim_text_ends_with(path, ".npz") && sim_prep_is_tar(path) &&
                     sim_prep_tar_open(path, false, &t) == SIM_OK &&
                     sim_prep_tar_next(t, &e) == SIM_OK && e.name &&
                     sim_text_ends_with(e.name, ".npy");

    sim_prep_tar_close(&t);
    sim_error_clear();
    return yes;
}

bool sim_npz_is_array(const char *path)
{
    uint8_t head[SIM_NPY_PREFIX];
    uint64_t n = 0;
    int fd = -1;
    const bool yes = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof head &&
                     sim_file_read_at(fd, path, 0, head, sizeof head) == SIM_OK &&
                     sim_npy_header_bytes(head, sizeof head) > 0;

    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return yes;
}

/* A zip file ends with a directory, and a comment of up to 64 KiB.  Without it the file is truncated, which a
 * stream would not notice between two entries. */
static sim_status check_end(npz *z)
{
    sim_status st = SIM_OK;
    enum { END_BYTES = 22, TAIL_BYTES = (1 << 16) + END_BYTES };
    static const char mark[] = {'P', 'K', 5, 6};
    uint8_t *tail = NULL;
    int fd = -1;

    SIM_TRY(sim_file_open_read(z->path, &fd, &z->file_bytes));
    const size_t n = z->file_bytes < TAIL_BYTES ? (size_t)z->file_bytes : TAIL_BYTES;
    SIM_TRY(sim_alloc(&tail, n + 1, "prep/npz"));
    SIM_TRY(sim_file_read_at(fd, z->path, z->file_bytes - n, tail, n));
    SIM_CHECK(
        n >= END_BYTES && memmem(tail, n - END_BYTES + sizeof mark, mark, sizeof mark),
        SIM_E_DATA,
        "%s is truncated, or not an archive of arrays: it has no zip directory", z->path);
done:
    sim_free(tail);
    SIM_IGNORE(sim_file_close(&fd, z->path));
    return st;
}

sim_status sim_npz_open(const char *path, prep_arrays *out)
{
    static const prep_array_ops ops = {.has = has,
                                       .resolve = resolve,
                                       .list = list,
                                       .shape_of = shape_of,
                                       .storage_of = storage_of,
                                       .read = read_rows,
                                       .is_strings = is_strings,
                                       .read_strings = read_strings,
                                       .close = close_file};
    sim_status st = SIM_OK;
    npz *z = NULL;

    SIM_TRY(sim_new(&z, "prep/npz"));
    z->fd = -1;
    (void)snprintf(z->path, sizeof z->path, "%s", path);
    if (sim_npz_is_array(path)) {
        SIM_TRY(open_array(z));
    } else {
        SIM_TRY(check_end(z));
        SIM_TRY(list_archive(z));
    }
    SIM_TRY(sim_text_copy(path, "prep/npz", &out->path));
    out->ops = &ops;
    out->file = z;
    z = NULL;
done:
    close_file(z);
    return st;
}
