/*
 * select_groups.c - --holdout of a source with groups: whole groups, so that no group is in both parts.
 *
 * Groups are visited in a random order, by a random number of their first item.  A group is held out if
 * that brings the number of images that are held out closer to the fraction.
 */
#include "select.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>

typedef struct {
    uint32_t key, first; /* random number of the first item; that item */
    size_t n;            /* items */
    size_t number;
} group_candidate;

static int by_key(const void *a, const void *b)
{
    const group_candidate *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

/* groups [group_names.n], zeros before, in random order. */
static void sort_groups(const prep_source *s, uint32_t seed, group_candidate *groups)
{
    for (size_t i = 0; i < s->n_items; i++) {
        group_candidate *g = &groups[s->groups[i]];
        if (g->n++ == 0)
            *g = (group_candidate){.key = sim_prep_select_key(seed, PREP_HOLDOUT, i),
                                   .first = (uint32_t)i,
                                   .n = 1,
                                   .number = (size_t)s->groups[i]};
    }
    qsort(groups, s->group_names.n, sizeof *groups, by_key);
}

/* Marks the groups that are held out, at least one; returns their number. */
static size_t mark_groups(const group_candidate *groups, size_t n_groups, size_t target,
                          bool *is_held, size_t *n_images)
{
    size_t n_held = 0;

    *n_images = 0;
    for (size_t k = 0; k < n_groups && n_held + 1 < n_groups; k++) {
        const size_t left = target > *n_images ? target - *n_images : 0;
        if (left == 0 || groups[k].n >= 2 * left)
            continue;
        is_held[groups[k].number] = true;
        *n_images += groups[k].n;
        n_held++;
    }
    if (n_held > 0)
        return n_held;
    is_held[groups[0].number] = true;
    *n_images = groups[0].n;
    return 1;
}

sim_status sim_prep_hold_out_groups(const prep_source *s, const prep_options *o,
                                    bool *selected)
{
    sim_status st = SIM_OK;
    const size_t n_groups = s->group_names.n;
    group_candidate *groups = NULL;
    bool *is_held = NULL;
    size_t n_images = 0;

    SIM_CHECK(n_groups > 1, SIM_E_DATA,
              "--holdout: all images are of one group, and groups are not divided");
    SIM_TRY(sim_alloc(&groups, n_groups, "prep/select"));
    SIM_TRY(sim_alloc(&is_held, n_groups, "prep/select"));
    sort_groups(s, o->seed, groups);
    const size_t n_held = mark_groups(
        groups, n_groups, sim_prep_held_out(s->n_items, o->holdout), is_held, &n_images);
    for (size_t i = 0; i < s->n_items; i++)
        selected[i] = is_held[s->groups[i]] == o->held_out;
    sim_log("--holdout %g: %zu of %zu groups with %zu of %zu images; no group is in both "
            "parts",
            o->holdout, n_held, n_groups, n_images, s->n_items);
done:
    sim_free(groups);
    sim_free(is_held);
    return st;
}
