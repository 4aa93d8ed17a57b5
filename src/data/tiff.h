/*
 * tiff.h - an open page of a TIFF file, shared by decode_tiff.c and tiff_*.c.
 */
#ifndef SIMILE_DATA_TIFF_H
#define SIMILE_DATA_TIFF_H

#include "private.h"

#include <tiffio.h>

/* A file in memory; the user data of libtiff. */
typedef struct {
    const char *name;
    const uint8_t *bytes;
    uint64_t n, at;
    sim_decode_notes *notes; /* of warnings; NULL: they are ignored */
    char text[200];          /* of the last error */
} tiff_file;

typedef enum {
    TIFF_CHANNELS, /* as they are */
    TIFF_INVERTED, /* 0 is white */
    TIFF_PALETTE,
    TIFF_CMYK,
    TIFF_YCBCR /* converted by libtiff */
} tiff_colors;

/* The tags of the current page. */
typedef struct {
    size_t h, w;
    size_t n_samples; /* per pixel in the file */
    number_format number;
    bool is_separate; /* one plane per sample */
    tiff_colors colors;
    size_t c; /* samples that are kept; before the conversion of colors */
    int orientation;
    sim_type type;
    int channel_of[SIM_MAX_CHANNELS]; /* channel of each sample; -1: dropped */
} tiff_page;

/* Fails with the last error of libtiff. */
#define TIFF_CHECK(condition, file)                                                      \
    SIM_CHECK(condition, SIM_E_DATA, "%s: %s", (file)->name,                             \
              (file)->text[0] ? (file)->text : "corrupted")

/* Reads and checks the tags of the current page. */
SIM_MUST_USE sim_status sim_tiff_read_tags(const tiff_file *f, TIFF *t, tiff_page *out);
/* Reads the samples that are kept, unscaled. */
SIM_MUST_USE sim_status sim_tiff_read_samples(const tiff_file *f, TIFF *t,
                                              const tiff_page *p, sim_image *out);
/* Replaces unscaled samples by gray, RGB or channels. */
SIM_MUST_USE sim_status sim_tiff_convert_colors(const tiff_file *f, TIFF *t,
                                                const tiff_page *p, sim_image *image);

#endif
