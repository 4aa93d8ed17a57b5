/*
 * hdf5.h - an open HDF5 source, shared by from_hdf5.c and hdf5_*.c.
 */
#ifndef SIMILE_PREP_HDF5_H
#define SIMILE_PREP_HDF5_H

#include "prep.h"

#include "simile/h5.h"

#include <limits.h>
#include <stdio.h>

enum { HDF5_NAME = 512, HDF5_MAX_IMAGES = SIM_MAX_IMAGES };

/* Order of the dimensions of an image: H W C, C H W, or H W. */
typedef enum { HDF5_HWC, HDF5_CHW, HDF5_HW } hdf5_layout;

/* An HDF5 data set of images, or of a single image. */
typedef struct {
    hdf5_layout layout;
    bool single;   /* without the dimension N */
    bool deep;     /* any type but uint8 and bool; read as double */
    sim_type type; /* in the file */
    bool is_bool;  /* read as uint8 */
    size_t n, h, w, c;
    size_t stored_c; /* channels in the file: c, or 4 if the fourth, alpha, is dropped */
    size_t first;    /* index of its first image among all items */
    size_t piece_rows; /* images per read, whole chunks */
    int32_t label;     /* of all its images if classes are groups; otherwise -1 */
} hdf5_block;

/* An open file. */
typedef struct {
    char path[PATH_MAX];
    size_t first_item; /* number of its first image among those of all files */
    sim_h5 *file;
    prep_names names;   /* of the blocks */
    hdf5_block *blocks; /* [names.n] */
    size_t capacity, n_items;
    const prep_options *options; /* borrowed while the source is opened */
    sim_type type;               /* of the samples of an item, equal for all files */
    sim_value_range range;       /* of deep images that become SIM_U8; likewise */
    char *item_names; /* [n_items][name_width], of a file with /name; or NULL */
    size_t name_width;
    size_t b;         /* block of the current piece */
    size_t row, rows; /* first image of the piece in its block; their number */
    void *piece;      /* uint8 or double, in the layout of the file */
} hdf5;

static inline void hdf5_full_name(const char *key, char out[HDF5_NAME])
{
    (void)snprintf(out, HDF5_NAME, "%s%s", key[0] == '/' ? "" : "/", key);
}

static inline size_t hdf5_values_per_row(const sim_h5_shape *s)
{
    size_t n = 1;
    for (int i = 1; i < s->n_dims; i++)
        n *= s->dims[i];
    return n;
}

/* Values of an image in the file. */
static inline size_t hdf5_image_values(const hdf5_block *b)
{
    return b->h * b->w * b->stored_c;
}

/* Index of a value in an image of the file. */
static inline size_t hdf5_value_at(const hdf5_block *b, size_t pixel, size_t channel)
{
    return b->layout == HDF5_CHW ? channel * b->h * b->w + pixel
                                 : pixel * b->stored_c + channel;
}

/* Groups of a data set of simile: a number of each image, and the names. */
#define HDF5_GROUP  "/group"
#define HDF5_GROUPS "/groups"

/* Lists of the names of classes. */
#define HDF5_CLASS_LISTS "/classes", "/class_names", "/label_names", "/list_classes"

/*
 * Chooses the data set of images: that of --images-key, one of a known name, or the only one of a
 * suitable shape; where names contain splits, that of the split.
 *
 *   split  the split that was selected; unchanged if there are none
 *
 * Errors: SIM_E_INPUT (no such split), SIM_E_DATA; the message lists the data sets.
 */
SIM_MUST_USE sim_status sim_hdf5_choose_images(const sim_h5 *file, const char *path,
                                               const prep_options *o, char out[HDF5_NAME],
                                               prep_split *split);
/* Chooses the data set of the labels of `images`: --labels-key, or as above, but not that of
 * --groups-key; "" if there is none.  Errors: SIM_E_DATA if it does not exist. */
SIM_MUST_USE sim_status sim_hdf5_choose_labels(const sim_h5 *file, const char *path,
                                               const prep_options *o, const char *images,
                                               size_t n_images, char out[HDF5_NAME]);
/*
 * Reads the labels of n_images images from a data set of any type, and the names of their classes
 * from a list in the same file, if there is one.  `required`: the user named
 * it, so it is an error if it contains no labels; otherwise `out` has none then.
 * Errors: SIM_E_DATA.
 */
SIM_MUST_USE sim_status sim_hdf5_read_labels(const sim_h5 *file, const char *path,
                                             const char *name, bool required,
                                             size_t n_images, prep_source *out);
/*
 * Reads the group of each of n_images images from the data set `key`; NULL: from a data set of
 * simile, if it has groups.
 * Errors: SIM_E_DATA.
 */
SIM_MUST_USE sim_status sim_hdf5_read_groups(const sim_h5 *file, const char *path,
                                             const char *key, bool is_dataset,
                                             size_t n_images, prep_source *out);
/* Appends a data set of images as a block.  `alone`: a member of a class group, where H x W
 * and H x W x C are a single image. */
SIM_MUST_USE sim_status sim_hdf5_add_block(hdf5 *f, const char *name, bool alone,
                                           int32_t label);
/* Appends all data sets below a group, whose members are the classes. */
SIM_MUST_USE sim_status sim_hdf5_add_classes(hdf5 *f, const char *group,
                                             prep_source *out);

/*
 * Joins the labels of several files; `of` [n] has those of each.  Numbers are joined as numbers, by the
 * rule of sim_prep_set_numbers for all of them, and names by name.
 * Errors: SIM_E_DATA if some files have labels and others have none, or names and others numbers.
 */
SIM_MUST_USE sim_status sim_hdf5_join_labels(const hdf5 *files, const prep_source *of,
                                             size_t n, prep_source *out);

#endif
