/*
 * arrays_source.c - the images of files of arrays as items: reads pieces, chooses the type, finds labels.
 *
 * Images have any type, in the order N x H x W x C, N x C x H x W or N x H x W; one image may
 * lack N.  Of four bytes, the last is alpha and is dropped, as in PNG files.  Samples of uint16 and
 * float32 keep their values; other integers become uint16 if all fit, else float32.  With --type
 * uint8, range.c chooses the range of all types but uint8; values of bool are 0 and 1.  arrays_choose.c
 * chooses the arrays, arrays_sets.c finds their layout, arrays_labels.c reads the labels, and arrays_join.c
 * joins those of several files.  Files are read in pieces of whole chunks.
 */
#include "arrays.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- labels ---- */

static sim_status find_labels(const array_source *f, prep_source *out)
{
    sim_status st = SIM_OK;
    char name[ARRAY_NAME];
    const prep_arrays *file = f->labels_file.ops ? &f->labels_file : &f->file;

    if (f->labels_key && strcmp(f->labels_key, "none") == 0)
        goto done;
    SIM_TRY(sim_arrays_choose_labels(file, f->labels_key, f->options->groups_key,
                                     sim_prep_names_get(&f->names, 0), f->n_items, name));
    if (!name[0]) {
        sim_log("%s: no labels found; specify them with --labels-key", f->file.path);
        goto done;
    }
    SIM_TRY(sim_arrays_read_labels(file, name, f->labels_key != NULL, f->n_items, out));
done:
    return st;
}

/* ---- pieces ---- */

static sim_status read_piece(array_source *f, size_t b, size_t row)
{
    sim_status st = SIM_OK;
    const array_block *k = &f->blocks[b];
    const char *name = sim_prep_names_get(&f->names, b);
    size_t rows = k->n - row < k->piece_rows ? k->n - row : k->piece_rows;
    size_t values = rows * array_image_values(k);

    f->rows = 0;
    SIM_FREE(f->piece);
    SIM_TRY(
        sim_alloc_bytes(values, k->deep ? sizeof(double) : 1, "prep/piece", &f->piece));
    SIM_TRY(f->file.ops->read(f->file.file, name, k->deep ? SIM_F64 : SIM_U8, row,
                              k->single ? SIM_H5_ALL : rows, f->piece, values));
    f->b = b;
    f->row = row;
    f->rows = rows;
done:
    return st;
}

/* Reads the piece that contains an item, unless it is the current one. */
static sim_status seek_item(array_source *f, size_t item)
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
static double value_of(const array_source *f, size_t i, size_t pixel, size_t channel)
{
    const array_block *k = &f->blocks[f->b];
    return ((const double *)
                f->piece)[i * array_image_values(k) + array_value_at(k, pixel, channel)];
}

/* An image with values that are not finite is reported when it is converted. */
static void add_extremes(const array_source *f, size_t i, prep_extremes *e)
{
    const array_block *k = &f->blocks[f->b];
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
static sim_status find_extremes(array_source *f, prep_extremes *e)
{
    sim_status st = SIM_OK;

    for (size_t b = 0; b < f->names.n; b++)
        for (size_t row = 0; row < f->blocks[b].n; row += f->blocks[b].piece_rows) {
            SIM_TRY(read_piece(f, b, row));
            for (size_t i = 0; i < f->rows; i++)
                add_extremes(f, i, e);
            sim_log_progress("%s: finding the range of values, image %zu of %zu",
                             sim_prep_base_name(f->file.path), f->blocks[b].first + row,
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
static bool needs_extremes(const array_block *b, const prep_options *o)
{
    const bool is_sample = b->type == SIM_U16 || b->type == SIM_F32 || b->type == SIM_F64;

    return b->deep && (o->has_type ? o->type != SIM_F32 : !is_sample);
}

/* ---- one file ---- */

/* The names of the images, if the file has one for each, as data sets of simile have. */
static sim_status read_item_names(array_source *f)
{
    sim_status st = SIM_OK;
    size_t n = 0;

    if (!f->file.ops->has(f->file.file, "/name") ||
        !f->file.ops->is_strings(f->file.file, "/name"))
        goto done;
    SIM_TRY(f->file.ops->read_strings(f->file.file, "/name", ARRAY_MAX_IMAGES, &n,
                                      &f->name_width, &f->item_names));
    if (n != f->n_items)
        SIM_FREE(f->item_names);
done:
    return st;
}

/* Opens the images and labels of a file; labels are stored in `out`. */
static sim_status open_arrays(array_source *f, const prep_options *options,
                              prep_source *out)
{
    sim_status st = SIM_OK;
    char name[ARRAY_NAME];

    f->options = options;
    if (options->path) {
        SIM_CHECK(!options->groups_key, SIM_E_USAGE,
                  "--groups-key and --path exclude each other");
        SIM_TRY(sim_prep_check_file_split(f->file.path, options->split));
        SIM_TRY(sim_arrays_add_classes(f, options->path, out));
    } else {
        SIM_TRY(sim_arrays_choose_images(&f->file, options, name, &out->split));
        SIM_TRY(sim_arrays_add_block(f, name, false, -1));
        SIM_TRY(find_labels(f, out));
        SIM_TRY(sim_arrays_read_groups(&f->file, options->groups_key, f->is_dataset,
                                       f->n_items, out));
        SIM_TRY(read_item_names(f));
    }
done:
    return st;
}

/* ---- several files ---- */

typedef struct {
    const prep_sources *sources;
    size_t n, at;        /* at: file of the last item that was read */
    array_source *files; /* [n] */
    prep_source *of;     /* [n]: labels of each file, until they are joined */
} array_sources;

static sim_status check_same_images(const array_source *a, const array_source *b)
{
    sim_status st = SIM_OK;
    const array_block *x = &a->blocks[0], *y = &b->blocks[0];

    SIM_CHECK(
        x->h == y->h && x->w == y->w && x->c == y->c, SIM_E_DATA,
        "%s has images of %zu x %zu x %zu, but %s of %zu x %zu x %zu; files that are "
        "joined must have images of one size",
        a->file.path, x->h, x->w, x->c, b->file.path, y->h, y->w, y->c);
    SIM_CHECK(
        x->type == y->type && x->is_bool == y->is_bool, SIM_E_DATA,
        "the images of %s are %s, but those of %s are %s; files that are joined must "
        "have values of one type",
        a->file.path, x->is_bool ? "bool" : sim_type_name(x->type), b->file.path,
        y->is_bool ? "bool" : sim_type_name(y->type));
done:
    return st;
}

static sim_status open_files(array_sources *l, const prep_array_opener *opener,
                             const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;

    for (size_t k = 0; k < l->n; k++) {
        array_source *f = &l->files[k];
        SIM_TRY(opener->open(f, l->sources->paths[k], options, &l->of[k]));
        SIM_TRY(open_arrays(f, options, &l->of[k]));
        if (opener->describe)
            SIM_TRY(opener->describe(f, &l->of[k]));
        SIM_TRY(check_same_images(&l->files[0], f));
        f->first_item = out->n_items;
        out->n_items += f->n_items;
        for (size_t i = 0; i < l->of[k].beside.n; i++)
            SIM_TRY(sim_prep_names_add(&out->beside,
                                       sim_prep_names_get(&l->of[k].beside, i)));
    }
    SIM_CHECK(out->n_items <= ARRAY_MAX_IMAGES, SIM_E_DATA,
              "%s and the other files have %zu images, expected at most %d",
              l->files[0].file.path, out->n_items, ARRAY_MAX_IMAGES);
done:
    return st;
}

static void set_type(array_sources *l, const prep_source *out)
{
    for (size_t k = 0; k < l->n; k++) {
        l->files[k].options = NULL;
        l->files[k].type = out->type;
        l->files[k].range = out->range;
    }
}

/* One type, and one range of values that become 8 bits, for all files. */
static sim_status choose_type(array_sources *l, const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    const array_block *b = &l->files[0].blocks[0];
    const char *path = l->files[0].file.path;
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
static void join_original(const array_sources *l, prep_source *out)
{
    out->original = l->of[0].original;
    for (size_t k = 1; k < l->n; k++)
        if (l->of[k].original.lo != out->original.lo ||
            l->of[k].original.hi != out->original.hi) {
            sim_log_warn("%s and %s were converted with different ranges of values; "
                         "prepare their sources again with one --range",
                         l->files[0].file.path, l->files[k].file.path);
            out->original = (sim_value_range){0};
            break;
        }
}

/* Groups of the same name are one, in whichever files; all files have groups, or none is used. */
static sim_status join_groups(const array_sources *l, prep_source *out)
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
        SIM_TRY(sim_prep_set_groups(l->files[0].file.path, &texts, out));
done:
    sim_prep_names_clear(&texts);
    return st;
}

static sim_status join_labels(array_sources *l, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_source *first = &l->of[0];

    if (l->n > 1) {
        SIM_TRY(sim_arrays_join_labels(l->files, l->of, l->n, out));
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

sim_status sim_arrays_open_several(const prep_sources *sources,
                                   const prep_array_opener *opener,
                                   const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;
    array_sources *l = NULL;

    SIM_TRY(sim_new(&l, "prep/arrays"));
    out->state = l;
    l->sources = sources;
    SIM_TRY(sim_alloc(&l->files, sources->n, "prep/arrays"));
    SIM_TRY(sim_alloc(&l->of, sources->n, "prep/arrays"));
    l->n = sources->n;
    SIM_TRY(open_files(l, opener, options, out));
    SIM_TRY(join_labels(l, out));
    SIM_TRY(choose_type(l, options, out));
    join_original(l, out);
    const array_block *image = &l->files[0].blocks[0];
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
static void convert_image(const array_source *f, size_t i, void *out)
{
    const array_block *b = &f->blocks[f->b];
    const uint8_t *bytes = (const uint8_t *)f->piece + i * array_image_values(b);

    for (size_t p = 0; p < b->h * b->w; p++)
        for (size_t c = 0; c < b->c; c++) {
            const size_t to = p * b->c + c;
            const double v =
                b->deep ? value_of(f, i, p, c) : bytes[array_value_at(b, p, c)];
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
static array_source *file_of(array_sources *l, size_t item)
{
    array_source *f = &l->files[l->at];

    while (item >= f->first_item + f->n_items) {
        SIM_FREE(f->piece);
        f->rows = 0;
        f = &l->files[++l->at];
    }
    return f;
}

sim_status sim_arrays_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    array_source *f = file_of(s->state, i);
    const size_t item = i - f->first_item;

    SIM_TRY(seek_item(f, item));
    void *samples = NULL;
    *n = s->h * s->w * s->c * sim_type_bytes(s->type);
    SIM_TRY(sim_alloc_bytes(*n, 1, "prep/arrays", &samples));
    *buffer = samples;
    convert_image(f, item - f->blocks[f->b].first - f->row, *buffer);
    *bytes = *buffer;
done:
    return st;
}

void sim_arrays_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const array_sources *l = s->state;
    size_t k = 0;

    while (i >= l->files[k].first_item + l->files[k].n_items)
        k++;
    const array_source *f = &l->files[k];
    const char *label =
        l->n > 1 ? l->sources->labels[k] : sim_prep_base_name(f->file.path);
    const size_t item = i - f->first_item;
    if (f->item_names)
        (void)snprintf(out, out_bytes, "%s%s%s", l->n > 1 ? label : "",
                       l->n > 1 ? "/" : "", f->item_names + item * f->name_width);
    else
        (void)snprintf(out, out_bytes, "%s[%zu]", label, item);
}

static void close_file(array_source *f)
{
    sim_arrays_close(&f->file);
    sim_arrays_close(&f->labels_file);
    sim_prep_names_clear(&f->names);
    sim_free(f->blocks);
    sim_free(f->piece);
    sim_free(f->item_names);
}

void sim_arrays_close_source(prep_source *s)
{
    array_sources *l = s->state;
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
