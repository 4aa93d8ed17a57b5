/*
 * from_hdf5.c - images in HDF5 files of others: one array, or one group per class.
 *
 * Images have any type, in the order N x H x W x C, N x C x H x W or N x H x W; one image may
 * lack N.  Of four channels, the last is alpha and is dropped, as in PNG files.  range.c chooses the
 * range of all types but uint8; values of bool are 0 and 1.  hdf5_choose.c chooses the data sets,
 * hdf5_sets.c finds their layout, and hdf5_labels.c reads the labels.  Files are read in pieces of
 * whole chunks.
 */
#include "hdf5.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- labels ---- */

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

static sim_status find_labels(const hdf5 *f, const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    char name[HDF5_NAME], beside[PATH_MAX];
    sim_h5 *other = NULL;

    if (o->labels_key && strcmp(o->labels_key, "none") == 0)
        goto done;
    if (find_labels_file(f->path, beside)) {
        memcpy(out->beside[0], beside, sizeof beside);
        SIM_TRY(sim_h5_open_read(beside, &other));
    }
    const sim_h5 *file = other ? other : f->file;
    SIM_TRY(sim_hdf5_choose_labels(file, other ? beside : f->path, o,
                                   sim_prep_names_get(&f->names, 0), f->n_items, name));
    if (!name[0]) {
        sim_log("%s: no labels found; specify them with --labels-key", f->path);
        goto done;
    }
    SIM_TRY(sim_hdf5_read_labels(file, other ? beside : f->path, name,
                                 o->labels_key != NULL, f->n_items, out));
done:
    sim_h5_close(&other);
    return st;
}

/* ---- pieces ---- */

static sim_status read_piece(hdf5 *f, size_t b, size_t row)
{
    sim_status st = SIM_OK;
    const hdf5_block *k = &f->blocks[b];
    const char *name = sim_prep_names_get(&f->names, b);
    size_t rows = k->n - row < k->piece_rows ? k->n - row : k->piece_rows;
    size_t values = rows * hdf5_image_values(k);

    f->rows = 0;
    SIM_FREE(f->piece);
    SIM_TRY(
        sim_alloc_bytes(values, k->deep ? sizeof(double) : 1, "prep/piece", &f->piece));
    SIM_TRY(sim_h5_read(f->file, name, k->deep ? SIM_F64 : SIM_U8, row,
                        k->single ? SIM_H5_ALL : rows, f->piece, values));
    f->b = b;
    f->row = row;
    f->rows = rows;
done:
    return st;
}

/* Reads the piece that contains an item, unless it is the current one. */
static sim_status seek_item(hdf5 *f, size_t item)
{
    size_t b = f->b;
    while (item >= f->blocks[b].first + f->blocks[b].n)
        b++;
    size_t i = item - f->blocks[b].first;
    if (f->rows && b == f->b && i >= f->row && i < f->row + f->rows)
        return SIM_OK;
    return read_piece(f, b, i / f->blocks[b].piece_rows * f->blocks[b].piece_rows);
}

/* ---- range of deep images ---- */

static sim_status update_extremes(const hdf5 *f, prep_extremes *e)
{
    sim_status st = SIM_OK;
    const hdf5_block *k = &f->blocks[f->b];
    const size_t image = hdf5_image_values(k), kept = k->h * k->w * k->c;
    double lo = INFINITY, hi = -INFINITY;
    bool integers = true;

    for (size_t i = 0; i < f->rows * kept; i++) {
        const size_t at = hdf5_value_at(k, i % kept / k->c, i % k->c);
        const double v = ((const double *)f->piece)[i / kept * image + at];
        SIM_CHECK(isfinite(v), SIM_E_DATA,
                  "%s: %s: image %zu contains %g, expected finite values", f->path,
                  sim_prep_names_get(&f->names, f->b), f->row + i / kept, v);
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
        integers &= v == floor(v);
    }
    sim_prep_extremes_add(e, lo, hi, integers);
done:
    return st;
}

static sim_status find_range(hdf5 *f, const prep_options *options)
{
    sim_status st = SIM_OK;
    prep_extremes e = {0};

    for (size_t b = 0; b < f->names.n && f->blocks[0].deep; b++)
        for (size_t row = 0; row < f->blocks[b].n; row += f->blocks[b].piece_rows) {
            SIM_TRY(read_piece(f, b, row));
            SIM_TRY(update_extremes(f, &e));
            sim_log_progress("%s: finding the range of values, image %zu of %zu",
                             sim_prep_base_name(f->path), f->blocks[b].first + row,
                             f->n_items);
        }
    if (f->blocks[0].is_bool)
        sim_prep_extremes_add(&e, 0, 1, true);
    f->range = sim_prep_choose_range(&e, options);
    f->b = 0;
    f->rows = 0;
done:
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

/* The names of the images, if the file has one for each, as data sets of simile have. */
static sim_status read_item_names(hdf5 *f)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    if (!sim_h5_has(f->file, "/name") || !sim_h5_is_strings(f->file, "/name"))
        goto done;
    SIM_TRY(sim_h5_read_strings(f->file, "/name", HDF5_MAX_IMAGES, &n, &f->name_width,
                                &f->item_names));
    if (n != f->n_items)
        SIM_FREE(f->item_names);
done:
    return st;
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

/* The range of the values that a data set of simile was made from. */
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

static sim_status refuse_encoded(const sim_h5 *f, const char *path)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!(sim_h5_has(f, "/bytes") && sim_h5_has(f, "/offset")), SIM_E_INPUT,
              "%s is a data set of encoded photos; only data sets of pixels can be "
              "converted again, so convert the photos",
              path);
done:
    return st;
}

static sim_status hdf5_open_source(const char *path, const prep_options *options,
                                   prep_source *out)
{
    sim_status st = SIM_OK;
    hdf5 *f = NULL;
    char name[HDF5_NAME];

    SIM_TRY(sim_new(&f, "prep/hdf5"));
    out->state = f;
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    SIM_TRY(sim_h5_open_read(path, &f->file));
    SIM_TRY(refuse_encoded(f->file, path));
    SIM_TRY(read_original_range(f->file, &out->original));
    if (options->path) {
        SIM_CHECK(!options->groups_key, SIM_E_USAGE,
                  "--groups-key and --path exclude each other");
        SIM_TRY(sim_prep_check_file_split(path, options->split));
        SIM_TRY(sim_hdf5_add_classes(f, options->path, out));
    } else {
        SIM_TRY(sim_hdf5_choose_images(f->file, path, options, name, &out->split));
        SIM_TRY(sim_hdf5_add_block(f, name, false, -1));
        SIM_TRY(find_labels(f, options, out));
        SIM_TRY(sim_hdf5_read_groups(f->file, path, options->groups_key,
                                     is_dataset(f->file), f->n_items, out));
        SIM_TRY(read_item_names(f));
    }
    SIM_TRY(find_range(f, options));
    out->range = f->range;
    out->scale_bytes = f->blocks[0].is_bool;
    out->n_items = f->n_items;
    out->h = f->blocks[0].h;
    out->w = f->blocks[0].w;
    out->c = f->blocks[0].c;
done:
    return st;
}

/* Converts image i of the piece to uint8 H x W x C. */
static void convert_image(const hdf5 *f, size_t i, uint8_t *out)
{
    const hdf5_block *b = &f->blocks[f->b];
    const size_t pixels = b->h * b->w, image = hdf5_image_values(b);
    const uint8_t *bytes = (const uint8_t *)f->piece + i * image;
    const double *values = (const double *)f->piece + i * image;

    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < b->c; c++) {
            const size_t from = hdf5_value_at(b, p, c);
            out[p * b->c + c] =
                b->deep ? sim_prep_scale_value(&f->range, values[from]) : bytes[from];
        }
}

static sim_status hdf5_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                 size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    hdf5 *f = s->state;

    SIM_TRY(seek_item(f, i));
    *n = s->h * s->w * s->c;
    SIM_TRY(sim_alloc(buffer, *n, "prep/hdf5"));
    convert_image(f, i - f->blocks[f->b].first - f->row, *buffer);
    *bytes = *buffer;
done:
    return st;
}

static void hdf5_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const hdf5 *f = s->state;
    if (f->item_names)
        (void)snprintf(out, out_bytes, "%s", f->item_names + i * f->name_width);
    else
        (void)snprintf(out, out_bytes, "%s[%zu]", sim_prep_base_name(f->path), i);
}

static void hdf5_close_source(prep_source *s)
{
    hdf5 *f = s->state;
    if (!f)
        return;
    sim_h5_close(&f->file);
    sim_prep_names_clear(&f->names);
    sim_free(f->blocks);
    sim_free(f->piece);
    sim_free(f->item_names);
    sim_free(f);
}

const prep_format sim_prep_format_hdf5 = {
    .name = "hdf5",
    .help = "images in an HDF5 file (--images-key, --labels-key, --path)",
    .sequential = true,
    .supported = PREP_HAS_KEYS | PREP_HAS_IMAGES | PREP_HAS_PATH,
    .probe_content = hdf5_probe_content,
    .probe = hdf5_probe,
    .open = hdf5_open_source,
    .read = hdf5_read_item,
    .item_name = hdf5_item_name,
    .close = hdf5_close_source};
