/*
 * classes.c - compares the classes and images of a training set and a test set.
 *
 * The number of a class depends on which classes a data set has, so two data sets are matched
 * by class name. Called before an evaluation by cmd_evaluate and by the online kNN.
 */
#include "simile/eval.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER = SIM_CLASS_NUMBER_BYTES };

static bool has_names(const sim_labelled_set *d)
{
    size_t n = d->n_classes;
    return n > 0 && sim_labelled_set_class(d, 0) && sim_labelled_set_class(d, n - 1);
}

/* Whether the classes are named by numbers, as `prepare` names those of labels that are not
 * numbers of classes (-1, 0, 1). */
static bool is_named_by_numbers(const sim_labelled_set *d)
{
    char *end = NULL;
    for (size_t k = 0; k < d->n_classes; k++) {
        const char *name = sim_labelled_set_class(d, k);
        if (!name || (strtoll(name, &end, 10), end == name || *end))
            return false;
    }
    return true;
}

/* The name of a class; without names, its number. */
static const char *name_of(const sim_labelled_set *d, size_t k, char number[NUMBER])
{
    if (has_names(d))
        return sim_labelled_set_class(d, k);
    (void)snprintf(number, NUMBER, "%zu", k);
    return number;
}

/* Number of the class of that name; n_classes if there is none. */
static size_t find_class(const sim_labelled_set *d, const char *name)
{
    size_t n = d->n_classes, k = 0;
    char number[NUMBER];
    while (k < n && strcmp(name_of(d, k, number), name) != 0)
        k++;
    return k;
}

/* Appends "NAME, " while there is space. */
static void append_name(char *list, size_t list_bytes, const char *name)
{
    size_t used = strlen(list);
    if (used + strlen(name) + 8 < list_bytes)
        (void)snprintf(list + used, list_bytes - used, "%s%s", used ? ", " : "", name);
    else if (used + 6 < list_bytes && list[used - 1] != '.')
        (void)snprintf(list + used, list_bytes - used, ", ...");
}

/* number [classes of test]: the class in the training set; new numbers for the others. */
static sim_status match_names(const sim_labelled_set *train, const sim_labelled_set *test,
                              int32_t *number, size_t *n_classes)
{
    sim_status st = SIM_OK;
    size_t n_train = train->n_classes, n_lacking = 0;
    size_t n_test = test->n_classes;
    char lacking[256] = "", number_of_test[NUMBER], number_of_train[NUMBER];

    for (size_t k = 0; k < n_test; k++) {
        const char *name = name_of(test, k, number_of_test);
        size_t at = find_class(train, name);
        if (at == n_train) {
            at = n_train + n_lacking++;
            append_name(lacking, sizeof lacking, name);
        }
        number[k] = (int32_t)at;
    }
    SIM_CHECK(n_lacking < n_test, SIM_E_DATA,
              "%s and %s have no class in common (%s is not one of %s, ...)", train->path,
              test->path, name_of(test, 0, number_of_test),
              name_of(train, 0, number_of_train));
    if (n_lacking)
        sim_log_warn("%zu of %zu classes of %s are not in %s, so their images cannot be "
                     "classified correctly: %s",
                     n_lacking, n_test, test->path, train->path, lacking);
    *n_classes = n_train + n_lacking;
done:
    return st;
}

/* Without names, labels are compared as numbers. */
static void match_numbers(const sim_labelled_set *train, const sim_labelled_set *test,
                          int32_t *number, size_t *n_classes)
{
    size_t a = train->n_classes;
    size_t b = test->n_classes;

    for (size_t k = 0; k < b; k++)
        number[k] = (int32_t)k;
    *n_classes = a > b ? a : b;
    if (a != b || has_names(train) != has_names(test))
        sim_log_warn(
            "%s has %zu classes%s and %s has %zu%s; without class names in both, "
            "labels are compared as numbers",
            train->path, a, has_names(train) ? " with names" : "", test->path, b,
            has_names(test) ? " with names" : "");
}

/* By name if both have names, or if one is named by numbers: "2" is then class 2 of the other. */
static bool match_by_name(const sim_labelled_set *train, const sim_labelled_set *test)
{
    const bool a = has_names(train), b = has_names(test);
    return (a && b) || (a && is_named_by_numbers(train)) ||
           (b && is_named_by_numbers(test));
}

/* ---- images in both ---- */

static int by_digest(const void *a, const void *b)
{
    const sim_hash *x = a, *y = b;
    if (x->high != y->high)
        return x->high < y->high ? -1 : 1;
    return (x->low > y->low) - (x->low < y->low);
}

static sim_status warn_of_common_images(const sim_labelled_set *train,
                                        const sim_labelled_set *test)
{
    sim_status st = SIM_OK;
    size_t n_train = train->n, n_common = 0;
    size_t n_test = test->n;
    sim_hash *sorted = NULL;

    SIM_TRY(sim_alloc(&sorted, n_train, "eval/digests"));
    for (size_t i = 0; i < n_train; i++)
        sorted[i] = sim_dataset_digest(train->data, i);
    qsort(sorted, n_train, sizeof *sorted, by_digest);
    for (size_t i = 0; i < n_test; i++) {
        const sim_hash digest = sim_dataset_digest(test->data, i);
        n_common += bsearch(&digest, sorted, n_train, sizeof *sorted, by_digest) != NULL;
    }
    if (n_common)
        sim_log_warn("%zu of the %zu images of %s are also in %s, which makes the "
                     "accuracy too high",
                     n_common, n_test, test->path, train->path);
done:
    sim_free(sorted);
    return st;
}

/* ---- classes of the images ---- */

/* Marks the classes of the images; returns the number of different ones. */
static size_t mark_classes(const int32_t *labels, size_t n, bool *is_present)
{
    size_t n_present = 0;

    for (size_t i = 0; i < n; i++) {
        n_present += !is_present[labels[i]];
        is_present[labels[i]] = true;
    }
    return n_present;
}

static void warn_of_one_class(const sim_labelled_set *d)
{
    sim_log_warn("all %zu images of %s belong to one class, so the accuracy is not "
                 "meaningful",
                 d->n, d->path);
}

/* Counts the classes of the images, not the names: a data set may have names without images. */
static sim_status warn_of_few_classes(const sim_labelled_set *train,
                                      const sim_labelled_set *test,
                                      const sim_class_match *m)
{
    sim_status st = SIM_OK;
    bool *in_train = NULL, *in_test = NULL;
    size_t n_common = 0;

    SIM_TRY(sim_alloc(&in_train, m->n_classes, "eval/classes"));
    SIM_TRY(sim_alloc(&in_test, m->n_classes, "eval/classes"));
    const size_t n_train = mark_classes(train->labels, train->n, in_train);
    const size_t n_test = mark_classes(m->labels, test->n, in_test);
    for (size_t k = 0; k < m->n_classes; k++)
        n_common += in_train[k] && in_test[k];
    if (n_train == 1)
        warn_of_one_class(train);
    if (n_test == 1)
        warn_of_one_class(test);
    if (n_common == 1 && n_train > 1 && n_test > 1)
        sim_log_warn("%s and %s have images of only one class in common, so the accuracy "
                     "is not meaningful",
                     train->path, test->path);
    SIM_CHECK(n_common > 0, SIM_E_DATA, "%s and %s have no images of the same class",
              train->path, test->path);
done:
    sim_free(in_train);
    sim_free(in_test);
    return st;
}

/* ---- public functions ---- */

sim_status sim_classes_match(const sim_labelled_set *train, const sim_labelled_set *test,
                             sim_class_match *out)
{
    sim_status st = SIM_OK;
    const int32_t *labels = test->labels;
    size_t n = test->n;
    sim_class_match m = {0};

    SIM_TRY(sim_alloc(&m.class_of_test, test->n_classes, "eval/classes"));
    SIM_TRY(sim_alloc(&m.labels, n, "eval/classes"));
    if (match_by_name(train, test))
        SIM_TRY(match_names(train, test, m.class_of_test, &m.n_classes));
    else
        match_numbers(train, test, m.class_of_test, &m.n_classes);
    for (size_t i = 0; i < n; i++)
        m.labels[i] = m.class_of_test[labels[i]];
    SIM_TRY(warn_of_few_classes(train, test, &m));
    if (train->data && test->data)
        SIM_TRY(warn_of_common_images(train, test));
    *out = m;
    m = (sim_class_match){0};
done:
    sim_class_match_clear(&m);
    return st;
}

void sim_class_match_clear(sim_class_match *m)
{
    SIM_FREE(m->labels);
    SIM_FREE(m->class_of_test);
}

const char *sim_class_match_name(const sim_class_match *m, const sim_labelled_set *train,
                                 const sim_labelled_set *test, size_t k,
                                 char number[SIM_CLASS_NUMBER_BYTES])
{
    const char *name = NULL;

    if (k < train->n_classes)
        return name_of(train, k, number);
    for (size_t own = 0; own < test->n_classes; own++)
        if (m->class_of_test[own] == (int32_t)k)
            name = name_of(test, own, number);
    SIM_ASSERT(name);
    return name;
}
