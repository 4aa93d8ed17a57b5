/*
 * from_tar.c - photos in a tar archive, plain or compressed, or in tars within it.
 *
 * Gone through twice from front to end: once for the names, once for the photos.  A name is
 * never a path here: its folder is the class, "train", "val", "test" and "unlabeled" among
 * its folders are splits.  In a tar within (ImageNet has one a class) photos without a
 * folder take the name of that tar.
 */
#include "prep.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 28, NAME = 256, NO_CLASS = -1, TELL_EVERY = 4096 };

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
    prep_list names, classes; /* of photos; of classes as they came */
    photo *photos;            /* [names.n] */
    uint32_t *item;           /* [n_items]: which photo */
    uint32_t *sorted;         /* [classes.n]: classes in order of name */
    size_t room, class_room;
    size_t n_photos, n_links, n_seen[N_SPLITS];
    prep_tar *tar; /* the second time */
    size_t at;     /* photos of it behind us */
} archive;

/* ---- names ---- */

/* Takes a name apart: its split, and the folder that is its class ("" for none). */
static split_id take_apart(const char *name, char class[NAME])
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

/* Place of a class in `sorted`, or where it belongs. */
static bool find_class(const archive *a, const char *name, size_t *at)
{
    size_t lo = 0, hi = a->classes.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(sim_prep_list_name(&a->classes, a->sorted[mid]), name);
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

static sim_status class_of(archive *a, const char *name, int32_t *out)
{
    sim_status st = SIM_OK;
    size_t at = 0;

    if (find_class(a, name, &at)) {
        *out = (int32_t)a->sorted[at];
        goto done;
    }
    if (a->classes.n == a->class_room) {
        a->class_room = a->class_room ? 2 * a->class_room : 1024;
        SIM_TRY(sim_grow(&a->sorted, a->class_room, "prep/classes"));
    }
    memmove(a->sorted + at + 1, a->sorted + at, (a->classes.n - at) * sizeof *a->sorted);
    a->sorted[at] = (uint32_t)a->classes.n;
    *out = (int32_t)a->classes.n;
    SIM_TRY(sim_prep_list_add(&a->classes, name));
done:
    return st;
}

/* ---- the first time: names ---- */

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

    p.split = (uint8_t)take_apart(e->name, class);
    if (!class[0] && e->outer)
        (void)snprintf(class, sizeof class, "%.*s", (int)strlen(e->outer) - 4, e->outer);
    if (class[0])
        SIM_TRY(class_of(a, class, &p.class));
    if (a->names.n == a->room) {
        a->room = a->room ? 2 * a->room : 1024;
        SIM_TRY(sim_grow(&a->photos, a->room, "prep/photos"));
    }
    a->photos[a->names.n] = p;
    SIM_TRY(sim_prep_list_add(&a->names, e->name));
    a->n_seen[p.split]++;
    if (a->n_photos % TELL_EVERY == 0)
        sim_log_progress("%s: %zu photos so far", sim_prep_base_name(a->path),
                         a->n_photos);
done:
    return st;
}

static void refuse_large(prep_source *out, const prep_entry *e)
{
    if (out->n_bad++ == 0)
        (void)snprintf(out->first_bad, sizeof out->first_bad,
                       "%.150s has %llu bytes, a photo at most %d", e->name,
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
            refuse_large(out, &e);
    }
    SIM_CHECK(a->n_photos > 0, SIM_E_INPUT,
              "%s holds no .jpg, .jpeg or .png, and no file of CIFAR or STL-10 (binary)",
              a->path);
done:
    sim_prep_tar_close(&t);
    return st;
}

/* ---- what of it is wanted ---- */

static sim_status wanted_split(const archive *a, const char *split, split_id *out)
{
    sim_status st = SIM_OK;
    bool any = a->n_seen[NO_SPLIT] < a->n_photos;
    split_id want = strcmp(split, "train") == 0       ? TRAIN
                    : strcmp(split, "unlabeled") == 0 ? UNLABELED
                    : a->n_seen[VAL]                  ? VAL
                                                      : TEST;
    SIM_CHECK(a->n_seen[want] || (!any && want != UNLABELED), SIM_E_INPUT,
              "%s has no folder for the split %s", a->path, split);
    *out = a->n_seen[want] ? want : NO_SPLIT;
done:
    return st;
}

/* Numbers the classes that have a photo of the split, by name. */
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
        SIM_TRY(sim_text_copy(sim_prep_list_name(&a->classes, a->sorted[k]), "prep/names",
                              &out->class_names[out->n_classes]));
        out->n_classes++;
    }
done:
    return st;
}

static sim_status pick_items(archive *a, split_id split, prep_source *out)
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
        sim_log_warn("%zu photos beside the folders of classes are left out", n_stray);
done:
    sim_free(number);
    return st;
}

static sim_status open_source(const char *path, const prep_options *options,
                              prep_source *out)
{
    sim_status st = SIM_OK;
    archive *a = NULL;
    split_id split = NO_SPLIT;

    SIM_TRY(sim_new(&a, "prep/tar"));
    out->own = a;
    out->photos = true;
    (void)snprintf(a->path, sizeof a->path, "%s", path);
    SIM_TRY(list_photos(a, out));
    if (a->n_links)
        sim_log_warn("%s: %zu photos are links to others and left out; "
                     "tar --hard-dereference stores them",
                     path, a->n_links);
    SIM_TRY(wanted_split(a, options->split, &split));
    SIM_TRY(pick_items(a, split, out));
    SIM_TRY(sim_prep_tar_open(path, true, &a->tar));
done:
    return st;
}

/* ---- the second time: photos ---- */

static sim_status read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                            size_t *n, uint8_t **grown)
{
    sim_status st = SIM_OK;
    archive *a = s->own;
    size_t want = a->photos[a->item[i]].entry;
    prep_entry e = {0};

    SIM_ASSERT(a->at <= want);
    while (a->at <= want) {
        SIM_TRY(sim_prep_tar_next(a->tar, &e));
        SIM_CHECK(e.name, SIM_E_DATA, "%s became shorter while it was read", a->path);
        a->at += is_candidate(&e);
    }
    SIM_TRY(sim_prep_tar_load(a->tar, LIMIT, grown, n));
    *bytes = *grown;
done:
    return st;
}

static void item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const archive *a = s->own;
    (void)snprintf(out, out_bytes, "%.200s: %s", sim_prep_base_name(a->path),
                   sim_prep_list_name(&a->names, a->item[i]));
}

static void close_source(prep_source *s)
{
    archive *a = s->own;
    if (!a)
        return;
    sim_prep_tar_close(&a->tar);
    sim_prep_list_clear(&a->names);
    sim_prep_list_clear(&a->classes);
    sim_free(a->photos);
    sim_free(a->item);
    sim_free(a->sorted);
    sim_free(a);
}

const prep_format sim_prep_format_tar = {
    .name = "tar",
    .help =
        "photos in a tar archive (.tar, .gz, .zst ...; FOLDER/photo, or tars of tars)",
    .in_order = true,
    .knows = PREP_UNLABELED | PREP_RESIZE,
    .probe = sim_prep_is_tar,
    .open = open_source,
    .read = read_item,
    .item_name = item_name,
    .close = close_source};
