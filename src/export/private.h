/*
 * private.h - the content of an export, for its formats.
 */
#ifndef SIMILE_EXPORT_PRIVATE_H
#define SIMILE_EXPORT_PRIVATE_H

#include "simile/export.h"

#include "simile/eval.h"

/* Images of the sample: of the size of the model, taller, wider, and smaller. */
enum { SAMPLE_IMAGES = 4, SAMPLE_TENSORS = SAMPLE_IMAGES + 2 };

/* A tensor of a network; tensor.name is the name in its network, "conv1.weight". */
typedef struct {
    const char *group; /* "encoder", "projector" */
    char *name;        /* owned */
    sim_tensor tensor; /* its data belongs to the network */
} export_tensor;

struct sim_export {
    const sim_export_format *format;
    sim_embedder embedder;
    export_tensor *tensors; /* [n_tensors] */
    size_t n_tensors, capacity;
    sim_image images[SAMPLE_IMAGES]; /* of the sample */
    float *features, *projections;   /* [SAMPLE_IMAGES][dim]; projections: or NULL */
    char *metadata;                  /* JSON on one line */
    size_t batch;                    /* these three: of the options */
    bool fold_batchnorm;
    const char *created_by;
};

/* Describes networks, preprocessing and origin of an export whose tensors are listed. *text is
 * the caller's. */
sim_status sim_export_describe(const sim_checkpoint *k, const sim_job *job,
                               const sim_export_options *options, const sim_export *e,
                               char **text);
/* True if the text is metadata of an export, of any version. */
bool sim_export_is_metadata(const char *text, size_t n_bytes);

/* Lists image0 ... uint8 [h][w][c], features and projections; returns their number. The data is
 * borrowed from e. */
size_t sim_export_sample(const sim_export *e, sim_tensor out[SAMPLE_TENSORS]);

/* Writes the sample as a safetensors file with the metadata; whether a file is one of an export. */
SIM_MUST_USE sim_status sim_export_write_sample(const sim_export *e,
                                                const char *directory, const char *name);
bool sim_export_is_own_safetensors(const char *path);

/* Writes DIRECTORY/name without symbolic links. */
sim_status sim_export_path(const char *directory, const char *name, char out[PATH_MAX]);

/* The text of load_encoder.py at build time. */
extern const char sim_export_script[];

#endif
