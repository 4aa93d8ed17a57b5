/*
 * part.c - part files: fixed ranges of rows of a tensor too large for the main file.
 *
 * A part file is an HDF5 image with some rows of one tensor, and a trailer like that of a
 * main file.  The main file is written last and lists all part files with their digests in
 * /parts (JSON).  A part file without a main file is left over from an interrupted save.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

#define PART_FORMAT "simile-checkpoint-part"

enum { DEFAULT_LIMIT = 256 << 20, DEFAULT_PART = 64 << 20 };
static struct {
    size_t limit,
        part; /* largest tensor in the main file, and size of a part, in bytes */
} sizes = {DEFAULT_LIMIT, DEFAULT_PART};

void sim_checkpoint_part_bytes(size_t limit, size_t part)
{
    sizes.limit = limit ? limit : DEFAULT_LIMIT;
    sizes.part = part ? part : DEFAULT_PART;
}

bool sim_checkpoint_is_parted(const sim_tensor *t)
{
    return t->sharded && sim_tensor_count(t) * sim_type_bytes(t->type) > sizes.limit;
}

size_t sim_checkpoint_part_size(void)
{
    return sizes.part;
}

/* ---- names ---- */

void sim_checkpoint_part_name(int64_t step, size_t index, char out[64])
{
    (void)snprintf(out, 64, "step-%09lld.part-%04zu.h5", (long long)step, index);
}

bool sim_checkpoint_part_step_of(const char *name, int64_t *step)
{
    const char *end = sim_checkpoint_parse_step(name, step);
    if (!end || strncmp(end, ".part-", 6) != 0)
        return false;
    end += 6;
    return strcmp(end + strspn(end, "0123456789"), ".h5") == 0;
}

sim_status sim_checkpoint_drop_orphans(const char *directory)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char path[4400];
    int64_t step = 0;

    SIM_TRY(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!sim_checkpoint_part_step_of(names.names[i], &step))
            continue;
        (void)snprintf(path, sizeof path, "%s/step-%09lld.h5", directory,
                       (long long)step);
        if (sim_path_exists(path))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        SIM_TRY(sim_file_remove(path));
    }
done:
    sim_names_clear(&names);
    return st;
}

/* ---- writing ---- */

sim_status sim_checkpoint_part_write(const char *directory, int64_t step, size_t index,
                                     const sim_tensor *rows, sim_hash *digest)
{
    sim_status st = SIM_OK;
    sim_h5 *file = NULL;
    const void *image = NULL;
    char name[64], path[4400];
    int64_t first = (int64_t)rows->row_lo;
    const sim_tensor first_row = {.type = SIM_I64, .data = &first};
    size_t n = sim_tensor_count(rows) * sim_type_bytes(rows->type);

    sim_checkpoint_part_name(step, index, name);
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    SIM_TRY(sim_h5_create_image(n, &file));
    SIM_TRY(sim_checkpoint_write_format(file, PART_FORMAT));
    SIM_TRY(sim_h5_write_attribute(file, "first_row", &first_row));
    SIM_TRY(sim_h5_write(file, rows->name, rows));
    SIM_TRY(sim_h5_image(file, &image, &n));
    SIM_TRY(sim_checkpoint_seal(path, image, n, digest));
done:
    sim_h5_close(&file);
    return st;
}

void sim_checkpoint_part_table(sim_json *table, int64_t step, const sim_tensor *t,
                               size_t rows_per_part, size_t first,
                               const sim_hash *digests)
{
    char name[64], hex[33];
    size_t n = (t->dims[0] + rows_per_part - 1) / rows_per_part;
    sim_json *j = sim_json_object(table, NULL), *files = NULL;

    sim_json_text(j, "tensor", t->name);
    sim_json *dims = sim_json_array(j, "dims");
    for (int i = 0; i < t->n_dims; i++)
        sim_json_int(dims, NULL, (int64_t)t->dims[i]);
    sim_json_int(j, "rows_per_part", (int64_t)rows_per_part);
    files = sim_json_array(j, "files");
    for (size_t i = 0; i < n; i++) {
        sim_json *f = sim_json_object(files, NULL);
        sim_checkpoint_part_name(step, first + i, name);
        sim_hash_hex(digests[i], hex);
        sim_json_text(f, "name", name);
        sim_json_text(f, "digest", hex);
    }
}

/* ---- the table ---- */

/* Reads the dims of an entry.  False if they are no dims, or overflow. */
static bool parse_dims(const sim_json *entry, parted_tensor *out)
{
    sim_json *dims = NULL;
    size_t count = sizeof(double); /* bytes of the largest type */

    if (!sim_json_get_object(entry, "dims", &dims) || sim_json_size(dims) < 1 ||
        sim_json_size(dims) > SIM_MAX_DIMS)
        return false;
    out->n_dims = (int)sim_json_size(dims);
    for (int i = 0; i < out->n_dims; i++) {
        int64_t n = sim_json_int_at(dims, (size_t)i);
        if (n < 1 || __builtin_mul_overflow(count, (size_t)n, &count))
            return false;
        out->dims[i] = (size_t)n;
    }
    return true;
}

/* Reads an entry of /parts.  False if it is malformed. */
static bool parse_entry(const sim_json *entry, parted_tensor *out)
{
    int64_t rows = 0;
    sim_json *files = NULL;

    if (!sim_json_get_text(entry, "tensor", &out->name) || !parse_dims(entry, out) ||
        !sim_json_get_int(entry, "rows_per_part", &rows) || rows < 1 ||
        !sim_json_get_object(entry, "files", &files))
        return false;
    out->rows_per_part = (size_t)rows;
    out->files = files;
    out->n_files = sim_json_size(files);
    return true;
}

static sim_status load_entry(const sim_checkpoint *k, const sim_json *entry,
                             parted_tensor *out)
{
    sim_status st = SIM_OK;

    SIM_CHECK(parse_entry(entry, out), SIM_E_DATA, "%s: /parts is malformed", k->path);
    const size_t n_files = 1 + (out->dims[0] - 1) / out->rows_per_part;
    SIM_CHECK(out->n_files == n_files, SIM_E_DATA,
              "%s: %s has %zu part files, expected %zu", k->path, out->name, out->n_files,
              n_files);
done:
    return st;
}

sim_status sim_checkpoint_parts_load(sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    sim_json *list = NULL;

    if (!sim_h5_has(k->file, "/parts"))
        goto done;
    SIM_TRY(sim_h5_read_text(k->file, "/parts", &text));
    SIM_TRY(sim_json_parse(text, strlen(text), &k->parts));
    SIM_CHECK(sim_json_get_object(k->parts, "tensors", &list), SIM_E_DATA,
              "%s: /parts is malformed", k->path);
    SIM_TRY(sim_alloc(&k->parted, sim_json_size(list), "checkpoint/parts"));
    for (; k->n_parted < sim_json_size(list); k->n_parted++)
        SIM_TRY(load_entry(k, sim_json_at(list, k->n_parted), &k->parted[k->n_parted]));
done:
    sim_free(text);
    return st;
}

const parted_tensor *sim_checkpoint_find_parted(const sim_checkpoint *k, const char *name)
{
    for (size_t i = 0; i < k->n_parted; i++)
        if (strcmp(k->parted[i].name, name) == 0)
            return &k->parted[i];
    return NULL;
}

/* ---- reading ---- */

/* A verified part file in memory, and HDF5 on its image. */
typedef struct {
    char path[4400];
    char *bytes;
    sim_h5 *file;
} part_file;

static void close_part(part_file *p)
{
    sim_h5_close(&p->file);
    SIM_FREE(p->bytes);
}

/* The path of a part file, which is in the main file's directory.  Any other name, for
 * example one with a slash, is refused. */
static sim_status part_path(const sim_checkpoint *k, const char *name, char *out,
                            size_t out_bytes)
{
    sim_status st = SIM_OK;
    const char *slash = strrchr(k->path, '/');
    int64_t step = 0;

    SIM_CHECK(sim_checkpoint_part_step_of(name, &step), SIM_E_DATA,
              "%s: /parts lists \"%.80s\", expected step-NNNNNNNNN.part-MMMM.h5", k->path,
              name);
    (void)snprintf(out, out_bytes, "%.*s%s", slash ? (int)(slash + 1 - k->path) : 0,
                   k->path, name);
done:
    return st;
}

/* Loads the file of an entry {"name", "digest"} and checks its digest and format. */
static sim_status load_part(const sim_checkpoint *k, const sim_json *entry, part_file *p)
{
    sim_status st = SIM_OK;
    char hex[33];
    const char *name = "", *digest = "";
    size_t n = 0, image_bytes = 0;
    sim_hash h;

    SIM_CHECK(entry && sim_json_get_text(entry, "name", &name) &&
                  sim_json_get_text(entry, "digest", &digest),
              SIM_E_DATA, "%s: /parts is malformed", k->path);
    SIM_TRY(part_path(k, name, p->path, sizeof p->path));
    SIM_TRY(sim_file_load(p->path, CHECKPOINT_LIMIT_BYTES, &p->bytes, &n));
    SIM_TRY(sim_checkpoint_verify(p->path, p->bytes, n, &image_bytes, &h));
    sim_hash_hex(h, hex);
    SIM_CHECK(strcmp(hex, digest) == 0, SIM_E_DATA,
              "%s is part of another checkpoint: its digest is %s, expected %s", p->path,
              hex, digest);
    SIM_TRY(sim_h5_open_image(p->bytes, image_bytes, p->path, &p->file));
    SIM_TRY(sim_checkpoint_check_format(p->file, p->path, PART_FORMAT));
done:
    return st;
}

/* A missing file is SIM_E_DATA, like a corrupted one; a read error keeps its code, as the
 * file may be good. */
static sim_status open_part(const sim_checkpoint *k, const parted_tensor *t, size_t i,
                            part_file *out)
{
    *out = (part_file){.bytes = NULL};
    sim_status st = load_part(k, sim_json_at(t->files, i), out);
    if (st != SIM_OK) {
        sim_error_prefix("%s: a part file cannot be loaded: ", k->path);
        close_part(out);
    }
    return st == SIM_E_INPUT ? SIM_E_DATA : st;
}

sim_status sim_checkpoint_parts_verify(const sim_checkpoint *k, size_t rank, size_t size)
{
    sim_status st = SIM_OK;
    size_t index = 0;

    for (size_t i = 0; i < k->n_parted; i++)
        for (size_t f = 0; f < k->parted[i].n_files; f++) {
            part_file p;
            if (index++ % size != rank)
                continue;
            SIM_TRY(open_part(k, &k->parted[i], f, &p));
            close_part(&p);
        }
done:
    return st;
}

/* Rows of the i-th part file of a tensor. */
static sim_range rows_of_part(const parted_tensor *t, size_t i)
{
    const size_t lo = i * t->rows_per_part, left = t->dims[0] - lo;
    return (sim_range){lo, lo + (left < t->rows_per_part ? left : t->rows_per_part)};
}

/* Checks the shape of the values in the i-th part file. */
static sim_status check_part(const part_file *p, const parted_tensor *t, size_t i,
                             sim_h5_shape *shape)
{
    sim_status st = SIM_OK;
    char name[200];
    const sim_range rows = rows_of_part(t, i);
    sim_tensor expected = {.n_dims = t->n_dims};

    memcpy(expected.dims, t->dims, sizeof expected.dims);
    expected.dims[0] = rows.hi - rows.lo;
    (void)snprintf(name, sizeof name, "/%s", t->name);
    SIM_TRY(sim_h5_shape_of(p->file, name, shape));
    SIM_TRY(sim_checkpoint_check_dims(p->path, t->name, shape->n_dims, shape->dims,
                                      &expected));
done:
    return st;
}

/* Reads those rows of the i-th part file that are in `rows` to their place in t->data. */
static sim_status read_part(const sim_checkpoint *k, const parted_tensor *parted,
                            size_t i, const sim_tensor *t, sim_range rows)
{
    sim_status st = SIM_OK;
    part_file p = {.bytes = NULL};
    char name[200];
    const size_t row_bytes = sim_tensor_row_bytes(t);
    const sim_range part = rows_of_part(parted, i),
                    common = {part.lo > rows.lo ? part.lo : rows.lo,
                              part.hi < rows.hi ? part.hi : rows.hi};
    sim_h5_shape shape;

    if (common.lo >= common.hi)
        goto done;
    SIM_TRY(open_part(k, parted, i, &p));
    SIM_TRY(check_part(&p, parted, i, &shape));
    (void)snprintf(name, sizeof name, "/%s", parted->name);
    SIM_TRY(sim_h5_read(p.file, name, t->type, common.lo - part.lo, common.hi - common.lo,
                        (char *)t->data + (common.lo - rows.lo) * row_bytes,
                        (common.hi - common.lo) * (row_bytes / sim_type_bytes(t->type))));
done:
    close_part(&p);
    return st;
}

sim_status sim_checkpoint_parts_read(const sim_checkpoint *k, const parted_tensor *parted,
                                     const sim_tensor *t)
{
    sim_status st = SIM_OK;
    const sim_range rows =
        t->sharded ? (sim_range){t->row_lo, t->row_hi} : (sim_range){0, t->dims[0]};

    SIM_TRY(sim_checkpoint_check_dims(k->path, parted->name, parted->n_dims, parted->dims,
                                      t));
    for (size_t i = 0; i < parted->n_files; i++)
        SIM_TRY(read_part(k, parted, i, t, rows));
done:
    return st;
}

sim_status sim_checkpoint_parts_type(const sim_checkpoint *k, const parted_tensor *parted,
                                     sim_type *out)
{
    sim_status st = SIM_OK;
    part_file p = {.bytes = NULL};
    sim_h5_shape shape;

    SIM_TRY(open_part(k, parted, 0, &p));
    SIM_TRY(check_part(&p, parted, 0, &shape));
    *out = shape.type;
done:
    close_part(&p);
    return st;
}
