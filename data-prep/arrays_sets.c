/*
 * arrays_sets.c - finds the shape and layout of arrays of images.
 *
 * Shapes are checked against the number of bytes that the file stores.
 */
#include "arrays.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    PIECE_BYTES = 32 << 20,    /* target size of a read */
    MAX_CHUNK_BYTES = 1 << 30, /* HDF5 decompresses a chunk as a whole */
    MAX_RATIO = 1100 /* of decompressed to stored bytes; above that of deflate */
};

static bool is_opaque(size_t channels)
{
    return channels == 1 || channels == 3;
}

/* H x W x C or C x H x W: C is the dimension that suits the channels better. */
static sim_status find_layout(const char *where, prep_layout given, const size_t *d,
                              array_block *b)
{
    sim_status st = SIM_OK;
    const sim_layout found = sim_image_layout(d);
    const bool last = given ? given == PREP_HWC : found == SIM_LAYOUT_HWC;

    SIM_CHECK(
        given || found != SIM_LAYOUT_AMBIGUOUS, SIM_E_DATA,
        "%s: images of %zu x %zu x %zu: which dimension has the 1 to %d channels is "
        "ambiguous; specify it with --layout hwc or --layout chw",
        where, d[0], d[1], d[2], SIM_MAX_CHANNELS);
    b->layout = last ? ARRAY_HWC : ARRAY_CHW;
    b->h = last ? d[0] : d[1];
    b->w = last ? d[1] : d[2];
    b->stored_c = last ? d[2] : d[0];
    SIM_CHECK(b->stored_c > 0 && b->stored_c <= SIM_MAX_CHANNELS, SIM_E_DATA,
              "%s: images of %zu x %zu with %zu channels; expected 1 to %d channels",
              where, b->h, b->w, b->stored_c, SIM_MAX_CHANNELS);
done:
    return st;
}

/* Whether an array of 3 dimensions is one image, H x W x C.  Gray images are not 3 or 4 pixels
 * wide, but H x W x 1 may be N x H x 1. */
static sim_status check_single(const char *where, const size_t *d, bool alone, bool *out)
{
    sim_status st = SIM_OK;

    SIM_CHECK(
        d[2] != 1 || alone, SIM_E_DATA,
        "%s: %zu x %zu x 1 is ambiguous; store one image as 1 x H x W x 1, and gray "
        "images as N x H x W",
        where, d[0], d[1]);
    *out = is_opaque(d[2]) || d[2] == 4;
done:
    return st;
}

static sim_status find_shape(const char *where, const prep_options *o,
                             const sim_h5_shape *s, bool alone, array_block *b)
{
    sim_status st = SIM_OK;
    const size_t *d = s->dims;
    int n = s->n_dims;

    b->single = n == 2 && alone;
    if (n == 3)
        SIM_TRY(check_single(where, d, alone, &b->single));
    b->n = b->single ? 1 : d[0];
    if (b->single) {
        b->layout = ARRAY_HWC;
        b->h = d[0];
        b->w = d[1];
        b->stored_c = n == 3 ? d[2] : 1;
    } else if (n == 3) {
        b->layout = ARRAY_HW;
        b->h = d[1];
        b->w = d[2];
        b->stored_c = 1;
    } else {
        SIM_CHECK(n == 4, SIM_E_DATA,
                  "%s has %d dimensions, expected N x H x W x C, N x C x H x W or "
                  "N x H x W",
                  where, n);
        SIM_TRY(find_layout(where, o->layout, d + 1, b));
    }
    /* Four bytes are RGB and alpha, unless channels are selected. */
    b->c = b->stored_c == 4 && s->type == SIM_U8 && o->n_channels == 0 ? 3 : b->stored_c;
    SIM_CHECK(b->n > 0 && b->n <= ARRAY_MAX_IMAGES && b->h > 0 && b->w > 0 &&
                  b->h <= SIM_MAX_PIXELS / b->w,
              SIM_E_DATA,
              "%s has %zu images of %zu x %zu; expected 1 to %d images of 1 to %d pixels",
              where, b->n, b->h, b->w, ARRAY_MAX_IMAGES, SIM_MAX_PIXELS);
done:
    return st;
}

/* Chooses pieces of whole chunks, and refuses shapes and chunks that need too much memory. */
static sim_status choose_piece_rows(const array_source *f, const char *name,
                                    array_block *b)
{
    sim_status st = SIM_OK;
    sim_h5_storage s;
    size_t values = array_image_values(b),
           image = values * (b->deep ? sizeof(double) : 1);

    SIM_ASSERT(values > 0);
    SIM_TRY(f->file.ops->storage_of(f->file.file, name, &s));
    SIM_CHECK(b->n <= s.stored_bytes * MAX_RATIO / values, SIM_E_DATA,
              "%s: %s has %zu images of %zu x %zu x %zu, but only %llu bytes are stored",
              f->file.path, name, b->n, b->h, b->w, b->stored_c,
              (unsigned long long)s.stored_bytes);
    SIM_CHECK(
        s.chunk_bytes <= MAX_CHUNK_BYTES &&
            (s.piece_rows == 1 || s.piece_rows <= MAX_CHUNK_BYTES / image ||
             b->n <= MAX_CHUNK_BYTES / image),
        SIM_E_DATA,
        "%s: the chunks of %s are larger than %d bytes; repack the file with smaller "
        "chunks",
        f->file.path, name, MAX_CHUNK_BYTES);
    size_t pieces = PIECE_BYTES / image / s.piece_rows;
    b->piece_rows = b->single ? 1 : s.piece_rows * (pieces ? pieces : 1);
    if (b->piece_rows > b->n)
        b->piece_rows = b->n;
done:
    return st;
}

sim_status sim_arrays_add_block(array_source *f, const char *name, bool alone,
                                int32_t label)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    char where[ARRAY_NAME + PATH_MAX];
    array_block b = {.first = f->n_items, .label = label};

    (void)snprintf(where, sizeof where, "%s: %s", f->file.path, name);
    SIM_TRY(f->file.ops->shape_of(f->file.file, name, &s));
    b.deep = s.type != SIM_U8;
    b.is_bool = s.is_bool;
    b.type = s.type;
    SIM_TRY(find_shape(where, f->options, &s, alone, &b));
    SIM_TRY(choose_piece_rows(f, name, &b));
    const array_block *a = f->blocks;
    SIM_CHECK(f->names.n == 0 || (b.h == a->h && b.w == a->w && b.c == a->c &&
                                  b.type == a->type && b.is_bool == a->is_bool),
              SIM_E_DATA, "%s: images of %zu x %zu x %zu differ in shape or type from %s",
              where, b.h, b.w, b.c, sim_prep_names_get(&f->names, 0));
    if (b.stored_c > b.c && f->names.n == 0)
        sim_log("%s: the fourth channel, alpha, is dropped (--channels 0-3 keeps it)",
                where);
    if (f->names.n == f->capacity) {
        f->capacity = f->capacity ? 2 * f->capacity : 64;
        SIM_TRY(sim_grow(&f->blocks, f->capacity, "prep/arrays"));
    }
    f->blocks[f->names.n] = b;
    SIM_TRY(sim_prep_names_add(&f->names, name));
    f->n_items += b.n;
    SIM_CHECK(f->n_items <= ARRAY_MAX_IMAGES, SIM_E_DATA, "%s: more than %d images",
              f->file.path, ARRAY_MAX_IMAGES);
done:
    return st;
}

/* ---- one group per class ---- */

typedef struct {
    array_source *f;
    prep_source *out;
    char group[ARRAY_NAME]; /* with a slash at the end */
    size_t class_capacity;
} classes;

static sim_status add_class(classes *k, const char *name, size_t n)
{
    sim_status st = SIM_OK;
    prep_source *out = k->out;
    const char *last = out->n_classes ? out->class_names[out->n_classes - 1] : NULL;

    if (last && strlen(last) == n && strncmp(last, name, n) == 0)
        goto done;
    if (out->n_classes == k->class_capacity) {
        k->class_capacity = k->class_capacity ? 2 * k->class_capacity : 64;
        SIM_TRY(sim_grow(&out->class_names, k->class_capacity, "prep/names"));
    }
    SIM_TRY(sim_text_format("prep/names", &out->class_names[out->n_classes], "%.*s",
                            (int)n, name));
    out->n_classes++;
done:
    return st;
}

/* Members are visited in the order of their names, so those of a class are consecutive. */
static sim_status add_member(void *ctx, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    classes *k = ctx;
    char name[ARRAY_NAME];

    array_full_name(t->name, name);
    const char *class = name + strlen(k->group), *slash = strchr(class, '/');
    SIM_TRY(add_class(k, class, slash ? (size_t)(slash - class) : strlen(class)));
    SIM_TRY(sim_arrays_add_block(k->f, name, true, (int32_t)k->out->n_classes - 1));
done:
    return st;
}

/* Whether all members are 3 x H x W or 4 x H x W: one image each, or gray images. */
static bool may_be_planes(const array_source *f)
{
    const size_t n = f->blocks[0].n;
    bool equal = n == 3 || n == 4;
    for (size_t b = 0; b < f->names.n; b++)
        equal &= f->blocks[b].n == n && f->blocks[b].layout == ARRAY_HW;
    return equal;
}

sim_status sim_arrays_add_classes(array_source *f, const char *path, prep_source *out)
{
    sim_status st = SIM_OK;
    classes k = {.f = f, .out = out};

    array_full_name(path, k.group);
    size_t n = strlen(k.group);
    while (n > 1 && k.group[n - 1] == '/')
        k.group[--n] = '\0';
    SIM_CHECK(strcmp(k.group, "/") == 0 || f->file.ops->has(f->file.file, k.group),
              SIM_E_DATA, "%s contains no group %s", f->file.path, k.group);
    char *group = NULL;
    SIM_TRY(sim_text_copy(k.group, "prep/arrays", &group));
    if (n > 1)
        (void)snprintf(k.group + n, ARRAY_NAME - n, "/");
    st = f->file.ops->visit(f->file.file, group, add_member, &k);
    sim_free(group);
    SIM_TRY(st);
    SIM_CHECK(f->names.n > 0, SIM_E_DATA, "%s: the group %s contains no data set",
              f->file.path, path);
    SIM_CHECK(
        !may_be_planes(f), SIM_E_DATA,
        "%s: the members of %s are arrays of %zu x H x W, which is ambiguous; store "
        "images as H x W x %zu, and gray images as N x H x W x 1",
        f->file.path, path, f->blocks[0].n, f->blocks[0].n);
    SIM_TRY(sim_alloc(&out->labels, f->n_items, "prep/labels"));
    for (size_t b = 0; b < f->names.n; b++)
        for (size_t i = 0; i < f->blocks[b].n; i++)
            out->labels[f->blocks[b].first + i] = f->blocks[b].label;
done:
    return st;
}
