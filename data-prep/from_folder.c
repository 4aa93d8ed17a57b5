/*
 * from_folder.c - a directory of photos: SPLIT/CLASS/photo, CLASS/photo, or flat.
 *
 * All files below the directory are listed; tree.c selects photos and numbers classes.
 */
#include "photo_files.h"
#include "tree.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 64 };

extern const prep_format sim_prep_format_folder;

typedef struct {
    const prep_sources *sources;
    prep_tree tree;
    struct stat above[MAX_DEPTH]; /* the directories that are being listed */
    size_t depth;
    size_t n_empty; /* directories without photos */
} folder;

static sim_status list_directory(folder *f, const char *path, const char *relative);

/* Whether a directory is one of those that contain it, which a link makes possible. */
static bool is_loop(const folder *f, const struct stat *about)
{
    for (size_t i = 0; i < f->depth; i++)
        if (f->above[i].st_dev == about->st_dev && f->above[i].st_ino == about->st_ino)
            return true;
    return f->depth == MAX_DEPTH;
}

/* Whether a file without the extension of a photo has the first bytes of one. */
static bool has_photo_content(const char *path)
{
    uint8_t head[SIM_IMAGE_HEAD];
    uint64_t n = 0;
    int fd = -1;
    bool yes = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof head &&
               sim_file_read_at(fd, path, 0, head, sizeof head) == SIM_OK &&
               sim_prep_has_photo_content(path, head, sizeof head);
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return yes;
}

/* Such a directory could be a class whose photos are missing. */
static void warn_of_empty(folder *f, const char *path)
{
    enum { REPORTED = 5 };
    if (f->n_empty < REPORTED)
        sim_log_warn("%s contains no photos%s", path,
                     f->n_empty + 1 == REPORTED ? " (others are not listed)" : "");
    f->n_empty++;
}

static sim_status add_directory(folder *f, const char *path, const char *relative,
                                const struct stat *about)
{
    sim_status st = SIM_OK;

    if (is_loop(f, about)) {
        f->tree.n_loops++;
        goto done;
    }
    size_t n_before = f->tree.paths.n;
    f->above[f->depth++] = *about;
    st = list_directory(f, path, relative);
    f->depth--;
    if (f->depth > 0 && (st == SIM_E_ACCESS || st == SIM_E_INPUT)) {
        f->tree.n_unreadable++;
        sim_error_clear();
        st = SIM_OK;
    } else if (f->depth > 0 && st == SIM_OK && f->tree.paths.n == n_before) {
        warn_of_empty(f, path);
    }
done:
    return st;
}

static sim_status add_entry(folder *f, const char *path, const char *relative)
{
    sim_status st = SIM_OK;
    const char *name = sim_prep_base_name(relative);
    struct stat about;
    const bool exists = stat(path, &about) == 0, is_photo = sim_prep_is_photo(name);

    if (is_photo && !(exists && S_ISDIR(about.st_mode)))
        SIM_TRY(sim_prep_tree_add(&f->tree, NULL, relative));
    else if (!exists)
        f->tree.n_unreadable++;
    else if (S_ISDIR(about.st_mode) && name[0] != '.')
        SIM_TRY(add_directory(f, path, relative, &about));
    else if (S_ISREG(about.st_mode) && name[0] != '.' && has_photo_content(path))
        SIM_TRY(sim_prep_tree_add(&f->tree, NULL, relative));
    else
        SIM_TRY(sim_prep_tree_count_other(&f->tree, relative));
done:
    return st;
}

/* Adds the files below a directory, in the order of their names. */
static sim_status list_directory(folder *f, const char *path, const char *relative)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char inside[PATH_MAX], below[PATH_MAX];

    SIM_TRY(sim_directory_list(path, &names));
    for (size_t i = 0; i < names.n; i++) {
        SIM_TRY(sim_prep_join(path, names.names[i], inside, sizeof inside));
        int n = snprintf(below, sizeof below, "%s%s%s", relative, *relative ? "/" : "",
                         names.names[i]);
        SIM_CHECK(n > 0 && n < PATH_MAX, SIM_E_INPUT, "%.300s: the path is too long",
                  inside);
        SIM_TRY(add_entry(f, inside, below));
    }
done:
    sim_names_clear(&names);
    return st;
}

/* ---- items ---- */

static const char *relative_path(const prep_source *s, size_t i)
{
    const folder *f = s->state;
    return sim_prep_names_get(&f->tree.paths, f->tree.item[i]);
}

static sim_status folder_item_path(const prep_source *s, size_t i, char out[PATH_MAX])
{
    const folder *f = s->state;
    const char *path = relative_path(s, i);
    size_t k = 0;

    if (f->tree.has_labels) {
        k = sim_prep_sources_find(f->sources, path);
        path += strlen(f->sources->labels[k]) + 1;
    }
    return sim_prep_join(f->sources->paths[k], path, out, PATH_MAX);
}

static bool folder_probe(const char *path)
{
    return sim_path_is_directory(path);
}

static sim_status add_root(folder *f, const char *path, const char *label)
{
    sim_status st = SIM_OK;
    struct stat about;

    SIM_CHECK(stat(path, &about) == 0, SIM_E_INPUT, "%s: %s", path, strerror(errno));
    SIM_TRY(add_directory(f, path, label, &about));
done:
    return st;
}

static sim_status folder_open_several(const prep_sources *sources,
                                      const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;
    folder *f = NULL;

    SIM_TRY(sim_new(&f, "prep/folder"));
    out->state = f;
    out->photos = true;
    f->sources = sources;
    f->tree.has_labels = sources->n > 1;
    for (size_t k = 0; k < sources->n; k++)
        SIM_TRY(
            add_root(f, sources->paths[k], f->tree.has_labels ? sources->labels[k] : ""));
    SIM_TRY(sim_prep_tree_select(&f->tree, sources->paths[0], options, out));
    SIM_TRY(sim_prep_photos_survey(&sim_prep_format_folder, options, out));
done:
    return st;
}

static void folder_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s", relative_path(s, i));
}

static sim_status folder_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                   size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    SIM_TRY(folder_item_path(s, i, path));
    SIM_TRY(sim_prep_photo_load(path, buffer, n));
    *bytes = *buffer;
done:
    return st;
}

static void folder_close_source(prep_source *s)
{
    folder *f = s->state;
    if (!f)
        return;
    sim_prep_tree_clear(&f->tree);
    sim_free(f);
}

const prep_format sim_prep_format_folder = {
    .name = "folder",
    .help = "a directory of photos: SPLIT/CLASS/*, CLASS/*, or flat",
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE | PREP_HAS_PAGES,
    .probe = folder_probe,
    .open_several = folder_open_several,
    .read = folder_read_item,
    .item_name = folder_item_name,
    .item_path = folder_item_path,
    .close = folder_close_source};
