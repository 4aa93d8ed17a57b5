/*
 * from_tar.c - photos in a tar or zip archive, plain or compressed, or in tars within it.
 *
 * The archive is read twice: first the names, then the photos, in the order of their paths if
 * they fit in memory (archive_photos.c).  Names are never used as
 * paths.  tree.c selects photos and numbers classes; an inner tar counts as a directory
 * (ImageNet has one tar per class).  In a flat archive, a file KEY.cls contains the label of
 * the photo KEY.jpg (WebDataset).
 */
#include "archive_photos.h"
#include "tree.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 1 << 28, REPORT_EVERY = 4096 };
enum { CLS_BYTES = 32 };

typedef struct {
    char path[PATH_MAX]; /* of the first archive, for messages */
    const prep_sources *sources;
    prep_tree tree;
    prep_photos photos; /* of tree.paths */
    size_t n_items;     /* that are selected */
    prep_set keys;      /* of the .cls files */
    int32_t *labels;    /* [keys.names.n] */
    size_t label_capacity;
    prep_survey survey; /* of all photos */
    prep_tar *tar;      /* for the second pass */
} archive;

/* ---- labels of WebDataset ---- */

/* The key of a name: the path up to the first dot of the last component. */
static void key_of(const char *name, char out[PATH_MAX])
{
    const char *base = sim_prep_base_name(name);
    size_t n = (size_t)(base - name) + strcspn(base, ".");
    while (strncmp(name, "./", 2) == 0) {
        name += 2;
        n -= 2;
    }
    (void)snprintf(out, PATH_MAX, "%.*s", (int)n, name);
}

/* "LABEL/", if there are several archives. */
static void label_of(const archive *a, const prep_entry *e, char out[PATH_MAX])
{
    out[0] = '\0';
    if (a->tree.has_labels)
        (void)snprintf(out, PATH_MAX, "%s/", a->sources->labels[e->archive]);
}

static sim_status add_cls(archive *a, prep_tar *t, const prep_entry *e)
{
    sim_status st = SIM_OK;
    char source[PATH_MAX], of_entry[PATH_MAX], key[2 * PATH_MAX], *end = NULL;
    uint8_t *bytes = NULL;
    size_t n = 0;
    uint32_t number = 0;

    SIM_TRY(sim_prep_tar_load(t, CLS_BYTES, &bytes, &n));
    char text[CLS_BYTES + 1];
    (void)snprintf(text, sizeof text, "%.*s", (int)n, (const char *)bytes);
    long label = strtol(text, &end, 10);
    end += strspn(end, " \r\n");
    SIM_CHECK(end != text && !*end && label >= 0 && label < PREP_MAX_CLASSES, SIM_E_DATA,
              "%s: %s contains \"%.20s\", expected a class number from 0 to %d",
              a->sources->paths[e->archive], e->name, text, PREP_MAX_CLASSES - 1);
    label_of(a, e, source);
    key_of(e->name, of_entry);
    (void)snprintf(key, sizeof key, "%s%s", source, of_entry);
    SIM_TRY(sim_prep_set_add(&a->keys, key, &number));
    if (number >= a->label_capacity) {
        a->label_capacity = 2 * a->label_capacity + 1024;
        SIM_TRY(sim_grow(&a->labels, a->label_capacity, "prep/labels"));
    }
    a->labels[number] = (int32_t)label;
done:
    sim_free(bytes);
    return st;
}

/* Number of items that have a .cls file. */
static sim_status count_cls(archive *a, const prep_source *out, size_t *n)
{
    sim_status st = SIM_OK;
    char key[PATH_MAX];
    const size_t n_keys = a->keys.names.n;
    uint32_t number = 0;

    *n = 0;
    for (size_t i = 0; n_keys > 0 && i < out->n_items; i++) {
        key_of(sim_prep_names_get(&a->tree.paths, a->tree.item[i]), key);
        SIM_TRY(sim_prep_set_add(&a->keys, key, &number));
        *n += number < n_keys;
    }
done:
    return st;
}

/* The .cls files are the labels if the photos are in no class directories, or if every photo has
 * one: the directories are then those of shards. */
static sim_status choose_cls(archive *a, prep_source *out, bool *use)
{
    sim_status st = SIM_OK;
    const bool any = a->keys.names.n > 0;
    size_t n = 0;

    SIM_TRY(count_cls(a, out, &n));
    *use = n > 0 && (!out->labels || n == out->n_items);
    if (*use && out->labels) {
        sim_log("the labels are those of the .cls files, not the directories");
        SIM_FREE(out->labels);
        sim_prep_free_lines(out->class_names, out->n_classes);
        out->class_names = NULL;
        out->n_classes = 0;
    } else if (!*use && any && out->labels) {
        sim_log_warn("the .cls files of %zu of %zu photos are not used, because "
                     "directories are the classes",
                     n, out->n_items);
    } else if (!*use && any) {
        sim_log_warn("no selected photo has a .cls file; the data set has no labels");
    }
done:
    return st;
}

/* Labels of the items by the .cls files; items without one are excluded. */
static sim_status apply_cls(archive *a, prep_source *out)
{
    sim_status st = SIM_OK;
    char key[PATH_MAX];
    size_t n_kept = 0, n_keys = a->keys.names.n, n_without = 0;
    uint32_t number = 0;
    int64_t *values = NULL;
    bool use = false;

    SIM_TRY(choose_cls(a, out, &use));
    if (!use)
        goto done;
    SIM_TRY(sim_alloc(&values, out->n_items, "prep/labels"));
    for (size_t i = 0; i < out->n_items; i++) {
        key_of(sim_prep_names_get(&a->tree.paths, a->tree.item[i]), key);
        SIM_TRY(sim_prep_set_add(&a->keys, key, &number));
        if (number >= n_keys) {
            n_without++;
            continue;
        }
        values[n_kept] = a->labels[number];
        a->tree.item[n_kept++] = a->tree.item[i];
    }
    out->n_items = n_kept;
    out->n_excluded += n_without;
    if (n_without)
        sim_log_warn("%zu photos without a .cls file are excluded", n_without);
    SIM_TRY(sim_prep_set_numbers(a->path, values, n_kept, 0, out));
done:
    sim_free(values);
    return st;
}

/* ---- first pass: names ---- */

/* The first bytes of an entry; fewer if the entry is shorter. */
typedef struct {
    uint8_t bytes[SIM_IMAGE_HEAD];
    size_t n;
} entry_head;

static sim_status read_head(prep_tar *t, const prep_entry *e, entry_head *out)
{
    *out = (entry_head){0};
    if (e->is_link)
        return SIM_OK;
    out->n = e->n_bytes < SIM_IMAGE_HEAD ? (size_t)e->n_bytes : SIM_IMAGE_HEAD;
    return sim_prep_tar_read(t, out->bytes, out->n);
}

/* Files that may have more than 8 bits are read in the first pass. */
static sim_status survey_photo(archive *a, prep_tar *t, const prep_entry *e,
                               const entry_head *head)
{
    sim_status st = SIM_OK;
    uint8_t *bytes = NULL;
    size_t n = (size_t)e->n_bytes;

    if (!sim_image_may_be_deep(head->bytes, head->n)) {
        a->survey.n_others++;
        goto done;
    }
    SIM_TRY(sim_alloc(&bytes, n, "prep/photos"));
    memcpy(bytes, head->bytes, head->n);
    SIM_TRY(sim_prep_tar_read(t, bytes + head->n, n - head->n));
    sim_prep_survey_add(&a->survey, e->name, bytes, n);
done:
    sim_free(bytes);
    return st;
}

static sim_status add_photo(archive *a, prep_tar *t, const prep_entry *e,
                            const entry_head *head, size_t entry)
{
    sim_status st = SIM_OK;
    char inside[PATH_MAX]; /* the label and the name of an inner tar */
    const size_t n = a->tree.paths.n;

    label_of(a, e, inside);
    if (e->outer)
        (void)snprintf(inside + strlen(inside), sizeof inside - strlen(inside), "%.*s",
                       (int)strlen(e->outer) - 4, e->outer);
    SIM_TRY(sim_prep_photos_add(&a->photos, (uint32_t)entry, e->n_bytes));
    SIM_TRY(sim_prep_tree_add(&a->tree, *inside ? inside : NULL, e->name));
    SIM_TRY(survey_photo(a, t, e, head));
    if ((n + 1) % REPORT_EVERY == 0)
        sim_log_progress("%s: %zu photos so far", sim_prep_base_name(a->path), n + 1);
done:
    return st;
}

static void skip_large(prep_source *out, const prep_entry *e)
{
    if (out->n_bad++ == 0)
        (void)snprintf(out->first_bad, sizeof out->first_bad,
                       "%.150s has %llu bytes, expected at most %d", e->name,
                       (unsigned long long)e->n_bytes, LIMIT);
}

/* Whether a component of a path is hidden, such as a directory of thumbnails. */
static bool is_hidden(const char *path)
{
    for (; *path; path += strcspn(path, "/"), path += *path == '/') {
        const size_t n = strcspn(path, "/");
        if (path[0] == '.' && n > 1 && !(n == 2 && path[1] == '.'))
            return true;
    }
    return false;
}

static sim_status add_entry(archive *a, prep_tar *t, const prep_entry *e, size_t entry,
                            prep_source *out)
{
    sim_status st = SIM_OK;
    entry_head head;

    if (is_hidden(e->name)) {
        a->tree.n_hidden++;
        goto done;
    }
    if (sim_text_ends_with(e->name, ".cls") && !e->is_link && e->n_bytes <= CLS_BYTES) {
        SIM_TRY(add_cls(a, t, e));
        goto done;
    }
    SIM_TRY(read_head(t, e, &head));
    const bool is_photo =
        sim_prep_is_photo(sim_prep_base_name(e->name)) ||
        (head.n >= PREP_SIGNATURE && sim_prep_has_signature(head.bytes));
    if (!is_photo)
        SIM_TRY(sim_prep_tree_count_other(&a->tree, e->name));
    else if (e->is_link)
        a->tree.n_links++;
    else if (e->n_bytes > LIMIT)
        skip_large(out, e);
    else
        SIM_TRY(add_photo(a, t, e, &head, entry));
done:
    return st;
}

static sim_status list_photos(archive *a, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_entry e = {0};
    prep_tar *t = NULL;

    SIM_TRY(sim_prep_tar_open_all(a->sources->paths, a->sources->n, true, &t));
    for (size_t entry = 0;; entry++) {
        SIM_TRY(sim_prep_tar_next(t, &e));
        if (!e.name)
            break;
        SIM_TRY(add_entry(a, t, &e, entry, out));
    }
done:
    sim_prep_tar_close(&t);
    return st;
}

static sim_status tar_open_several(const prep_sources *sources,
                                   const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;
    archive *a = NULL;
    const char *path = sources->paths[0];

    SIM_TRY(sim_new(&a, "prep/tar"));
    out->state = a;
    out->photos = true;
    a->sources = sources;
    a->tree.is_archive = true;
    a->tree.has_labels = sources->n > 1;
    (void)snprintf(a->path, sizeof a->path, "%s", path);
    SIM_TRY(list_photos(a, out));
    SIM_TRY(sim_prep_photos_sort(&a->photos, &a->tree.paths, path));
    SIM_TRY(sim_prep_tree_select(&a->tree, path, options, out));
    SIM_TRY(apply_cls(a, out));
    a->n_items = out->n_items;
    sim_prep_survey_apply(&a->survey, options, out);
    SIM_TRY(sim_prep_tar_open_all(sources->paths, sources->n, true, &a->tar));
done:
    return st;
}

/* ---- second pass: photos ---- */

static sim_status tar_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                size_t *n, uint8_t **buffer)
{
    archive *a = s->state;
    const prep_archive_reader reader = {.tar = a->tar,
                                        .path = a->path,
                                        .item = a->tree.item,
                                        .n_items = a->n_items,
                                        .limit = LIMIT};
    return sim_prep_photos_read(&a->photos, &reader, i, bytes, n, buffer);
}

static void tar_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const archive *a = s->state;
    (void)snprintf(out, out_bytes, "%s",
                   sim_prep_names_get(&a->tree.paths, a->tree.item[i]));
}

static void tar_close_source(prep_source *s)
{
    archive *a = s->state;
    if (!a)
        return;
    sim_prep_tar_close(&a->tar);
    sim_prep_tree_clear(&a->tree);
    sim_prep_set_clear(&a->keys);
    sim_prep_photos_clear(&a->photos);
    sim_free(a->labels);
    sim_free(a);
}

const prep_format sim_prep_format_tar = {
    .name = "tar",
    .help =
        "photos in a tar or zip archive (plain, .gz, .zst ...; CLASS/photo, or a tar of "
        "tars)",
    .sequential = true,
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE,
    .probe_content = sim_prep_is_tar,
    .open_several = tar_open_several,
    .read = tar_read_item,
    .item_name = tar_item_name,
    .close = tar_close_source};
