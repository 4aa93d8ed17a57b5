/*
 * select.c - selects items of a source: --holdout and --limit, balanced over the classes.
 *
 * Within a class, items are ordered by a random number that depends on the seed and on the
 * number of the item.  The first of them are held out, so the two parts are disjoint and
 * together complete.  Of a source with groups, whole groups are held out (select_groups.c).
 */
#include "select.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    uint32_t class, key, item;
} candidate;

uint32_t sim_prep_select_key(uint32_t seed, prep_selection selection, size_t item)
{
    sim_random r = {.seed = seed,
                    .purpose = SIM_RANDOM_SPLIT,
                    .sample = (uint32_t)item,
                    .epoch = selection};
    uint32_t w[4];

    sim_random_words(&r, w);
    return w[0];
}

static int by_class_and_key(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Lists the selected items in random order within their class; returns their number. */
static size_t sort_candidates(const prep_source *s, const bool *selected, uint32_t seed,
                              prep_selection selection, candidate *candidates)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_items; i++) {
        if (!selected[i])
            continue;
        candidates[n++] =
            (candidate){s->labels ? (uint32_t)s->labels[i] : 0,
                        sim_prep_select_key(seed, selection, i), (uint32_t)i};
    }
    qsort(candidates, n, sizeof *candidates, by_class_and_key);
    return n;
}

size_t sim_prep_held_out(size_t n, double fraction)
{
    size_t held = (size_t)floor((double)n * fraction + 0.5);
    if (n >= 2 && held == 0)
        return 1;
    return n >= 2 && held == n ? n - 1 : held;
}

/* Keeps the part of each class that is held out, or the rest. */
static void apply_holdout(const prep_options *o, const candidate *candidates, size_t n,
                          bool *selected)
{
    for (size_t lo = 0, hi = 0; lo < n; lo = hi) {
        while (hi < n && candidates[hi].class == candidates[lo].class)
            hi++;
        size_t held = sim_prep_held_out(hi - lo, o->holdout);
        for (size_t i = lo; i < hi; i++)
            selected[candidates[i].item] = (i - lo < held) == o->held_out;
    }
}

/* Selects `limit` items, one of each class in turn.  next [classes] is workspace. */
static void select_round_robin(const candidate *candidates, size_t n, size_t *next,
                               size_t classes, size_t limit, bool *selected)
{
    size_t left = limit, at = 0;

    for (size_t i = 0; i < n; i++)
        selected[candidates[i].item] = false;
    for (size_t c = 0; c < classes; c++) {
        next[c] = at;
        while (at < n && candidates[at].class == c)
            at++;
    }
    for (bool any = true; left > 0 && any;) {
        any = false;
        for (size_t c = 0; c < classes && left > 0; c++) {
            if (next[c] == n || candidates[next[c]].class != c)
                continue;
            selected[candidates[next[c]++].item] = true;
            left--;
            any = true;
        }
    }
}

/* candidates [n_items] is workspace. */
static sim_status hold_out(const prep_source *s, const prep_options *o,
                           candidate *candidates, bool *selected)
{
    if (s->groups)
        return sim_prep_hold_out_groups(s, o, selected);
    const size_t n = sort_candidates(s, selected, o->seed, PREP_HOLDOUT, candidates);
    apply_holdout(o, candidates, n, selected);
    return SIM_OK;
}

sim_status sim_prep_select_items(const prep_source *s, const prep_options *o, bool **out,
                                 size_t *n_selected)
{
    sim_status st = SIM_OK;
    candidate *candidates = NULL;
    size_t *next = NULL, classes = s->labels ? s->n_classes : 1;
    bool *selected = NULL;

    *n_selected = s->n_items;
    if (!o->classes && o->holdout <= 0 && (o->limit == 0 || o->limit >= s->n_items))
        goto done;
    SIM_TRY(sim_alloc(&selected, s->n_items, "prep/select"));
    SIM_TRY(sim_alloc(&candidates, s->n_items, "prep/select"));
    SIM_TRY(sim_alloc(&next, classes, "prep/select"));
    for (size_t i = 0; i < s->n_items; i++)
        selected[i] = !s->labels || s->labels[i] >= 0;
    if (o->holdout > 0)
        SIM_TRY(hold_out(s, o, candidates, selected));
    const size_t n = sort_candidates(s, selected, 0, PREP_LIMIT, candidates);
    if (o->limit > 0 && o->limit < n)
        select_round_robin(candidates, n, next, classes, o->limit, selected);
    *n_selected = o->limit > 0 && o->limit < n ? o->limit : n;
    SIM_CHECK(*n_selected > 0, SIM_E_DATA, "%s leaves no image",
              o->holdout > 0 ? "--holdout" : "--classes");
    *out = selected;
    selected = NULL;
done:
    sim_free(selected);
    sim_free(candidates);
    sim_free(next);
    return st;
}
