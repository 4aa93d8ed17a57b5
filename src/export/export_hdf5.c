/*
 * export_hdf5.c - encoder.h5: weights, metadata and sample in one file.
 *
 * Weights and preprocessing are stored where checkpoints store them, so that `pretrain --init` reads
 * the file.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

static bool is_own_hdf5(const char *path)
{
    sim_h5 *f = NULL;
    char format[64] = "";
    bool is = sim_h5_open_read(path, &f) == SIM_OK &&
              sim_h5_read_attribute_text(f, "format", format, sizeof format) == SIM_OK &&
              strcmp(format, SIM_MODEL_FILE_FORMAT) == 0;

    sim_error_clear();
    sim_h5_close(&f);
    return is;
}

static sim_status write_head(const sim_export *e, sim_h5 *f)
{
    sim_status st = SIM_OK;
    char *preprocessing = NULL;
    int64_t version = SIM_MODEL_FILE_VERSION;
    const sim_tensor t = {.type = SIM_I64, .data = &version};

    SIM_TRY(sim_h5_write_attribute_text(f, "format", SIM_MODEL_FILE_FORMAT));
    SIM_TRY(sim_h5_write_attribute(f, "format_version", &t));
    SIM_TRY(sim_h5_write_text(f, "/metadata", e->metadata));
    SIM_TRY(sim_preprocessing_text(&e->embedder.preprocessing, &preprocessing));
    SIM_TRY(sim_h5_write_text(f, "/preprocessing", preprocessing));
done:
    sim_free(preprocessing);
    return st;
}

static sim_status write_weights(const sim_export *e, sim_h5 *f)
{
    sim_status st = SIM_OK;
    char path[256];

    for (size_t i = 0; i < e->n_tensors; i++) {
        const export_tensor *t = &e->tensors[i];
        (void)snprintf(path, sizeof path, "/weights/%s/%s", t->group, t->name);
        SIM_TRY(sim_h5_write(f, path, &t->tensor));
    }
done:
    return st;
}

static sim_status write_sample(const sim_export *e, sim_h5 *f)
{
    sim_status st = SIM_OK;
    sim_tensor sample[SAMPLE_TENSORS];
    size_t n = sim_export_sample(e, sample);
    char path[64];

    for (size_t i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "/sample/%s", sample[i].name);
        SIM_TRY(sim_h5_write(f, path, &sample[i]));
    }
done:
    return st;
}

/* Bytes of all values; those of the sample are a bound. */
static size_t count_bytes(const sim_export *e)
{
    size_t n = 0;

    for (size_t i = 0; i < e->n_tensors; i++)
        n += sim_tensor_count(&e->tensors[i].tensor) * sizeof(int64_t);
    for (size_t i = 0; i < SAMPLE_IMAGES; i++)
        n += e->images[i].h * e->images[i].w * e->images[i].c;
    return n;
}

static const char *const files[] = {"encoder.h5", NULL};

static sim_status write_hdf5(const sim_export *e, const char *directory)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    const void *image = NULL;
    size_t n_bytes = 0;
    char path[PATH_MAX];

    SIM_TRY(sim_export_path(directory, files[0], path));
    SIM_TRY(sim_h5_create_image(count_bytes(e), &f));
    SIM_TRY(write_head(e, f));
    SIM_TRY(write_weights(e, f));
    SIM_TRY(write_sample(e, f));
    SIM_TRY(sim_h5_image(f, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_h5_close(&f);
    return st;
}

const sim_export_format sim_export_hdf5 = {
    .name = "hdf5",
    .summary = "encoder.h5, which `pretrain --init` also reads",
    .files = files,
    .is_own = is_own_hdf5,
    .write = write_hdf5};
