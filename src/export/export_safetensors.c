/*
 * export_safetensors.c - encoder.safetensors and sample.safetensors.
 *
 * Tensors of the projector have the prefix "projector.". Both files have the metadata of the export
 * as the text "simile"; "format": "pt" is what other readers of PyTorch weights expect.
 */
#include "private.h"

#include "simile/memory.h"
#include "simile/safetensors.h"

#include <string.h>

bool sim_export_is_own_safetensors(const char *path)
{
    sim_safetensors *f = NULL;
    bool is = sim_safetensors_open(path, &f) == SIM_OK;
    const char *text = is ? sim_safetensors_metadata(f, SIM_MODEL_FILE_KEY) : NULL;

    is = text && sim_export_is_metadata(text, strlen(text));
    sim_error_clear();
    sim_safetensors_close(&f);
    return is;
}

static sim_status write_file(const sim_export *e, const char *directory, const char *name,
                             const sim_tensor *tensors, size_t n)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    const sim_safetensors_text texts[] = {{"format", "pt"},
                                          {SIM_MODEL_FILE_KEY, e->metadata}};

    SIM_TRY(sim_export_path(directory, name, path));
    SIM_TRY(sim_safetensors_write(path, tensors, n, texts, 2));
done:
    return st;
}

sim_status sim_export_write_sample(const sim_export *e, const char *directory,
                                   const char *name)
{
    sim_tensor sample[SAMPLE_TENSORS];
    return write_file(e, directory, name, sample, sim_export_sample(e, sample));
}

static sim_status write_encoder(const sim_export *e, const char *directory,
                                const char *name)
{
    sim_status st = SIM_OK;
    sim_tensor *tensors = NULL;
    char **names = NULL;

    SIM_TRY(sim_alloc(&tensors, e->n_tensors, "export/tensors"));
    SIM_TRY(sim_alloc(&names, e->n_tensors, "export/tensors"));
    for (size_t i = 0; i < e->n_tensors; i++) {
        SIM_TRY(sim_model_file_name(e->tensors[i].group, e->tensors[i].name, &names[i]));
        tensors[i] = e->tensors[i].tensor;
        tensors[i].name = names[i];
    }
    SIM_TRY(write_file(e, directory, name, tensors, e->n_tensors));
done:
    for (size_t i = 0; names && i < e->n_tensors; i++)
        sim_free(names[i]);
    sim_free(names);
    sim_free(tensors);
    return st;
}

static const char *const files[] = {"encoder.safetensors", "sample.safetensors", NULL};

static sim_status write_safetensors(const sim_export *e, const char *directory)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_export_write_sample(e, directory, files[1]));
    SIM_TRY(write_encoder(e, directory, files[0]));
done:
    return st;
}

const sim_export_format sim_export_safetensors = {
    .name = "safetensors",
    .summary = "encoder.safetensors, sample.safetensors",
    .files = files,
    .is_own = sim_export_is_own_safetensors,
    .write = write_safetensors};
