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
#include <strings.h>

enum { LIMIT = 1 << 28 };

typedef struct {
    char **paths;
    int32_t *labels;
    size_t n, room;
} folder;

static bool is_photo(const char *name)
{
    static const char *const ends[] = {".jpg", ".jpeg", ".png"};
    size_t n = strlen(name);
    if (name[0] == '.') /* hidden, or the resource fork of a Mac */
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (n > strlen(ends[i]) && strcasecmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

static sim_status add_path(folder *f, const char *path, int32_t label)
{
    sim_status st = SIM_OK;
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 1024;
        SIM_TRY(sim_grow(&f->paths, f->room, "prep/paths"));
        SIM_TRY(sim_grow(&f->labels, f->room, "prep/paths"));
    }
    SIM_TRY(sim_text_copy(path, "prep/paths", &f->paths[f->n]));
    f->labels[f->n++] = label;
done:
    return st;
}

static sim_status join(const char *a, const char *b, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    int n = snprintf(out, PATH_MAX, "%s/%s", a, b);
    SIM_CHECK(n > 0 && n < PATH_MAX, SIM_E_INPUT, "%s/%s: the path is too long", a, b);
done:
    return st;
}

/* Photos directly in a folder; *added counts them. */
static sim_status add_photos(folder *f, const char *path, int32_t label, size_t *added)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char file[PATH_MAX];

    *added = 0;
    SIM_TRY(sim_directory_list(path, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!is_photo(names.names[i]))
            continue;
        SIM_TRY(join(path, names.names[i], file));
        SIM_TRY(add_path(f, file, label));
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

/* SOURCE/train for train; SOURCE/val or SOURCE/test for test; else SOURCE itself. */
static sim_status split_folder(const char *path, const char *split, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    static const char *const of_train[] = {"train", NULL}, *const of_test[] = {
                                                               "val", "test", NULL};
    bool train = strcmp(split, "train") == 0, any = false;

    for (const char *const *n = of_train; *n; n++) {
        SIM_TRY(join(path, *n, out));
        any |= sim_path_is_directory(out);
        if (train && sim_path_is_directory(out))
            goto done;
    }
    for (const char *const *n = of_test; *n; n++) {
        SIM_TRY(join(path, *n, out));
        any |= sim_path_is_directory(out);
        if (!train && sim_path_is_directory(out))
            goto done;
    }
    SIM_CHECK(!any, SIM_E_INPUT, "%s has no folder for the split %s", path, split);
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
    char root[PATH_MAX];
    size_t flat = 0;

    SIM_TRY(sim_new(&f, "prep/folder"));
    out->own = f;
    out->photos = true;
    SIM_TRY(split_folder(path, options->split, root));
    SIM_TRY(add_classes(f, root, out));
    if (f->n == 0)
        SIM_TRY(add_photos(f, root, -1, &flat));
    SIM_CHECK(f->n > 0, SIM_E_INPUT, "%s holds no .jpg, .jpeg or .png", root);
    out->n_items = f->n;
    if (flat == 0) {
        SIM_TRY(sim_alloc(&out->labels, f->n, "prep/labels"));
        memcpy(out->labels, f->labels, f->n * sizeof *f->labels);
    }
done:
    return st;
}

static sim_status read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                            size_t *n, uint8_t **grown)
{
    sim_status st = SIM_OK;
    const folder *f = s->own;
    SIM_TRY(sim_file_load(f->paths[i], LIMIT, (char **)grown, n));
    *bytes = *grown;
done:
    return st;
}

static void item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const folder *f = s->own;
    (void)snprintf(out, out_bytes, "%s", f->paths[i]);
}

static void close_source(prep_source *s)
{
    folder *f = s->own;
    if (!f)
        return;
    prep_free_lines(f->paths, f->n);
    sim_free(f->labels);
    sim_free(f);
}

const prep_format prep_format_folder = {
    .name = "folder",
    .help = "photos in folders: SPLIT/CLASS/*.jpg|png, CLASS/*, or flat",
    .probe = probe,
    .open = open_source,
    .read = read_item,
    .item_name = item_name,
    .close = close_source};
