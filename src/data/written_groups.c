/*
 * written_groups.c - the groups of the images of a data set that is complete: numbers without gaps,
 * their names and their hash.
 *
 * Images that were skipped or not selected leave groups of the source without an image.  Those are
 * dropped, and the others keep their order.
 */
#include "writer.h"

#include "fingerprint.h"

#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The distinct numbers [*n_used] in ascending order.  The caller owns *out. */
static sim_status list_used(const sim_dataset_writer *w, int32_t **out, size_t *n_used)
{
    sim_status st = SIM_OK;
    int32_t *used = NULL;
    size_t n = 0;

    SIM_TRY(sim_alloc(&used, w->n, "data/groups"));
    memcpy(used, w->groups, w->n * sizeof *used);
    qsort(used, w->n, sizeof *used, ascending);
    for (size_t i = 0; i < w->n; i++)
        if (i == 0 || used[i] != used[i - 1])
            used[n++] = used[i];
    *out = used;
    *n_used = n;
done:
    return st;
}

static void renumber(sim_dataset_writer *w, const int32_t *used, size_t n_used)
{
    for (size_t i = 0; i < w->n; i++) {
        const int32_t *at = bsearch(&w->groups[i], used, n_used, sizeof *used, ascending);
        w->groups[i] = (int32_t)(at - used);
    }
}

static sim_status read_names(const sim_dataset_names *names, const int32_t *used,
                             written_groups *g)
{
    sim_status st = SIM_OK;
    char one[PATH_MAX];
    void *text = NULL;

    g->width = 1;
    for (size_t k = 0; k < g->n; k++) {
        names->group(names->ctx, (size_t)used[k], one, sizeof one);
        g->width = strlen(one) > g->width ? strlen(one) : g->width;
    }
    SIM_TRY(sim_alloc_bytes(g->n, g->width, "data/groups", &text));
    g->names = text;
    for (size_t k = 0; k < g->n; k++) {
        names->group(names->ctx, (size_t)used[k], one, sizeof one);
        memcpy(g->names + k * g->width, one, strlen(one));
    }
done:
    return st;
}

sim_status sim_writer_finish_groups(sim_dataset_writer *w, const sim_dataset_names *names,
                                    written_groups *out)
{
    sim_status st = SIM_OK;
    int32_t *used = NULL;

    if (w->n_groups == 0)
        goto done;
    SIM_TRY(list_used(w, &used, &out->n));
    renumber(w, used, out->n);
    if (names && names->group)
        SIM_TRY(read_names(names, used, out));
    SIM_TRY(sim_fingerprint_groups(w->groups, w->n, out->names, out->n, out->width,
                                   &out->hash));
done:
    sim_free(used);
    return st;
}
