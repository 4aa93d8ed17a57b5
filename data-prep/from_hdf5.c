/*
 * from_hdf5.c - images in HDF5 files of others: one array, or one group per class.
 *
 * arrays_source.c reads the images and labels.
 */
#include "arrays.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <string.h>

/* ---- an HDF5 file as a file of arrays ---- */

static bool has(const void *file, const char *name)
{
    return sim_h5_has(file, name);
}

static bool resolve(const void *file, char *name, size_t name_bytes)
{
    return sim_h5_resolve(file, name, name_bytes);
}

static void list(const void *file, arrays_member *member, void *ctx)
{
    sim_h5_list(file, member, ctx);
}

static sim_status visit(const void *file, const char *group,
                        sim_status (*call)(void *ctx, const sim_tensor *t), void *ctx)
{
    return sim_h5_visit(file, group, call, ctx);
}

static sim_status shape_of(const void *file, const char *name, sim_h5_shape *out)
{
    return sim_h5_shape_of(file, name, out);
}

static sim_status storage_of(const void *file, const char *name, sim_h5_storage *out)
{
    return sim_h5_storage_of(file, name, out);
}

static sim_status read_rows(const void *file, const char *name, sim_type type, size_t row,
                            size_t n_rows, void *data, size_t capacity)
{
    return sim_h5_read(file, name, type, row, n_rows, data, capacity);
}

static bool is_strings(const void *file, const char *name)
{
    return sim_h5_is_strings(file, name);
}

static sim_status read_strings(const void *file, const char *name, size_t limit,
                               size_t *n, size_t *width, char **text)
{
    return sim_h5_read_strings(file, name, limit, n, width, text);
}

static void close_file(void *file)
{
    sim_h5 *f = file;
    sim_h5_close(&f);
}

static const prep_array_ops ops = {.has = has,
                                   .resolve = resolve,
                                   .list = list,
                                   .visit = visit,
                                   .shape_of = shape_of,
                                   .storage_of = storage_of,
                                   .read = read_rows,
                                   .is_strings = is_strings,
                                   .read_strings = read_strings,
                                   .close = close_file};

sim_status sim_hdf5_arrays_open(const char *path, prep_arrays *out)
{
    sim_status st = SIM_OK;
    sim_h5 *file = NULL;

    SIM_TRY(sim_h5_open_read(path, &file));
    SIM_TRY(sim_text_copy(path, "prep/arrays", &out->path));
    out->file = file;
    out->ops = &ops;
    file = NULL;
done:
    sim_h5_close(&file);
    return st;
}

/* ---- the format ---- */

/* A tar whose first file is HDF5 has the signature after its header. */
static bool hdf5_probe_content(const char *path)
{
    uint64_t at = 0;
    return sim_path_has_hdf5_signature(path, &at) && (at == 0 || !sim_prep_is_tar(path));
}

static bool hdf5_probe(const char *path)
{
    return !sim_path_is_directory(path) &&
           (sim_text_ends_with(path, ".h5") || sim_text_ends_with(path, ".hdf5") ||
            sim_text_ends_with(path, ".hdf"));
}

/* PCAM stores the labels of "..._x.h5" in "..._y.h5". */
static bool find_labels_file(const char *path, char out[PATH_MAX])
{
    size_t n = strlen(path);
    if (!sim_text_ends_with(path, "_x.h5") || n >= PATH_MAX)
        return false;
    memcpy(out, path, n + 1);
    out[n - 4] = 'y';
    return sim_path_exists(out);
}

/* Whether a file is a data set of simile. */
static bool is_dataset(const sim_h5 *f)
{
    char format[32] = "";
    const bool is =
        sim_h5_has_attribute(f, "format") &&
        sim_h5_read_attribute_text(f, "format", format, sizeof format) == SIM_OK &&
        strcmp(format, "simile-dataset") == 0;
    sim_error_clear();
    return is;
}

/* The range of the values that a data set of simile with samples of 8 bits was made from. */
static sim_status read_original_range(const sim_h5 *f, sim_value_range *out)
{
    sim_status st = SIM_OK;
    double range[2] = {0};

    if (!is_dataset(f) || !sim_h5_has_attribute(f, "range"))
        goto done;
    SIM_TRY(sim_h5_read_attribute(f, "range", SIM_F64, range, 2));
    *out = (sim_value_range){range[0], range[1]};
done:
    return st;
}

static sim_status refuse_encoded(const prep_arrays *f)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!(sim_h5_has(f->file, "/bytes") && sim_h5_has(f->file, "/offset")),
              SIM_E_INPUT,
              "%s is a data set of encoded photos; only data sets of pixels can be "
              "converted again, so convert the photos",
              f->path);
done:
    return st;
}

static sim_status open_file(array_source *f, const char *path,
                            const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;
    char beside[PATH_MAX];

    f->labels_key = options->labels_key;
    SIM_TRY(sim_hdf5_arrays_open(path, &f->file));
    SIM_TRY(refuse_encoded(&f->file));
    f->is_dataset = is_dataset(f->file.file);
    if (!options->path && find_labels_file(path, beside) &&
        !(f->labels_key && strcmp(f->labels_key, "none") == 0)) {
        SIM_TRY(sim_prep_names_add(&out->beside, beside));
        SIM_TRY(sim_hdf5_arrays_open(beside, &f->labels_file));
    }
done:
    return st;
}

static sim_status describe_file(const array_source *f, prep_source *out)
{
    return f->blocks[0].type == SIM_U8 ? read_original_range(f->file.file, &out->original)
                                       : SIM_OK;
}

static sim_status hdf5_open_several(const prep_sources *sources,
                                    const prep_options *options, prep_source *out)
{
    static const prep_array_opener opener = {open_file, describe_file};
    return sim_arrays_open_several(sources, &opener, options, out);
}

const prep_format sim_prep_format_hdf5 = {
    .name = "hdf5",
    .help = "images in an HDF5 file (--images-key, --labels-key, --path, --layout)",
    .sequential = true,
    .supported = PREP_HAS_KEYS | PREP_HAS_IMAGES | PREP_HAS_PATH | PREP_HAS_LAYOUT,
    .probe_content = hdf5_probe_content,
    .probe = hdf5_probe,
    .open_several = hdf5_open_several,
    .read = sim_arrays_read_item,
    .item_name = sim_arrays_item_name,
    .close = sim_arrays_close_source};
