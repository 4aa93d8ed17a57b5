/*
 * names.c - paths, and lists of names that take little more room than their letters.
 */
#include "prep.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

sim_status sim_prep_list_add(prep_list *l, const char *name)
{
    sim_status st = SIM_OK;
    size_t bytes = strlen(name) + 1;

    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 1024;
        SIM_TRY(sim_grow(&l->at, room, "prep/names"));
        l->room = room;
    }
    if (l->used + bytes > l->text_room) {
        size_t room = 2 * l->text_room + bytes + (1 << 16);
        SIM_TRY(sim_grow(&l->text, room, "prep/names"));
        l->text_room = room;
    }
    memcpy(l->text + l->used, name, bytes);
    l->at[l->n++] = l->used;
    l->used += bytes;
done:
    return st;
}

const char *sim_prep_list_name(const prep_list *l, size_t i)
{
    return l->text + l->at[i];
}

void sim_prep_list_clear(prep_list *l)
{
    sim_free(l->text);
    sim_free(l->at);
    *l = (prep_list){0};
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

bool sim_prep_ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

bool sim_prep_is_photo(const char *name)
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

sim_status sim_prep_lines(const char *text, size_t n_bytes, char ***lines, size_t *n)
{
    sim_status st = SIM_OK;
    char **list = NULL;
    size_t count = 0, room = 0;

    for (size_t at = 0, end = 0; at < n_bytes; at = end + 1) {
        for (end = at; end < n_bytes && text[end] != '\n' && text[end] != '\r';)
            end++;
        if (end == at)
            continue;
        if (count == room) {
            room = room ? 2 * room : 64;
            SIM_TRY(sim_grow(&list, room, "prep/lines"));
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
