/*
 * hdf5_sets.c - what somebody's HDF5 file holds: which data sets are images, and their shape.
 *
 * What the file tells of itself is checked against what it stores.
 */
#include "hdf5.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    PIECE_BYTES = 32 << 20,     /* aimed at */
    CHUNK_BYTES = 1 << 30,      /* refused above: HDF5 unpacks a chunk as a whole */
    UNPACKED_PER_STORED = 1100, /* no deflated chunk unpacks to more */
    SIDE = 16384
};

static void full_name(const char *key, char out[HDF5_NAME])
{
    (void)snprintf(out, HDF5_NAME, "%s%s", key[0] == '/' ? "" : "/", key);
}

static sim_status add_to_text(void *ctx, const sim_tensor *t)
{
    char *text = ctx;
    size_t used = strlen(text);
    if (used + strlen(t->name) + 3 < HDF5_NAME)
        (void)snprintf(text + used, HDF5_NAME - used, "%s%s", used ? ", " : "", t->name);
    return SIM_OK;
}

static bool is_set(const sim_h5 *f, const char *name)
{
    sim_h5_shape s;
    if (sim_h5_has(f, name) && sim_h5_shape_of(f, name, &s) == SIM_OK)
        return true;
    sim_error_clear();
    return false;
}

sim_status sim_hdf5_find_set(const sim_h5 *f, const char *path, const char *key,
                             const char *const *known, const char *option,
                             char out[HDF5_NAME])
{
    sim_status st = SIM_OK;
    char all[HDF5_NAME] = "";

    for (out[0] = '\0'; !key && *known && !out[0]; known++) {
        full_name(*known, out);
        if (!is_set(f, out))
            out[0] = '\0';
    }
    if (key)
        full_name(key, out);
    if (out[0] && sim_h5_has(f, out))
        goto done;
    SIM_IGNORE(sim_h5_visit(f, "/", add_to_text, all)); /* as far as it can be listed */
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
static sim_status find_layout(const char *where, const size_t *d, hdf5_block *b)
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
    b->layout = last ? HDF5_ROWS_LAST : HDF5_PLANES;
    b->h = last ? d[0] : d[1];
    b->w = last ? d[1] : d[2];
    b->c = last ? d[2] : d[0];
done:
    return st;
}

static sim_status set_shape(const char *where, const sim_h5_shape *s, bool alone,
                            hdf5_block *b)
{
    sim_status st = SIM_OK;
    const size_t *d = s->dims;
    int n = s->n_dims;

    b->single = alone && (n == 2 || (n == 3 && is_channels(d[2])));
    b->n = b->single ? 1 : d[0];
    if (b->single) {
        b->layout = HDF5_ROWS_LAST;
        b->h = d[0];
        b->w = d[1];
        b->c = n == 3 ? d[2] : 1;
    } else if (n == 3) {
        b->layout = HDF5_GRAY;
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
    SIM_CHECK(b->n > 0 && b->h > 0 && b->w > 0 && b->n <= HDF5_MAX_IMAGES &&
                  b->h <= SIDE && b->w <= SIDE,
              SIM_E_DATA, "%s tells %zu images of %zu x %zu", where, b->n, b->h, b->w);
done:
    return st;
}

/* Pieces of whole chunks, and no more memory than the file is good for. */
static sim_status plan_pieces(const hdf5 *f, const char *name, hdf5_block *b)
{
    sim_status st = SIM_OK;
    sim_h5_storage s;
    size_t values = hdf5_image_values(b),
           image = values * (b->floats ? sizeof(float) : 1);

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

sim_status sim_hdf5_add_block(hdf5 *f, const char *name, bool alone, int32_t label)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    char where[HDF5_NAME + PATH_MAX];
    hdf5_block b = {.first = f->n_items, .label = label};

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
    const hdf5_block *a = f->blocks;
    SIM_CHECK(f->names.n == 0 ||
                  (b.h == a->h && b.w == a->w && b.c == a->c && b.floats == a->floats),
              SIM_E_DATA, "%s: images of %zu x %zu x %zu, but %s before them are not",
              where, b.h, b.w, b.c, sim_prep_list_name(&f->names, 0));
    if (f->names.n == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        SIM_TRY(sim_grow(&f->blocks, f->room, "prep/hdf5"));
    }
    f->blocks[f->names.n] = b;
    SIM_TRY(sim_prep_list_add(&f->names, name));
    f->n_items += b.n;
    SIM_CHECK(f->n_items <= HDF5_MAX_IMAGES, SIM_E_DATA, "%s: more than %d images",
              f->path, HDF5_MAX_IMAGES);
done:
    return st;
}

/* ---- a class a group ---- */

typedef struct {
    hdf5 *f;
    prep_source *out;
    char group[HDF5_NAME]; /* with a slash at the end */
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
    char name[HDF5_NAME];

    full_name(t->name, name);
    const char *class = name + strlen(k->group), *slash = strchr(class, '/');
    SIM_TRY(add_class(k, class, slash ? (size_t)(slash - class) : strlen(class)));
    SIM_TRY(sim_hdf5_add_block(k->f, name, true, (int32_t)k->out->n_classes - 1));
done:
    return st;
}

sim_status sim_hdf5_add_classes(hdf5 *f, const char *path, prep_source *out)
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
        (void)snprintf(k.group + n, HDF5_NAME - n, "/");
    st = sim_h5_visit(f->file, group, see_member, &k);
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
