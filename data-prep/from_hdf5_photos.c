/*
 * from_hdf5_photos.c - image files in HDF5: one data set for each, in groups as in directories; or one
 * array of them, of variable-length uint8 or opaque values, with an array of labels.
 *
 * tree.c selects the data sets of a file as the photos of a directory; arrays_choose.c chooses an array.
 */
#include "arrays.h"
#include "tree.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <string.h>

enum { LIMIT = 1 << 28, PROBED = 64 };

typedef struct {
    prep_arrays file;
    char group[ARRAY_NAME]; /* of the data sets of `tree`, without a slash at the end */
    prep_tree tree;         /* of one data set for each image */
    bool is_list;           /* one array of images: */
    char images[ARRAY_NAME];
} hdf5_photos;

/* The first bytes [*n] of a data set of uint8 of one dimension; false if it is of another type. */
static bool read_head(const sim_h5 *f, const char *name, uint8_t head[SIM_IMAGE_HEAD],
                      size_t *n)
{
    sim_h5_shape shape;
    const bool is_array = sim_h5_shape_of(f, name, &shape) == SIM_OK &&
                          shape.type == SIM_U8 && shape.n_dims == 1;

    *n = !is_array ? 0 : shape.dims[0] < SIM_IMAGE_HEAD ? shape.dims[0] : SIM_IMAGE_HEAD;
    const bool ok = *n > 0 && sim_h5_read(f, name, SIM_U8, 0, *n, head, *n) == SIM_OK;
    sim_error_clear();
    return ok;
}

/* Whether byte string i of a data set begins as an image file. */
static bool is_photo_at(const sim_h5 *f, const char *name, size_t i)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    const bool yes = sim_h5_read_bytes(f, name, i, LIMIT, &bytes, &n) == SIM_OK &&
                     sim_image_has_signature(bytes, n);

    sim_free(bytes);
    sim_error_clear();
    return yes;
}

/* Whether a data set is an image file, or one of the first elements of an array is. */
static bool is_photo(const sim_h5 *f, const char *name)
{
    enum { EXAMINED = 8 };
    uint8_t head[SIM_IMAGE_HEAD];
    size_t n_head = 0;
    bool found = false;

    if (read_head(f, name, head, &n_head))
        return sim_image_has_signature(head, n_head);
    const size_t n = sim_h5_bytes_of(f, name).n;
    for (size_t i = 0; i < n && i < EXAMINED && !found; i++)
        found = is_photo_at(f, name, i);
    return found;
}

/* ---- the format of a file ---- */

typedef struct {
    const sim_h5 *file;
    int n;
    bool found;
} probe;

/* An error ends the visit. */
static sim_status probe_set(void *ctx, const char *name)
{
    probe *p = ctx;

    p->found = is_photo(p->file, name);
    return p->found || ++p->n >= PROBED ? SIM_E_INPUT : SIM_OK;
}

/* Whether one of the first data sets has an image file.  Encoded data sets of simile have one in /bytes. */
static bool hdf5_photos_probe_content(const char *path)
{
    uint64_t at = 0;
    sim_h5 *file = NULL;
    probe p = {0};

    if (!sim_path_has_hdf5_signature(path, &at) || (at != 0 && sim_prep_is_tar(path)) ||
        sim_h5_open_read(path, &file) != SIM_OK)
        goto done;
    p.file = file;
    if (!(sim_h5_has(file, "/bytes") && sim_h5_has(file, "/offset")))
        SIM_IGNORE(sim_h5_visit_sets(file, "/", probe_set, &p));
done:
    sim_h5_close(&file);
    sim_error_clear();
    return p.found;
}

/* ---- one data set for each image ---- */

static sim_status add_set(void *ctx, const char *name)
{
    sim_status st = SIM_OK;
    hdf5_photos *f = ctx;
    const char *relative = name + strlen(f->group) + 1;
    const sim_h5_bytes about = sim_h5_bytes_of(f->file.file, name);

    f->is_list |= about.is_list && is_photo(f->file.file, name);
    const bool is_single = about.n > 0 && !about.is_list;
    if (is_single &&
        (sim_prep_is_photo(sim_prep_base_name(name)) || is_photo(f->file.file, name)))
        SIM_TRY(sim_prep_tree_add(&f->tree, NULL, relative));
    else
        SIM_TRY(sim_prep_tree_count_other(&f->tree, relative));
done:
    return st;
}

static sim_status list_sets(hdf5_photos *f, const char *path)
{
    sim_status st = SIM_OK;
    char group[ARRAY_NAME];

    array_full_name(path ? path : "", group);
    size_t n = strlen(group);
    while (n > 1 && group[n - 1] == '/')
        group[--n] = '\0';
    SIM_CHECK(strcmp(group, "/") == 0 || sim_h5_has(f->file.file, group), SIM_E_DATA,
              "%s contains no group %s", f->file.path, group);
    (void)snprintf(f->group, sizeof f->group, "%s", strcmp(group, "/") == 0 ? "" : group);
    SIM_TRY(sim_h5_visit_sets(f->file.file, group, add_set, f));
done:
    return st;
}

/* ---- one array of images ---- */

static sim_status open_list(hdf5_photos *f, const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    char labels[ARRAY_NAME] = "";

    SIM_TRY(sim_arrays_choose_images(&f->file, o, f->images, &out->split));
    out->n_items = sim_h5_bytes_of(f->file.file, f->images).n;
    SIM_CHECK(out->n_items > 0, SIM_E_DATA, "%s: %s contains no image files",
              f->file.path, f->images);
    SIM_CHECK(out->n_items <= ARRAY_MAX_IMAGES, SIM_E_DATA, "%s: more than %d images",
              f->file.path, ARRAY_MAX_IMAGES);
    if (o->groups_key)
        SIM_TRY(
            sim_arrays_read_groups(&f->file, o->groups_key, false, out->n_items, out));
    if (o->labels_key && strcmp(o->labels_key, "none") == 0)
        goto done;
    SIM_TRY(sim_arrays_choose_labels(&f->file, o->labels_key, o->groups_key, f->images,
                                     out->n_items, labels));
    if (labels[0])
        SIM_TRY(sim_arrays_read_labels(&f->file, labels, o->labels_key != NULL,
                                       out->n_items, out));
    else
        sim_log("%s: no labels found; specify them with --labels-key", f->file.path);
done:
    return st;
}

/* ---- items ---- */

/* The data set of an item; returns the number of the byte string in it. */
static size_t item_set(const prep_source *s, size_t i, char out[ARRAY_NAME])
{
    const hdf5_photos *f = s->state;
    const char *name =
        f->is_list ? f->images + 1 : sim_prep_names_get(&f->tree.paths, f->tree.item[i]);
    const int n = snprintf(out, ARRAY_NAME, "%s/%s", f->is_list ? "" : f->group, name);

    SIM_ASSERT(n > 0 && n < ARRAY_NAME); /* it is the name of a visited data set */
    return f->is_list ? i : 0;
}

static sim_status read_item(const prep_source *s, size_t i, uint8_t **bytes, size_t *n)
{
    const hdf5_photos *f = s->state;
    char name[ARRAY_NAME];
    const size_t number = item_set(s, i, name);

    return sim_h5_read_bytes(f->file.file, name, number, LIMIT, bytes, n);
}

/* Whether an item may have more than 8 bits, by its first bytes.  Of an array of bytes only these are read. */
static bool may_be_deep(const prep_source *s, size_t i)
{
    const hdf5_photos *f = s->state;
    char name[ARRAY_NAME];
    uint8_t head[SIM_IMAGE_HEAD];
    size_t n = 0;

    (void)item_set(s, i, name);
    return f->is_list || !read_head(f->file.file, name, head, &n) ||
           sim_image_may_be_deep(head, n);
}

static sim_status survey_items(prep_source *s, const prep_options *o)
{
    sim_status st = SIM_OK;
    const hdf5_photos *f = s->state;
    enum { REPORT_EVERY = 4096 };
    prep_survey survey = {0};
    char name[ARRAY_NAME];
    uint8_t *bytes = NULL;
    size_t n = 0;

    for (size_t i = 0; i < s->n_items; i++) {
        (void)item_set(s, i, name);
        if (!may_be_deep(s, i))
            survey.n_others++;
        else if (read_item(s, i, &bytes, &n) == SIM_OK)
            sim_prep_survey_add(&survey, o, name, bytes, n);
        SIM_FREE(bytes);
        sim_error_clear();
        if ((i + 1) % REPORT_EVERY == 0)
            sim_log_progress("%s: finding the type of image %zu of %zu",
                             sim_prep_base_name(f->file.path), i + 1, s->n_items);
    }
    sim_prep_survey_apply(&survey, o, s);
    return st;
}

/* ---- the format ---- */

static sim_status refuse_keys(const prep_options *o)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!o->images_key && !o->labels_key && !o->groups_key, SIM_E_USAGE,
              "--images-key, --labels-key, --groups-key: every image is a data set of "
              "its own, and the "
              "groups are the classes; --path selects a group");
done:
    return st;
}

static sim_status hdf5_photos_open_source(const char *path, const prep_options *options,
                                          prep_source *out)
{
    sim_status st = SIM_OK;
    hdf5_photos *f = NULL;

    SIM_TRY(sim_new(&f, "prep/photos"));
    out->state = f;
    out->photos = true;
    SIM_TRY(sim_hdf5_arrays_open(path, &f->file));
    SIM_TRY(list_sets(f, options->path));
    if (f->is_list) {
        SIM_TRY(open_list(f, options, out));
    } else {
        SIM_TRY(refuse_keys(options));
        SIM_TRY(sim_prep_tree_select(&f->tree, path, options, out));
    }
    SIM_TRY(survey_items(out, options));
done:
    return st;
}

static sim_status hdf5_photos_read_item(const prep_source *s, size_t i,
                                        const uint8_t **bytes, size_t *n,
                                        uint8_t **buffer)
{
    sim_status st = SIM_OK;
    SIM_TRY(read_item(s, i, buffer, n));
    *bytes = *buffer;
done:
    return st;
}

static void hdf5_photos_item_name(const prep_source *s, size_t i, char *out,
                                  size_t out_bytes)
{
    const hdf5_photos *f = s->state;
    if (f->is_list)
        (void)snprintf(out, out_bytes, "%s[%zu]", sim_prep_base_name(f->file.path), i);
    else
        (void)snprintf(out, out_bytes, "%s",
                       sim_prep_names_get(&f->tree.paths, f->tree.item[i]));
}

static void hdf5_photos_close_source(prep_source *s)
{
    hdf5_photos *f = s->state;
    if (!f)
        return;
    sim_arrays_close(&f->file);
    sim_prep_tree_clear(&f->tree);
    sim_free(f);
}

const prep_format sim_prep_format_hdf5_photos = {
    .name = "hdf5_photos",
    .help =
        "image files in an HDF5 file: one data set for each, in a group of its class, or "
        "an array of them",
    .sequential = true,
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE | PREP_HAS_KEYS | PREP_HAS_IMAGES |
                 PREP_HAS_PATH | PREP_HAS_PAGES,
    .probe_content = hdf5_photos_probe_content,
    .open = hdf5_photos_open_source,
    .read = hdf5_photos_read_item,
    .item_name = hdf5_photos_item_name,
    .close = hdf5_photos_close_source};
