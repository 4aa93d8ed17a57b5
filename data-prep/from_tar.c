/*
 * from_tar.c - photos in a tar or zip archive, plain or compressed, or in tars within it.
 *
 * The archive is read twice: first the names, then the photos, in the order of their paths if
 * they fit in memory (archive_photos.c).  Names are never used as
 * paths.  tree.c selects photos and numbers classes; an inner tar counts as a directory
 * (ImageNet has one tar per class).  sidecars.c reads labels and groups in files beside the photos
 * (WebDataset).
 */
#include "archive_photos.h"
#include "sidecars.h"
#include "tree.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 1 << 28, REPORT_EVERY = 4096 };

typedef struct {
    char path[PATH_MAX]; /* of the first archive, for messages */
    const prep_sources *sources;
    const prep_options *options; /* while the source is opened */
    prep_tree tree;
    prep_photos photos; /* of tree.paths */
    size_t n_items;     /* that are selected */
    prep_sidecars sidecars;
    prep_survey survey; /* of all photos */
    prep_tar *tar;      /* for the second pass */
} archive;

/* "LABEL/", if there are several archives. */
static void label_of(const archive *a, const prep_entry *e, char out[PATH_MAX])
{
    out[0] = '\0';
    if (a->tree.has_labels)
        (void)snprintf(out, PATH_MAX, "%s/", a->sources->labels[e->archive]);
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
    sim_prep_survey_add(&a->survey, a->options, e->name, bytes, n);
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

/* Its name begins with the label of the archive, as those of the photos in the tree. */
static sim_status add_sidecar(archive *a, prep_tar *t, const prep_entry *e)
{
    sim_status st = SIM_OK;
    char label[PATH_MAX], name[2 * PATH_MAX];
    const char *path = e->name;
    prep_entry named = *e;
    bool is_used = false;

    while (strncmp(path, "./", 2) == 0)
        path += 2;
    label_of(a, e, label);
    (void)snprintf(name, sizeof name, "%s%s", label, path);
    named.name = name;
    SIM_TRY(sim_prep_sidecars_add(&a->sidecars, t, &named, a->sources->paths[e->archive],
                                  a->options, &is_used));
    if (!is_used)
        SIM_TRY(sim_prep_tree_count_other(&a->tree, e->name));
done:
    return st;
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
    if (sim_prep_is_sidecar(e)) {
        SIM_TRY(add_sidecar(a, t, e));
        goto done;
    }
    SIM_TRY(read_head(t, e, &head));
    const bool is_photo = sim_prep_is_photo(sim_prep_base_name(e->name)) ||
                          sim_prep_has_photo_content(e->name, head.bytes, head.n);
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
    a->options = options;
    a->tree.has_labels = sources->n > 1;
    a->options = options;
    (void)snprintf(a->path, sizeof a->path, "%s", path);
    SIM_TRY(list_photos(a, out));
    SIM_TRY(sim_prep_photos_sort(&a->photos, &a->tree.paths, path));
    SIM_TRY(sim_prep_tree_select(&a->tree, path, options, out));
    SIM_TRY(sim_prep_sidecars_apply(&a->sidecars, &a->tree, path, options, out));
    a->n_items = out->n_items;
    sim_prep_survey_apply(&a->survey, options, out);
    a->options = NULL;
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
    sim_prep_sidecars_clear(&a->sidecars);
    sim_prep_photos_clear(&a->photos);
    sim_free(a);
}

const prep_format sim_prep_format_tar = {
    .name = "tar",
    .help =
        "photos in a tar or zip archive (plain, .gz, .zst ...; CLASS/photo, or a tar of "
        "tars)",
    .sequential = true,
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE | PREP_HAS_KEYS | PREP_HAS_PAGES,
    .probe_content = sim_prep_is_tar,
    .open_several = tar_open_several,
    .read = tar_read_item,
    .item_name = tar_item_name,
    .close = tar_close_source};
