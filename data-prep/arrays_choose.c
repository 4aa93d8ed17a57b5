/*
 * arrays_choose.c - chooses the arrays of images and labels in a file.
 *
 * A data set that the user names comes first, then one of a known name.  Otherwise the only one of a
 * suitable shape is chosen: images have 3 or 4 dimensions, labels one value or row per image.  A
 * data set belongs to a split if that is a word of its path: X_train, test_set_x, train/images.
 */
#include "arrays.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static const char *const image_names[] = {"images", "x",    "X", "image",
                                          "data",   "imgs", NULL};
static const char *const label_names[] = {"labels", "ans", "y",      "Y",
                                          "label",  "lbl", "target", NULL};

/* ---- by name ---- */

/* "images, raw (a link)" */
static void append_name(void *ctx, const char *path, const char *problem)
{
    char *text = ctx;
    size_t used = strlen(text);
    if (used + strlen(path) + strlen(problem) + 6 < ARRAY_NAME)
        (void)snprintf(text + used, ARRAY_NAME - used, "%s%s%s%s%s", used ? ", " : "",
                       path + 1, *problem ? " (" : "", problem, *problem ? ")" : "");
}

static bool is_readable(const prep_arrays *f, const char *name)
{
    sim_h5_shape s;
    if (f->ops->is_strings(f->file, name) ||
        f->ops->shape_of(f->file, name, &s) == SIM_OK)
        return true;
    sim_error_clear();
    return false;
}

typedef struct {
    const char *name;
    bool found;
} name_search;

static void compare_name(void *ctx, const char *path, const char *problem)
{
    name_search *search = ctx;
    (void)problem;
    search->found |= strcmp(path, search->name) == 0;
}

/* Whether a data set, not a group, has this name. */
static bool is_data_set(const prep_arrays *f, const char *name)
{
    name_search search = {.name = name};
    f->ops->list(f->file, compare_name, &search);
    return search.found;
}

/* The first of the known names that exists; one that can be read is preferred. */
static void find_known(const prep_arrays *f, const char *const *known,
                       char out[ARRAY_NAME])
{
    char name[ARRAY_NAME];

    out[0] = '\0';
    for (; *known; known++) {
        array_full_name(*known, name);
        if (!f->ops->resolve(f->file, name, sizeof name))
            continue;
        if (is_readable(f, name)) {
            (void)snprintf(out, ARRAY_NAME, "%s", name);
            return;
        }
        if (!out[0] && is_data_set(f, name))
            (void)snprintf(out, ARRAY_NAME, "%s", name);
    }
}

static sim_status check_exists(const prep_arrays *f, const char *wanted,
                               const char *option, char name[ARRAY_NAME])
{
    sim_status st = SIM_OK;
    char all[ARRAY_NAME] = "";

    if (name[0] && f->ops->resolve(f->file, name, ARRAY_NAME))
        goto done;
    f->ops->list(f->file, append_name, all);
    SIM_FAIL(SIM_E_DATA, "%s: no data set %s among: %s; specify one with %s", f->path,
             wanted, all[0] ? all : "none", option);
done:
    return st;
}

/* ---- by shape ---- */

typedef struct {
    prep_split split;
    bool is_unreadable;
    bool is_numbers; /* otherwise strings */
    sim_h5_shape shape;
} candidate;

/* All data sets of a file. */
typedef struct {
    const prep_arrays *file;
    prep_names names;
    candidate *sets; /* [names.n] */
    size_t capacity;
    sim_status status;
} candidates;

static void add_candidate(void *ctx, const char *path, const char *problem)
{
    sim_status st = SIM_OK;
    candidates *l = ctx;
    const size_t i = l->names.n;

    if (l->status != SIM_OK)
        return;
    if (i == l->capacity) {
        l->capacity = 2 * i + 64;
        SIM_TRY(sim_grow(&l->sets, l->capacity, "prep/arrays"));
    }
    candidate *c = &l->sets[i];
    *c = (candidate){.split = sim_prep_split_word(path), .is_unreadable = *problem};
    c->is_numbers =
        !*problem && l->file->ops->shape_of(l->file->file, path, &c->shape) == SIM_OK;
    sim_error_clear();
    SIM_TRY(sim_prep_names_add(&l->names, path));
done:
    l->status = st;
}

static void clear_candidates(candidates *l)
{
    sim_prep_names_clear(&l->names);
    sim_free(l->sets);
}

/* Whether a data set may contain images; one that cannot be read may. */
static bool may_be_images(const candidate *c)
{
    const sim_h5_shape *s = &c->shape;
    return c->is_unreadable || (c->is_numbers && (s->n_dims == 3 || s->n_dims == 4) &&
                                array_values_per_row(s) > 1);
}

/* Number of labels, if a data set may contain labels; otherwise 0. */
static size_t count_labels(const prep_arrays *file, const char *name, const candidate *c,
                           bool rows)
{
    char *text = NULL;
    size_t n = 0, width = 0;

    if (c->is_numbers && c->shape.n_dims > 0 &&
        (array_values_per_row(&c->shape) == 1 || (rows && c->shape.n_dims == 2)))
        return c->shape.dims[0];
    if (c->is_numbers || c->is_unreadable)
        return 0;
    SIM_IGNORE(
        file->ops->read_strings(file->file, name, ARRAY_MAX_IMAGES, &n, &width, &text));
    sim_error_clear();
    sim_free(text);
    return n;
}

/* Whether the last component of a path contains one of the words. */
static bool contains_word(const char *path, const char *const *words)
{
    char word[ARRAY_NAME];

    for (const char *at = sim_prep_base_name(path);
         sim_prep_next_word(&at, word, ARRAY_NAME);)
        for (size_t i = 0; words[i]; i++)
            if (strcmp(word, words[i]) == 0)
                return true;
    return false;
}

static bool same_group(const char *a, const char *b)
{
    const size_t n = (size_t)(sim_prep_base_name(a) - a);
    return n == (size_t)(sim_prep_base_name(b) - b) && strncmp(a, b, n) == 0;
}

/* The only one of the marked data sets; of several in one group, the only one with a known word in
 * its name.  "" if there is none. */
static void pick_one(const candidates *l, const bool *marked, const char *const *words,
                     char out[ARRAY_NAME])
{
    const char *first = NULL, *known = NULL;
    size_t n = 0, n_known = 0;
    bool one_group = true;

    for (size_t i = 0; i < l->names.n; i++) {
        const char *name = sim_prep_names_get(&l->names, i);
        if (!marked[i])
            continue;
        first = first ? first : name;
        one_group &= same_group(first, name);
        n++;
        if (contains_word(name, words)) {
            known = name;
            n_known++;
        }
    }
    out[0] = '\0';
    if (n == 1 || (n_known == 1 && one_group))
        (void)snprintf(out, ARRAY_NAME, "%s", n == 1 ? first : known);
}

/* ---- images ---- */

/* Lists the splits of images; false if there are none. */
static bool list_splits(const candidates *l, bool has[PREP_N_SPLITS], char *text,
                        size_t text_bytes)
{
    size_t used = 0;

    for (size_t i = 0; i < l->names.n; i++)
        has[l->sets[i].split] |= may_be_images(&l->sets[i]);
    text[0] = '\0';
    for (prep_split s = PREP_TRAIN; s < PREP_N_SPLITS; s++)
        if (has[s])
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%s",
                                     used ? ", " : "", sim_prep_split_name(s));
    return used > 0;
}

/* Chooses among the images of one split, or, without splits, among all. */
static sim_status search_images(const candidates *l, prep_split split,
                                char out[ARRAY_NAME])
{
    sim_status st = SIM_OK;
    bool *marked = NULL;

    SIM_TRY(sim_alloc(&marked, l->names.n + 1, "prep/arrays"));
    for (size_t i = 0; i < l->names.n; i++)
        marked[i] = may_be_images(&l->sets[i]) && l->sets[i].split == split;
    pick_one(l, marked, image_names, out);
done:
    sim_free(marked);
    return st;
}

static sim_status choose_images(const candidates *l, prep_split requested,
                                char out[ARRAY_NAME], prep_split *split)
{
    sim_status st = SIM_OK;
    bool has[PREP_N_SPLITS] = {false};
    const char *path = l->file->path;
    char splits[64];

    find_known(l->file, image_names, out);
    const bool any = list_splits(l, has, splits, sizeof splits);
    if (!any || (out[0] && requested == PREP_DEFAULT_SPLIT)) {
        SIM_TRY(sim_prep_check_file_split(path, requested));
        if (!out[0])
            SIM_TRY(search_images(l, PREP_DEFAULT_SPLIT, out));
        goto done;
    }
    *split = requested == PREP_DEFAULT_SPLIT ? PREP_TRAIN : requested;
    SIM_CHECK(has[*split], SIM_E_INPUT,
              "%s has no split %s; its splits are %s: select one with --split", path,
              sim_prep_split_name(*split), splits);
    SIM_TRY(search_images(l, *split, out));
    if (out[0])
        sim_log("split %s: %s of %s (splits: %s)", sim_prep_split_name(*split), out, path,
                splits);
done:
    return st;
}

sim_status sim_arrays_choose_images(const prep_arrays *file, const prep_options *o,
                                    char out[ARRAY_NAME], prep_split *split)
{
    sim_status st = SIM_OK;
    candidates l = {.file = file};

    if (o->images_key) {
        array_full_name(o->images_key, out);
        *split = sim_prep_split_word(out);
        if (*split != o->split)
            SIM_TRY(sim_prep_check_file_split(file->path, o->split));
    } else {
        file->ops->list(file->file, add_candidate, &l);
        SIM_TRY(l.status);
        SIM_TRY(choose_images(&l, o->split, out, split));
    }
    SIM_TRY(check_exists(file,
                         o->images_key
                             ? o->images_key
                             : "of images (a known name, or the only array of 3 or 4 "
                               "dimensions)",
                         "--images-key, or a group of classes with --path", out));
done:
    clear_candidates(&l);
    return st;
}

/* ---- labels ---- */

/* Lists of names and groups are not labels. */
static bool is_no_label(const char *name, const char *groups_key)
{
    static const char *const lists[] = {ARRAY_CLASS_LISTS, "/name", ARRAY_GROUP,
                                        ARRAY_GROUPS};
    char groups[ARRAY_NAME];

    array_full_name(groups_key ? groups_key : ARRAY_GROUP, groups);
    if (strcmp(name, groups) == 0)
        return true;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (strcmp(name, lists[i]) == 0)
            return true;
    return false;
}

/* rows: one-hot rows as well. */
static sim_status search_labels(const candidates *l, const char *groups_key,
                                prep_split split, size_t n_images, bool rows,
                                char out[ARRAY_NAME])
{
    sim_status st = SIM_OK;
    bool *marked = NULL;

    SIM_TRY(sim_alloc(&marked, l->names.n + 1, "prep/arrays"));
    for (size_t i = 0; i < l->names.n; i++) {
        const char *name = sim_prep_names_get(&l->names, i);
        marked[i] = l->sets[i].split == split && !is_no_label(name, groups_key) &&
                    count_labels(l->file, name, &l->sets[i], rows) == n_images;
    }
    pick_one(l, marked, label_names, out);
done:
    sim_free(marked);
    return st;
}

sim_status sim_arrays_choose_labels(const prep_arrays *file, const char *key,
                                    const char *groups_key, const char *images,
                                    size_t n_images, char out[ARRAY_NAME])
{
    sim_status st = SIM_OK;
    candidates l = {.file = file};
    const prep_split split = sim_prep_split_word(images);

    out[0] = '\0';
    if (key) {
        array_full_name(key, out);
        SIM_TRY(check_exists(file, key, "--labels-key", out));
        goto done;
    }
    if (split == PREP_DEFAULT_SPLIT)
        find_known(file, label_names, out);
    if (out[0])
        goto done;
    file->ops->list(file->file, add_candidate, &l);
    SIM_TRY(l.status);
    for (int rows = 0; rows < 2 && !out[0]; rows++)
        SIM_TRY(search_labels(&l, groups_key, split, n_images, rows, out));
    if (!out[0])
        find_known(file, label_names, out);
    else
        sim_log("%s: the labels of %s are %s", file->path, images, out);
done:
    if (st == SIM_OK && out[0] && !file->ops->resolve(file->file, out, ARRAY_NAME))
        out[0] = '\0';
    clear_candidates(&l);
    return st;
}
