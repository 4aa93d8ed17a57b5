/*
 * sources.c - the sources of a conversion: patterns of names, their order, and labels by which items are named.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_prep_sources_clear(prep_sources *s)
{
    for (size_t i = 0; i < s->n; i++) {
        sim_free(s->paths[i]);
        sim_free(s->labels[i]);
    }
    sim_free(s->paths);
    sim_free(s->labels);
    *s = (prep_sources){0};
}

static sim_status add_path(prep_sources *s, const char *path)
{
    sim_status st = SIM_OK;

    SIM_CHECK(s->n < PREP_MAX_SOURCES, SIM_E_USAGE, "more than %d sources",
              PREP_MAX_SOURCES);
    if (s->n == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 16;
        SIM_TRY(sim_grow(&s->paths, s->capacity, "prep/sources"));
        SIM_TRY(sim_grow(&s->labels, s->capacity, "prep/sources"));
    }
    s->labels[s->n] = NULL;
    SIM_TRY(sim_text_copy(path, "prep/sources", &s->paths[s->n]));
    s->n++;
done:
    return st;
}

/* ---- wildcards: * ? [ in the last component ---- */

static sim_status add_matches(prep_sources *s, const char *pattern)
{
    sim_status st = SIM_OK;
    char directory[PATH_MAX] = ".", path[PATH_MAX];
    const char *name = sim_prep_base_name(pattern);
    const size_t n_before = s->n, n_directory = (size_t)(name - pattern);
    sim_names names = {0};

    if (n_directory > 0)
        (void)snprintf(directory, sizeof directory, "%.*s", (int)n_directory, pattern);
    SIM_CHECK(
        !strpbrk(directory, "*?["), SIM_E_USAGE,
        "%s does not exist; *, ? and [ are expanded in the last part of a path only",
        pattern);
    SIM_TRY(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (fnmatch(name, names.names[i], FNM_PERIOD) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%.*s%s", (int)n_directory, pattern,
                       names.names[i]);
        SIM_TRY(add_path(s, path));
    }
    SIM_CHECK(s->n > n_before, SIM_E_INPUT, "no file matches %s", pattern);
done:
    sim_names_clear(&names);
    return st;
}

static sim_status add_existing(prep_sources *s, const char *path)
{
    return !sim_path_exists(path) && strpbrk(path, "*?[") ? add_matches(s, path)
                                                          : add_path(s, path);
}

/* ---- braces: {000..009} and {a,b}, as of a shell ---- */

static sim_status expand_braces(prep_sources *s, const char *pattern);

/* The pattern with a text in place of its first group, [open, close]. */
static sim_status add_replaced(prep_sources *s, const char *pattern, const char *open,
                               const char *close, const char *text, size_t n)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    const int length = snprintf(path, sizeof path, "%.*s%.*s%s", (int)(open - pattern),
                                pattern, (int)n, text, close + 1);

    SIM_CHECK(length > 0 && (size_t)length < sizeof path, SIM_E_INPUT,
              "%.300s: the path is too long", pattern);
    SIM_TRY(expand_braces(s, path));
done:
    return st;
}

/* Whether a group is "LO..HI"; the numbers have the width of the longer one if one begins with 0. */
static bool read_range(const char *open, const char *close, long *lo, long *hi,
                       int *width)
{
    char *middle = NULL, *end = NULL;

    if (strspn(open + 1, "0123456789") == 0)
        return false;
    *lo = strtol(open + 1, &middle, 10);
    if (strncmp(middle, "..", 2) != 0 || strspn(middle + 2, "0123456789") == 0)
        return false;
    *hi = strtol(middle + 2, &end, 10);
    const int n_lo = (int)(middle - open - 1), n_hi = (int)(close - middle - 2);
    const bool pads = (open[1] == '0' && n_lo > 1) || (middle[2] == '0' && n_hi > 1);
    *width = pads ? (n_lo > n_hi ? n_lo : n_hi) : 0;
    return end == close;
}

static sim_status add_range(prep_sources *s, const char *pattern, const char *open,
                            const char *close, long lo, long hi, int width)
{
    sim_status st = SIM_OK;
    char number[32];

    SIM_CHECK(lo <= hi && hi - lo < PREP_MAX_SOURCES, SIM_E_USAGE,
              "%s: {%ld..%ld} is not a range of at most %d increasing numbers", pattern,
              lo, hi, PREP_MAX_SOURCES);
    for (long i = lo; i <= hi; i++) {
        const int n = snprintf(number, sizeof number, "%0*ld", width, i);
        SIM_TRY(add_replaced(s, pattern, open, close, number, (size_t)n));
    }
done:
    return st;
}

/* The first group that is a range or has commas; false if there is none. */
static bool find_group(const char *pattern, const char **open, const char **close)
{
    long lo = 0, hi = 0;
    int width = 0;

    for (*open = strchr(pattern, '{'); *open; *open = strchr(*open + 1, '{')) {
        *close = *open + strcspn(*open, "}");
        if (!**close)
            return false;
        if (read_range(*open, *close, &lo, &hi, &width) ||
            memchr(*open, ',', (size_t)(*close - *open)))
            return true;
    }
    return false;
}

static sim_status expand_braces(prep_sources *s, const char *pattern)
{
    sim_status st = SIM_OK;
    const char *open = NULL, *close = NULL;
    long lo = 0, hi = 0;
    int width = 0;

    if (!find_group(pattern, &open, &close)) {
        SIM_TRY(add_existing(s, pattern));
        goto done;
    }
    if (read_range(open, close, &lo, &hi, &width)) {
        SIM_TRY(add_range(s, pattern, open, close, lo, hi, width));
        goto done;
    }
    for (const char *at = open + 1; at <= close; at += strcspn(at, ",}") + 1)
        SIM_TRY(add_replaced(s, pattern, open, close, at, strcspn(at, ",}")));
done:
    return st;
}

/* ---- order and labels ---- */

/* The length of the directories that all paths begin with. */
static size_t common_directory(const prep_sources *s)
{
    size_t n = 0;

    SIM_ASSERT(s->n > 0);
    for (size_t at = 0;; at++) {
        for (size_t i = 0; i < s->n; i++)
            if (s->paths[i][at] != s->paths[0][at] || !s->paths[i][at])
                return n;
        if (s->paths[0][at] == '/')
            n = at + 1;
    }
}

static bool has_equal_labels(const prep_sources *s)
{
    for (size_t i = 1; i < s->n; i++)
        if (strcmp(s->labels[i - 1], s->labels[i]) == 0)
            return true;
    return false;
}

typedef struct {
    char *path, *label;
} source;

static int by_label(const void *a, const void *b)
{
    const source *x = a, *y = b;
    const int order = strcmp(x->label, y->label);
    return order ? order : strcmp(x->path, y->path);
}

static sim_status sort_by_label(prep_sources *s)
{
    sim_status st = SIM_OK;
    source *list = NULL;

    SIM_TRY(sim_alloc(&list, s->n, "prep/sources"));
    for (size_t i = 0; i < s->n; i++)
        list[i] = (source){s->paths[i], s->labels[i]};
    qsort(list, s->n, sizeof *list, by_label);
    for (size_t i = 0; i < s->n; i++) {
        s->paths[i] = list[i].path;
        s->labels[i] = list[i].label;
    }
done:
    sim_free(list);
    return st;
}

/* The last components of the paths; if two are equal, what follows their common directory, with : in
 * place of slashes. */
static sim_status label_sources(prep_sources *s, bool whole)
{
    sim_status st = SIM_OK;
    const size_t skip = common_directory(s);
    char label[PATH_MAX];

    for (size_t i = 0; i < s->n; i++) {
        if (whole) {
            (void)snprintf(label, sizeof label, "%s", s->paths[i] + skip);
            for (size_t n = strlen(label); n > 1 && label[n - 1] == '/'; n--)
                label[n - 1] = '\0';
        } else {
            sim_prep_last_component(s->paths[i], label, sizeof label);
        }
        for (char *p = strchr(label, '/'); p; p = strchr(p, '/'))
            *p = ':';
        SIM_CHECK(s->n == 1 || (strcmp(label, ".") != 0 && strcmp(label, "..") != 0),
                  SIM_E_USAGE,
                  "%s: of several sources, give each by its name, which the names of its "
                  "images begin with",
                  s->paths[i]);
        SIM_FREE(s->labels[i]);
        SIM_TRY(sim_text_copy(label, "prep/sources", &s->labels[i]));
    }
    SIM_TRY(sort_by_label(s));
done:
    return st;
}

static sim_status check_distinct(const prep_sources *s)
{
    sim_status st = SIM_OK;

    for (size_t i = 1; i < s->n; i++)
        SIM_CHECK(strcmp(s->labels[i - 1], s->labels[i]) != 0 &&
                      !sim_path_is_same(s->paths[i - 1], s->paths[i]),
                  SIM_E_USAGE, "%s and %s are the same source; give it once",
                  s->paths[i - 1], s->paths[i]);
done:
    return st;
}

sim_status sim_prep_sources_expand(const char *const *patterns, size_t n,
                                   prep_sources *out)
{
    sim_status st = SIM_OK;
    prep_sources s = {0};

    for (size_t i = 0; i < n; i++)
        SIM_TRY(sim_path_exists(patterns[i]) ? add_path(&s, patterns[i])
                                             : expand_braces(&s, patterns[i]));
    SIM_TRY(label_sources(&s, false));
    if (has_equal_labels(&s))
        SIM_TRY(label_sources(&s, true));
    SIM_TRY(check_distinct(&s));
    *out = s;
    s = (prep_sources){0};
done:
    sim_prep_sources_clear(&s);
    return st;
}

size_t sim_prep_sources_find(const prep_sources *s, const char *item)
{
    const size_t n = strcspn(item, "/");
    size_t lo = 0, hi = s->n;

    while (lo + 1 < hi) { /* labels[lo] <= the first component of the item */
        const size_t middle = lo + (hi - lo) / 2;
        const int order = strncmp(s->labels[middle], item, n);
        if (order < 0 || (order == 0 && strlen(s->labels[middle]) <= n))
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}
