/*
 * arrays_join.c - the labels of several files of arrays.
 */
#include "arrays.h"

#include "simile/memory.h"

#include <stdlib.h>

/* Whether the classes of a file are numbers: without names, or named by whole numbers. */
static bool has_numbers(const prep_source *s)
{
    char *end = NULL;

    for (size_t k = 0; s->class_names && k < s->n_classes; k++) {
        (void)strtoll(s->class_names[k], &end, 10);
        if (end == s->class_names[k] || *end)
            return false;
    }
    return true;
}

static int64_t number_of(const prep_source *s, int32_t label)
{
    return s->class_names ? strtoll(s->class_names[label], NULL, 10) : label;
}

static sim_status join_numbers(const array_source *files, const prep_source *of, size_t n,
                               prep_source *out)
{
    sim_status st = SIM_OK;
    int64_t *values = NULL;

    SIM_TRY(sim_alloc(&values, out->n_items, "prep/labels"));
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < files[k].n_items; i++)
            values[files[k].first_item + i] = number_of(&of[k], of[k].labels[i]);
    SIM_TRY(sim_prep_set_numbers(files[0].file.path, values, out->n_items, 0, out));
done:
    sim_free(values);
    return st;
}

static sim_status join_names(const array_source *files, const prep_source *of, size_t n,
                             prep_source *out)
{
    sim_status st = SIM_OK;
    prep_set names = {0};
    uint32_t *number = NULL;

    SIM_TRY(sim_alloc(&out->labels, out->n_items, "prep/labels"));
    for (size_t k = 0; k < n; k++) {
        SIM_TRY(sim_grow(&number, of[k].n_classes, "prep/labels"));
        for (size_t c = 0; c < of[k].n_classes; c++)
            SIM_TRY(sim_prep_set_add(&names, of[k].class_names[c], &number[c]));
        for (size_t i = 0; i < files[k].n_items; i++)
            out->labels[files[k].first_item + i] = (int32_t)number[of[k].labels[i]];
    }
    SIM_TRY(sim_prep_set_names(&names, out->n_items, out));
done:
    sim_prep_set_clear(&names);
    sim_free(number);
    return st;
}

sim_status sim_arrays_join_labels(const array_source *files, const prep_source *of,
                                  size_t n, prep_source *out)
{
    sim_status st = SIM_OK;
    const bool numbers = has_numbers(&of[0]);

    for (size_t k = 0; k < n; k++) {
        SIM_CHECK(
            (of[k].labels == NULL) == (of[0].labels == NULL), SIM_E_DATA,
            "%s has %s, but %s has %s; files that are joined must all have labels, or "
            "none with --labels-key none",
            files[0].file.path, of[0].labels ? "labels" : "no labels", files[k].file.path,
            of[k].labels ? "labels" : "no labels");
        SIM_CHECK(
            has_numbers(&of[k]) == numbers, SIM_E_DATA,
            "the classes of %s are %s, but those of %s are %s; files that are joined "
            "must all have names of classes, or none",
            files[0].file.path, numbers ? "numbers" : "names", files[k].file.path,
            numbers ? "names" : "numbers");
    }
    if (of[0].labels)
        SIM_TRY(numbers ? join_numbers(files, of, n, out)
                        : join_names(files, of, n, out));
done:
    return st;
}
