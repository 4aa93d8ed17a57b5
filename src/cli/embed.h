/*
 * embed.h - file formats of `simile embed`: the rows of embed_formats.def.
 */
#ifndef SIMILE_CLI_EMBED_H
#define SIMILE_CLI_EMBED_H

#include "cli.h"

#include "simile/file.h"

#include <limits.h>

/* What is written, on rank 0.  Borrowed. */
typedef struct {
    const sim_dataset *data;
    const char *checkpoint;        /* path of the model */
    const sim_tensor *features;    /* [n][dim] */
    const sim_tensor *projections; /* [n][dim], or NULL */
    const int32_t *labels;         /* [n], or NULL */
    size_t name_width;
    const char *names; /* [n][name_width] padded with zeros, or NULL */
} embed_content;

typedef struct {
    const char *name;    /* of --format */
    const char *ending;  /* of --out that selects the format; NULL: none */
    const char *summary; /* for --help */
    /* Completes and checks the output (sim_output_check), also for further files of the format. */
    sim_status (*check)(sim_output out, char target[PATH_MAX]);
    /* Replaces `path`, atomically. */
    sim_status (*write)(const embed_content *e, const char *path);
} embed_format;

#define SIM_EMBED_FORMAT(name) extern const embed_format sim_embed_##name;
#include "embed_formats.def"
#undef SIM_EMBED_FORMAT

/* Name of the class of image i, or NULL. */
const char *sim_embed_class(const embed_content *e, size_t i);

#endif
