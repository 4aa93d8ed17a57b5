/*
 * from_hdf5.c - images in HDF5 files of others: one array, or one group per class.
 *
 * Images have any type, in the order N x H x W x C, N x C x H x W or N x H x W; one image may
 * lack N.  Of four bytes, the last is alpha and is dropped, as in PNG files.  Samples of uint16 and
 * float32 keep their values; other integers become uint16 if all fit, else float32.  With --type
 * uint8, range.c chooses the range of all types but uint8; values of bool are 0 and 1.  hdf5_choose.c chooses the data sets,
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
        SIM_TRY(sim_prep_names_add(&out->beside, beside));
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

/* ---- type and range of deep images ---- */

/* The values of image i of the piece that are kept. */
static double value_of(const hdf5 *f, size_t i, size_t pixel, size_t channel)
{
    const hdf5_block *k = &f->blocks[f->b];
    return ((const double *)
                f->piece)[i * hdf5_image_values(k) + hdf5_value_at(k, pixel, channel)];
}

/* An image with values that are not finite is reported when it is converted. */
static void add_extremes(const hdf5 *f, size_t i, prep_extremes *e)
{
    const hdf5_block *k = &f->blocks[f->b];
    const prep_options *o = f->options;
    const size_t c = o->n_channels ? o->n_channels : k->c;
    double lo = INFINITY, hi = -INFINITY;
    bool integers = true;

    for (size_t at = 0; at < k->h * k->w * c; at++) {
        const size_t channel = o->n_channels ? o->channels[at % c] : at % c;
        const double v = value_of(f, i, at / c, channel);
        if (!isfinite(v))
            return;
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
        integers &= v == floor(v);
    }
    sim_prep_extremes_add(e, lo, hi, integers);
}

/* Adds the values of all images of a file. */
static sim_status find_extremes(hdf5 *f, prep_extremes *e)
{
    sim_status st = SIM_OK;

    for (size_t b = 0; b < f->names.n; b++)
        for (size_t row = 0; row < f->blocks[b].n; row += f->blocks[b].piece_rows) {
            SIM_TRY(read_piece(f, b, row));
            for (size_t i = 0; i < f->rows; i++)
                add_extremes(f, i, e);
            sim_log_progress("%s: finding the range of values, image %zu of %zu",
                             sim_prep_base_name(f->path), f->blocks[b].first + row,
                             f->n_items);
        }
    f->b = 0;
    f->rows = 0;
    SIM_FREE(f->piece);
done:
    return st;
}

/* The type that holds the values: that of the file if it is one of samples. */
static sim_type natural_type(sim_type in_file, const prep_extremes *e)
{
    switch (in_file) {
    case SIM_U8:
    case SIM_U16:
        return in_file;
    case SIM_F32:
    case SIM_F64:
        return SIM_F32;
    default:
        return e->any && e->lo >= 0 && e->hi <= UINT16_MAX ? SIM_U16 : SIM_F32;
    }
}

/* Whether the values must be known before they are converted. */
static bool needs_extremes(const hdf5_block *b, const prep_options *o)
{
    const bool is_sample = b->type == SIM_U16 || b->type == SIM_F32 || b->type == SIM_F64;

    return b->deep && (o->has_type ? o->type != SIM_F32 : !is_sample);
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

/* Opens a file; labels and original range are stored in `out`. */
static sim_status open_file(hdf5 *f, const char *path, const prep_options *options,
                            prep_source *out)
{
    sim_status st = SIM_OK;
    char name[HDF5_NAME];

    (void)snprintf(f->path, sizeof f->path, "%s", path);
    f->options = options;
    SIM_TRY(sim_h5_open_read(path, &f->file));
    SIM_TRY(refuse_encoded(f->file, path));
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
    if (f->blocks[0].type == SIM_U8)
        SIM_TRY(read_original_range(f->file, &out->original));
done:
    return st;
}

/* ---- several files ---- */

typedef struct {
    const prep_sources *sources;
    size_t n, at;    /* at: file of the last item that was read */
    hdf5 *files;     /* [n] */
    prep_source *of; /* [n]: labels of each file, until they are joined */
} hdf5_files;

static sim_status check_same_images(const hdf5 *a, const hdf5 *b)
{
    sim_status st = SIM_OK;
    const hdf5_block *x = &a->blocks[0], *y = &b->blocks[0];

    SIM_CHECK(
        x->h == y->h && x->w == y->w && x->c == y->c, SIM_E_DATA,
        "%s has images of %zu x %zu x %zu, but %s of %zu x %zu x %zu; files that are "
        "joined must have images of one size",
        a->path, x->h, x->w, x->c, b->path, y->h, y->w, y->c);
    SIM_CHECK(
        x->type == y->type && x->is_bool == y->is_bool, SIM_E_DATA,
        "the images of %s are %s, but those of %s are %s; files that are joined must "
        "have values of one type",
        a->path, x->is_bool ? "bool" : sim_type_name(x->type), b->path,
        y->is_bool ? "bool" : sim_type_name(y->type));
done:
    return st;
}

static sim_status open_files(hdf5_files *l, const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;

    for (size_t k = 0; k < l->n; k++) {
        hdf5 *f = &l->files[k];
        SIM_TRY(open_file(f, l->sources->paths[k], options, &l->of[k]));
        SIM_TRY(check_same_images(&l->files[0], f));
        f->first_item = out->n_items;
        out->n_items += f->n_items;
        for (size_t i = 0; i < l->of[k].beside.n; i++)
            SIM_TRY(sim_prep_names_add(&out->beside,
                                       sim_prep_names_get(&l->of[k].beside, i)));
    }
    SIM_CHECK(out->n_items <= HDF5_MAX_IMAGES, SIM_E_DATA,
              "%s and the other files have %zu images, expected at most %d",
              l->files[0].path, out->n_items, HDF5_MAX_IMAGES);
done:
    return st;
}

static void set_type(hdf5_files *l, const prep_source *out)
{
    for (size_t k = 0; k < l->n; k++) {
        l->files[k].options = NULL;
        l->files[k].type = out->type;
        l->files[k].range = out->range;
    }
}

/* One type, and one range of values that become 8 bits, for all files. */
static sim_status choose_type(hdf5_files *l, const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    const hdf5_block *b = &l->files[0].blocks[0];
    const char *path = l->files[0].path;
    prep_extremes e = {0};

    SIM_TRY(sim_prep_check_channels(o, b->c));
    for (size_t k = 0; needs_extremes(b, o) && k < l->n; k++)
        SIM_TRY(find_extremes(&l->files[k], &e));
    if (b->is_bool)
        sim_prep_extremes_add(&e, 0, 1, true);
    out->type = o->has_type ? o->type : natural_type(b->type, &e);
    SIM_CHECK(out->type != SIM_U16 || b->type == SIM_U16 || b->type == SIM_U8 ||
                  (e.any && e.integers && e.lo >= 0 && e.hi <= UINT16_MAX),
              SIM_E_USAGE, "--type uint16: the values of %s are not integers of 0 to %d",
              path, UINT16_MAX);
    if (out->type == SIM_U8)
        out->range = sim_prep_choose_range(&e, o);
    else if (b->type != out->type)
        sim_log("%s: the values of type %s are stored as %s", path,
                sim_type_name(b->type), sim_type_name(out->type));
    set_type(l, out);
done:
    return st;
}

/* The range that data sets of simile were made with, if it is that of all. */
static void join_original(const hdf5_files *l, prep_source *out)
{
    out->original = l->of[0].original;
    for (size_t k = 1; k < l->n; k++)
        if (l->of[k].original.lo != out->original.lo ||
            l->of[k].original.hi != out->original.hi) {
            sim_log_warn("%s and %s were converted with different ranges of values; "
                         "prepare their sources again with one --range",
                         l->files[0].path, l->files[k].path);
            out->original = (sim_value_range){0};
            break;
        }
}

/* Groups of the same name are one, in whichever files; all files have groups, or none is used. */
static sim_status join_groups(const hdf5_files *l, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_names texts = {0};
    size_t n_with = 0;

    for (size_t k = 0; k < l->n; k++)
        n_with += l->of[k].groups != NULL;
    if (n_with > 0 && n_with < l->n)
        sim_log_warn("only %zu of %zu files have groups, which are not used", n_with,
                     l->n);
    for (size_t k = 0; n_with == l->n && k < l->n; k++)
        for (size_t i = 0; i < l->files[k].n_items; i++)
            SIM_TRY(sim_prep_names_add(
                &texts,
                sim_prep_names_get(&l->of[k].group_names, (size_t)l->of[k].groups[i])));
    if (texts.n)
        SIM_TRY(sim_prep_set_groups(l->files[0].path, &texts, out));
done:
    sim_prep_names_clear(&texts);
    return st;
}

static sim_status join_labels(hdf5_files *l, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_source *first = &l->of[0];

    if (l->n > 1) {
        SIM_TRY(sim_hdf5_join_labels(l->files, l->of, l->n, out));
        SIM_TRY(join_groups(l, out));
        goto done;
    }
    out->groups = first->groups;
    out->group_names = first->group_names;
    first->groups = NULL;
    first->group_names = (prep_names){0};
    out->labels = first->labels;
    out->class_names = first->class_names;
    out->n_classes = first->n_classes;
    first->labels = NULL;
    first->class_names = NULL;
done:
    return st;
}

static sim_status hdf5_open_several(const prep_sources *sources,
                                    const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;
    hdf5_files *l = NULL;

    SIM_TRY(sim_new(&l, "prep/hdf5"));
    out->state = l;
    l->sources = sources;
    SIM_TRY(sim_alloc(&l->files, sources->n, "prep/hdf5"));
    SIM_TRY(sim_alloc(&l->of, sources->n, "prep/hdf5"));
    l->n = sources->n;
    SIM_TRY(open_files(l, options, out));
    SIM_TRY(join_labels(l, out));
    SIM_TRY(choose_type(l, options, out));
    join_original(l, out);
    const hdf5_block *image = &l->files[0].blocks[0];
    out->split = l->of[0].split;
    out->n_excluded = l->of[0].n_excluded;
    out->scale_bytes = image->is_bool && out->type == SIM_U8;
    out->h = image->h;
    out->w = image->w;
    out->c = image->c;
done:
    return st;
}

/* Converts image i of the piece to samples H x W x C of f->type. */
static void convert_image(const hdf5 *f, size_t i, void *out)
{
    const hdf5_block *b = &f->blocks[f->b];
    const uint8_t *bytes = (const uint8_t *)f->piece + i * hdf5_image_values(b);

    for (size_t p = 0; p < b->h * b->w; p++)
        for (size_t c = 0; c < b->c; c++) {
            const size_t to = p * b->c + c;
            const double v =
                b->deep ? value_of(f, i, p, c) : bytes[hdf5_value_at(b, p, c)];
            if (f->type == SIM_F32)
                ((float *)out)[to] = (float)v;
            else if (f->type == SIM_U16)
                ((uint16_t *)out)[to] = (uint16_t)v;
            else
                ((uint8_t *)out)[to] =
                    b->deep ? sim_prep_scale_value(&f->range, v) : (uint8_t)v;
        }
}

/* The file that contains an item; items are read in increasing order. */
static hdf5 *file_of(hdf5_files *l, size_t item)
{
    hdf5 *f = &l->files[l->at];

    while (item >= f->first_item + f->n_items) {
        SIM_FREE(f->piece);
        f->rows = 0;
        f = &l->files[++l->at];
    }
    return f;
}

static sim_status hdf5_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                 size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    hdf5 *f = file_of(s->state, i);
    const size_t item = i - f->first_item;

    SIM_TRY(seek_item(f, item));
    void *samples = NULL;
    *n = s->h * s->w * s->c * sim_type_bytes(s->type);
    SIM_TRY(sim_alloc_bytes(*n, 1, "prep/hdf5", &samples));
    *buffer = samples;
    convert_image(f, item - f->blocks[f->b].first - f->row, *buffer);
    *bytes = *buffer;
done:
    return st;
}

static void hdf5_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const hdf5_files *l = s->state;
    size_t k = 0;

    while (i >= l->files[k].first_item + l->files[k].n_items)
        k++;
    const hdf5 *f = &l->files[k];
    const char *label = l->n > 1 ? l->sources->labels[k] : sim_prep_base_name(f->path);
    const size_t item = i - f->first_item;
    if (f->item_names)
        (void)snprintf(out, out_bytes, "%s%s%s", l->n > 1 ? label : "",
                       l->n > 1 ? "/" : "", f->item_names + item * f->name_width);
    else
        (void)snprintf(out, out_bytes, "%s[%zu]", label, item);
}

static void close_file(hdf5 *f)
{
    sim_h5_close(&f->file);
    sim_prep_names_clear(&f->names);
    sim_free(f->blocks);
    sim_free(f->piece);
    sim_free(f->item_names);
}

static void hdf5_close_source(prep_source *s)
{
    hdf5_files *l = s->state;
    if (!l)
        return;
    for (size_t k = 0; k < l->n; k++) {
        close_file(&l->files[k]);
        sim_prep_names_clear(&l->of[k].beside);
        sim_free(l->of[k].groups);
        sim_prep_names_clear(&l->of[k].group_names);
        sim_free(l->of[k].labels);
        sim_prep_free_lines(l->of[k].class_names,
                            l->of[k].class_names ? l->of[k].n_classes : 0);
    }
    sim_free(l->files);
    sim_free(l->of);
    sim_free(l);
}

const prep_format sim_prep_format_hdf5 = {
    .name = "hdf5",
    .help = "images in an HDF5 file (--images-key, --labels-key, --path, --layout)",
    .sequential = true,
    .supported = PREP_HAS_KEYS | PREP_HAS_IMAGES | PREP_HAS_PATH | PREP_HAS_LAYOUT,
    .probe_content = hdf5_probe_content,
    .probe = hdf5_probe,
    .open_several = hdf5_open_several,
    .read = hdf5_read_item,
    .item_name = hdf5_item_name,
    .close = hdf5_close_source};
