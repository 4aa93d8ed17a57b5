/*
 * embed_hdf5.c - embeddings as an HDF5 file with /features, /projections, /labels, /name, /id and
 * /classes.
 */
#include "embed.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/memory.h"

#include <string.h>

/* Number of each image in the data set. */
static sim_status write_ids(sim_h5 *f, size_t n)
{
    sim_status st = SIM_OK;
    int64_t *id = NULL;

    SIM_TRY(sim_alloc(&id, n, "cli/embeddings"));
    for (size_t i = 0; i < n; i++)
        id[i] = (int64_t)i;
    const sim_tensor t = {.type = SIM_I64, .n_dims = 1, .dims = {n}, .data = id};
    SIM_TRY(sim_h5_write(f, "/id", &t));
done:
    sim_free(id);
    return st;
}

static sim_status write_class_names(sim_h5 *f, const sim_dataset *d)
{
    sim_status st = SIM_OK;
    size_t n = sim_dataset_about(d)->n_classes, width = 1;
    void *text = NULL;

    if (n == 0 || !sim_dataset_class_name(d, n - 1))
        goto done;
    for (size_t k = 0; k < n; k++)
        width = strlen(sim_dataset_class_name(d, k)) > width
                    ? strlen(sim_dataset_class_name(d, k))
                    : width;
    SIM_TRY(sim_alloc_bytes(n, width, "cli/embeddings", &text));
    for (size_t k = 0; k < n; k++)
        memcpy((char *)text + k * width, sim_dataset_class_name(d, k),
               strlen(sim_dataset_class_name(d, k)));
    SIM_TRY(sim_h5_write_strings(f, "/classes", n, width, text));
done:
    sim_free(text);
    return st;
}

static sim_status write_head(sim_h5 *f, const embed_content *e)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_h5_write_attribute_text(f, "format", "simile-embeddings"));
    SIM_TRY(sim_h5_write_attribute_text(f, "fingerprint",
                                        sim_dataset_about(e->data)->fingerprint));
    SIM_TRY(sim_h5_write_text(f, "/checkpoint", e->checkpoint));
done:
    return st;
}

/* Bytes of all arrays. */
static size_t count_bytes(const embed_content *e)
{
    const size_t floats =
        e->features->dims[1] + (e->projections ? e->projections->dims[1] : 0);
    return e->features->dims[0] *
           (floats * sizeof(float) + sizeof(int32_t) + sizeof(int64_t) + e->name_width);
}

static sim_status write_hdf5(const embed_content *e, const char *path)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    const void *image = NULL;
    const size_t n = e->features->dims[0];
    size_t n_bytes = 0;
    const sim_tensor labels = {
        .type = SIM_I32, .n_dims = 1, .dims = {n}, .data = (void *)(uintptr_t)e->labels};

    SIM_TRY(sim_h5_create_image(count_bytes(e), &f));
    SIM_TRY(write_head(f, e));
    SIM_TRY(sim_h5_write(f, "/features", e->features));
    if (e->projections)
        SIM_TRY(sim_h5_write(f, "/projections", e->projections));
    if (e->labels)
        SIM_TRY(sim_h5_write(f, "/labels", &labels));
    SIM_TRY(write_class_names(f, e->data));
    SIM_TRY(write_ids(f, n));
    if (e->names)
        SIM_TRY(sim_h5_write_strings(f, "/name", n, e->name_width, e->names));
    SIM_TRY(sim_h5_image(f, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_h5_close(&f);
    return st;
}

static sim_status check_hdf5(sim_output out, char target[PATH_MAX])
{
    out.kind = "a file of embeddings";
    out.is_own = sim_path_kind_of(out.path) == SIM_PATH_EMBEDDINGS;
    return sim_output_check(&out, target);
}

const embed_format sim_embed_hdf5 = {
    .name = "hdf5",
    .summary = "/features, /projections, /labels, /name, /id, /classes",
    .check = check_hdf5,
    .write = write_hdf5};
