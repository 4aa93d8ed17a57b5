/*
 * classes.c - numbers and names of classes from the labels of a source.
 */
#include "prep.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

sim_status sim_prep_distinct(const int64_t *values, size_t n, int64_t **out,
                             size_t *n_distinct)
{
    sim_status st = SIM_OK;
    int64_t *sorted = NULL;
    size_t used = 0;

    SIM_TRY(sim_alloc(&sorted, n, "prep/labels"));
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, ascending);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || sorted[i] != sorted[i - 1])
            sorted[used++] = sorted[i];
    *out = sorted;
    *n_distinct = used;
done:
    return st;
}

/* Classes named by the distinct values, in ascending order. */
static sim_status name_by_values(const int64_t *values, size_t n, const int64_t *distinct,
                                 size_t n_distinct, prep_source *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_alloc(&out->class_names, n_distinct, "prep/names"));
    for (size_t k = 0; k < n_distinct; k++) {
        SIM_TRY(
            sim_text_format("prep/names", &out->class_names[k], "%" PRId64, distinct[k]));
        out->n_classes++;
    }
    for (size_t i = 0; i < n; i++) {
        const int64_t *at =
            bsearch(&values[i], distinct, n_distinct, sizeof *distinct, ascending);
        out->labels[i] = (int32_t)(at - distinct);
    }
done:
    return st;
}

sim_status sim_prep_set_numbers(const char *where, const int64_t *values, size_t n,
                                size_t n_named, prep_source *out)
{
    sim_status st = SIM_OK;
    int64_t *distinct = NULL;
    size_t n_distinct = 0;

    SIM_TRY(sim_prep_distinct(values, n, &distinct, &n_distinct));
    const int64_t lo = distinct[0], hi = distinct[n_distinct - 1];
    SIM_TRY(sim_alloc(&out->labels, n, "prep/labels"));
    if (hi < PREP_MAX_CLASSES && (lo == 0 || (lo > 0 && (size_t)hi < n_named))) {
        for (size_t i = 0; i < n; i++)
            out->labels[i] = (int32_t)values[i];
        out->n_classes = (size_t)hi + 1;
        goto done;
    }
    SIM_TRY(name_by_values(values, n, distinct, n_distinct, out));
    sim_log("%s: the labels %" PRId64 " to %" PRId64
            " become %zu classes named by their values",
            where, lo, hi, n_distinct);
done:
    sim_free(distinct);
    return st;
}

sim_status sim_prep_set_names(const prep_set *names, size_t n, prep_source *out)
{
    sim_status st = SIM_OK;
    const size_t n_classes = names->names.n;
    int32_t *rank = NULL;

    SIM_TRY(sim_alloc(&rank, n_classes, "prep/classes"));
    SIM_TRY(sim_alloc(&out->class_names, n_classes, "prep/names"));
    for (size_t k = 0; k < n_classes; k++) {
        rank[names->sorted[k]] = (int32_t)k;
        SIM_TRY(sim_text_copy(sim_prep_names_get(&names->names, names->sorted[k]),
                              "prep/names", &out->class_names[k]));
        out->n_classes++;
    }
    for (size_t i = 0; i < n; i++)
        out->labels[i] = rank[out->labels[i]];
done:
    sim_free(rank);
    return st;
}

/* Replaces the class names by those of a list. */
static sim_status take_names(const sim_class_list *l, prep_source *s)
{
    sim_status st = SIM_OK;

    sim_prep_free_lines(s->class_names, s->class_names ? s->n_classes : 0);
    s->class_names = NULL;
    s->n_classes = 0;
    SIM_TRY(sim_alloc(&s->class_names, l->n, "prep/names"));
    for (size_t k = 0; k < l->n; k++) {
        SIM_TRY(sim_text_copy(l->names[k], "prep/names", &s->class_names[k]));
        s->n_classes++;
    }
done:
    return st;
}

sim_status sim_prep_keep_classes(const char *list_path, const char *where, prep_source *s)
{
    sim_status st = SIM_OK;
    sim_class_list l = {0};
    int32_t *numbers = NULL;
    char *text = NULL;
    const size_t n_classes = s->n_classes;
    size_t n_kept = 0;

    SIM_CHECK(s->labels, SIM_E_DATA,
              "--classes: %s has no labels, so that classes cannot be selected", where);
    SIM_TRY(sim_class_list_read(list_path, &l));
    SIM_TRY(
        sim_text_format("prep/classes", &text, "--classes: %s for %s", list_path, where));
    SIM_TRY(sim_alloc(&numbers, n_classes, "prep/classes"));
    SIM_TRY(sim_class_list_match(&l, text, (const char *const *)s->class_names, n_classes,
                                 numbers));
    for (size_t i = 0; i < s->n_items; i++) {
        s->labels[i] = numbers[s->labels[i]];
        n_kept += s->labels[i] >= 0;
    }
    SIM_TRY(take_names(&l, s));
    sim_log("classes of %s: %zu of %zu classes, %zu of %zu images", list_path, l.n,
            n_classes, n_kept, s->n_items);
done:
    sim_class_list_clear(&l);
    sim_free(numbers);
    sim_free(text);
    return st;
}

/* Whether a text is a whole number. */
static bool parse_number(const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    *out = value;
    return end != text && *end == '\0' && errno == 0;
}

/* Sets the labels if all texts are whole numbers; otherwise *done is false. */
static sim_status set_if_numbers(const char *where, const prep_names *texts,
                                 prep_source *out, bool *done)
{
    sim_status st = SIM_OK;
    const size_t n = texts->n;
    int64_t *values = NULL, *distinct = NULL;
    size_t n_distinct = 0;

    *done = false;
    SIM_TRY(sim_alloc(&values, n, "prep/labels"));
    for (size_t i = 0; i < n; i++) {
        if (parse_number(sim_prep_names_get(texts, i), &values[i]))
            continue;
        if (i > 0)
            sim_log_warn("%s: the labels are taken as names, because \"%.100s\" is not a "
                         "whole number, as those before it are",
                         where, sim_prep_names_get(texts, i));
        goto done;
    }
    SIM_TRY(sim_prep_distinct(values, n, &distinct, &n_distinct));
    SIM_CHECK(n_distinct <= PREP_MAX_CLASSES, SIM_E_DATA,
              "%s: %zu distinct labels, expected at most %d classes", where, n_distinct,
              PREP_MAX_CLASSES);
    SIM_TRY(sim_prep_set_numbers(where, values, n, 0, out));
    *done = true;
done:
    sim_free(values);
    sim_free(distinct);
    return st;
}

sim_status sim_prep_set_texts(const char *where, const prep_names *texts,
                              prep_source *out)
{
    sim_status st = SIM_OK;
    prep_set classes = {0};
    uint32_t number = 0;
    bool numbers = false;

    SIM_TRY(set_if_numbers(where, texts, out, &numbers));
    if (numbers)
        goto done;
    SIM_TRY(sim_alloc(&out->labels, texts->n, "prep/labels"));
    for (size_t i = 0; i < texts->n; i++) {
        SIM_TRY(sim_prep_set_add(&classes, sim_prep_names_get(texts, i), &number));
        SIM_CHECK(number < PREP_MAX_CLASSES, SIM_E_DATA,
                  "%s: more than %d distinct labels", where, PREP_MAX_CLASSES);
        out->labels[i] = (int32_t)number;
    }
    SIM_TRY(sim_prep_set_names(&classes, texts->n, out));
done:
    sim_prep_set_clear(&classes);
    return st;
}
