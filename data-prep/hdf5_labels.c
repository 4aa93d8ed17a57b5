/*
 * hdf5_labels.c - the labels of images in an HDF5 file, of any type.
 *
 * Numbers from 0 on are classes as they are; floats must be whole.  Rows that are 1 in one
 * column and 0 elsewhere are one-hot.  Text, bool, and other whole numbers become classes
 * named by their distinct values.  Everything else (masks, several columns, measurements, a
 * value of its own for each image) is not a label.
 */
#include "hdf5.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LABEL = 1 << 20, REASON = 160, VALUE = 64 };

typedef struct {
    const sim_h5 *file;
    const char *path, *name;
    size_t n; /* images */
    prep_source *out;
    char reason[REASON]; /* why the values are not labels; "" if they are */
} label_reader;

/* ---- classes by distinct values ---- */

/* Numbers the classes of `classes` in the order `order`; labels hold their set numbers. */
static sim_status set_classes(label_reader *r, const prep_set *classes,
                              const uint32_t *order)
{
    sim_status st = SIM_OK;
    prep_source *out = r->out;
    size_t n = classes->names.n;
    int32_t *rank = NULL;

    SIM_TRY(sim_alloc(&rank, n, "prep/classes"));
    SIM_TRY(sim_alloc(&out->class_names, n, "prep/names"));
    for (size_t k = 0; k < n; k++) {
        rank[order[k]] = (int32_t)k;
        SIM_TRY(sim_text_copy(sim_prep_names_get(&classes->names, order[k]), "prep/names",
                              &out->class_names[k]));
        out->n_classes++;
    }
    for (size_t i = 0; i < r->n; i++)
        out->labels[i] = rank[out->labels[i]];
done:
    sim_free(rank);
    return st;
}

static bool too_many_values(label_reader *r, size_t n_values)
{
    if (r->n > 1 && n_values == r->n)
        (void)snprintf(r->reason, REASON, "each image has a value of its own");
    else if (n_values > MAX_LABEL)
        (void)snprintf(r->reason, REASON, "%zu distinct values", n_values);
    return r->reason[0] != '\0';
}

static sim_status read_text_labels(label_reader *r)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    size_t n = 0, width = 0;
    uint32_t number = 0;
    prep_set classes = {0};

    SIM_TRY(sim_h5_read_strings(r->file, r->name, HDF5_MAX_IMAGES, &n, &width, &text));
    SIM_CHECK(n == r->n, SIM_E_DATA, "%s: %s: %zu labels for %zu images", r->path,
              r->name, n, r->n);
    SIM_TRY(sim_alloc(&r->out->labels, n, "prep/labels"));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(sim_prep_set_add(&classes, text + i * width, &number));
        r->out->labels[i] = (int32_t)number;
    }
    if (too_many_values(r, classes.names.n))
        SIM_FREE(r->out->labels);
    else
        SIM_TRY(set_classes(r, &classes, classes.sorted));
done:
    sim_prep_set_clear(&classes);
    sim_free(text);
    return st;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Classes of whole numbers that are not numbers of classes, in ascending order. */
static sim_status classes_of_values(label_reader *r, const int64_t *values)
{
    sim_status st = SIM_OK;
    int64_t *sorted = NULL;
    uint32_t *order = NULL, number = 0;
    prep_set classes = {0};
    char text[VALUE];
    size_t n = 0;

    SIM_TRY(sim_alloc(&sorted, r->n, "prep/labels"));
    memcpy(sorted, values, r->n * sizeof *sorted);
    qsort(sorted, r->n, sizeof *sorted, ascending);
    for (size_t i = 0; i < r->n; i++)
        if (i == 0 || sorted[i] != sorted[i - 1])
            sorted[n++] = sorted[i];
    if (too_many_values(r, n))
        goto done;
    SIM_TRY(sim_alloc(&order, n, "prep/labels"));
    SIM_TRY(sim_alloc(&r->out->labels, r->n, "prep/labels"));
    for (size_t k = 0; k < n; k++) {
        (void)snprintf(text, sizeof text, "%" PRId64, sorted[k]);
        SIM_TRY(sim_prep_set_add(&classes, text, &order[k]));
    }
    for (size_t i = 0; i < r->n; i++) {
        (void)snprintf(text, sizeof text, "%" PRId64, values[i]);
        SIM_TRY(sim_prep_set_add(&classes, text, &number));
        r->out->labels[i] = (int32_t)number;
    }
    SIM_TRY(set_classes(r, &classes, order));
    sim_log("%s: %s has values from %" PRId64 " to %" PRId64
            ", which become %zu classes named by their values",
            r->path, r->name, sorted[0], sorted[n - 1], n);
done:
    sim_prep_set_clear(&classes);
    sim_free(sorted);
    sim_free(order);
    return st;
}

/* ---- numbers ---- */

/* Image indices are valid class numbers, but not classes. */
static sim_status warn_of_unique(const label_reader *r, const int64_t *values)
{
    sim_status st = SIM_OK;
    enum { FEW = 16 }; /* so few images may be one of each class */
    int64_t *sorted = NULL;
    size_t n = 1;

    if (r->n <= FEW)
        goto done;
    SIM_TRY(sim_alloc(&sorted, r->n, "prep/labels"));
    memcpy(sorted, values, r->n * sizeof *sorted);
    qsort(sorted, r->n, sizeof *sorted, ascending);
    for (size_t i = 1; i < r->n; i++)
        n += sorted[i] != sorted[i - 1];
    if (n == r->n)
        sim_log_warn("%s: %s: each of the %zu images has a unique label; if these are "
                     "image indices, add --labels-key none",
                     r->path, r->name, r->n);
done:
    sim_free(sorted);
    return st;
}

static sim_status use_integers(label_reader *r, const int64_t *values)
{
    sim_status st = SIM_OK;
    prep_source *out = r->out;

    for (size_t i = 0; i < r->n; i++)
        if (values[i] < 0 || values[i] >= MAX_LABEL) {
            SIM_TRY(classes_of_values(r, values));
            goto done;
        }
    SIM_TRY(warn_of_unique(r, values));
    SIM_TRY(sim_alloc(&out->labels, r->n, "prep/labels"));
    for (size_t i = 0; i < r->n; i++) {
        out->labels[i] = (int32_t)values[i];
        if ((size_t)values[i] >= out->n_classes)
            out->n_classes = (size_t)values[i] + 1;
    }
done:
    return st;
}

static sim_status read_integers(label_reader *r, sim_type type)
{
    sim_status st = SIM_OK;
    int64_t *values = NULL;

    SIM_TRY(sim_alloc(&values, r->n, "prep/labels"));
    SIM_TRY(sim_h5_read(r->file, r->name, type == SIM_U64 ? SIM_U64 : SIM_I64, 0,
                        SIM_H5_ALL, values, r->n));
    for (size_t i = 0; i < r->n && type == SIM_U64; i++)
        if (values[i] < 0) /* 2^63 and above */
            (void)snprintf(r->reason, REASON, "the value of image %zu exceeds 2^63", i);
    if (!r->reason[0])
        SIM_TRY(use_integers(r, values));
done:
    sim_free(values);
    return st;
}

static sim_status read_floats(label_reader *r)
{
    sim_status st = SIM_OK;
    double *values = NULL;
    int64_t *whole = NULL;

    SIM_TRY(sim_alloc(&values, r->n, "prep/labels"));
    SIM_TRY(sim_alloc(&whole, r->n, "prep/labels"));
    SIM_TRY(sim_h5_read(r->file, r->name, SIM_F64, 0, SIM_H5_ALL, values, r->n));
    for (size_t i = 0; i < r->n; i++) {
        if (!(fabs(values[i]) < 0x1p53) || values[i] != floor(values[i])) {
            (void)snprintf(r->reason, REASON, "the value of image %zu is %g, not whole",
                           i, values[i]);
            goto done;
        }
        whole[i] = (int64_t)values[i];
    }
    SIM_TRY(use_integers(r, whole));
done:
    sim_free(values);
    sim_free(whole);
    return st;
}

/* ---- one-hot ---- */

/* The column that is 1 while the others are 0; false if there is none. */
static bool hot_column(const double *row, size_t columns, int32_t *out)
{
    size_t ones = 0;
    for (size_t c = 0; c < columns; c++) {
        if (row[c] != 0 && row[c] != 1)
            return false;
        if (row[c] == 1)
            *out = (int32_t)c;
        ones += row[c] == 1;
    }
    return ones == 1;
}

static sim_status read_one_hot(label_reader *r, size_t columns)
{
    sim_status st = SIM_OK;
    enum { ROWS = 1024 };
    double *rows = NULL;

    SIM_TRY(sim_alloc(&rows, ROWS * columns, "prep/labels"));
    SIM_TRY(sim_alloc(&r->out->labels, r->n, "prep/labels"));
    for (size_t at = 0; at < r->n; at += ROWS) {
        size_t n = r->n - at < ROWS ? r->n - at : ROWS;
        SIM_TRY(sim_h5_read(r->file, r->name, SIM_F64, at, n, rows, n * columns));
        for (size_t i = 0; i < n; i++)
            if (!hot_column(rows + i * columns, columns, &r->out->labels[at + i])) {
                (void)snprintf(r->reason, REASON, "%zu columns, not one-hot (image %zu)",
                               columns, at + i);
                SIM_FREE(r->out->labels);
                goto done;
            }
    }
    r->out->n_classes = columns;
done:
    sim_free(rows);
    return st;
}

/* ---- any data set ---- */

static size_t values_per_image(const sim_h5_shape *s)
{
    size_t n = 1;
    for (int i = 1; i < s->n_dims; i++)
        n *= s->dims[i];
    return n;
}

static sim_status read_numbers(label_reader *r)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(sim_h5_shape_of(r->file, r->name, &s));
    const size_t per_image = values_per_image(&s);
    SIM_CHECK(s.n_dims > 0 && s.dims[0] == r->n, SIM_E_DATA,
              "%s: %s: %zu labels for %zu images; --labels-key none converts the images "
              "without labels",
              r->path, r->name, s.n_dims ? s.dims[0] : 0, r->n);
    bool floats = s.type == SIM_F32 || s.type == SIM_F64;
    if (per_image == 1)
        SIM_TRY(floats ? read_floats(r) : read_integers(r, s.type));
    else if (s.n_dims == 2 && s.dims[1] <= MAX_LABEL)
        SIM_TRY(read_one_hot(r, s.dims[1]));
    else
        (void)snprintf(r->reason, REASON, "%zu values per image", per_image);
done:
    return st;
}

sim_status sim_hdf5_read_class_names(const sim_h5 *file, const char *path,
                                     prep_source *out)
{
    sim_status st = SIM_OK;
    static const char *const known[] = {"/classes", "/class_names", "/label_names"};
    char *text = NULL;
    const char *name = NULL;
    size_t n = 0, width = 0;

    for (size_t i = 0; i < sizeof known / sizeof known[0] && !name; i++)
        if (sim_h5_has(file, known[i]) && sim_h5_is_strings(file, known[i]))
            name = known[i];
    if (!name || !out->labels || out->class_names)
        goto done;
    SIM_TRY(sim_h5_read_strings(file, name, MAX_LABEL, &n, &width, &text));
    if (n < out->n_classes) {
        sim_log_warn("%s: %s has %zu names for %zu classes and is not used", path, name,
                     n, out->n_classes);
        goto done;
    }
    SIM_TRY(sim_alloc(&out->class_names, n, "prep/names"));
    out->n_classes = n;
    for (size_t k = 0; k < n; k++)
        SIM_TRY(sim_text_copy(text + k * width, "prep/names", &out->class_names[k]));
done:
    sim_free(text);
    return st;
}

/* Bool with several values per image, such as masks or one-hot rows, is read as numbers. */
static bool is_text(const sim_h5 *file, const char *name)
{
    sim_h5_shape s;

    if (!sim_h5_is_strings(file, name))
        return false;
    const bool is_rows =
        sim_h5_shape_of(file, name, &s) == SIM_OK && values_per_image(&s) != 1;
    sim_error_clear();
    return !is_rows;
}

sim_status sim_hdf5_read_labels(const sim_h5 *file, const char *path, const char *name,
                                bool required, size_t n_images, prep_source *out)
{
    sim_status st = SIM_OK;
    label_reader r = {
        .file = file, .path = path, .name = name, .n = n_images, .out = out};

    if (is_text(file, name))
        SIM_TRY(read_text_labels(&r));
    else
        SIM_TRY(read_numbers(&r));
    SIM_CHECK(!r.reason[0] || !required, SIM_E_DATA,
              "%s: %s contains no labels: %s; --labels-key none converts the images "
              "without labels",
              path, name, r.reason);
    if (r.reason[0])
        sim_log_warn("%s: %s is not used as labels: %s; the data set has no labels", path,
                     name, r.reason);
done:
    return st;
}
