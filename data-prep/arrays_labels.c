/*
 * arrays_labels.c - the labels of images in a file of arrays, of any type.
 *
 * Whole numbers, also as floats, are classes by the rules of classes.c.  Rows that are 1 in one
 * column and 0 elsewhere are one-hot.  Text and bool become classes named by their distinct values.
 * Everything else (masks, several columns, measurements, a value of its own for each image) is not
 * a label.
 */
#include "arrays.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REASON = 160 };

typedef struct {
    const prep_arrays *file;
    const char *name;
    size_t n;       /* images */
    size_t n_named; /* names in the list of the file */
    prep_source *out;
    char reason[REASON]; /* why the values are not labels; "" if they are */
} label_reader;

/* ---- classes by distinct values ---- */

static bool too_many_values(label_reader *r, size_t n_values)
{
    if (r->n > 1 && n_values == r->n)
        (void)snprintf(r->reason, REASON, "each image has a value of its own");
    else if (n_values > PREP_MAX_CLASSES)
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

    SIM_TRY(r->file->ops->read_strings(r->file->file, r->name, ARRAY_MAX_IMAGES, &n,
                                       &width, &text));
    SIM_CHECK(n == r->n, SIM_E_DATA, "%s: %s: %zu labels for %zu images", r->file->path,
              r->name, n, r->n);
    SIM_TRY(sim_alloc(&r->out->labels, n, "prep/labels"));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(sim_prep_set_add(&classes, text + i * width, &number));
        r->out->labels[i] = (int32_t)number;
    }
    if (too_many_values(r, classes.names.n))
        SIM_FREE(r->out->labels);
    else
        SIM_TRY(sim_prep_set_names(&classes, n, r->out));
done:
    sim_prep_set_clear(&classes);
    sim_free(text);
    return st;
}

/* ---- numbers ---- */

/* Image indices are valid class numbers, but not classes. */
static void check_unique(label_reader *r, const int64_t *distinct, size_t n_distinct)
{
    enum { FEW = 16 }; /* so few images may be one of each class */

    if (distinct[0] < 0 || distinct[n_distinct - 1] >= PREP_MAX_CLASSES)
        (void)too_many_values(r, n_distinct);
    else if (r->n > FEW && n_distinct == r->n)
        sim_log_warn("%s: %s: each of the %zu images has a unique label; if these are "
                     "image indices, add --labels-key none",
                     r->file->path, r->name, r->n);
}

static sim_status use_integers(label_reader *r, const int64_t *values)
{
    sim_status st = SIM_OK;
    char where[ARRAY_NAME + PATH_MAX];
    int64_t *distinct = NULL;
    size_t n_distinct = 0;

    SIM_TRY(sim_prep_distinct(values, r->n, &distinct, &n_distinct));
    check_unique(r, distinct, n_distinct);
    if (r->reason[0])
        goto done;
    (void)snprintf(where, sizeof where, "%s: %s", r->file->path, r->name);
    SIM_TRY(sim_prep_set_numbers(where, values, r->n, r->n_named, r->out));
    if (r->n_named && r->out->class_names)
        sim_log_warn("%s: the file names %zu classes, but the labels are not 0 to %zu; "
                     "the names are not used",
                     where, r->n_named, r->n_named - 1);
done:
    sim_free(distinct);
    return st;
}

static sim_status read_integers(label_reader *r, sim_type type)
{
    sim_status st = SIM_OK;
    int64_t *values = NULL;

    SIM_TRY(sim_alloc(&values, r->n, "prep/labels"));
    SIM_TRY(r->file->ops->read(r->file->file, r->name,
                               type == SIM_U64 ? SIM_U64 : SIM_I64, 0, SIM_H5_ALL, values,
                               r->n));
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
    SIM_TRY(
        r->file->ops->read(r->file->file, r->name, SIM_F64, 0, SIM_H5_ALL, values, r->n));
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
        SIM_TRY(r->file->ops->read(r->file->file, r->name, SIM_F64, at, n, rows,
                                   n * columns));
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

static sim_status read_numbers(label_reader *r)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;

    SIM_TRY(r->file->ops->shape_of(r->file->file, r->name, &s));
    const size_t per_image = array_values_per_row(&s);
    SIM_CHECK(s.n_dims > 0 && s.dims[0] == r->n, SIM_E_DATA,
              "%s: %s: %zu labels for %zu images; --labels-key none converts the images "
              "without labels",
              r->file->path, r->name, s.n_dims ? s.dims[0] : 0, r->n);
    bool floats = s.type == SIM_F32 || s.type == SIM_F64;
    if (per_image == 1)
        SIM_TRY(floats ? read_floats(r) : read_integers(r, s.type));
    else if (s.n_dims == 2 && s.dims[1] <= PREP_MAX_CLASSES)
        SIM_TRY(read_one_hot(r, s.dims[1]));
    else
        (void)snprintf(r->reason, REASON, "%zu values per image", per_image);
done:
    return st;
}

/* ---- names ---- */

/* The list of names of classes in a file, NULL if it has none. */
static sim_status read_name_list(const prep_arrays *file, size_t *n, size_t *width,
                                 char **text)
{
    sim_status st = SIM_OK;
    static const char *const known[] = {ARRAY_CLASS_LISTS};

    for (size_t i = 0; i < sizeof known / sizeof known[0] && !*text; i++)
        if (file->ops->has(file->file, known[i]) &&
            file->ops->is_strings(file->file, known[i]))
            SIM_TRY(file->ops->read_strings(file->file, known[i], PREP_MAX_CLASSES, n,
                                            width, text));
done:
    return st;
}

/* Names the classes by the list, if their labels are indices of it. */
static sim_status use_name_list(const label_reader *r, const char *text, size_t width)
{
    sim_status st = SIM_OK;
    prep_source *out = r->out;

    if (!text || !out->labels || out->class_names)
        goto done;
    if (r->n_named < out->n_classes) {
        sim_log_warn("%s: the list of %zu names for %zu classes is not used",
                     r->file->path, r->n_named, out->n_classes);
        goto done;
    }
    SIM_TRY(sim_alloc(&out->class_names, r->n_named, "prep/names"));
    out->n_classes = r->n_named;
    for (size_t k = 0; k < r->n_named; k++)
        SIM_TRY(sim_text_copy(text + k * width, "prep/names", &out->class_names[k]));
done:
    return st;
}

/* Bool with several values per image, such as masks or one-hot rows, is read as numbers. */
static bool is_text(const prep_arrays *file, const char *name)
{
    sim_h5_shape s;

    if (!file->ops->is_strings(file->file, name))
        return false;
    const bool is_rows = file->ops->shape_of(file->file, name, &s) == SIM_OK &&
                         array_values_per_row(&s) != 1;
    sim_error_clear();
    return !is_rows;
}

sim_status sim_arrays_read_labels(const prep_arrays *file, const char *name,
                                  bool required, size_t n_images, prep_source *out)
{
    sim_status st = SIM_OK;
    char *names = NULL;
    size_t width = 0;
    label_reader r = {.file = file, .name = name, .n = n_images, .out = out};

    SIM_TRY(read_name_list(file, &r.n_named, &width, &names));
    if (is_text(file, name))
        SIM_TRY(read_text_labels(&r));
    else
        SIM_TRY(read_numbers(&r));
    SIM_CHECK(!r.reason[0] || !required, SIM_E_DATA,
              "%s: %s contains no labels: %s; --labels-key none converts the images "
              "without labels",
              file->path, name, r.reason);
    if (r.reason[0])
        sim_log_warn("%s: %s is not used as labels: %s; the data set has no labels",
                     file->path, name, r.reason);
    SIM_TRY(use_name_list(&r, names, width));
done:
    sim_free(names);
    return st;
}
