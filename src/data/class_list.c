/*
 * class_list.c - restricts a data set to the classes that a file lists.
 */
#include "dataset.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { LIST_BYTES = 1 << 26 };

/* ---- the list ---- */

void sim_class_list_clear(sim_class_list *l)
{
    sim_free(l->names);
    sim_free(l->text);
    *l = (sim_class_list){0};
}

/* Ends the line at `line` and removes the spaces at its ends.  *next: the line behind it. */
static char *trim_line(char *line, char **next)
{
    const size_t n = strcspn(line, "\n");
    char *end = line + n;

    *next = line[n] ? end + 1 : NULL;
    while (end > line && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return line + strspn(line, " \t");
}

static sim_status add_name(sim_class_list *l, const char *path, size_t line, char *name)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < l->n; i++)
        SIM_CHECK(strcmp(l->names[i], name) != 0, SIM_E_DATA,
                  "%s:%zu: the class %.100s occurs twice", path, line, name);
    l->names[l->n++] = name;
done:
    return st;
}

sim_status sim_class_list_read(const char *path, sim_class_list *out)
{
    sim_status st = SIM_OK;
    sim_class_list l = {0};
    size_t n_bytes = 0, n_lines = 1;

    SIM_TRY(sim_file_load(path, LIST_BYTES, &l.text, &n_bytes));
    SIM_CHECK(strlen(l.text) == n_bytes, SIM_E_DATA,
              "%s is not a text; expected one name of a class per line", path);
    for (size_t i = 0; i < n_bytes; i++)
        n_lines += l.text[i] == '\n';
    SIM_TRY(sim_alloc(&l.names, n_lines, "data/classes"));
    char *next = l.text;
    for (size_t number = 1; next; number++) {
        char *name = trim_line(next, &next);
        if (*name && *name != '#')
            SIM_TRY(add_name(&l, path, number, name));
    }
    SIM_CHECK(l.n > 0, SIM_E_DATA,
              "%s contains no class; expected one name of a class per line", path);
    *out = l;
    l = (sim_class_list){0};
done:
    sim_class_list_clear(&l);
    return st;
}

/* ---- the classes of a data set ---- */

enum { NUMBER = 24, NEAREST = 3, SHOWN = 5 };

/* The name of class k; without names its number. */
static const char *name_of(const char *const *names, size_t k, char number[NUMBER])
{
    if (names)
        return names[k];
    (void)snprintf(number, NUMBER, "%zu", k);
    return number;
}

/* The number of a class in the data set; n if there is none. */
static size_t find_class(const char *name, const char *const *names, size_t n)
{
    char number[NUMBER];
    size_t k = 0;
    while (k < n && strcmp(name_of(names, k, number), name) != 0)
        k++;
    return k;
}

/* "a, b, c": the classes whose names are nearest to `name`. */
static void list_nearest(const char *name, const char *const *names, size_t n, char *out,
                         size_t out_bytes)
{
    size_t nearest[NEAREST], distance[NEAREST], n_found = 0, used = 0;
    char number[NUMBER];

    for (size_t k = 0; k < n; k++) {
        const size_t d = sim_edit_distance(name, name_of(names, k, number));
        size_t at = n_found < NEAREST ? n_found++ : NEAREST;
        for (; at > 0 && d < distance[at - 1]; at--)
            if (at < NEAREST) {
                distance[at] = distance[at - 1];
                nearest[at] = nearest[at - 1];
            }
        if (at < NEAREST) {
            distance[at] = d;
            nearest[at] = k;
        }
    }
    out[0] = '\0';
    for (size_t i = 0; i < n_found && used < out_bytes; i++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%.60s", i ? ", " : "",
                                 name_of(names, nearest[i], number));
}

static sim_status refuse_unknown(const sim_class_list *l, const char *where,
                                 const char *const *names, size_t n_classes,
                                 const size_t *unknown, size_t n_unknown)
{
    char text[1024] = "", near[256];
    size_t used = 0;

    for (size_t i = 0; i < n_unknown && i < SHOWN; i++) {
        list_nearest(l->names[unknown[i]], names, n_classes, near, sizeof near);
        if (used < sizeof text)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%.60s (nearest: %s)",
                                 i ? "; " : "", l->names[unknown[i]], near);
    }
    return sim_error_begin(SIM_E_DATA, __FILE__, __LINE__,
                           "%s: %zu of the %zu classes of the list are not among the %zu "
                           "of the data: %s%s",
                           where, n_unknown, l->n, n_classes, text,
                           n_unknown > SHOWN ? "; ..." : "");
}

sim_status sim_class_list_match(const sim_class_list *l, const char *where,
                                const char *const *names, size_t n_classes,
                                int32_t *numbers)
{
    sim_status st = SIM_OK;
    size_t *unknown = NULL, n_unknown = 0;

    SIM_TRY(sim_alloc(&unknown, l->n, "data/classes"));
    for (size_t k = 0; k < n_classes; k++)
        numbers[k] = -1;
    for (size_t i = 0; i < l->n; i++) {
        const size_t k = find_class(l->names[i], names, n_classes);
        if (k == n_classes)
            unknown[n_unknown++] = i;
        else
            numbers[k] = (int32_t)i;
    }
    if (n_unknown)
        st = refuse_unknown(l, where, names, n_classes, unknown, n_unknown);
done:
    sim_free(unknown);
    return st;
}

/* ---- restriction of a data set ---- */

/* Selects the images of the classes and renumbers their labels. */
static sim_status select_images(sim_dataset *d, const int32_t *numbers)
{
    sim_status st = SIM_OK;
    uint32_t *images = NULL;
    size_t n = 0;

    SIM_TRY(sim_alloc(&images, d->about.n_images, "data/classes"));
    for (size_t i = 0; i < d->about.n_images; i++)
        if (numbers[d->labels[i]] >= 0)
            images[n++] = (uint32_t)i;
    SIM_CHECK(n > 0, SIM_E_DATA, "data.classes: %s has no image of the listed classes",
              d->path);
    SIM_TRY(sim_dataset_select(d, n, images));
    for (size_t i = 0; i < n; i++)
        d->labels[i] = numbers[d->labels[i]];
done:
    sim_free(images);
    return st;
}

/* The fingerprint of the data set and the names, each with its zero byte. */
static sim_status add_to_fingerprint(sim_dataset *d, const sim_class_list *l)
{
    sim_status st = SIM_OK;
    sim_hasher *h = NULL;

    SIM_TRY(sim_hasher_create(&h));
    sim_hasher_add(h, d->about.fingerprint, 32);
    for (size_t i = 0; i < l->n; i++)
        sim_hasher_add(h, l->names[i], strlen(l->names[i]) + 1);
    sim_hash_hex(sim_hasher_value(h), d->about.fingerprint);
done:
    sim_hasher_destroy(&h);
    return st;
}

static sim_status apply_list(sim_dataset *d, const char *list_path,
                             const sim_class_list *l)
{
    sim_status st = SIM_OK;
    const size_t n_classes = d->about.n_classes, n_images = d->about.n_images;
    const bool has_names = d->n_class_names == n_classes;
    int32_t *numbers = NULL;
    char *where = NULL;

    SIM_TRY(sim_text_format("data/classes", &where, "data.classes: %s for %s", list_path,
                            d->path));
    SIM_TRY(sim_alloc(&numbers, n_classes, "data/classes"));
    SIM_TRY(sim_class_list_match(l, where,
                                 has_names ? (const char *const *)d->class_names : NULL,
                                 n_classes, numbers));
    SIM_TRY(select_images(d, numbers));
    d->about.n_classes = 0;
    SIM_TRY(sim_dataset_name_classes(d, (const char *const *)l->names, l->n));
    SIM_TRY(add_to_fingerprint(d, l));
    SIM_TRY(sim_text_format("data/classes", &d->restriction,
                            "classes of %s: %zu of %zu classes, %zu of %zu images",
                            list_path, l->n, n_classes, d->about.n_images, n_images));
done:
    sim_free(numbers);
    sim_free(where);
    return st;
}

sim_status sim_dataset_keep_classes(sim_dataset *d, const char *list_path)
{
    sim_status st = SIM_OK;
    sim_class_list l = {0};

    SIM_TRY(sim_class_list_read(list_path, &l));
    SIM_CHECK(d->labels, SIM_E_DATA,
              "data.classes: %s has no labels, so that it cannot be restricted to the "
              "classes of %s%s%s",
              d->path, list_path, d->unlabelled ? ": " : "",
              d->unlabelled ? d->unlabelled : "");
    SIM_TRY(apply_list(d, list_path, &l));
done:
    sim_class_list_clear(&l);
    return st;
}
