/*
 * archive_photos.c - the photos of an archive in the order of their paths.
 *
 * A directory is converted in the order of its paths; an archive of it has any order and can
 * only be read from start to end.  If the photos fit in SORT_BYTES, those that are selected are
 * loaded at once, and the data set equals that of the directory.  Larger archives are converted in their
 * own order.
 */
#include "archive_photos.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t SORT_BYTES = (uint64_t)512 << 20;

/* Byte order of the components of two paths: "a/1" is before "a-b/1". */
static int compare_paths(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    const int x = *a == '/' ? 1 : (unsigned char)*a,
              y = *b == '/' ? 1 : (unsigned char)*b;
    return x - y;
}

sim_status sim_prep_photos_add(prep_photos *p, uint32_t entry, uint64_t n_bytes)
{
    sim_status st = SIM_OK;

    if (p->n == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 1024;
        SIM_TRY(sim_grow(&p->entry, p->capacity, "prep/photos"));
    }
    p->entry[p->n++] = entry;
    p->n_bytes += n_bytes;
done:
    return st;
}

/* ---- order ---- */

static bool is_sorted(const prep_names *paths)
{
    for (size_t i = 1; i < paths->n; i++)
        if (compare_paths(sim_prep_names_get(paths, i - 1),
                          sim_prep_names_get(paths, i)) > 0)
            return false;
    return true;
}

typedef struct {
    const char *path;
    uint32_t entry;
} named_entry;

static int by_path(const void *a, const void *b)
{
    const named_entry *x = a, *y = b;
    const int order = compare_paths(x->path, y->path);
    return order ? order : (x->entry > y->entry) - (x->entry < y->entry);
}

static sim_status sort_paths(prep_photos *p, prep_names *paths)
{
    sim_status st = SIM_OK;
    named_entry *list = NULL;
    prep_names sorted = {0};

    SIM_TRY(sim_alloc(&list, p->n, "prep/photos"));
    for (size_t i = 0; i < p->n; i++)
        list[i] = (named_entry){sim_prep_names_get(paths, i), p->entry[i]};
    qsort(list, p->n, sizeof *list, by_path);
    for (size_t i = 0; i < p->n; i++) {
        SIM_TRY(sim_prep_names_add(&sorted, list[i].path));
        p->entry[i] = list[i].entry;
    }
    sim_prep_names_clear(paths);
    *paths = sorted;
    sorted = (prep_names){0};
    p->is_sorted = true;
done:
    sim_prep_names_clear(&sorted);
    sim_free(list);
    return st;
}

sim_status sim_prep_photos_sort(prep_photos *p, prep_names *paths, const char *name)
{
    if (is_sorted(paths))
        return SIM_OK;
    if (p->n_bytes <= SORT_BYTES)
        return sort_paths(p, paths);
    sim_log("%s: %.1f GB of photos are stored in the order of the archive; a directory "
            "of them "
            "would be stored in the order of the paths, with another fingerprint",
            name, (double)p->n_bytes / 1e9);
    return SIM_OK;
}

/* ---- reading ---- */

typedef struct {
    uint32_t entry, item;
} wanted_entry;

static int by_entry(const void *a, const void *b)
{
    const wanted_entry *x = a, *y = b;
    return (x->entry > y->entry) - (x->entry < y->entry);
}

/* Advances to entry `wanted`, which is not before the current one. */
static sim_status seek(prep_photos *p, const prep_archive_reader *r, uint32_t wanted)
{
    sim_status st = SIM_OK;
    prep_entry e = {0};

    SIM_ASSERT(p->at <= wanted);
    for (; p->at <= wanted; p->at++) {
        SIM_TRY(sim_prep_tar_next(r->tar, &e));
        SIM_CHECK(e.name, SIM_E_DATA, "%s was truncated while it was read", r->path);
    }
done:
    return st;
}

static sim_status load_all(prep_photos *p, const prep_archive_reader *r)
{
    sim_status st = SIM_OK;
    wanted_entry *list = NULL;

    SIM_TRY(sim_alloc(&p->loaded, r->n_items, "prep/photos"));
    p->n_loaded = r->n_items;
    SIM_TRY(sim_alloc(&list, r->n_items, "prep/photos"));
    for (size_t i = 0; i < r->n_items; i++)
        list[i] = (wanted_entry){p->entry[r->item[i]], (uint32_t)i};
    qsort(list, r->n_items, sizeof *list, by_entry);
    for (size_t k = 0; k < r->n_items; k++) {
        prep_bytes *b = &p->loaded[list[k].item];
        SIM_TRY(seek(p, r, list[k].entry));
        SIM_TRY(sim_prep_tar_load(r->tar, r->limit, &b->bytes, &b->n));
    }
done:
    sim_free(list);
    return st;
}

sim_status sim_prep_photos_read(prep_photos *p, const prep_archive_reader *r, size_t i,
                                const uint8_t **bytes, size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;

    if (!p->is_sorted) {
        SIM_TRY(seek(p, r, p->entry[r->item[i]]));
        SIM_TRY(sim_prep_tar_load(r->tar, r->limit, buffer, n));
        *bytes = *buffer;
        goto done;
    }
    if (!p->loaded)
        SIM_TRY(load_all(p, r));
    *bytes = *buffer = p->loaded[i].bytes;
    *n = p->loaded[i].n;
    p->loaded[i].bytes = NULL; /* an item is read once */
done:
    return st;
}

void sim_prep_photos_clear(prep_photos *p)
{
    for (size_t i = 0; i < p->n_loaded; i++)
        sim_free(p->loaded[i].bytes);
    sim_free(p->loaded);
    sim_free(p->entry);
}
