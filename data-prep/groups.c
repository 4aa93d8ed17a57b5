/*
 * groups.c - groups of images from one text of each: the same text is the same group.
 *
 * Groups are numbered in the order of their first images.
 */
#include "prep.h"

#include "simile/log.h"
#include "simile/memory.h"

sim_status sim_prep_set_groups(const char *where, const prep_names *texts,
                               prep_source *out)
{
    sim_status st = SIM_OK;
    uint32_t *first = NULL;
    size_t n_without = 0;

    SIM_TRY(sim_alloc(&first, texts->n, "prep/groups"));
    SIM_TRY(sim_prep_names_first(texts, first));
    SIM_TRY(sim_alloc(&out->groups, texts->n, "prep/groups"));
    for (size_t i = 0; i < texts->n; i++) {
        const char *text = sim_prep_names_get(texts, i);
        const bool is_new = first[i] == i || !*text;
        n_without += !*text;
        out->groups[i] = is_new ? (int32_t)out->group_names.n : out->groups[first[i]];
        if (is_new)
            SIM_TRY(sim_prep_names_add(&out->group_names, text));
    }
    if (n_without)
        sim_log("%s: %zu images without a group are groups of one image", where,
                n_without);
done:
    sim_free(first);
    return st;
}
