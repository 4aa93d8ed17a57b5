/*
 * private.h - the parts of a safetensors file that become a checkpoint.
 */
#ifndef SIMILE_IMPORT_PRIVATE_H
#define SIMILE_IMPORT_PRIVATE_H

#include "simile/import.h"

#include "simile/encoder.h"
#include "simile/json.h"
#include "simile/safetensors.h"

/* A tensor of a network, converted. */
typedef struct {
    int net;                     /* SIM_BACKBONE or SIM_PROJECTOR */
    char *name;                  /* in the network; owned */
    const sim_safetensor *given; /* NULL: a counter that the file lacks */
    sim_tensor tensor;           /* its data is owned */
} import_tensor;

typedef struct {
    const char *path;
    sim_safetensors *file;
    sim_json *metadata;     /* of an export; NULL: there is none */
    import_tensor *tensors; /* [n] */
    size_t n, capacity;
    size_t n_ignored;
    char ignored[512];           /* names of the first ones */
    sim_encoder_options encoder; /* arch, stem, width */
    size_t channels;             /* of an image */
} import_file;

/* ---- metadata.c ---- */

/* Parses the metadata of an export.  *out stays NULL if the file has none. */
SIM_MUST_USE sim_status sim_import_read_metadata(const char *path,
                                                 const sim_safetensors *file,
                                                 sim_json **out);
/* encoder.width of an export; 0 without metadata. */
SIM_MUST_USE sim_status sim_import_width(const import_file *f, double *width);
/* The job of the file as a text (YAML).  *text is the caller's. */
SIM_MUST_USE sim_status sim_import_config(const import_file *f, char **text);
/* The preprocessing as a text, or NULL.  *text is the caller's. */
SIM_MUST_USE sim_status sim_import_preprocessing(const import_file *f, char **text);

/* ---- tensors.c ---- */

/* Lists the tensors of the networks, recognizes the backbone, and reads the values. */
SIM_MUST_USE sim_status sim_import_read_tensors(import_file *f);
void sim_import_free_tensors(import_file *f);

#endif
