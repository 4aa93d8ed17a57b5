/*
 * tree.c - selects photos by their paths and numbers their classes.
 */
#include "tree.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME = 256 };

/* ---- splits ---- */

prep_split sim_prep_split_of(const char *name)
{
    static const struct {
        const char *name;
        prep_split split;
    } known[] = {{"train", PREP_TRAIN},
                 {"training", PREP_TRAIN},
                 {"val", PREP_VAL},
                 {"valid", PREP_VAL},
                 {"validation", PREP_VAL},
                 {"test", PREP_TEST},
                 {"testing", PREP_TEST},
                 {"unlabeled", PREP_UNLABELED},
                 {"unlabelled", PREP_UNLABELED}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(name, known[i].name) == 0)
            return known[i].split;
    return PREP_DEFAULT_SPLIT;
}

/* ---- adding files ---- */

/* Appends the components of a path other than ".", ".." and "". */
static void append_path(const char *path, char *out, size_t out_bytes)
{
    size_t used = strlen(out);
    while (*path) {
        size_t n = strcspn(path, "/");
        bool dots =
            (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.');
        if (n > 0 && !dots && used < out_bytes) {
            int added = snprintf(out + used, out_bytes - used, "%s%.*s", used ? "/" : "",
                                 (int)n, path);
            used += added > 0 ? (size_t)added : 0;
        }
        path += n + (path[n] == '/');
    }
}

sim_status sim_prep_tree_add(prep_tree *t, const char *inside, const char *path)
{
    char clean[PATH_MAX] = "";
    if (inside)
        append_path(inside, clean, sizeof clean);
    append_path(path, clean, sizeof clean);
    t->is_rooted |= (inside && !t->has_labels) || strncmp(path, "./", 2) == 0;
    return sim_prep_names_add(&t->paths, clean);
}

sim_status sim_prep_tree_count_other(prep_tree *t, const char *path)
{
    sim_status st = SIM_OK;
    const char *base = sim_prep_base_name(path), *dot = strrchr(base, '.');
    char extension[sizeof t->others->extension] = "";

    if (base[0] == '.') {
        t->n_hidden++;
        goto done;
    }
    for (size_t i = 0; dot && dot[i] && i + 1 < sizeof extension; i++)
        extension[i] = (char)tolower((unsigned char)dot[i]);
    for (size_t i = 0; i < t->n_others; i++)
        if (strcmp(t->others[i].extension, extension) == 0) {
            t->others[i].n++;
            goto done;
        }
    if (t->n_others == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 16;
        SIM_TRY(sim_grow(&t->others, t->capacity, "prep/extensions"));
    }
    prep_extension *e = &t->others[t->n_others++];
    *e = (prep_extension){.n = 1};
    memcpy(e->extension, extension, sizeof extension);
done:
    return st;
}

void sim_prep_tree_clear(prep_tree *t)
{
    sim_prep_names_clear(&t->paths);
    sim_free(t->others);
    sim_free(t->item);
    *t = (prep_tree){0};
}

/* ---- levels ---- */

/* The photos under consideration, and the depth of the directories that divide them. */
typedef struct {
    const prep_tree *tree;
    bool *kept; /* [paths.n] */
    size_t depth;
    /* of the kept photos at `depth`: */
    prep_set dirs;
    size_t *count; /* [dirs.names.n]: photos below each directory */
    size_t capacity, n_flat, n_below;
    prep_split inside; /* the split that was selected; PREP_DEFAULT_SPLIT: none */
} level;

/* Copies directory number `depth` of a path; false if the path has no more than `depth`. */
static bool directory_at(const char *path, size_t depth, char out[NAME])
{
    const char *slash = NULL;
    for (size_t d = 0; (slash = strchr(path, '/')) != NULL; d++, path = slash + 1)
        if (d == depth) {
            (void)snprintf(out, NAME, "%.*s", (int)(slash - path), path);
            return true;
        }
    return false;
}

static const char *dir_name(const level *l, size_t i)
{
    return sim_prep_names_get(&l->dirs.names, i);
}

static void clear_level(level *l)
{
    sim_prep_set_clear(&l->dirs);
    SIM_FREE(l->count);
    l->capacity = l->n_flat = l->n_below = 0;
}

/* Counts the kept photos by directory at a depth. */
static sim_status survey(level *l, size_t depth)
{
    sim_status st = SIM_OK;
    char name[NAME];
    uint32_t number = 0;

    clear_level(l);
    l->depth = depth;
    for (size_t i = 0; i < l->tree->paths.n; i++) {
        if (!l->kept[i])
            continue;
        if (!directory_at(sim_prep_names_get(&l->tree->paths, i), depth, name)) {
            l->n_flat++;
            continue;
        }
        SIM_TRY(sim_prep_set_add(&l->dirs, name, &number));
        if (number >= l->capacity) {
            size_t old = l->capacity;
            l->capacity = 2 * old + 64;
            SIM_TRY(sim_grow(&l->count, l->capacity, "prep/classes"));
            memset(l->count + old, 0, (l->capacity - old) * sizeof *l->count);
        }
        l->count[number]++;
        l->n_below++;
    }
done:
    return st;
}

static bool contains_split(const level *l, prep_split split)
{
    for (size_t i = 0; i < l->dirs.names.n; i++)
        if (sim_prep_split_of(dir_name(l, i)) == split)
            return true;
    return false;
}

/* Exactly one directory contains photos, and it is not a split, or the same one again, as in
 * train/train. */
static bool has_single_directory(const level *l)
{
    if (l->dirs.names.n != 1)
        return false;
    const prep_split split = sim_prep_split_of(dir_name(l, 0));
    return split == PREP_DEFAULT_SPLIT || split == l->inside;
}

/* Whether the directories divide the photos: several, or a split.  Photos beside them may not be
 * the majority, unless a split that the user requests is among the directories. */
static bool divides_photos(const level *l, prep_split requested)
{
    const size_t n = l->dirs.names.n;
    if (requested != PREP_DEFAULT_SPLIT && contains_split(l, requested))
        return true;
    return l->n_flat <= l->n_below && n > 0 && !has_single_directory(l);
}

/* Skips directories that contain all photos, except a minority beside them, down to those that
 * divide them.  Where none do, the level stays. */
static sim_status skip_single_directories(level *l, prep_split requested)
{
    sim_status st = SIM_OK;
    size_t depth = l->depth;

    while (has_single_directory(l)) {
        SIM_TRY(survey(l, l->depth + 1));
        if (divides_photos(l, requested))
            depth = l->depth;
    }
    SIM_TRY(survey(l, depth));
done:
    return st;
}

/* ---- the split ---- */

/* Whether the directories with most photos are all splits; or the one that the user names is among
 * them. */
static bool is_split_level(const level *l, prep_split requested)
{
    if (requested != PREP_DEFAULT_SPLIT && contains_split(l, requested))
        return true;
    return l->n_flat <= l->n_below && l->dirs.names.n > 0 &&
           !contains_split(l, PREP_DEFAULT_SPLIT);
}

static void list_directories(const level *l, char *out, size_t out_bytes)
{
    enum { MANY = 12 };
    size_t used = 0, n = l->dirs.names.n;
    out[0] = '\0';
    for (size_t k = 0; k < n && k < MANY && used < out_bytes; k++) {
        int added = snprintf(out + used, out_bytes - used, "%s%s", k ? ", " : "",
                             dir_name(l, l->dirs.sorted[k]));
        used += added > 0 ? (size_t)added : 0;
    }
    if (n > MANY && used < out_bytes)
        (void)snprintf(out + used, out_bytes - used, " and %zu more", n - MANY);
}

/* Keeps the photos of a split.  Photos of other splits are not counted as excluded. */
static sim_status keep_split(level *l, prep_split split, size_t *excluded)
{
    sim_status st = SIM_OK;
    char name[NAME], others[512] = "";
    size_t n_kept = 0;

    for (size_t i = 0; i < l->tree->paths.n; i++) {
        if (!l->kept[i])
            continue;
        bool below = directory_at(sim_prep_names_get(&l->tree->paths, i), l->depth, name);
        prep_split of = below ? sim_prep_split_of(name) : PREP_DEFAULT_SPLIT;
        l->kept[i] = of == split;
        n_kept += of == split;
        *excluded += of == PREP_DEFAULT_SPLIT;
    }
    list_directories(l, others, sizeof others);
    sim_log("split %s: %zu of %zu photos (directories: %s)", sim_prep_split_name(split),
            n_kept, l->n_flat + l->n_below, others);
    if (*excluded)
        sim_log_warn("%zu photos outside of the directories of splits are excluded",
                     *excluded);
    l->inside = split;
    SIM_TRY(survey(l, l->depth + 1));
    SIM_TRY(skip_single_directories(l, PREP_DEFAULT_SPLIT));
done:
    return st;
}

/* A source without splits that is itself named as the split, such as imagenet/val. */
static bool source_is_split(const char *source, prep_split split)
{
    char name[NAME];
    sim_prep_last_component(source, name, sizeof name);
    name[strcspn(name, ".")] = '\0';
    return sim_prep_split_of(name) == split;
}

static sim_status select_split(level *l, const char *source, prep_split requested,
                               prep_source *out)
{
    sim_status st = SIM_OK;
    char list[512];
    prep_split split = requested == PREP_DEFAULT_SPLIT ? PREP_TRAIN : requested;

    list_directories(l, list, sizeof list);
    if (is_split_level(l, requested)) {
        SIM_CHECK(contains_split(l, split), SIM_E_INPUT,
                  "%s has no split %s; its splits are %s: select one with --split",
                  source, sim_prep_split_name(split), list);
        out->split = split;
        SIM_TRY(keep_split(l, split, &out->n_excluded));
        goto done;
    }
    SIM_CHECK(requested == PREP_DEFAULT_SPLIT || source_is_split(source, requested),
              SIM_E_INPUT, "%s has no split %s (directories: %s)", source,
              sim_prep_split_name(requested), list[0] ? list : "none");
done:
    return st;
}

/* ---- classes ---- */

/* Photos beside class directories, or class directories beside a majority of photos. */
static void exclude_minority(level *l, prep_source *out)
{
    char name[NAME];
    bool flat = l->n_flat > l->n_below;

    if (l->n_flat == 0 || l->n_below == 0)
        return;
    out->n_excluded += flat ? l->n_below : l->n_flat;
    if (flat)
        sim_log_warn("%zu photos in %zu directories are excluded, because most photos "
                     "(%zu) are beside them",
                     l->n_below, l->dirs.names.n, l->n_flat);
    else
        sim_log_warn("%zu photos beside the class directories are excluded", l->n_flat);
    for (size_t i = 0; i < l->tree->paths.n; i++)
        if (l->kept[i])
            l->kept[i] = flat != directory_at(sim_prep_names_get(&l->tree->paths, i),
                                              l->depth, name);
    if (flat)
        clear_level(l);
}

static void warn_of_split_names(const level *l)
{
    for (size_t i = 0; i < l->dirs.names.n; i++)
        if (sim_prep_split_of(dir_name(l, i)) != PREP_DEFAULT_SPLIT)
            sim_log_warn("the directory %s is a class, because other directories are "
                         "beside it; if it is a split, select it with --split",
                         dir_name(l, i));
}

/* Classes called seg_train and seg_test are probably splits. */
static void warn_of_split_words(const level *l, const char *source)
{
    const size_t n = l->dirs.names.n;
    const char *example = NULL;
    size_t n_like = 0;

    for (size_t k = 0; k < n; k++) {
        const char *name = dir_name(l, l->dirs.sorted[k]);
        if (sim_prep_split_word(name) == PREP_DEFAULT_SPLIT ||
            sim_prep_split_of(name) != PREP_DEFAULT_SPLIT)
            continue;
        n_like++;
        example = name;
    }
    if (n_like >= 2 && 2 * n_like >= n)
        sim_log_warn("%zu of %zu classes are named as splits (such as %s); if they are, "
                     "convert one of these directories of %s instead",
                     n_like, n, example, source);
}

/* With CLASS/SPLIT/photo, the splits of a class are not separated. */
static void warn_of_splits_below(const level *l)
{
    char name[NAME];
    const char *example = NULL;
    size_t n = 0;

    for (size_t i = 0; i < l->tree->paths.n; i++) {
        const char *path = sim_prep_names_get(&l->tree->paths, i);
        if (!l->kept[i] || !directory_at(path, l->depth + 1, name) ||
            sim_prep_split_of(name) == PREP_DEFAULT_SPLIT)
            continue;
        n++;
        example = path;
    }
    if (2 * n >= l->n_below && n > 0)
        sim_log_warn("%zu photos are in directories of splits below the classes (such as "
                     "%s); all splits are converted together",
                     n, example);
}

static sim_status number_classes(const level *l, prep_source *out)
{
    sim_status st = SIM_OK;
    char name[NAME];
    int32_t *rank = NULL;
    uint32_t number = 0;
    size_t n = l->dirs.names.n, at = 0;
    prep_set dirs = l->dirs; /* complete: adding only finds */

    SIM_TRY(sim_alloc(&rank, n, "prep/classes"));
    SIM_TRY(sim_alloc(&out->labels, out->n_items, "prep/labels"));
    SIM_TRY(sim_alloc(&out->class_names, n + 1, "prep/names"));
    for (size_t k = 0; k < n; k++) {
        rank[dirs.sorted[k]] = (int32_t)k;
        SIM_TRY(sim_text_copy(dir_name(l, dirs.sorted[k]), "prep/names",
                              &out->class_names[k]));
        out->n_classes++;
    }
    for (size_t i = 0; i < l->tree->paths.n; i++) {
        const char *path = sim_prep_names_get(&l->tree->paths, i);
        if (!l->kept[i] || !directory_at(path, l->depth, name))
            continue;
        SIM_TRY(sim_prep_set_add(&dirs, name, &number));
        out->labels[at++] = rank[number];
    }
done:
    sim_free(rank);
    return st;
}

/* ---- what is left out ---- */

/* Image formats that are not read.  Some are TIFF files whose readable pages are only previews. */
static bool is_image_extension(const char *extension)
{
    static const char *const known[] = {
        ".heic", ".avif", ".jp2", ".ppm", ".pgm", ".jxl", ".fits", ".dcm", ".dng",
        ".nef",  ".cr2",  ".arw", ".orf", ".rw2", ".pef", ".srw",  ".svs", ".ndpi"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(extension, known[i]) == 0)
            return true;
    return false;
}

bool sim_prep_has_photo_content(const char *name, const uint8_t *head, size_t n)
{
    const char *dot = strrchr(sim_prep_base_name(name), '.');
    return !(dot && is_image_extension(dot)) && sim_image_has_signature(head, n);
}

static int by_extension(const void *a, const void *b)
{
    return strcmp(((const prep_extension *)a)->extension,
                  ((const prep_extension *)b)->extension);
}

/* "12 .webp, 3 .bmp"; returns the number of files. */
static size_t list_others(const prep_tree *t, bool images, char *out, size_t out_bytes)
{
    size_t n = 0, used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < t->n_others; i++) {
        const prep_extension *e = &t->others[i];
        if (is_image_extension(e->extension) != images)
            continue;
        n += e->n;
        if (used >= out_bytes)
            continue;
        int added = snprintf(out + used, out_bytes - used, "%s%zu %s", used ? ", " : "",
                             e->n, e->extension[0] ? e->extension : "without extension");
        used += added > 0 ? (size_t)added : 0;
    }
    return n;
}

static void report_others(prep_tree *t, prep_source *out)
{
    char list[1024];

    if (t->n_others)
        qsort(t->others, t->n_others, sizeof *t->others, by_extension);
    size_t images = list_others(t, true, list, sizeof list);
    out->n_excluded += images + t->n_links + t->n_loops + t->n_unreadable;
    if (images)
        sim_log_warn("%zu images are excluded, because only %s are read: %s", images,
                     sim_image_formats(), list);
    if (t->n_links)
        sim_log_warn("%zu photos are links in the archive and are excluded; "
                     "tar --dereference --hard-dereference stores their data",
                     t->n_links);
    if (t->n_loops)
        sim_log_warn("%zu links to a directory that contains them are excluded",
                     t->n_loops);
    if (t->n_unreadable)
        sim_log_warn("%zu directories or files cannot be opened and are excluded",
                     t->n_unreadable);
    if (list_others(t, false, list, sizeof list))
        sim_log("other files: %s", list);
    if (t->n_hidden)
        sim_log("hidden files: %zu", t->n_hidden);
}

/* ---- selection ---- */

/* Whether an archive is named as its top directory, with an ending: NAME.tar.gz contains NAME. */
static bool is_named_as(const char *archive, const char *top)
{
    const char *base = sim_prep_base_name(archive);
    const size_t n = strlen(top);
    return strncmp(base, top, n) == 0 && (base[n] == '.' || base[n] == '\0');
}

/* Whether every kept photo is below a directory named as the archive whose label begins its path. */
static bool is_below_label(const level *l)
{
    char label[NAME], top[NAME];

    for (size_t i = 0; i < l->tree->paths.n; i++) {
        const char *path = sim_prep_names_get(&l->tree->paths, i);
        if (l->kept[i] && !(directory_at(path, 0, label) && directory_at(path, 1, top) &&
                            is_named_as(label, top)))
            return false;
    }
    return true;
}

/* `tar cf NAME.tar NAME` puts the name of the directory before every path.  Any other archive is
 * treated as the directory that it would be unpacked to. */
static sim_status skip_top_directory(level *l, const char *archive)
{
    sim_status st = SIM_OK;
    const bool is_top = l->tree->has_labels ? is_below_label(l)
                                            : l->n_flat == 0 && has_single_directory(l) &&
                                                  is_named_as(archive, dir_name(l, 0));
    if (l->tree->is_archive && !l->tree->is_rooted && is_top)
        SIM_TRY(survey(l, l->depth + 1));
done:
    return st;
}

static sim_status list_items(const level *l, prep_tree *t, prep_source *out)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_alloc(&t->item, t->paths.n, "prep/items"));
    for (size_t i = 0; i < t->paths.n; i++)
        if (l->kept[i])
            t->item[out->n_items++] = (uint32_t)i;
done:
    return st;
}

sim_status sim_prep_tree_select(prep_tree *t, const char *name,
                                const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;
    level l = {.tree = t};

    report_others(t, out);
    SIM_CHECK(t->paths.n > 0, SIM_E_INPUT, "%s contains no image files (%s)", name,
              sim_image_formats());
    SIM_TRY(sim_alloc(&l.kept, t->paths.n, "prep/items"));
    memset(l.kept, true, t->paths.n * sizeof *l.kept);
    SIM_TRY(survey(&l, t->has_labels ? 1 : 0));
    SIM_TRY(skip_top_directory(&l, name));
    SIM_TRY(skip_single_directories(&l, options->split));
    SIM_TRY(select_split(&l, name, options->split, out));
    exclude_minority(&l, out);
    SIM_TRY(list_items(&l, t, out));
    if (l.dirs.names.n > 0) {
        warn_of_split_names(&l);
        warn_of_split_words(&l, name);
        warn_of_splits_below(&l);
        SIM_TRY(number_classes(&l, out));
    }
done:
    clear_level(&l);
    sim_free(l.kept);
    return st;
}
