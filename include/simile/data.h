/*
 * data.h - data sets, decoding, augmentation and the loader.
 *
 * Module: data
 * The caller selects the samples; this module does not depend on ranks.
 * src/DESIGN.md, "Data set", specifies the file.
 */
#ifndef SIMILE_DATA_H
#define SIMILE_DATA_H

#include "simile/hash.h"
#include "simile/json.h"
#include "simile/option.h"
#include "simile/status.h"
#include "simile/tensor.h"

#include <stdint.h>

/* ---- images ---- */

enum { SIM_MAX_CHANNELS = 64 };

/* [h][w][c], c is 1 to SIM_MAX_CHANNELS. */
typedef struct {
    size_t h, w, c;
    sim_type type; /* of the samples: SIM_U8, SIM_U16 or SIM_F32 */
    void *pixels;  /* owned; release with sim_free */
} sim_image;

/* Sample values that become black and white; zeros: none. */
typedef struct {
    double lo, hi;
} sim_value_range;

/* The type of samples of this name, such as "uint16"; false if samples cannot have it. */
bool sim_sample_type_find(const char *name, sim_type *out);

/* Pages of a file. */
typedef enum {
    SIM_PAGES_FIRST,   /* the first one is the image */
    SIM_PAGES_CHANNELS /* of a TIFF file of several pages, each is a channel */
} sim_image_pages;

/* The largest size of samples of SIM_F32.  Larger ones, such as -3.4e38 for missing data, are no values of
 * images, and float32 cannot scale their range. */
#define SIM_MAX_SAMPLE 1e30
/* Whether samples can be scaled by a range: both ends are at most twice SIM_MAX_SAMPLE in size, and not closer
 * than 1 / SIM_MAX_SAMPLE. */
bool sim_value_range_is_usable(const sim_value_range *r);

/* What an image file is decoded to. */
typedef struct {
    sim_type type; /* of the samples */
    size_t c;      /* 0: as in the file; 3: gray is copied to three channels */
    /* Samples of other types that become 0 and 255 of SIM_U8; zeros: all values of 16 bits. */
    sim_value_range range;
    sim_image_pages pages;
    bool
        as_stored; /* type and channels of the file; `type`, `c` and `range` are not used */
} sim_image_target;

/* Warnings of a decoder about an image that it could decode. */
typedef struct {
    size_t warnings; /* of the library of the format */
    char first[200]; /* text of the first one */
    sim_type type;   /* of the samples in the file */
    bool has_more;   /* pages or frames, which were not decoded */
} sim_decode_notes;

/* Per image; checked before allocation. */
enum { SIM_MAX_PIXELS = 64 << 20, SIM_MAX_IMAGE_BYTES = 1 << 30 };
enum { SIM_MAX_IMAGES = 1 << 30 }; /* per data set */

/*
 * Decodes an image file.  The format is detected from the content.
 *
 * The orientation in EXIF data and TIFF files is applied, alpha is dropped, palettes are expanded, and
 * CMYK and YCCK are converted by R = (255 - C) (255 - K) / 255.  Of several pages or frames, the first
 * one is decoded.  Integers of up to 8 bits become SIM_U8, of up to 16 bits SIM_U16; signed and larger
 * ones and floats of any size become SIM_F32, rounded to the nearest value of it.  Samples are converted to 8 bits by scaling the range,
 * rounding and clipping, and to larger types without a change of value.
 *
 *   name   of the image, for error messages
 *   as     type and channels of the result; NULL: as in the file
 *   out    pixels are reallocated if too small; pass a zeroed image at first
 *   notes  overwritten
 *
 * Errors: SIM_E_DATA (not an image, truncated, more than SIM_MAX_PIXELS, zero-sized, other channels
 * than required, samples that the type cannot hold).
 */
SIM_MUST_USE sim_status sim_image_decode(const char *name, const uint8_t *bytes, size_t n,
                                         const sim_image_target *as, sim_image *out,
                                         sim_decode_notes *notes);
/* Whether the first bytes [n] of a file are those of an image format; SIM_IMAGE_HEAD suffice. */
bool sim_image_has_signature(const uint8_t *bytes, size_t n);
/* Whether a name has an extension of an image format, in any case. */
bool sim_image_has_extension(const char *name);
/* "JPEG, PNG, ...": the formats of image files. */
const char *sim_image_formats(void);
/* Whether the samples of a file can have more than 8 bits.  bytes [n]: its first SIM_IMAGE_HEAD bytes or
 * more. */
bool sim_image_may_be_deep(const uint8_t *bytes, size_t n);
enum { SIM_IMAGE_HEAD = 26 };
/* The smallest and the largest sample of an image. */
void sim_image_extremes(const sim_image *image, double *lo, double *hi);
/* Index of the first sample that is not finite or exceeds SIM_MAX_SAMPLE; the number of samples if there is
 * none. */
size_t sim_image_find_unusable(const sim_image *image);
/* Order of the dimensions of an image in an array. */
typedef enum { SIM_LAYOUT_AMBIGUOUS, SIM_LAYOUT_HWC, SIM_LAYOUT_CHW } sim_layout;
/* The layout of an image of these dimensions: C is the one that suits the channels better. */
sim_layout sim_image_layout(const size_t dims[3]);
/* Encodes an RGB image of SIM_U8 as JPEG of quality 1 to 100.  The caller owns *bytes [n]. */
SIM_MUST_USE sim_status sim_image_encode_jpeg(const sim_image *image, int quality,
                                              uint8_t **bytes, size_t *n);
/*
 * Resizes the shorter side to `side` and keeps the aspect ratio: bilinear and antialiased,
 * as torchvision's Resize.
 */
SIM_MUST_USE sim_status sim_image_resize_short(const sim_image *image, size_t side,
                                               sim_image *out);
/*
 * Crops the central `side` x `side`, as torchvision's CenterCrop.
 * Errors: SIM_E_DATA if the image is smaller.
 */
SIM_MUST_USE sim_status sim_image_crop_centre(const sim_image *image, size_t side,
                                              sim_image *out);

/* Sums of bytes and of their squares per channel. Integers, so they are exact. */
typedef struct {
    uint64_t pixels, sum[SIM_MAX_CHANNELS], squares[SIM_MAX_CHANNELS];
} sim_moments;

/* Moments of a photo of SIM_U8 after its shorter side is resized to `short_side` (0: 256) and the
 * centre is cropped. */
SIM_MUST_USE sim_status sim_image_moments(const sim_image *image, size_t short_side,
                                          sim_moments *out);

/* ---- arrays of NumPy ---- */

/* The header of a file of numpy.save (versions 1 to 3). */
typedef struct {
    char kind;         /* 'b' bool, 'u', 'i', 'f', 'S' bytes, 'U' text */
    size_t item_bytes; /* of a value */
    bool is_swapped;   /* the order of bytes is not that of this machine */
    int n_dims;
    size_t dims[SIM_MAX_DIMS];
    size_t n_values; /* product of the dimensions */
    size_t data_at;  /* offset of the values */
} sim_npy;

/* Bytes of a file that contain the length of its header, and limit of that. */
enum { SIM_NPY_PREFIX = 12, SIM_NPY_MAX_HEADER = 1 << 20 };
/* Length of the header, by the first SIM_NPY_PREFIX bytes [n]; 0 if they are not of NumPy. */
size_t sim_npy_header_bytes(const uint8_t *bytes, size_t n);
/*
 * Parses a header; bytes [n] are at least sim_npy_header_bytes.  Nothing is read but the header, so the
 * caller checks that the values are complete.
 * Errors: SIM_E_DATA (not of NumPy; objects, structures, complex numbers, Fortran order).
 */
SIM_MUST_USE sim_status sim_npy_parse(const char *name, const uint8_t *bytes, size_t n,
                                      sim_npy *out);
/* Converts n values of kind b, u, i or f; `to` is SIM_U8 (of bool and uint8), SIM_I64 or SIM_U64 (of b, u,
 * i), or SIM_F64. */
void sim_npy_convert(const sim_npy *a, const uint8_t *values, size_t n, sim_type to,
                     void *out);
/* Reverses the order of the bytes of n numbers. */
void sim_swap_bytes(uint8_t *bytes, size_t number_bytes, size_t n);

/* ---- data sets: reading ---- */

typedef struct sim_dataset sim_dataset;

/* The files of a union of data sets, whose images follow each other. */
enum { SIM_MAX_SETS = SIM_OPTION_MAX_TEXTS };
typedef struct {
    size_t n_sets; /* 0: one file */
    bool weighted; /* `share` is given; otherwise every image is drawn once per epoch */
    size_t n_images[SIM_MAX_SETS]; /* of each file */
    double share[SIM_MAX_SETS];    /* of an epoch; their sum is 1 */
} sim_mixture;

/* Images of set k in an epoch: share N rounded to the nearest number, N the images of all sets. */
size_t sim_mixture_drawn(const sim_mixture *m, size_t k);

typedef struct {
    size_t n_images;
    size_t n_stored; /* images of the file; more than n_images after sim_dataset_select */
    sim_mixture mixture;
    bool encoded; /* image files of any size, in /bytes and /offset */
    bool varied; /* a union of files with images of several sizes: h, w are the largest */
    size_t h, w, c; /* of every image; encoded: 0, 0, 3 */
    sim_type type;  /* of the samples: SIM_U8, SIM_U16 or SIM_F32; encoded: SIM_U8 */
    bool has_labels;
    size_t n_classes; /* max(1 + largest label, number of class names) */
    bool has_groups;
    size_t n_groups; /* of the file; a subset may have no image of some */
    /* [c]; of SIM_U8 on the scale 0 to 1, otherwise in units of the samples */
    double mean[SIM_MAX_CHANNELS], std[SIM_MAX_CHANNELS];
    sim_value_range
        range; /* of the source, which became 0 to 255 of SIM_U8; zeros: none */
    /* [c]; of other types, the samples that augmentations treat as 0 and 1 */
    sim_value_range scale[SIM_MAX_CHANNELS];
    char fingerprint[33];
    char source[256];
} sim_dataset_info;

/*
 * Opens a data set. Every size in the file is checked against the length of the file before
 * it is used.
 * Errors: SIM_E_INPUT, SIM_E_DATA, SIM_E_INSTALL (the file needs a newer simile); the message
 * names the file and the defect.
 */
SIM_MUST_USE sim_status sim_dataset_open(const char *path, sim_dataset **out);
/*
 * Opens several data sets as one: image 0 of the second file follows the last one of the first.
 *
 * The files agree in their channels.  Classes are matched by name, sorted, if all files have names;
 * if none has, labels are shared as numbers; otherwise the union has no labels.  mean and std are the
 * pooled ones, and the fingerprint covers those of the files and the shares (src/DESIGN.md, "Unions").
 *
 *   paths   [n], 2 to SIM_MAX_SETS
 *   shares  [n], > 0 with any sum: how many images of each file are drawn; NULL: every image once
 *
 * Errors: those of sim_dataset_open; SIM_E_DATA if channels differ, naming both files.
 */
SIM_MUST_USE sim_status sim_dataset_open_union(size_t n, const char *const *paths,
                                               const double *shares, sim_dataset **out);
void sim_dataset_close(sim_dataset **d);
/* Images of an epoch of training: n_images, or those that the shares of a union draw. */
size_t sim_dataset_epoch_images(const sim_dataset_info *about);
/* Why a union of files with labels has none; NULL otherwise. */
const char *sim_dataset_unlabelled(const sim_dataset *d);
/* What a user should know about a union and a restriction to classes: lines such as "a.h5: 200 images,
 * 100 per epoch".  "" for a whole file.  The caller owns *out. */
SIM_MUST_USE sim_status sim_dataset_explain(const sim_dataset *d, char **out);
/* The results of these five are borrowed until the data set is closed. */
const sim_dataset_info *sim_dataset_about(const sim_dataset *d);
const char *sim_dataset_path(const sim_dataset *d);
/* [n_images], each in [0, n_classes); NULL without labels. */
const int32_t *sim_dataset_labels(const sim_dataset *d);
/* [n_images], each in [0, n_groups); NULL without groups. */
const int32_t *sim_dataset_groups(const sim_dataset *d);
/* Name of a class; NULL if the file has none. */
const char *sim_dataset_class_name(const sim_dataset *d, size_t label);
/* Reads the names of the images, [n_images][*width], each padded with zeros; *text is NULL if the
 * file has none.  The caller owns *text. */
SIM_MUST_USE sim_status sim_dataset_read_names(const sim_dataset *d, size_t *width,
                                               char **text);
/* Lines that are equal for two data sets if all that is read from them is equal.  The caller owns
 * *out. */
SIM_MUST_USE sim_status sim_dataset_describe(const sim_dataset *d, char **out);
/* Digest of image i, as stored. */
sim_hash sim_dataset_digest(const sim_dataset *d, size_t i);

/*
 * Reads, verifies and decodes image i.
 *
 *   image  pixels are reallocated if too small; pass a zeroed image at first and reuse it
 *
 * Thread-safe for different `image`s.
 * Errors: SIM_E_IO (read), SIM_E_DATA (digest, decoding); the message names file and image.
 */
SIM_MUST_USE sim_status sim_dataset_read(const sim_dataset *d, size_t i,
                                         sim_image *image);

/*
 * Reduces a data set to the images that are listed, [n], ascending.  Numbers of images, labels,
 * digests and names are then those of the subset; fingerprint, mean and std remain those of the file.
 * Before other threads use the data set.
 */
SIM_MUST_USE sim_status sim_dataset_select(sim_dataset *d, size_t n,
                                           const uint32_t *images);
/* Reduces a data set to a random fraction, 0 to 1, of the images of every class (without labels: of
 * all images), rounded to the nearest number, at least one.  The smaller of two fractions of one seed
 * is a part of the larger. */
SIM_MUST_USE sim_status sim_dataset_keep_fraction(sim_dataset *d, double fraction,
                                                  uint32_t seed);

/* A list of names of classes. */
typedef struct {
    size_t n;
    char **names; /* [n], distinct */
    char *text;   /* their storage */
} sim_class_list;

/* Reads a file with one name per line; empty lines and lines that begin with # are skipped, and so
 * are spaces at the ends of a line.
 * Errors: SIM_E_INPUT (no such file), SIM_E_DATA (no names, or one twice; the message has the line). */
SIM_MUST_USE sim_status sim_class_list_read(const char *path, sim_class_list *out);
void sim_class_list_clear(sim_class_list *l);
/*
 * The number in the list of each class of a data set, -1 for those that are not in it.
 *
 *   where    the data set and the list, for messages
 *   names    [n_classes] of the data set; NULL: their numbers are their names
 *   numbers  [n_classes], overwritten
 *
 * Errors: SIM_E_DATA if the data set lacks names of the list; the message has their number and the
 * nearest names.
 */
SIM_MUST_USE sim_status sim_class_list_match(const sim_class_list *l, const char *where,
                                             const char *const *names, size_t n_classes,
                                             int32_t *numbers);
/*
 * Reduces a data set to the images of the classes of a list, which are renumbered in its order.  The
 * fingerprint then covers the list too; mean and std remain those of the file.
 * Errors: as sim_class_list_match; SIM_E_DATA without labels, or if no image is left.
 */
SIM_MUST_USE sim_status sim_dataset_keep_classes(sim_dataset *d, const char *list_path);

/* ---- groups ---- */

/* The images of every group of a data set; borrows it.  Zeroed before sim_groups_create. */
typedef struct {
    size_t n, n_images;
    const int32_t *of_image; /* sim_dataset_groups */
    uint32_t *first;   /* [n + 1]: the images of group k are members[first[k]] and on */
    uint32_t *members; /* [n_images]; ascending within a group */
} sim_groups;

/* The data set has groups. */
SIM_MUST_USE sim_status sim_groups_create(const sim_dataset *d, sim_groups *out);
void sim_groups_destroy(sim_groups *g); /* accepts zeros */
/* Bytes that sim_groups_create allocates. */
size_t sim_groups_bytes(const sim_dataset_info *about);
/*
 * The image that view `view` of a sample shows: of view 0 the sample itself, of the others an image
 * that is drawn from those of its group without the sample.  The only image of a group is its own
 * partner.  A pure function of the arguments.
 */
uint32_t sim_groups_partner(const sim_groups *g, uint32_t seed, uint32_t image,
                            uint32_t epoch, uint32_t view);

/* Groups that have an image, and the numbers of their images; zeros without groups. */
typedef struct {
    size_t n, n_single;               /* groups; those of one image */
    size_t smallest, median, largest; /* images; of two middle ones the smaller */
} sim_group_sizes;
SIM_MUST_USE sim_status sim_groups_measure(const sim_dataset *d, sim_group_sizes *out);

/* ---- data sets: writing (prepare) ---- */

typedef struct {
    bool encoded;
    size_t h, w, c;     /* of every image; encoded: 0, 0, 3 */
    sim_type type;      /* of the samples; encoded: SIM_U8 */
    const char *source; /* text of the attribute */
    const char *created_by;
    /* Of SIM_U8: stored as attribute.  Of other types: the scale of all channels; zeros: the extremes
     * of each. */
    sim_value_range range;
    sim_hash identity; /* of source and options; zero: the conversion cannot be resumed */
    /* An existing data set with another fingerprint is renamed, not replaced. */
    bool keep_existing;
} sim_dataset_spec;

/* Progress of a conversion, counted by the caller. */
typedef struct {
    uint64_t next, n_bad, n_warned;
    uint64_t largest;   /* value of 8 bits in the images so far */
    uint64_t n_clipped; /* images with values outside of the range */
    uint64_t n_paged;   /* images of files with further pages or frames */
} sim_dataset_mark;

/* An image to append, with its digest and moments. */
typedef struct {
    const uint8_t *bytes; /* h*w*c samples, or an image file */
    size_t n;
    int32_t label; /* -1: none; all images have a label or none has */
    int32_t group; /* the same; any number below 2^31 */
    size_t source; /* number of the item in its source, for its name */
    sim_hash digest;
    sim_moments moments; /* contribution to mean and std; of SIM_U8 only */
} sim_dataset_item;

/* Names of the items of a source, and of their groups. */
typedef struct {
    void (*name)(const void *ctx, size_t item, char *out, size_t out_bytes);
    void (*group)(const void *ctx, size_t group, char *out, size_t out_bytes);
    const void *ctx;
} sim_dataset_names;

typedef struct sim_dataset_writer sim_dataset_writer;

/*
 * Begins the data set `path`. Image bytes go to PATH.part; sim_dataset_finish adds the HDF5
 * metadata and renames the file, so that a crash leaves the old or the complete new file.
 * If PATH.journal is of the same identity, the images committed by the previous process are
 * recovered.
 * Errors: SIM_E_CREATE (another process is writing it), SIM_E_ACCESS, SIM_E_IO.
 */
SIM_MUST_USE sim_status sim_dataset_create(const char *path, const sim_dataset_spec *spec,
                                           sim_dataset_writer **out);
/* The mark and number of images recovered by sim_dataset_create; zeros if there are none. */
sim_dataset_mark sim_dataset_resumed(const sim_dataset_writer *w, size_t *n_images);
/* Computes digest and, of pixels of SIM_U8, moments. Thread-safe. */
void sim_dataset_measure(const sim_dataset_spec *spec, sim_dataset_item *item);
/* Appends an item after sim_dataset_measure. */
SIM_MUST_USE sim_status sim_dataset_append_item(sim_dataset_writer *w,
                                                const sim_dataset_item *item);
/* sim_dataset_measure and sim_dataset_append_item. `moments` is used if images are encoded
 * and may be NULL otherwise. */
SIM_MUST_USE sim_status sim_dataset_append(sim_dataset_writer *w, const uint8_t *bytes,
                                           size_t n, int32_t label,
                                           const sim_moments *moments);
/* Makes the images so far recoverable, together with `mark`. */
SIM_MUST_USE sim_status sim_dataset_commit(sim_dataset_writer *w,
                                           const sim_dataset_mark *mark);
/*
 * Appends all images committed by another writer for `path` under `identity`, whose spec is
 * otherwise equal. Its temporary files remain until sim_dataset_discard.
 */
SIM_MUST_USE sim_status sim_dataset_absorb(sim_dataset_writer *w, const char *path,
                                           sim_hash identity, sim_dataset_mark *mark);
/* Removes the temporary files of `path`. */
SIM_MUST_USE sim_status sim_dataset_discard(const char *path);
/* The same, if they are of an interrupted conversion that no process continues now. */
SIM_MUST_USE sim_status sim_dataset_discard_stale(const char *path);
/* Labels and groups of the images so far, [*n]; -1: none.  Borrowed until the next image is appended. */
const int32_t *sim_dataset_written_labels(const sim_dataset_writer *w, size_t *n);
const int32_t *sim_dataset_written_groups(const sim_dataset_writer *w, size_t *n);
/*
 * Completes the data set, which has at least one image, and releases *w, also on failure.
 * class_names [n_classes] and names may be NULL.  Groups are renumbered without gaps.
 * On SIM_E_IO the committed images remain; after other failures no file remains.
 */
SIM_MUST_USE sim_status sim_dataset_finish(sim_dataset_writer **w,
                                           const char *const *class_names,
                                           size_t n_classes,
                                           const sim_dataset_names *names,
                                           char fingerprint[33]);
/* Releases the writer: suspend keeps the committed images, abandon removes the temporary
 * files. */
void sim_dataset_suspend(sim_dataset_writer **w);
void sim_dataset_abandon(sim_dataset_writer **w);

/* ---- order ---- */

typedef struct {
    uint64_t key;
    uint32_t i;
} sim_order_key;

/*
 * The permutation of an epoch: samples sorted by (Philox of (epoch, i), i).
 *
 *   keys   [n] workspace
 *   order  [n], overwritten
 *
 * Epoch SIM_SUBSET_EPOCH, which no training reaches, orders the images for a subset.
 */
#define SIM_SUBSET_EPOCH UINT32_MAX
void sim_order_epoch(uint32_t seed, uint32_t epoch, size_t n, sim_order_key *keys,
                     uint32_t *order);
/*
 * The images of an epoch of a union with shares.  A file gives whole permutations of its images one
 * after the other, and the first images of one more (pass p: samples sorted by (Philox of (epoch, i,
 * file and pass), i)), so that no image occurs twice before all others of its file have.  The places of
 * the files in the epoch are those of sim_order_epoch.
 *
 *   keys     [max(images of an epoch, images of a file)] workspace
 *   passes   [images of an epoch] workspace
 *   order    [images of an epoch], overwritten
 */
void sim_order_mixture(uint32_t seed, uint32_t epoch, const sim_mixture *m,
                       sim_order_key *keys, uint32_t *passes, uint32_t *order);
/* Length of `keys` for either function. */
size_t sim_order_keys(const sim_dataset_info *about);
/*
 * The permutation of the slots of a batch for shuffle BN: slots sorted by (Philox of (epoch,
 * samples done, i), i).
 *
 *   order  [n], overwritten
 *
 * Uses sim_scratch.
 */
void sim_order_shuffle(uint32_t seed, uint32_t epoch, uint64_t samples, size_t n,
                       uint32_t *order);

/* ---- preprocessing ---- */

/*
 * How an image becomes the input of a model: resize to [h][w] with a centre crop, and
 * normalization. It belongs to the model: taken from the training set, stored in checkpoints.
 */
typedef struct {
    size_t h, w, c;
    size_t
        resize; /* shorter side before the crop, >= h and w; 0: the image just covers [h][w] */
    /* Of the training set, as in sim_dataset_info. */
    sim_type type;
    double mean[SIM_MAX_CHANNELS], std[SIM_MAX_CHANNELS];
    sim_value_range range, scale[SIM_MAX_CHANNELS];
} sim_preprocessing;

/* Preprocessing for training on a data set; size: side, 0: as stored, photos 224. */
sim_preprocessing sim_preprocessing_of(size_t size, const sim_dataset_info *about);
/* Adds height, width, channels, resize, crop, mean, std, and value_range unless it is zeros. */
void sim_preprocessing_describe(const sim_preprocessing *p, sim_json *j);
/* The same as a text, which the caller owns. */
SIM_MUST_USE sim_status sim_preprocessing_text(const sim_preprocessing *p, char **text);
/* Errors: SIM_E_DATA; SIM_E_INSTALL for an operation of a newer version. path: for messages. */
SIM_MUST_USE sim_status sim_preprocessing_parse(const char *text, const char *path,
                                                sim_preprocessing *out);
/*
 * Checks the images of a data set before they are given to a model; warns if their values had
 * another range than those of its training set.
 * Errors: SIM_E_DATA if channels or type of the samples differ.
 */
SIM_MUST_USE sim_status sim_preprocessing_check(const sim_preprocessing *p,
                                                const sim_dataset *d);

/* ---- augmentation ---- */

/* Section `augment` of a job. */
typedef struct {
    int preset;   /* index of the row of presets.def */
    int64_t size; /* as that of sim_preprocessing_of */
    sim_option_items view1, view2;
    int64_t small_views; /* per image; 0: none, and the following are not used */
    int64_t small_size;  /* side; 0: a fraction of that of the other views */
    sim_option_items small;
} sim_augment_options;
extern const sim_option_table sim_augment_table;

enum {
    SIM_SMALL_VIEW = 64, /* number of the first small view */
    SIM_MAX_SMALL_VIEWS = 16
};

typedef struct sim_augment sim_augment;

/*
 * Resolves the operations of each view from the preset or the lists of `options`. Views
 * alternate: even views use the list of view 1, odd views that of view 2. Views from number
 * SIM_SMALL_VIEW on are small (multi-crop): by default they use the list of view 1 with crops of a
 * smaller area, and the crops of a preset do not fall below that area. Every view ends with the
 * preprocessing of the model.
 * Sources: Caron et al. 2020, arXiv 2006.09882, section 3.2 (224 and 96 pixels); Assran et al. 2021,
 * arXiv 2104.13963 (CIFAR: 32 and 18 pixels).
 * Errors: SIM_E_CONFIG (a minimum exceeds its maximum; small views are larger than the others).
 */
SIM_MUST_USE sim_status sim_augment_create(const sim_augment_options *options,
                                           const sim_preprocessing *p, sim_augment **out);
/* The pipeline of evaluation: preprocessing only. */
SIM_MUST_USE sim_status sim_augment_create_plain(const sim_preprocessing *p,
                                                 sim_augment **out);
void sim_augment_destroy(sim_augment **a);
/* Replaces mean and std. No view may be in progress. */
void sim_augment_normalize(sim_augment *a, const sim_preprocessing *p);
/* Visits mean and std of the normalization, as they are used. */
SIM_MUST_USE sim_status sim_augment_visit(const sim_augment *a, const char *group,
                                          const sim_visitor *v);
/* Shape of view `view`; 0 x 0 if it is small and there are none. */
void sim_augment_shape(const sim_augment *a, uint32_t view, size_t *h, size_t *w,
                       size_t *c);
/* A description such as "crop 0.2-1, flip p 0.5" of a view. The caller owns *text. */
SIM_MUST_USE sim_status sim_augment_text(const sim_augment *a, uint32_t view,
                                         char **text);

/*
 * Draws and applies the operations of view `view` of a sample.
 *
 *   image  the sample
 *   out    [h][w][c] of sim_augment_shape, normalized, overwritten
 *
 * A pure function of the arguments. Serial; may be called inside sim_for or a loader thread.
 * Uses sim_scratch.
 */
SIM_MUST_USE sim_status sim_augment_view(const sim_augment *a, uint32_t seed,
                                         uint32_t sample, uint32_t epoch, uint32_t view,
                                         const sim_image *image, float *out);
/* Bytes of scratch that sim_augment_view uses for an image of this shape. */
size_t sim_augment_scratch(const sim_augment *a, size_t h, size_t w, size_t c);
/* Draws the values of a normalized view as uint8 [h][w][3]: of more than 3 channels the first 3, of 2 as red and
 * green. */
void sim_augment_show(const sim_augment *a, uint32_t view, const float *values,
                      uint8_t *out);

/* ---- thumbnails ---- */

/* How images are drawn: RGB of h x w, resized and cropped as in evaluation; see sim_augment_show. */
typedef struct {
    size_t h, w, bytes; /* bytes: of a picture */
    sim_augment *plain; /* owned */
    float *view;        /* workspace, owned */
} sim_thumbnails;

/* At most `most` pixels high and wide. */
SIM_MUST_USE sim_status sim_thumbnails_create(const sim_preprocessing *p, size_t most,
                                              sim_thumbnails *out);
void sim_thumbnails_destroy(sim_thumbnails *t);
/* out  uint8 [h][w][3] */
SIM_MUST_USE sim_status sim_thumbnails_draw(const sim_thumbnails *t, const sim_dataset *d,
                                            size_t i, uint8_t *out);
SIM_MUST_USE sim_status sim_thumbnails_draw_image(const sim_thumbnails *t,
                                                  const sim_image *image, uint8_t *out);

/* ---- loader ---- */

typedef struct {
    uint32_t image; /* that is read */
    uint32_t sample, epoch,
        view;   /* of the random draws; sample: the image, or one of its group */
    float *out; /* [h][w][c]; requests do not overlap; valid until the list is complete */
} sim_view_request;

typedef struct sim_loader sim_loader;

/*
 * Starts `n_threads` threads that read, decode and augment lists of up to `max_requests`
 * requests. Posting and waiting do not allocate. Borrows `d` and `a` until it is destroyed.
 */
SIM_MUST_USE sim_status sim_loader_create(const sim_dataset *d, const sim_augment *a,
                                          uint32_t seed, int n_threads,
                                          size_t max_requests, sim_loader **out);
/* Stops the threads after the requests that are being processed. */
void sim_loader_destroy(sim_loader **l);
/*
 * Posts a copy of a list; at most 4 lists may be outstanding. Lists complete in the order
 * in which they were posted. Adjacent requests of the same image share one read and decode.
 */
void sim_loader_post(sim_loader *l, const sim_view_request *requests, size_t n);
/*
 * Waits for the oldest outstanding list.
 * Errors: those of its first failed request, in the order of the list.
 */
SIM_MUST_USE sim_status sim_loader_wait(sim_loader *l);
/* Bytes that sim_loader_create allocates. The threads use scratch in addition. */
size_t sim_loader_bytes(int n_threads, size_t max_requests);
/* Total time spent in sim_loader_wait. */
double sim_loader_wait_seconds(const sim_loader *l);

#endif
