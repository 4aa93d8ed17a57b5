/*
 * arrays.h - a file of named arrays as a source of images, shared by from_hdf5.c, from_numpy.c and arrays_*.c.
 */
#ifndef SIMILE_PREP_ARRAYS_H
#define SIMILE_PREP_ARRAYS_H

#include "prep.h"

#include "simile/h5.h"
#include "simile/memory.h"

#include <limits.h>
#include <stdio.h>

enum { ARRAY_NAME = 512, ARRAY_MAX_IMAGES = SIM_MAX_IMAGES };

/* ---- a file of arrays ---- */

/* Reports a member of a file; `problem` is "" or why it cannot be read. */
typedef void arrays_member(void *ctx, const char *name, const char *problem);

/* What a kind of files implements, as h5.h specifies it.  Names begin with a slash. */
typedef struct {
    bool (*has)(const void *file, const char *name);
    /* Replaces a link by the name that it refers to; false if there is no such member. */
    bool (*resolve)(const void *file, char *name, size_t name_bytes);
    void (*list)(const void *file, arrays_member *member, void *ctx);
    sim_status (*visit)(const void *file, const char *group,
                        sim_status (*visit)(void *ctx, const sim_tensor *t), void *ctx);
    sim_status (*shape_of)(const void *file, const char *name, sim_h5_shape *out);
    sim_status (*storage_of)(const void *file, const char *name, sim_h5_storage *out);
    sim_status (*read)(const void *file, const char *name, sim_type type, size_t row,
                       size_t n_rows, void *data, size_t capacity);
    bool (*is_strings)(const void *file, const char *name);
    sim_status (*read_strings)(const void *file, const char *name, size_t limit,
                               size_t *n, size_t *width, char **text);
    void (*close)(void *file);
} prep_array_ops;

/* An open file; `ops` is NULL if there is none. */
typedef struct {
    const prep_array_ops *ops;
    void *file; /* owned */
    char *path; /* owned */
} prep_arrays;

/* Opens an HDF5 file (from_hdf5.c).  Errors: as sim_h5_open_read. */
SIM_MUST_USE sim_status sim_hdf5_arrays_open(const char *path, prep_arrays *out);

static inline void sim_arrays_close(prep_arrays *a)
{
    if (a->ops)
        a->ops->close(a->file);
    a->ops = NULL;
    SIM_FREE(a->path);
}

/* ---- a source ---- */

/* Order of the dimensions of an image: H W C, C H W, or H W. */
typedef enum { ARRAY_HWC, ARRAY_CHW, ARRAY_HW } array_layout;

/* An array of images, or of a single image. */
typedef struct {
    array_layout layout;
    bool single;   /* without the dimension N */
    bool deep;     /* any type but uint8 and bool; read as double */
    sim_type type; /* in the file */
    bool is_bool;  /* read as uint8 */
    size_t n, h, w, c;
    size_t stored_c; /* channels in the file: c, or 4 if the fourth, alpha, is dropped */
    size_t first;    /* index of its first image among all items */
    size_t piece_rows; /* images per read, whole chunks */
    int32_t label;     /* of all its images if classes are groups; otherwise -1 */
} array_block;

/* An open file. */
typedef struct {
    size_t first_item; /* number of its first image among those of all files */
    prep_arrays file;
    prep_arrays labels_file; /* that has the labels, if it is another one */
    const char *labels_key;  /* name of the labels, "none", or NULL */
    bool is_dataset;         /* the file is a data set of simile */
    prep_names names;        /* of the blocks */
    array_block *blocks;     /* [names.n] */
    size_t capacity, n_items;
    const prep_options *options; /* borrowed while the source is opened */
    sim_type type;               /* of the samples of an item, equal for all files */
    sim_value_range range;       /* of deep images that become SIM_U8; likewise */
    char *item_names; /* [n_items][name_width], of a file with /name; or NULL */
    size_t name_width;
    size_t b;         /* block of the current piece */
    size_t row, rows; /* first image of the piece in its block; their number */
    void *piece;      /* uint8 or double, in the layout of the file */
} array_source;

static inline void array_full_name(const char *key, char out[ARRAY_NAME])
{
    (void)snprintf(out, ARRAY_NAME, "%s%s", key[0] == '/' ? "" : "/", key);
}

static inline size_t array_values_per_row(const sim_h5_shape *s)
{
    size_t n = 1;
    for (int i = 1; i < s->n_dims; i++)
        n *= s->dims[i];
    return n;
}

/* Values of an image in the file. */
static inline size_t array_image_values(const array_block *b)
{
    return b->h * b->w * b->stored_c;
}

/* Index of a value in an image of the file. */
static inline size_t array_value_at(const array_block *b, size_t pixel, size_t channel)
{
    return b->layout == ARRAY_CHW ? channel * b->h * b->w + pixel
                                  : pixel * b->stored_c + channel;
}

/* Groups of a data set of simile: a number of each image, and the names. */
#define ARRAY_GROUP  "/group"
#define ARRAY_GROUPS "/groups"

/* Lists of the names of classes. */
#define ARRAY_CLASS_LISTS "/classes", "/class_names", "/label_names", "/list_classes"

/*
 * Chooses the array of images: that of --images-key, one of a known name, or the only one of a
 * suitable shape; where names contain splits, that of the split.
 *
 *   split  the split that was selected; unchanged if there are none
 *
 * Errors: SIM_E_INPUT (no such split), SIM_E_DATA; the message lists the arrays.
 */
SIM_MUST_USE sim_status sim_arrays_choose_images(const prep_arrays *file,
                                                 const prep_options *o,
                                                 char out[ARRAY_NAME], prep_split *split);
/* Chooses the array of the labels of `images`: `key`, or as above, but not `groups_key`; "" if there is
 * none.  Errors: SIM_E_DATA if `key` does not exist. */
SIM_MUST_USE sim_status sim_arrays_choose_labels(const prep_arrays *file, const char *key,
                                                 const char *groups_key,
                                                 const char *images, size_t n_images,
                                                 char out[ARRAY_NAME]);
/*
 * Reads the labels of n_images images from an array of any type, and the names of their classes
 * from a list in the same file, if there is one.  `required`: the user named
 * it, so it is an error if it contains no labels; otherwise `out` has none then.
 * Errors: SIM_E_DATA.
 */
SIM_MUST_USE sim_status sim_arrays_read_labels(const prep_arrays *file, const char *name,
                                               bool required, size_t n_images,
                                               prep_source *out);
/*
 * Reads the group of each of n_images images from the array `key`; NULL: from a data set of
 * simile, if it has groups.
 * Errors: SIM_E_DATA.
 */
SIM_MUST_USE sim_status sim_arrays_read_groups(const prep_arrays *file, const char *key,
                                               bool is_dataset, size_t n_images,
                                               prep_source *out);
/* Appends an array of images as a block.  `alone`: a member of a class group, where H x W
 * and H x W x C are a single image. */
SIM_MUST_USE sim_status sim_arrays_add_block(array_source *f, const char *name,
                                             bool alone, int32_t label);
/* Appends all arrays below a group, whose members are the classes. */
SIM_MUST_USE sim_status sim_arrays_add_classes(array_source *f, const char *group,
                                               prep_source *out);

/*
 * Joins the labels of several files; `of` [n] has those of each.  Numbers are joined as numbers, by the
 * rule of sim_prep_set_numbers for all of them, and names by name.
 * Errors: SIM_E_DATA if some files have labels and others have none, or names and others numbers.
 */
SIM_MUST_USE sim_status sim_arrays_join_labels(const array_source *files,
                                               const prep_source *of, size_t n,
                                               prep_source *out);

/* ---- arrays_source.c: functions of a format ---- */

/* How the files of a format are opened. */
typedef struct {
    /* Sets f->file, f->labels_key, f->is_dataset and, if labels are in another file, f->labels_file. */
    sim_status (*open)(array_source *f, const char *path, const prep_options *options,
                       prep_source *out);
    /* Sets what only this format knows, after images and labels are found; or NULL. */
    sim_status (*describe)(const array_source *f, prep_source *out);
} prep_array_opener;

/* Opens images and labels of all files. */
SIM_MUST_USE sim_status sim_arrays_open_several(const prep_sources *sources,
                                                const prep_array_opener *opener,
                                                const prep_options *options,
                                                prep_source *out);
SIM_MUST_USE sim_status sim_arrays_read_item(const prep_source *s, size_t i,
                                             const uint8_t **bytes, size_t *n,
                                             uint8_t **buffer);
void sim_arrays_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes);
void sim_arrays_close_source(prep_source *s);

#endif
