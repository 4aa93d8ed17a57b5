/*
 * from_tar.c - photos in a tar archive, plain or compressed, or in tars within it.
 *
 * The archive is read twice: first the names, then the photos.  Names are never used as
 * paths.  The last directory of a name is the class; directories named "train", "val",
 * "test" and "unlabeled" are splits.  The class of a photo without a directory in an inner
 * tar is the name of that tar (ImageNet has one tar per class).
 */
#include "prep.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 28, NAME = 256, NO_CLASS = -1, REPORT_EVERY = 4096 };

typedef enum { NO_SPLIT, TRAIN, VAL, TEST, UNLABELED, N_SPLITS } split_id;
static const char *const split_names[N_SPLITS] = {"", "train", "val", "test",
                                                  "unlabeled"};

typedef struct {
    int32_t class;
    uint32_t entry; /* number of the photo in the archive */
    uint8_t split;  /* split_id */
} photo;

typedef struct {
    char path[PATH_MAX];
    prep_names names, classes; /* of photos; of classes, in order of appearance */
    photo *photos;             /* [names.n] */
    uint32_t *item;            /* [n_items]: index of the photo */
    uint32_t *sorted;          /* [classes.n]: classes sorted by name */
    size_t capacity, class_capacity;
    size_t n_photos, n_links, n_in_split[N_SPLITS];
    prep_tar *tar; /* for the second pass */
    size_t at;     /* photos that it has passed */
} archive;

/* ---- names ---- */

/* Parses a name: returns its split; class: the directory that is its class, or "". */
static split_id parse_name(const char *name, char class[NAME])
{
    split_id split = NO_SPLIT;
    class[0] = '\0';
    for (const char *slash; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
        int n = slash - name < NAME - 1 ? (int)(slash - name) : NAME - 1;
        char part[NAME];
        (void)snprintf(part, sizeof part, "%.*s", n, name);
        if (!part[0] || strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
            continue;
        int k = split == NO_SPLIT ? TRAIN : N_SPLITS;
        while (k < N_SPLITS && strcmp(part, split_names[k]) != 0)
            k++;
        if (k < N_SPLITS) {
            split = (split_id)k;
            class[0] = '\0';
        } else {
            memcpy(class, part, sizeof part);
        }
    }
    return split;
}

/* Binary search of a class in `sorted`; *at is its position, or where to insert it. */
static bool find_class(const archive *a, const char *name, size_t *at)
{
    size_t lo = 0, hi = a->classes.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(sim_prep_names_get(&a->classes, a->sorted[mid]), name);
        if (order == 0) {
            *at = mid;
            return true;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *at = lo;
    return false;
}

static sim_status find_or_add_class(archive *a, const char *name, int32_t *out)
{
    sim_status st = SIM_OK;
    size_t at = 0;

    if (find_class(a, name, &at)) {
        *out = (int32_t)a->sorted[at];
        goto done;
    }
    if (a->classes.n == a->class_capacity) {
        a->class_capacity = a->class_capacity ? 2 * a->class_capacity : 1024;
        SIM_TRY(sim_grow(&a->sorted, a->class_capacity, "prep/classes"));
    }
    memmove(a->sorted + at + 1, a->sorted + at, (a->classes.n - at) * sizeof *a->sorted);
    a->sorted[at] = (uint32_t)a->classes.n;
    *out = (int32_t)a->classes.n;
    SIM_TRY(sim_prep_names_add(&a->classes, name));
done:
    return st;
}

/* ---- first pass: names ---- */

static bool is_candidate(const prep_entry *e)
{
    return !e->is_link && e->n_bytes <= LIMIT &&
           sim_prep_is_photo(sim_prep_base_name(e->name));
}

static sim_status add_photo(archive *a, const prep_entry *e)
{
    sim_status st = SIM_OK;
    char class[NAME];
    photo p = {.class = NO_CLASS, .entry = (uint32_t)a->n_photos++};

    p.split = (uint8_t)parse_name(e->name, class);
    if (!class[0] && e->outer)
        (void)snprintf(class, sizeof class, "%.*s", (int)strlen(e->outer) - 4, e->outer);
    if (class[0])
        SIM_TRY(find_or_add_class(a, class, &p.class));
    if (a->names.n == a->capacity) {
        a->capacity = a->capacity ? 2 * a->capacity : 1024;
        SIM_TRY(sim_grow(&a->photos, a->capacity, "prep/photos"));
    }
    a->photos[a->names.n] = p;
    SIM_TRY(sim_prep_names_add(&a->names, e->name));
    a->n_in_split[p.split]++;
    if (a->n_photos % REPORT_EVERY == 0)
        sim_log_progress("%s: %zu photos so far", sim_prep_base_name(a->path),
                         a->n_photos);
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

static sim_status list_photos(archive *a, prep_source *out)
{
    sim_status st = SIM_OK;
    prep_entry e = {0};
    prep_tar *t = NULL;

    SIM_TRY(sim_prep_tar_open(a->path, true, &t));
    for (;;) {
        SIM_TRY(sim_prep_tar_next(t, &e));
        if (!e.name)
            break;
        if (is_candidate(&e))
            SIM_TRY(add_photo(a, &e));
        else if (sim_prep_is_photo(sim_prep_base_name(e.name)) && e.is_link)
            a->n_links++;
        else if (sim_prep_is_photo(sim_prep_base_name(e.name)))
            skip_large(out, &e);
    }
    SIM_CHECK(a->n_photos > 0, SIM_E_INPUT,
              "%s contains no .jpg, .jpeg or .png files, and no binary file of CIFAR or "
              "STL-10",
              a->path);
done:
    sim_prep_tar_close(&t);
    return st;
}

/* ---- selection of a split ---- */

static sim_status find_split(const archive *a, prep_split split, split_id *out)
{
    sim_status st = SIM_OK;
    bool any = a->n_in_split[NO_SPLIT] < a->n_photos;
    split_id wanted = split == PREP_TRAIN       ? TRAIN
                      : split == PREP_UNLABELED ? UNLABELED
                      : a->n_in_split[VAL]      ? VAL
                                                : TEST;
    SIM_CHECK(a->n_in_split[wanted] || (!any && wanted != UNLABELED), SIM_E_INPUT,
              "%s contains no directory for the split %s", a->path,
              sim_prep_split_name(split));
    *out = a->n_in_split[wanted] ? wanted : NO_SPLIT;
done:
    return st;
}

/* Numbers the classes that have a photo of the split, in the order of their names. */
static sim_status number_classes(archive *a, split_id split, prep_source *out,
                                 int32_t *number)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < a->names.n; i++)
        if (a->photos[i].split == split && a->photos[i].class != NO_CLASS)
            number[a->photos[i].class] = 1;
    SIM_TRY(sim_alloc(&out->class_names, a->classes.n + 1, "prep/names"));
    for (size_t k = 0; k < a->classes.n; k++) {
        if (!number[a->sorted[k]])
            continue;
        number[a->sorted[k]] = (int32_t)out->n_classes;
        SIM_TRY(sim_text_copy(sim_prep_names_get(&a->classes, a->sorted[k]), "prep/names",
                              &out->class_names[out->n_classes]));
        out->n_classes++;
    }
done:
    return st;
}

static sim_status select_items(archive *a, split_id split, prep_source *out)
{
    sim_status st = SIM_OK;
    int32_t *number = NULL;
    size_t n_stray = 0;

    SIM_TRY(sim_alloc(&number, a->classes.n, "prep/classes"));
    SIM_TRY(number_classes(a, split, out, number));
    SIM_TRY(sim_alloc(&a->item, a->names.n, "prep/items"));
    if (out->n_classes)
        SIM_TRY(sim_alloc(&out->labels, a->names.n, "prep/labels"));
    for (size_t i = 0; i < a->names.n; i++) {
        const photo *p = &a->photos[i];
        if (p->split != split)
            continue;
        if (out->n_classes && p->class == NO_CLASS) {
            n_stray++;
            continue;
        }
        if (out->n_classes)
            out->labels[out->n_items] = number[p->class];
        a->item[out->n_items++] = (uint32_t)i;
    }
    if (n_stray)
        sim_log_warn("%zu photos outside of class directories are skipped", n_stray);
done:
    sim_free(number);
    return st;
}

static sim_status tar_open_source(const char *path, const prep_options *options,
                                  prep_source *out)
{
    sim_status st = SIM_OK;
    archive *a = NULL;
    split_id split = NO_SPLIT;

    SIM_TRY(sim_new(&a, "prep/tar"));
    out->state = a;
    out->photos = true;
    (void)snprintf(a->path, sizeof a->path, "%s", path);
    SIM_TRY(list_photos(a, out));
    if (a->n_links)
        sim_log_warn("%s: %zu photos are links and are skipped; "
                     "tar --hard-dereference stores their data",
                     path, a->n_links);
    SIM_TRY(find_split(a, options->split, &split));
    SIM_TRY(select_items(a, split, out));
    SIM_TRY(sim_prep_tar_open(path, true, &a->tar));
done:
    return st;
}

/* ---- second pass: photos ---- */

static sim_status tar_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    archive *a = s->state;
    size_t wanted = a->photos[a->item[i]].entry;
    prep_entry e = {0};

    SIM_ASSERT(a->at <= wanted);
    while (a->at <= wanted) {
        SIM_TRY(sim_prep_tar_next(a->tar, &e));
        SIM_CHECK(e.name, SIM_E_DATA, "%s was truncated while it was read", a->path);
        a->at += is_candidate(&e);
    }
    SIM_TRY(sim_prep_tar_load(a->tar, LIMIT, buffer, n));
    *bytes = *buffer;
done:
    return st;
}

static void tar_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const archive *a = s->state;
    (void)snprintf(out, out_bytes, "%.200s: %s", sim_prep_base_name(a->path),
                   sim_prep_names_get(&a->names, a->item[i]));
}

static void tar_close_source(prep_source *s)
{
    archive *a = s->state;
    if (!a)
        return;
    sim_prep_tar_close(&a->tar);
    sim_prep_names_clear(&a->names);
    sim_prep_names_clear(&a->classes);
    sim_free(a->photos);
    sim_free(a->item);
    sim_free(a->sorted);
    sim_free(a);
}

const prep_format sim_prep_format_tar = {
    .name = "tar",
    .help =
        "photos in a tar archive (.tar, .gz, .zst ...; CLASS/photo, or a tar of tars)",
    .sequential = true,
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE,
    .probe = sim_prep_is_tar,
    .open = tar_open_source,
    .read = tar_read_item,
    .item_name = tar_item_name,
    .close = tar_close_source};
