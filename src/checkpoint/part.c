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
#include <stdlib.h>
#include <string.h>

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
    char *end = NULL;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return false;
    *step = strtoll(name + 5, &end, 10);
    if (strncmp(end, ".part-", 6) != 0)
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
    int64_t version = 1, first = (int64_t)rows->row_lo;
    const sim_tensor v = {.type = SIM_I64, .data = &version},
                     r = {.type = SIM_I64, .data = &first};
    size_t n = sim_tensor_count(rows) * sim_type_bytes(rows->type);

    sim_checkpoint_part_name(step, index, name);
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    SIM_TRY(sim_h5_create_image(n, &file));
    SIM_TRY(sim_h5_write_attribute_text(file, "format", "simile-checkpoint-part"));
    SIM_TRY(sim_h5_write_attribute(file, "format_version", &v));
    SIM_TRY(sim_h5_write_attribute(file, "first_row", &r));
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

/* ---- reading ---- */

const sim_json *sim_checkpoint_parted_tensor(const sim_checkpoint *k, size_t i)
{
    sim_json *list = NULL;
    if (!k->parts || !sim_json_get_object(k->parts, "tensors", &list) ||
        i >= sim_json_size(list))
        return NULL;
    return sim_json_at(list, i);
}

const sim_json *sim_checkpoint_find_parted(const sim_checkpoint *k, const char *name)
{
    const sim_json *j = NULL;
    const char *text = NULL;
    for (size_t i = 0; (j = sim_checkpoint_parted_tensor(k, i)) != NULL; i++)
        if (sim_json_get_text(j, "tensor", &text) && strcmp(text, name) == 0)
            return j;
    return NULL;
}

static sim_json *files_of(const sim_json *parted)
{
    sim_json *files = NULL;
    return sim_json_get_object(parted, "files", &files) ? files : NULL;
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

/* Loads a part file and checks its digest against the main file's list.  A missing file is
 * SIM_E_DATA, like a corrupted one; a read error keeps its code, as the file may be good. */
static sim_status load_part(const sim_checkpoint *k, const sim_json *file, char **bytes,
                            size_t *image_bytes)
{
    sim_status st = SIM_OK;
    char path[4400], hex[33], *read = NULL;
    const char *name = "", *digest = "";
    size_t n = 0;
    sim_hash h;

    SIM_CHECK(sim_json_get_text(file, "name", &name) &&
                  sim_json_get_text(file, "digest", &digest),
              SIM_E_DATA, "%s: /parts is malformed", k->path);
    SIM_TRY(part_path(k, name, path, sizeof path));
    SIM_TRY(sim_file_load(path, CHECKPOINT_LIMIT_BYTES, &read, &n));
    SIM_TRY(sim_checkpoint_verify(path, read, n, image_bytes, &h));
    sim_hash_hex(h, hex);
    SIM_CHECK(strcmp(hex, digest) == 0, SIM_E_DATA,
              "%s is part of another checkpoint: its digest is %s, expected %s", path,
              hex, digest);
    *bytes = read;
    read = NULL;
done:
    sim_free(read);
    if (st != SIM_OK)
        sim_error_prefix("%s: a part file cannot be loaded: ", k->path);
    return st == SIM_E_INPUT ? SIM_E_DATA : st;
}

sim_status sim_checkpoint_parts_verify(const sim_checkpoint *k, size_t rank, size_t size)
{
    sim_status st = SIM_OK;
    const sim_json *parted = NULL;
    char *bytes = NULL;
    size_t n = 0, index = 0;

    for (size_t i = 0; (parted = sim_checkpoint_parted_tensor(k, i)) != NULL; i++)
        for (size_t f = 0; f < sim_json_size(files_of(parted)); f++) {
            if (index++ % size != rank)
                continue;
            SIM_TRY(load_part(k, sim_json_at(files_of(parted), f), &bytes, &n));
            SIM_FREE(bytes);
        }
done:
    sim_free(bytes);
    return st;
}

/* Reads the rows of this part file that are in `rows` to their place in t->data. */
static sim_status read_part(const sim_checkpoint *k, const sim_json *file,
                            const sim_tensor *t, sim_range part, sim_range rows)
{
    sim_status st = SIM_OK;
    char *bytes = NULL, name[200];
    size_t n = 0, row_bytes = sim_tensor_row_bytes(t);
    sim_h5 *h5 = NULL;
    const sim_range common = {part.lo > rows.lo ? part.lo : rows.lo,
                              part.hi < rows.hi ? part.hi : rows.hi};

    if (common.lo >= common.hi)
        goto done;
    (void)snprintf(name, sizeof name, "/%s", t->name);
    SIM_TRY(load_part(k, file, &bytes, &n));
    SIM_TRY(sim_h5_open_image(bytes, n, k->path, &h5));
    SIM_TRY(sim_h5_read(h5, name, t->type, common.lo - part.lo, common.hi - common.lo,
                        (char *)t->data + (common.lo - rows.lo) * row_bytes,
                        (common.hi - common.lo) * (row_bytes / sim_type_bytes(t->type))));
done:
    sim_h5_close(&h5);
    sim_free(bytes);
    return st;
}

/* Checks the /parts entry of a tensor: its dims, and that its files cover all rows. */
static sim_status check_table(const sim_checkpoint *k, const sim_json *parted,
                              const sim_tensor *t, size_t *rows_per_part)
{
    sim_status st = SIM_OK;
    int64_t rows = 0;
    sim_json *dims = NULL;

    SIM_CHECK(sim_json_get_int(parted, "rows_per_part", &rows) && rows > 0 &&
                  sim_json_get_object(parted, "dims", &dims),
              SIM_E_DATA, "%s: /parts is malformed", k->path);
    bool same = sim_json_size(dims) == (size_t)t->n_dims;
    for (int i = 0; same && i < t->n_dims; i++)
        same = sim_json_int_at(dims, (size_t)i) == (int64_t)t->dims[i];
    SIM_CHECK(same, SIM_E_DATA, "%s: %s has another shape than in this job (%zu rows)",
              k->path, t->name, t->dims[0]);
    *rows_per_part = (size_t)rows;
    SIM_CHECK(sim_json_size(files_of(parted)) ==
                  (t->dims[0] + *rows_per_part - 1) / *rows_per_part,
              SIM_E_DATA, "%s: %s has %zu part files, expected %zu", k->path, t->name,
              sim_json_size(files_of(parted)),
              (t->dims[0] + *rows_per_part - 1) / *rows_per_part);
done:
    return st;
}

sim_status sim_checkpoint_parts_read(const sim_checkpoint *k, const sim_json *parted,
                                     const sim_tensor *t)
{
    sim_status st = SIM_OK;
    size_t step = 0;
    const sim_range rows =
        t->sharded ? (sim_range){t->row_lo, t->row_hi} : (sim_range){0, t->dims[0]};

    SIM_TRY(check_table(k, parted, t, &step));
    for (size_t f = 0, lo = 0; lo < t->dims[0]; f++, lo += step) {
        const sim_range part = {lo, t->dims[0] - lo < step ? t->dims[0] : lo + step};
        SIM_TRY(read_part(k, sim_json_at(files_of(parted), f), t, part, rows));
    }
done:
    return st;
}
