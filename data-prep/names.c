/*
 * names.c - paths and compact lists of names.
 */
#include "prep.h"

#include "simile/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sim_status sim_prep_names_add(prep_names *l, const char *name)
{
    sim_status st = SIM_OK;
    size_t bytes = strlen(name) + 1;

    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 1024;
        SIM_TRY(sim_grow(&l->at, capacity, "prep/names"));
        l->capacity = capacity;
    }
    if (l->used + bytes > l->text_capacity) {
        size_t capacity = 2 * l->text_capacity + bytes + (1 << 16);
        SIM_TRY(sim_grow(&l->text, capacity, "prep/names"));
        l->text_capacity = capacity;
    }
    memcpy(l->text + l->used, name, bytes);
    l->at[l->n++] = l->used;
    l->used += bytes;
done:
    return st;
}

const char *sim_prep_names_get(const prep_names *l, size_t i)
{
    return l->text + l->at[i];
}

void sim_prep_names_clear(prep_names *l)
{
    sim_free(l->text);
    sim_free(l->at);
    *l = (prep_names){0};
}

/* Orders names by their text, and equal ones by their number. */
static int by_text(const void *a, const void *b, void *ctx)
{
    const prep_names *const *l = ctx;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const int order = strcmp(sim_prep_names_get(*l, x), sim_prep_names_get(*l, y));
    return order ? order : (x > y) - (x < y);
}

/* By sorting, because there may be as many different names as images. */
sim_status sim_prep_names_first(const prep_names *l, uint32_t *first)
{
    sim_status st = SIM_OK;
    uint32_t *sorted = NULL;

    SIM_TRY(sim_alloc(&sorted, l->n, "prep/names"));
    for (size_t i = 0; i < l->n; i++)
        sorted[i] = (uint32_t)i;
    qsort_r(sorted, l->n, sizeof *sorted, by_text, &l);
    for (size_t k = 0, run = 0; k < l->n; k++) {
        if (strcmp(sim_prep_names_get(l, sorted[k]),
                   sim_prep_names_get(l, sorted[run])) != 0)
            run = k;
        first[sorted[k]] = sorted[run];
    }
done:
    sim_free(sorted);
    return st;
}

/* Binary search; *at is the position in `sorted`, or where to insert the name. */
static bool find_name(const prep_set *s, const char *name, size_t *at)
{
    size_t lo = 0, hi = s->names.n;
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        int order = strcmp(sim_prep_names_get(&s->names, s->sorted[middle]), name);
        if (order == 0) {
            *at = middle;
            return true;
        }
        if (order < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    *at = lo;
    return false;
}

sim_status sim_prep_set_add(prep_set *s, const char *name, uint32_t *number)
{
    sim_status st = SIM_OK;
    size_t at = 0;

    if (find_name(s, name, &at)) {
        *number = s->sorted[at];
        goto done;
    }
    if (s->names.n == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 1024;
        SIM_TRY(sim_grow(&s->sorted, s->capacity, "prep/names"));
    }
    *number = (uint32_t)s->names.n;
    memmove(s->sorted + at + 1, s->sorted + at, (s->names.n - at) * sizeof *s->sorted);
    s->sorted[at] = *number;
    SIM_TRY(sim_prep_names_add(&s->names, name));
done:
    return st;
}

void sim_prep_set_clear(prep_set *s)
{
    sim_prep_names_clear(&s->names);
    sim_free(s->sorted);
    *s = (prep_set){0};
}

bool sim_prep_next_word(const char **at, char *word, size_t word_bytes)
{
    size_t n = 0;

    while (**at && !isalpha((unsigned char)**at))
        ++*at;
    for (; isalpha((unsigned char)**at); ++*at)
        if (n + 1 < word_bytes)
            word[n++] = (char)tolower((unsigned char)**at);
    word[n] = '\0';
    return n > 0;
}

prep_split sim_prep_split_word(const char *name)
{
    enum { WORD = 64 };
    char word[WORD];
    prep_split split = PREP_DEFAULT_SPLIT;

    while (split == PREP_DEFAULT_SPLIT && sim_prep_next_word(&name, word, WORD))
        split = sim_prep_split_of(word);
    return split;
}

sim_status sim_prep_join(const char *a, const char *b, char *out, size_t out_bytes)
{
    sim_status st = SIM_OK;
    int n = snprintf(out, out_bytes, "%s/%s", a, b);
    SIM_CHECK(n > 0 && (size_t)n < out_bytes, SIM_E_INPUT,
              "%.300s/%.300s: the path is too long", a, b);
done:
    return st;
}

const char *sim_prep_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void sim_prep_last_component(const char *path, char *out, size_t out_bytes)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t lo = n;
    while (lo > 0 && path[lo - 1] != '/')
        lo--;
    (void)snprintf(out, out_bytes, "%.*s", (int)(n - lo), path + lo);
}

bool sim_prep_is_photo(const char *name)
{
    /* Hidden files are such as the resource forks (._NAME) of macOS. */
    return name[0] != '.' && sim_image_has_extension(name);
}

sim_status sim_prep_lines(const char *text, size_t n_bytes, char ***lines, size_t *n)
{
    sim_status st = SIM_OK;
    char **list = NULL;
    size_t count = 0, capacity = 0;

    for (size_t at = 0, end = 0; at < n_bytes; at = end + 1) {
        for (end = at; end < n_bytes && text[end] != '\n' && text[end] != '\r';)
            end++;
        if (end == at)
            continue;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            SIM_TRY(sim_grow(&list, capacity, "prep/lines"));
        }
        SIM_TRY(sim_text_format("prep/lines", &list[count], "%.*s", (int)(end - at),
                                text + at));
        count++;
    }
    *lines = list;
    *n = count;
    list = NULL;
done:
    sim_prep_free_lines(list, count);
    return st;
}

void sim_prep_free_lines(char **lines, size_t n)
{
    for (size_t i = 0; lines && i < n; i++)
        sim_free(lines[i]);
    sim_free(lines);
}
