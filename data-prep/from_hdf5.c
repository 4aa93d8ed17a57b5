/*
 * from_hdf5.c - images in somebody's HDF5 file: one array of them, or a group a class.
 *
 * uint8, or floats whose range is plain: 0..1 or 0..255.  N x H x W x C, N x C x H x W, or
 * N x H x W for gray; labels of any integer type.  Read in pieces of whole chunks.
 * hdf5_sets.c finds the data sets, and how images lie in them.
 */
#include "hdf5.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LABEL = 1 << 20 }; /* as the reader of data sets */

static const char *const image_names[] = {"images", "x",    "X", "image",
                                          "data",   "imgs", NULL};
static const char *const label_names[] = {"labels", "ans", "y",      "Y",
                                          "label",  "lbl", "target", NULL};

/* ---- labels ---- */

static sim_status check_label(const hdf5 *f, const char *name, size_t i, bool good,
                              long long label)
{
    sim_status st = SIM_OK;
    SIM_CHECK(good, SIM_E_DATA, "%s: %s: image %zu has the label %lld, expected 0 to %d",
              f->path, name, i, label, MAX_LABEL - 1);
done:
    return st;
}

static sim_status read_labels(const hdf5 *f, const sim_h5 *file, const char *name,
                              prep_source *out)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    int64_t *labels = NULL;
    size_t n = 1;

    SIM_TRY(sim_h5_shape_of(file, name, &s));
    SIM_CHECK(s.type != SIM_F32 && s.type != SIM_F64, SIM_E_DATA,
              "%s: %s holds no whole numbers", f->path, name);
    for (int i = 0; i < s.n_dims; i++)
        n *= s.dims[i];
    SIM_CHECK(s.n_dims > 0 && n == s.dims[0], SIM_E_DATA,
              "%s: %s has %zu values for %zu images; expected one each", f->path, name, n,
              s.n_dims ? s.dims[0] : 0);
    SIM_CHECK(n == f->n_items, SIM_E_DATA, "%s: %s: %zu labels for %zu images", f->path,
              name, n, f->n_items);
    SIM_TRY(sim_alloc(&labels, n, "prep/labels"));
    SIM_TRY(sim_h5_read(file, name, s.type == SIM_U64 ? SIM_U64 : SIM_I64, 0, SIM_H5_ALL,
                        labels, n));
    SIM_TRY(sim_alloc(&out->labels, n, "prep/labels"));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(check_label(f, name, i, labels[i] >= 0 && labels[i] < MAX_LABEL,
                            (long long)labels[i]));
        out->labels[i] = (int32_t)labels[i];
        if ((size_t)labels[i] >= out->n_classes)
            out->n_classes = (size_t)labels[i] + 1;
    }
done:
    sim_free(labels);
    return st;
}

/* PCAM's way: "..._x.h5" has its labels in "..._y.h5". */
static bool labels_beside(const char *path, char out[PATH_MAX])
{
    size_t n = strlen(path);
    if (!sim_prep_ends_with(path, "_x.h5") || n >= PATH_MAX)
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

    if (labels_beside(f->path, beside))
        SIM_TRY(sim_h5_open_read(beside, &other));
    const sim_h5 *file = other ? other : f->file;
    st = sim_hdf5_find_set(file, other ? beside : f->path, o->labels_key, label_names,
                           "--labels-key", name);
    if (st != SIM_OK && !o->labels_key && !other) {
        sim_error_clear();
        sim_log("%s has no labels under a known name; --labels-key names them", f->path);
        st = SIM_OK;
        goto done;
    }
    SIM_TRY(st);
    SIM_TRY(read_labels(f, file, name, out));
done:
    sim_h5_close(&other);
    return st;
}

/* ---- pieces ---- */

static sim_status read_piece(hdf5 *f, size_t b, size_t row)
{
    sim_status st = SIM_OK;
    const hdf5_block *k = &f->blocks[b];
    const char *name = sim_prep_list_name(&f->names, b);
    size_t rows = k->n - row < k->piece_rows ? k->n - row : k->piece_rows;
    size_t values = rows * hdf5_image_values(k);

    f->rows = 0;
    SIM_FREE(f->piece);
    SIM_TRY(
        sim_alloc_bytes(values, k->floats ? sizeof(float) : 1, "prep/piece", &f->piece));
    SIM_TRY(sim_h5_read(f->file, name, k->floats ? SIM_F32 : SIM_U8, row,
                        k->single ? SIM_H5_ALL : rows, f->piece, values));
    f->b = b;
    f->row = row;
    f->rows = rows;
done:
    return st;
}

/* Brings the piece that holds an item. */
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

/* ---- floats: how bright is 1? ---- */

typedef struct {
    float most;
    bool whole; /* numbers, all of them */
} range;

static sim_status see_floats(const hdf5 *f, range *r)
{
    sim_status st = SIM_OK;
    const float *v = f->piece;
    const hdf5_block *k = &f->blocks[f->b];
    size_t image = hdf5_image_values(k);

    for (size_t i = 0; i < f->rows * image; i++) {
        SIM_CHECK(isfinite(v[i]) && v[i] >= 0 && v[i] <= 255, SIM_E_DATA,
                  "%s: %s: image %zu holds %g, expected 0 to 1 or 0 to 255", f->path,
                  sim_prep_list_name(&f->names, f->b), f->row + i / image, (double)v[i]);
        r->most = v[i] > r->most ? v[i] : r->most;
        r->whole &= v[i] == floorf(v[i]);
    }
done:
    return st;
}

static sim_status find_scale(hdf5 *f)
{
    sim_status st = SIM_OK;
    enum { BRIGHT = 128 };
    range r = {.whole = true};

    f->scale = 1;
    for (size_t b = 0; b < f->names.n && f->blocks[0].floats; b++)
        for (size_t row = 0; row < f->blocks[b].n; row += f->blocks[b].piece_rows) {
            SIM_TRY(read_piece(f, b, row));
            SIM_TRY(see_floats(f, &r));
            sim_log_progress("%s: range of values, image %zu of %zu",
                             sim_prep_base_name(f->path), f->blocks[b].first + row,
                             f->n_items);
        }
    SIM_CHECK(r.most <= 1 || r.whole || r.most >= BRIGHT, SIM_E_DATA,
              "%s: the largest value is %g: neither 0 to 1 nor 0 to 255; store uint8",
              f->path, (double)r.most);
    if (f->blocks[0].floats && r.most <= 1)
        f->scale = 255;
    f->b = 0;
    f->rows = 0;
done:
    return st;
}

/* ---- the format ---- */

static bool probe(const char *path)
{
    return !sim_path_is_directory(path) &&
           (sim_prep_ends_with(path, ".h5") || sim_prep_ends_with(path, ".hdf5") ||
            sim_prep_ends_with(path, ".hdf"));
}

/* A file is one set: asked for its test part it gives none, unless its name says so. */
static sim_status check_split(const char *path, const char *split)
{
    sim_status st = SIM_OK;
    const char *base = sim_prep_base_name(path);
    SIM_CHECK(strcmp(split, "train") == 0 || strstr(base, "test") || strstr(base, "val"),
              SIM_E_INPUT,
              "%s is one set and has no split %s; name its part by --images-key and "
              "--labels-key, without --split",
              path, split);
done:
    return st;
}

static sim_status open_source(const char *path, const prep_options *options,
                              prep_source *out)
{
    sim_status st = SIM_OK;
    hdf5 *f = NULL;
    char name[HDF5_NAME];

    SIM_TRY(check_split(path, options->split));
    SIM_TRY(sim_new(&f, "prep/hdf5"));
    out->own = f;
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    SIM_TRY(sim_h5_open_read(path, &f->file));
    if (options->path) {
        SIM_TRY(sim_hdf5_add_classes(f, options->path, out));
    } else {
        SIM_TRY(sim_hdf5_find_set(f->file, path, options->images_key, image_names,
                                  "--images-key, or a group of classes with --path",
                                  name));
        SIM_TRY(sim_hdf5_add_block(f, name, false, -1));
        SIM_TRY(find_labels(f, options, out));
    }
    SIM_TRY(find_scale(f));
    out->n_items = f->n_items;
    out->h = f->blocks[0].h;
    out->w = f->blocks[0].w;
    out->c = f->blocks[0].c;
done:
    return st;
}

/* Pixel by pixel to rows with the channels last. */
static void to_rows(const hdf5 *f, size_t i, uint8_t *out)
{
    const hdf5_block *b = &f->blocks[f->b];
    size_t pixels = b->h * b->w, image = pixels * b->c;
    const uint8_t *bytes = (const uint8_t *)f->piece + i * image;
    const float *floats = (const float *)f->piece + i * image;

    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < b->c; c++) {
            size_t from = b->layout == HDF5_PLANES ? c * pixels + p : p * b->c + c;
            out[p * b->c + c] = b->floats
                                    ? (uint8_t)lround((double)floats[from] * f->scale)
                                    : bytes[from];
        }
}

static sim_status read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                            size_t *n, uint8_t **grown)
{
    sim_status st = SIM_OK;
    hdf5 *f = s->own;

    SIM_TRY(seek_item(f, i));
    *n = s->h * s->w * s->c;
    SIM_TRY(sim_alloc(grown, *n, "prep/hdf5"));
    to_rows(f, i - f->blocks[f->b].first - f->row, *grown);
    *bytes = *grown;
done:
    return st;
}

static void item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const hdf5 *f = s->own;
    (void)snprintf(out, out_bytes, "%s, image %zu", f->path, i);
}

static void close_source(prep_source *s)
{
    hdf5 *f = s->own;
    if (!f)
        return;
    sim_h5_close(&f->file);
    sim_prep_list_clear(&f->names);
    sim_free(f->blocks);
    sim_free(f->piece);
    sim_free(f);
}

const prep_format sim_prep_format_hdf5 = {
    .name = "hdf5",
    .help = "images in an HDF5 file (--images-key, --labels-key, --path)",
    .in_order = true,
    .knows = PREP_KEYS,
    .probe = probe,
    .open = open_source,
    .read = read_item,
    .item_name = item_name,
    .close = close_source};
