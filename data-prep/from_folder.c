/*
 * from_folder.c - a folder of photos: SPLIT/CLASS/photo, CLASS/photo, or flat.
 *
 * Classes are the sorted names of the folders; a flat folder has no labels.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 28 };

/* Names only: a photo's folder is known from its class. */
typedef struct {
    char root[PATH_MAX];
    prep_list photos;
    int32_t *labels;
    size_t room;
} folder;

static sim_status add_photo(folder *f, const char *name, int32_t label)
{
    sim_status st = SIM_OK;
    if (f->photos.n == f->room) {
        f->room = f->room ? 2 * f->room : 1024;
        SIM_TRY(sim_grow(&f->labels, f->room, "prep/labels"));
    }
    f->labels[f->photos.n] = label;
    SIM_TRY(sim_prep_list_add(&f->photos, name));
done:
    return st;
}

static sim_status join(const char *a, const char *b, char out[PATH_MAX])
{
    return sim_prep_join(a, b, out, PATH_MAX);
}

/* Photos directly in a folder; *added counts them. */
static sim_status add_photos(folder *f, const char *path, int32_t label, size_t *added)
{
    sim_status st = SIM_OK;
    sim_names names = {0};

    *added = 0;
    SIM_TRY(sim_directory_list(path, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!sim_prep_is_photo(names.names[i]))
            continue;
        SIM_TRY(add_photo(f, names.names[i], label));
        ++*added;
    }
done:
    sim_names_clear(&names);
    return st;
}

/* Folders of `path` become classes; an empty one is named and left out. */
static sim_status add_classes(folder *f, const char *path, prep_source *out)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char inside[PATH_MAX];

    SIM_TRY(sim_directory_list(path, &names));
    SIM_TRY(sim_alloc(&out->class_names, names.n + 1, "prep/names"));
    for (size_t i = 0; i < names.n; i++) {
        size_t added = 0;
        SIM_TRY(join(path, names.names[i], inside));
        if (names.names[i][0] == '.' || !sim_path_is_directory(inside))
            continue;
        SIM_TRY(add_photos(f, inside, (int32_t)out->n_classes, &added));
        if (added == 0) {
            sim_log_warn("%s holds no photo; it makes no class", inside);
            continue;
        }
        SIM_TRY(sim_text_copy(names.names[i], "prep/names",
                              &out->class_names[out->n_classes]));
        out->n_classes++;
    }
done:
    sim_names_clear(&names);
    return st;
}

static const char *const split_names[] = {"train", "val", "test", "unlabeled"};
enum { N_SPLITS = sizeof split_names / sizeof split_names[0] };

/* SOURCE/train for train; SOURCE/val or SOURCE/test for test; SOURCE/unlabeled; else SOURCE
 * itself, when it has none of them. */
static sim_status split_folder(const char *path, const char *split, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    bool any = false;

    for (int i = 0; i < N_SPLITS; i++) {
        bool test = i == 1 || i == 2;
        SIM_TRY(join(path, split_names[i], out));
        any |= sim_path_is_directory(out);
        if (strcmp(split, test ? "test" : split_names[i]) == 0 &&
            sim_path_is_directory(out))
            goto done;
    }
    SIM_CHECK(!any && strcmp(split, "unlabeled") != 0, SIM_E_INPUT,
              "%s has no folder for the split %s", path, split);
    (void)snprintf(out, PATH_MAX, "%s", path);
done:
    return st;
}

static bool probe(const char *path)
{
    return sim_path_is_directory(path);
}

static sim_status open_source(const char *path, const prep_options *options,
                              prep_source *out)
{
    sim_status st = SIM_OK;
    folder *f = NULL;
    size_t flat = 0;

    SIM_TRY(sim_new(&f, "prep/folder"));
    out->own = f;
    out->photos = true;
    SIM_TRY(split_folder(path, options->split, f->root));
    SIM_TRY(add_classes(f, f->root, out));
    if (f->photos.n == 0)
        SIM_TRY(add_photos(f, f->root, -1, &flat));
    SIM_CHECK(f->photos.n > 0, SIM_E_INPUT, "%s holds no .jpg, .jpeg or .png", f->root);
    out->n_items = f->photos.n;
    if (flat == 0) {
        out->labels = f->labels;
        f->labels = NULL;
    }
done:
    return st;
}

/* The whole path, cut where there is no room; its length. */
static int photo_path(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const folder *f = s->own;
    const char *name = sim_prep_list_name(&f->photos, i);
    if (!s->labels)
        return snprintf(out, out_bytes, "%s/%s", f->root, name);
    return snprintf(out, out_bytes, "%s/%s/%s", f->root, s->class_names[s->labels[i]],
                    name);
}

static void item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    (void)photo_path(s, i, out, out_bytes);
}

static sim_status read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                            size_t *n, uint8_t **grown)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    int length = photo_path(s, i, path, sizeof path);

    SIM_CHECK(length > 0 && length < PATH_MAX, SIM_E_INPUT,
              "%.300s ...: the path is too long", path);
    SIM_TRY(sim_file_load(path, LIMIT, (char **)grown, n));
    *bytes = *grown;
done:
    return st;
}

static void close_source(prep_source *s)
{
    folder *f = s->own;
    if (!f)
        return;
    sim_prep_list_clear(&f->photos);
    sim_free(f->labels);
    sim_free(f);
}

const prep_format sim_prep_format_folder = {
    .name = "folder",
    .help = "photos in folders: SPLIT/CLASS/*.jpg|png, CLASS/*, or flat",
    .knows = PREP_UNLABELED | PREP_RESIZE,
    .probe = probe,
    .open = open_source,
    .read = read_item,
    .item_name = item_name,
    .close = close_source};
