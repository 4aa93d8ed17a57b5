/*
 * from_hdf5.c - images in somebody's HDF5 file: one array of them, or a group a class.
 *
 * uint8, or floats whose range is plain: 0..1 or 0..255.  N x H x W x C, N x C x H x W, or
 * N x H x W for gray; labels of any integer type.  Read in pieces of whole chunks; what the
 * file tells of itself is checked against what it stores.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    NAME = 512,
    PIECE_BYTES = 32 << 20,     /* aimed at */
    CHUNK_BYTES = 1 << 30,      /* refused above: HDF5 unpacks a chunk as a whole */
    MAX_LABEL = 1 << 20,        /* as the reader of data sets */
    MAX_IMAGES = 1 << 30,       /* likewise */
    UNPACKED_PER_STORED = 1100, /* no deflated chunk unpacks to more */
    SIDE = 16384
};

/* How one image lies in a data set. */
typedef enum { ROWS_LAST, PLANES, GRAY } layout;

/* One data set of images, or of a single one. */
typedef struct {
    layout layout;
    bool single; /* no dimension N */
    bool floats;
    size_t n, h, w, c;
    size_t first;      /* item number of its first image */
    size_t piece_rows; /* read together */
    int32_t label;     /* a class by group; else -1 */
} block;

typedef struct {
    char path[PATH_MAX];
    sim_h5 *file;
    prep_list names; /* of the blocks */
    block *blocks;   /* [names.n] */
    size_t room, n_items;
    double scale;     /* floats: to 0..255 */
    size_t b;         /* block of the piece, */
    size_t row, rows; /* its images, */
    void *piece;      /* as in the file: uint8 or float */
} hdf5;

/* ---- what is in the file ---- */

static const char *const image_names[] = {"images", "x",    "X", "image",
                                          "data",   "imgs", NULL};
static const char *const label_names[] = {"labels", "ans", "y",      "Y",
                                          "label",  "lbl", "target", NULL};

static void full_name(const char *key, char out[NAME])
{
    (void)snprintf(out, NAME, "%s%s", key[0] == '/' ? "" : "/", key);
}

static sim_status add_to_text(void *ctx, const sim_tensor *t)
{
    char *text = ctx;
    size_t used = strlen(text);
    if (used + strlen(t->name) + 3 < NAME)
        (void)snprintf(text + used, NAME - used, "%s%s", used ? ", " : "", t->name);
    return SIM_OK;
}

static bool is_set(const sim_h5 *f, const char *name)
{
    sim_h5_shape s;
    if (sim_h5_has(f, name) && sim_h5_shape_of(f, name, &s) == SIM_OK)
        return true;
    sim_story_clear();
    return false;
}

/* The name that was asked for, or the first known one that is there. */
static sim_status find_set(const sim_h5 *f, const char *path, const char *key,
                           const char *const *known, const char *option, char out[NAME])
{
    sim_status st = SIM_OK;
    char all[NAME] = "";

    for (out[0] = '\0'; !key && *known && !out[0]; known++) {
        full_name(*known, out);
        if (!is_set(f, out))
            out[0] = '\0';
    }
    if (key)
        full_name(key, out);
    if (out[0] && sim_h5_has(f, out))
        goto done;
    SIM_IGNORE(sim_h5_walk(f, "/", add_to_text, all)); /* as far as it can be listed */
    SIM_FAIL(SIM_E_DATA, "%s has no data set %s; it has %s: name one with %s", path,
             key ? key : "of images under a known name", all[0] ? all : "none", option);
done:
    return st;
}

static bool is_channels(size_t c)
{
    return c == 1 || c == 3;
}

/* N x H x W x C or N x C x H x W by where the 1 or 3 stands. */
static sim_status find_layout(const char *where, const size_t *d, block *b)
{
    sim_status st = SIM_OK;
    bool last = is_channels(d[2]), first = is_channels(d[0]);

    SIM_CHECK(last || first, SIM_E_DATA,
              "%s: images of %zu x %zu x %zu: neither the first nor the last number is 1 "
              "or 3 channels",
              where, d[0], d[1], d[2]);
    SIM_CHECK(!(last && first), SIM_E_DATA,
              "%s: images of %zu x %zu x %zu: which of them are the channels cannot be "
              "told",
              where, d[0], d[1], d[2]);
    b->layout = last ? ROWS_LAST : PLANES;
    b->h = last ? d[0] : d[1];
    b->w = last ? d[1] : d[2];
    b->c = last ? d[2] : d[0];
done:
    return st;
}

/* `alone`: in a group of a class, where H x W and H x W x C are one image. */
static sim_status set_shape(const char *where, const sim_h5_shape *s, bool alone,
                            block *b)
{
    sim_status st = SIM_OK;
    const size_t *d = s->dims;
    int n = s->n_dims;

    b->single = alone && (n == 2 || (n == 3 && is_channels(d[2])));
    b->n = b->single ? 1 : d[0];
    if (b->single) {
        b->layout = ROWS_LAST;
        b->h = d[0];
        b->w = d[1];
        b->c = n == 3 ? d[2] : 1;
    } else if (n == 3) {
        b->layout = GRAY;
        b->h = d[1];
        b->w = d[2];
        b->c = 1;
    } else {
        SIM_CHECK(n == 4, SIM_E_DATA,
                  "%s has %d dimensions, expected N x H x W x C, N x C x H x W or "
                  "N x H x W",
                  where, n);
        SIM_TRY(find_layout(where, d + 1, b));
    }
    SIM_CHECK(b->n > 0 && b->h > 0 && b->w > 0 && b->n <= MAX_IMAGES && b->h <= SIDE &&
                  b->w <= SIDE,
              SIM_E_DATA, "%s tells %zu images of %zu x %zu", where, b->n, b->h, b->w);
done:
    return st;
}

static size_t image_values(const block *b)
{
    return b->h * b->w * b->c;
}

/* Pieces of whole chunks, and no more memory than the file is good for. */
static sim_status plan_pieces(const hdf5 *f, const char *name, block *b)
{
    sim_status st = SIM_OK;
    sim_h5_storage s;
    size_t values = image_values(b), image = values * (b->floats ? sizeof(float) : 1);

    SIM_ASSERT(values > 0);
    SIM_TRY(sim_h5_storage_of(f->file, name, &s));
    SIM_CHECK(b->n <= s.stored_bytes * UNPACKED_PER_STORED / values, SIM_E_DATA,
              "%s: %s tells %zu images of %zu x %zu x %zu, but stores %llu bytes of them",
              f->path, name, b->n, b->h, b->w, b->c, (unsigned long long)s.stored_bytes);
    SIM_CHECK(s.chunk_bytes <= CHUNK_BYTES &&
                  (s.piece_rows == 1 || s.piece_rows <= CHUNK_BYTES / image ||
                   b->n <= CHUNK_BYTES / image),
              SIM_E_DATA, "%s: the chunks of %s are too large to be read in pieces",
              f->path, name);
    size_t pieces = PIECE_BYTES / image / s.piece_rows;
    b->piece_rows = b->single ? 1 : s.piece_rows * (pieces ? pieces : 1);
    if (b->piece_rows > b->n)
        b->piece_rows = b->n;
done:
    return st;
}

static sim_status add_block(hdf5 *f, const char *name, bool alone, int32_t label)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    char where[NAME + PATH_MAX];
    block b = {.first = f->n_items, .label = label};

    (void)snprintf(where, sizeof where, "%s: %s", f->path, name);
    SIM_TRY(sim_h5_shape_of(f->file, name, &s));
    b.floats = s.type == SIM_F32 || s.type == SIM_F64;
    SIM_CHECK(
        s.type == SIM_U8 || b.floats, SIM_E_DATA,
        "%s holds whole numbers of more than 8 bits, or signed ones; how bright they "
        "are is not known: store uint8",
        where);
    SIM_TRY(set_shape(where, &s, alone, &b));
    SIM_TRY(plan_pieces(f, name, &b));
    const block *a = f->blocks;
    SIM_CHECK(f->names.n == 0 ||
                  (b.h == a->h && b.w == a->w && b.c == a->c && b.floats == a->floats),
              SIM_E_DATA, "%s: images of %zu x %zu x %zu, but %s before them are not",
              where, b.h, b.w, b.c, prep_list_name(&f->names, 0));
    if (f->names.n == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        SIM_TRY(sim_grow(&f->blocks, f->room, "prep/hdf5"));
    }
    f->blocks[f->names.n] = b;
    SIM_TRY(prep_list_add(&f->names, name));
    f->n_items += b.n;
    SIM_CHECK(f->n_items <= MAX_IMAGES, SIM_E_DATA, "%s: more than %d images", f->path,
              MAX_IMAGES);
done:
    return st;
}

/* ---- a class a group ---- */

typedef struct {
    hdf5 *f;
    prep_source *out;
    char group[NAME]; /* with a slash at the end */
    size_t class_room;
} classes;

static sim_status add_class(classes *k, const char *name, size_t n)
{
    sim_status st = SIM_OK;
    prep_source *out = k->out;
    const char *last = out->n_classes ? out->class_names[out->n_classes - 1] : NULL;

    if (last && strlen(last) == n && strncmp(last, name, n) == 0)
        goto done;
    if (out->n_classes == k->class_room) {
        k->class_room = k->class_room ? 2 * k->class_room : 64;
        SIM_TRY(sim_grow(&out->class_names, k->class_room, "prep/names"));
    }
    SIM_TRY(sim_text_format("prep/names", &out->class_names[out->n_classes], "%.*s",
                            (int)n, name));
    out->n_classes++;
done:
    return st;
}

/* Members come in order of name, so those of a class stand together. */
static sim_status see_member(void *ctx, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    classes *k = ctx;
    char name[NAME];

    full_name(t->name, name);
    const char *class = name + strlen(k->group), *slash = strchr(class, '/');
    SIM_TRY(add_class(k, class, slash ? (size_t)(slash - class) : strlen(class)));
    SIM_TRY(add_block(k->f, name, true, (int32_t)k->out->n_classes - 1));
done:
    return st;
}

static sim_status open_classes(hdf5 *f, const char *path, prep_source *out)
{
    sim_status st = SIM_OK;
    classes k = {.f = f, .out = out};

    full_name(path, k.group);
    size_t n = strlen(k.group);
    while (n > 1 && k.group[n - 1] == '/')
        k.group[--n] = '\0';
    SIM_CHECK(strcmp(k.group, "/") == 0 || sim_h5_has(f->file, k.group), SIM_E_DATA,
              "%s has no group %s", f->path, k.group);
    char *group = NULL;
    SIM_TRY(sim_text_copy(k.group, "prep/hdf5", &group));
    if (n > 1)
        (void)snprintf(k.group + n, NAME - n, "/");
    st = sim_h5_walk(f->file, group, see_member, &k);
    sim_free(group);
    SIM_TRY(st);
    SIM_CHECK(f->names.n > 0, SIM_E_DATA, "%s: the group %s holds no data set", f->path,
              path);
    SIM_TRY(sim_alloc(&out->labels, f->n_items, "prep/labels"));
    for (size_t b = 0; b < f->names.n; b++)
        for (size_t i = 0; i < f->blocks[b].n; i++)
            out->labels[f->blocks[b].first + i] = f->blocks[b].label;
done:
    return st;
}

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
    if (!prep_ends_with(path, "_x.h5") || n >= PATH_MAX)
        return false;
    memcpy(out, path, n + 1);
    out[n - 4] = 'y';
    return sim_path_exists(out);
}

static sim_status find_labels(const hdf5 *f, const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    char name[NAME], beside[PATH_MAX];
    sim_h5 *other = NULL;

    if (labels_beside(f->path, beside))
        SIM_TRY(sim_h5_open_read(beside, &other));
    const sim_h5 *file = other ? other : f->file;
    st = find_set(file, other ? beside : f->path, o->labels_key, label_names,
                  "--labels-key", name);
    if (st != SIM_OK && !o->labels_key && !other) {
        sim_story_clear();
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
    const block *k = &f->blocks[b];
    const char *name = prep_list_name(&f->names, b);
    size_t rows = k->n - row < k->piece_rows ? k->n - row : k->piece_rows;
    size_t values = rows * image_values(k);

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
    const block *k = &f->blocks[f->b];
    size_t image = image_values(k);

    for (size_t i = 0; i < f->rows * image; i++) {
        SIM_CHECK(isfinite(v[i]) && v[i] >= 0 && v[i] <= 255, SIM_E_DATA,
                  "%s: %s: image %zu holds %g, expected 0 to 1 or 0 to 255", f->path,
                  prep_list_name(&f->names, f->b), f->row + i / image, (double)v[i]);
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
                             prep_base_name(f->path), f->blocks[b].first + row,
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
           (prep_ends_with(path, ".h5") || prep_ends_with(path, ".hdf5") ||
            prep_ends_with(path, ".hdf"));
}

/* A file is one set: asked for its test part it gives none, unless its name says so. */
static sim_status check_split(const char *path, const char *split)
{
    sim_status st = SIM_OK;
    const char *base = prep_base_name(path);
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
    char name[NAME];

    SIM_TRY(check_split(path, options->split));
    SIM_TRY(sim_new(&f, "prep/hdf5"));
    out->own = f;
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    SIM_TRY(sim_h5_open_read(path, &f->file));
    if (options->path) {
        SIM_TRY(open_classes(f, options->path, out));
    } else {
        SIM_TRY(find_set(f->file, path, options->images_key, image_names,
                         "--images-key, or a group of classes with --path", name));
        SIM_TRY(add_block(f, name, false, -1));
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
    const block *b = &f->blocks[f->b];
    size_t pixels = b->h * b->w, image = pixels * b->c;
    const uint8_t *bytes = (const uint8_t *)f->piece + i * image;
    const float *floats = (const float *)f->piece + i * image;

    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < b->c; c++) {
            size_t from = b->layout == PLANES ? c * pixels + p : p * b->c + c;
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
    prep_list_clear(&f->names);
    sim_free(f->blocks);
    sim_free(f->piece);
    sim_free(f);
}

const prep_format prep_format_hdf5 = {
    .name = "hdf5",
    .help = "images in an HDF5 file (--images-key, --labels-key, --path)",
    .in_order = true,
    .knows = PREP_KEYS,
    .probe = probe,
    .open = open_source,
    .read = read_item,
    .item_name = item_name,
    .close = close_source};
