/*
 * hdf5.h - private to from_hdf5.c and hdf5_sets.c: somebody's HDF5 file, and its blocks.
 */
#ifndef SIMILE_PREP_HDF5_H
#define SIMILE_PREP_HDF5_H

#include "prep.h"

#include "simile/h5.h"

#include <limits.h>

enum {
    HDF5_NAME = 512,
    HDF5_MAX_IMAGES = 1 << 30 /* as the reader of data sets */
};

/* How one image lies in a data set. */
typedef enum { HDF5_ROWS_LAST, HDF5_PLANES, HDF5_GRAY } hdf5_layout;

/* One data set of images, or of a single one. */
typedef struct {
    hdf5_layout layout;
    bool single; /* no dimension N */
    bool floats;
    size_t n, h, w, c;
    size_t first;      /* item number of its first image */
    size_t piece_rows; /* read together */
    int32_t label;     /* a class by group; else -1 */
} hdf5_block;

typedef struct {
    char path[PATH_MAX];
    sim_h5 *file;
    prep_list names;    /* of the blocks */
    hdf5_block *blocks; /* [names.n] */
    size_t room, n_items;
    double scale;     /* floats: to 0..255 */
    size_t b;         /* block of the piece, */
    size_t row, rows; /* its images, */
    void *piece;      /* as in the file: uint8 or float */
} hdf5;

static inline size_t hdf5_image_values(const hdf5_block *b)
{
    return b->h * b->w * b->c;
}

/* The name that was asked for, or the first known one that is there; else what is there is
 * told, and `option`, which names one. */
SIM_MUST_USE sim_status sim_hdf5_find_set(const sim_h5 *f, const char *path,
                                          const char *key, const char *const *known,
                                          const char *option, char out[HDF5_NAME]);
/* A data set of images as the next block.  `alone`: in a group of a class, where H x W and
 * H x W x C are one image. */
SIM_MUST_USE sim_status sim_hdf5_add_block(hdf5 *f, const char *name, bool alone,
                                           int32_t label);
/* All data sets below a group, whose members are the classes. */
SIM_MUST_USE sim_status sim_hdf5_add_classes(hdf5 *f, const char *group,
                                             prep_source *out);

#endif
