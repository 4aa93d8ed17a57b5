/*
 * from_folder.c - a directory of photos: SPLIT/CLASS/photo, CLASS/photo, or flat.
 *
 * Classes are the names of the directories, sorted.  A flat directory has no labels.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 28 };

/* Only base names are stored; the directory of a photo follows from its class. */
typedef struct {
    char root[PATH_MAX];
    prep_names photos;
    int32_t *labels;
    size_t capacity;
} folder;

static sim_status add_photo(folder *f, const char *name, int32_t label)
{
    sim_status st = SIM_OK;
    if (f->photos.n == f->capacity) {
        f->capacity = f->capacity ? 2 * f->capacity : 1024;
        SIM_TRY(sim_grow(&f->labels, f->capacity, "prep/labels"));
    }
    f->labels[f->photos.n] = label;
    SIM_TRY(sim_prep_names_add(&f->photos, name));
done:
    return st;
}

static sim_status join(const char *a, const char *b, char out[PATH_MAX])
{
    return sim_prep_join(a, b, out, PATH_MAX);
}

/* Adds the photos directly in a directory; *added is their number. */
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

/* Adds each directory in `path` as a class.  One without photos is reported and skipped. */
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
            sim_log_warn("%s contains no photos; it is not a class", inside);
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

static const struct {
    const char *name;
    prep_split split;
} split_directories[] = {{"train", PREP_TRAIN},
                         {"val", PREP_TEST},
                         {"test", PREP_TEST},
                         {"unlabeled", PREP_UNLABELED}};
enum { N_DIRECTORIES = sizeof split_directories / sizeof split_directories[0] };

/* The directory of a split, the first one that exists.  SOURCE itself if it has no directory
 * of any split, except for unlabeled. */
static sim_status find_split(const char *path, prep_split split, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    bool any = false;

    for (int i = 0; i < N_DIRECTORIES; i++) {
        SIM_TRY(join(path, split_directories[i].name, out));
        any |= sim_path_is_directory(out);
        if (split == split_directories[i].split && sim_path_is_directory(out))
            goto done;
    }
    SIM_CHECK(!any && split != PREP_UNLABELED, SIM_E_INPUT,
              "%s contains no directory for the split %s", path,
              sim_prep_split_name(split));
    (void)snprintf(out, PATH_MAX, "%s", path);
done:
    return st;
}

static bool folder_probe(const char *path)
{
    return sim_path_is_directory(path);
}

static sim_status folder_open_source(const char *path, const prep_options *options,
                                     prep_source *out)
{
    sim_status st = SIM_OK;
    folder *f = NULL;
    size_t flat = 0;

    SIM_TRY(sim_new(&f, "prep/folder"));
    out->state = f;
    out->photos = true;
    SIM_TRY(find_split(path, options->split, f->root));
    SIM_TRY(add_classes(f, f->root, out));
    if (f->photos.n == 0)
        SIM_TRY(add_photos(f, f->root, -1, &flat));
    SIM_CHECK(f->photos.n > 0, SIM_E_INPUT, "%s contains no .jpg, .jpeg or .png files",
              f->root);
    out->n_items = f->photos.n;
    if (flat == 0) {
        out->labels = f->labels;
        f->labels = NULL;
    }
done:
    return st;
}

/* Prints the path of a photo; returns its length, as snprintf. */
static int photo_path(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const folder *f = s->state;
    const char *name = sim_prep_names_get(&f->photos, i);
    if (!s->labels)
        return snprintf(out, out_bytes, "%s/%s", f->root, name);
    return snprintf(out, out_bytes, "%s/%s/%s", f->root, s->class_names[s->labels[i]],
                    name);
}

static void folder_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    (void)photo_path(s, i, out, out_bytes);
}

static sim_status folder_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                   size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    int length = photo_path(s, i, path, sizeof path);

    SIM_CHECK(length > 0 && length < PATH_MAX, SIM_E_INPUT,
              "%.300s ...: the path is too long", path);
    SIM_TRY(sim_file_load(path, LIMIT, (char **)buffer, n));
    *bytes = *buffer;
done:
    return st;
}

static void folder_close_source(prep_source *s)
{
    folder *f = s->state;
    if (!f)
        return;
    sim_prep_names_clear(&f->photos);
    sim_free(f->labels);
    sim_free(f);
}

const prep_format sim_prep_format_folder = {
    .name = "folder",
    .help = "a directory of photos: SPLIT/CLASS/*.jpg|png, CLASS/*, or flat",
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE,
    .probe = folder_probe,
    .open = folder_open_source,
    .read = folder_read_item,
    .item_name = folder_item_name,
    .close = folder_close_source};
