/*
 * export.h - writes the encoder of a checkpoint for use outside of simile.
 *
 * Module: export
 * A directory receives the encoder in one file format, a sample with the features that simile
 * computes of it, load_encoder.py and encoder.json. src/DESIGN.md, "Export", specifies the files.
 */
#ifndef SIMILE_EXPORT_H
#define SIMILE_EXPORT_H

#include "simile/checkpoint.h"
#include "simile/data.h"
#include "simile/file.h"
#include "simile/job.h"

typedef struct sim_export sim_export;

/* A row of exports.def. */
typedef struct sim_export_format {
    const char *name, *summary; /* of --format, and for --help */
    /* Its files; the first holds the encoder. Terminated by NULL. */
    const char *const *files;
    bool is_graph; /* has the options batch and fold_batchnorm */
    /* Whether a file at the path of one of `files` is an export of this format. */
    bool (*is_own)(const char *path);
    /* Replaces the files in an existing directory. */
    sim_status (*write)(const sim_export *e, const char *directory);
} sim_export_format;

size_t sim_export_formats_count(void);
const sim_export_format *sim_export_formats_at(size_t i);
/* NULL if there is none of that name. */
const sim_export_format *sim_export_formats_find(const char *name);

typedef struct {
    const sim_export_format *format;
    bool projector;         /* also the projector */
    bool momentum;          /* the networks of the momentum encoder */
    size_t batch;           /* images per call; 0: any number */
    bool fold_batchnorm;    /* into the layers before */
    const char *created_by; /* program and version, for the metadata; borrowed */
} sim_export_options;

/*
 * Loads the networks of a checkpoint and computes the features of the sample. `job` is that of the
 * checkpoint. The content depends on checkpoint, preprocessing, options and arithmetic alone.
 * Local.
 * Errors: SIM_E_USAGE if the checkpoint has no projector or no momentum encoder to export; those
 * of sim_embedder_open.
 */
SIM_MUST_USE sim_status sim_export_create(const sim_checkpoint *k, const sim_job *job,
                                          const sim_preprocessing *p,
                                          const sim_export_options *options,
                                          sim_export **out);
void sim_export_destroy(sim_export **e);

/*
 * Checks that an export to `directory` replaces only files of an earlier export.
 *   out  `force` and inputs (sim_output)
 * Local. Errors: those of sim_output_check.
 */
SIM_MUST_USE sim_status sim_export_check(const sim_export_format *format,
                                         const char *directory, sim_output out);
/* Writes all files; creates the directory if it does not exist. encoder.json is the last file that is
 * written. Local. */
SIM_MUST_USE sim_status sim_export_write(const sim_export *e, const char *directory);

#endif
