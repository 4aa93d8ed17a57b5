/*
 * feature_file.c - features and labels of an HDF5 file, of `simile embed` or another program.
 */
#include "simile/eval.h"

#include "simile/h5.h"
#include "simile/memory.h"

#include <math.h>

enum { MAX_CLASSES = 1 << 20, MAX_ROWS = INT32_MAX, CHUNK = 4096 };

struct sim_feature_file {
    char *path;
    sim_h5 *file;
    size_t n, dim, n_classes;
    int32_t *labels; /* [n] or NULL */
    char *names;     /* [n_names][width] or NULL */
    size_t n_names, width;
};

static sim_status read_shape(sim_feature_file *f)
{
    sim_status st = SIM_OK;
    sim_h5_shape shape;

    SIM_CHECK(sim_h5_has(f->file, "/features"), SIM_E_DATA,
              "%s has no data set /features; `simile embed` writes such files", f->path);
    SIM_TRY(sim_h5_shape_of(f->file, "/features", &shape));
    SIM_CHECK(shape.n_dims == 2 && shape.dims[0] > 0 && shape.dims[1] > 0 &&
                  shape.dims[0] <= MAX_ROWS,
              SIM_E_DATA, "%s: /features is not an array [images][dimensions]", f->path);
    f->n = shape.dims[0];
    f->dim = shape.dims[1];
done:
    return st;
}

static sim_status read_labels(sim_feature_file *f)
{
    sim_status st = SIM_OK;
    void *data = NULL;
    sim_h5_shape shape;

    if (!sim_h5_has(f->file, "/labels"))
        goto done;
    SIM_TRY(sim_h5_read_new(f->file, "/labels", SIM_I64, MAX_ROWS, &data, &shape));
    SIM_CHECK(shape.n_dims == 1 && shape.dims[0] == f->n, SIM_E_DATA,
              "%s: /labels does not have one number for each of %zu rows of /features",
              f->path, f->n);
    SIM_TRY(sim_alloc(&f->labels, f->n, "eval/features"));
    const int64_t *labels = data;
    for (size_t i = 0; i < f->n; i++) {
        SIM_CHECK(labels[i] >= 0 && labels[i] < MAX_CLASSES, SIM_E_DATA,
                  "%s: /labels: %lld of image %zu is not a class (0 to %d)", f->path,
                  (long long)labels[i], i, MAX_CLASSES - 1);
        f->labels[i] = (int32_t)labels[i];
        f->n_classes =
            (size_t)labels[i] >= f->n_classes ? (size_t)labels[i] + 1 : f->n_classes;
    }
done:
    sim_free(data);
    return st;
}

/* Names of classes are optional; they may be of more classes than have images. */
static sim_status read_names(sim_feature_file *f)
{
    sim_status st = SIM_OK;

    if (!f->labels || !sim_h5_has(f->file, "/classes") ||
        !sim_h5_is_strings(f->file, "/classes"))
        goto done;
    SIM_TRY(sim_h5_read_strings(f->file, "/classes", MAX_CLASSES, &f->n_names, &f->width,
                                &f->names));
    SIM_CHECK(f->n_names >= f->n_classes, SIM_E_DATA,
              "%s: /classes has %zu names, but /labels has class %zu", f->path,
              f->n_names, f->n_classes - 1);
    f->n_classes = f->n_names;
done:
    return st;
}

sim_status sim_feature_file_open(const char *path, sim_feature_file **out)
{
    sim_status st = SIM_OK;
    sim_feature_file *f = NULL;

    SIM_TRY(sim_new(&f, "eval/features"));
    SIM_TRY(sim_text_copy(path, "eval/features", &f->path));
    SIM_TRY(sim_h5_open_read(path, &f->file));
    SIM_TRY(read_shape(f));
    SIM_TRY(read_labels(f));
    SIM_TRY(read_names(f));
    *out = f;
    f = NULL;
done:
    sim_feature_file_close(&f);
    return st;
}

void sim_feature_file_close(sim_feature_file **f)
{
    if (!*f)
        return;
    sim_h5_close(&(*f)->file);
    sim_free((*f)->path);
    sim_free((*f)->labels);
    sim_free((*f)->names);
    SIM_FREE(*f);
}

size_t sim_feature_file_dim(const sim_feature_file *f)
{
    return f->dim;
}

sim_status sim_feature_file_read(const sim_feature_file *f, sim_range rows, float *out)
{
    sim_status st = SIM_OK;

    for (size_t at = rows.lo; at < rows.hi; at += CHUNK) {
        const size_t n = rows.hi - at < CHUNK ? rows.hi - at : CHUNK;
        float *to = out + (at - rows.lo) * f->dim;
        SIM_TRY(sim_h5_read(f->file, "/features", SIM_F32, at, n, to, n * f->dim));
        for (size_t i = 0; i < n * f->dim; i++)
            SIM_CHECK(isfinite(to[i]), SIM_E_DATA,
                      "%s: /features: row %zu has values that are not finite numbers",
                      f->path, at + i / f->dim);
    }
done:
    return st;
}

/* ---- sets of labelled images ---- */

sim_labelled_set sim_labelled_set_of(const sim_dataset *d)
{
    return (sim_labelled_set){.path = sim_dataset_path(d),
                              .n = sim_dataset_about(d)->n_images,
                              .n_classes = sim_dataset_about(d)->n_classes,
                              .labels = sim_dataset_labels(d),
                              .data = d};
}

sim_labelled_set sim_labelled_set_of_file(const sim_feature_file *f)
{
    return (sim_labelled_set){.path = f->path,
                              .n = f->n,
                              .n_classes = f->n_classes,
                              .labels = f->labels,
                              .file = f};
}

const char *sim_labelled_set_class(const sim_labelled_set *s, size_t k)
{
    if (s->data)
        return sim_dataset_class_name(s->data, k);
    return k < s->file->n_names ? s->file->names + k * s->file->width : NULL;
}
