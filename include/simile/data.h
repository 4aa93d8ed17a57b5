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

/* uint8 [h][w][c], c is 1 or 3. */
typedef struct {
    size_t h, w, c;
    uint8_t *pixels; /* owned; release with sim_free */
} sim_image;

/* Sample values that become 0 and 255 in images with more than 8 bits per sample; zeros: the full
 * range of the samples. */
typedef struct {
    double lo, hi;
} sim_value_range;

/* Warnings of a decoder about an image that it could decode. */
typedef struct {
    size_t warnings; /* of libjpeg or libpng */
    char first[200]; /* text of the first one */
} sim_decode_notes;

enum { SIM_MAX_PIXELS = 64 << 20 }; /* per image; checked before allocation */
enum { SIM_MAX_IMAGES = 1 << 30 };  /* per data set */

/*
 * Decodes JPEG or PNG to 8-bit RGB.  The format is detected from the content.
 *
 * The EXIF orientation is applied, gray is copied to three channels, 16-bit samples are
 * scaled from `range` and clipped, alpha is dropped, palettes are expanded, and CMYK and YCCK
 * are converted by R = (255 - C) (255 - K) / 255.
 *
 *   name   of the image, for error messages
 *   range  of 16-bit samples; NULL or zeros: 0 to 65535
 *   out    pixels are reallocated if too small; pass a zeroed image at first
 *   notes  overwritten
 *
 * Errors: SIM_E_DATA (not an image, truncated, more than SIM_MAX_PIXELS, zero-sized).
 */
SIM_MUST_USE sim_status sim_image_decode(const char *name, const uint8_t *bytes, size_t n,
                                         const sim_value_range *range, sim_image *out,
                                         sim_decode_notes *notes);
/* True if a file is a PNG with 16 bits per sample.  bytes [n]: its first SIM_PNG_HEAD bytes or
 * more. */
bool sim_png_is_deep(const uint8_t *bytes, size_t n);
enum { SIM_PNG_HEAD = 26 };
/* The smallest and the largest sample of such a file, alpha excluded.  bytes: the whole file. */
SIM_MUST_USE sim_status sim_png_extremes(const char *name, const uint8_t *bytes, size_t n,
                                         unsigned *lo, unsigned *hi);
/* Encodes an RGB image as JPEG of quality 1 to 100.  The caller owns *bytes [n]. */
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
    uint64_t pixels, sum[3], squares[3];
} sim_moments;

/* Moments of a photo after its shorter side is resized to `short_side` (0: 256) and the
 * centre is cropped. */
SIM_MUST_USE sim_status sim_image_moments(const sim_image *image, size_t short_side,
                                          sim_moments *out);

/* ---- data sets: reading ---- */

typedef struct sim_dataset sim_dataset;

typedef struct {
    size_t n_images;
    size_t n_stored; /* images of the file; more than n_images after sim_dataset_select */
    bool encoded;    /* JPEG and PNG files of any size, in /bytes and /offset */
    size_t h, w, c;  /* of every image; encoded: 0, 0, 3 */
    bool has_labels;
    size_t n_classes;       /* max(1 + largest label, number of class names) */
    double mean[3], std[3]; /* [c], on the scale 0 to 1 */
    sim_value_range range;  /* of images with more than 8 bits; zeros: none */
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
void sim_dataset_close(sim_dataset **d);
/* The results of these four are borrowed until the data set is closed. */
const sim_dataset_info *sim_dataset_about(const sim_dataset *d);
const char *sim_dataset_path(const sim_dataset *d);
/* [n_images], each in [0, n_classes); NULL without labels. */
const int32_t *sim_dataset_labels(const sim_dataset *d);
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
 * Reduces a data set to the images of the file that are listed, [n], ascending.  Numbers of images,
 * labels, digests and names are then those of the subset; fingerprint, mean and std remain those of
 * the file.  At most once, before other threads use the data set.
 */
SIM_MUST_USE sim_status sim_dataset_select(sim_dataset *d, size_t n,
                                           const uint32_t *images);
/* Reduces a data set to a random fraction, 0 to 1, of the images of every class (without labels: of
 * all images), rounded to the nearest number, at least one.  The smaller of two fractions of one seed
 * is a part of the larger. */
SIM_MUST_USE sim_status sim_dataset_keep_fraction(sim_dataset *d, double fraction,
                                                  uint32_t seed);

/* ---- data sets: writing (prepare) ---- */

typedef struct {
    bool encoded;
    size_t h, w, c;     /* of every image; encoded: 0, 0, 3 */
    const char *source; /* text of the attribute */
    const char *created_by;
    sim_value_range range; /* stored as attribute unless zeros */
    sim_hash identity; /* of source and options; zero: the conversion cannot be resumed */
    /* An existing data set with another fingerprint is renamed, not replaced. */
    bool keep_existing;
} sim_dataset_spec;

/* Progress of a conversion, counted by the caller. */
typedef struct {
    uint64_t next, n_bad, n_warned;
    uint64_t largest;   /* value of 8 bits in the images so far */
    uint64_t n_clipped; /* images with values outside of the range */
} sim_dataset_mark;

/* An image to append, with its digest and moments. */
typedef struct {
    const uint8_t *bytes; /* h*w*c pixels, or a JPEG or PNG file */
    size_t n;
    int32_t label; /* -1: none; all images have a label or none has */
    size_t source; /* number of the item in its source, for its name */
    sim_hash digest;
    sim_moments moments; /* contribution to mean and std */
} sim_dataset_item;

/* Names of the items of a source. */
typedef struct {
    void (*name)(const void *ctx, size_t item, char *out, size_t out_bytes);
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
/* Computes digest and, unless images are encoded, moments. Thread-safe. */
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
/* Labels of the images so far, [*n]; borrowed until the next image is appended. */
const int32_t *sim_dataset_written_labels(const sim_dataset_writer *w, size_t *n);
/*
 * Completes the data set, which has at least one image, and releases *w, also on failure.
 * class_names [n_classes] and names may be NULL.
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
    double mean[3], std[3]; /* [c], on the scale 0 to 1 */
    sim_value_range range;  /* of the training set */
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
 * Errors: SIM_E_DATA if the number of channels differs.
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
/* Converts the values of a normalized view to pixels: uint8 [h][w][c]. */
void sim_augment_show(const sim_augment *a, uint32_t view, const float *values,
                      uint8_t *out);

/* ---- thumbnails ---- */

/* How images are drawn: h x w x c, resized and cropped as in evaluation. */
typedef struct {
    size_t h, w, c, bytes; /* bytes: of a picture */
    sim_augment *plain;    /* owned */
    float *view;           /* workspace, owned */
} sim_thumbnails;

/* At most `most` pixels high and wide. */
SIM_MUST_USE sim_status sim_thumbnails_create(const sim_preprocessing *p, size_t most,
                                              sim_thumbnails *out);
void sim_thumbnails_destroy(sim_thumbnails *t);
/* out  uint8 [h][w][c] */
SIM_MUST_USE sim_status sim_thumbnails_draw(const sim_thumbnails *t, const sim_dataset *d,
                                            size_t i, uint8_t *out);
SIM_MUST_USE sim_status sim_thumbnails_draw_image(const sim_thumbnails *t,
                                                  const sim_image *image, uint8_t *out);

/* ---- loader ---- */

typedef struct {
    uint32_t sample, epoch, view;
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
 * in which they were posted. Adjacent requests of the same sample share one read and decode.
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
