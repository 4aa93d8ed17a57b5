/*
 * data.h - from a file to augmented views of the requested samples, ahead of need.
 *
 * Module: data
 * Never sees MPI: it is told which samples.  The data set format is DESIGN.md section 5.
 */
#ifndef SIMILE_DATA_H
#define SIMILE_DATA_H

#include "simile/hash.h"
#include "simile/option.h"
#include "simile/status.h"

#include <stdint.h>

/* ---- images ---- */

/* uint8 [h][w][c], c 1 or 3. */
typedef struct {
    size_t h, w, c;
    uint8_t *pixels; /* the owner's; release with sim_free */
} sim_image;

/* What a decoder found odd but could live with. */
typedef struct {
    size_t warnings; /* libjpeg's or libpng's */
    char first[200]; /* text of the first */
} sim_decode_notes;

enum { SIM_MAX_PIXELS = 64 << 20 }; /* per image, checked before allocation */
enum { SIM_MAX_IMAGES = 1 << 30 };  /* of a data set */

/*
 * Decodes JPEG or PNG (by content, not by name) to 8-bit RGB, upright by EXIF: gray is
 * copied to three channels, 16-bit divided by 257, alpha dropped, palette expanded, CMYK
 * and YCCK by R = (255 - C)(255 - K) / 255.  `name` is for messages.
 * Fails: SIM_E_DATA (not an image, truncated, too large, zero-sized).
 */
SIM_MUST_USE sim_status sim_image_decode(const char *name, const uint8_t *bytes, size_t n,
                                         sim_image *out, sim_decode_notes *notes);
/* Re-encodes as JPEG of this quality (for the encoded layout at a size). Caller's. */
SIM_MUST_USE sim_status sim_image_encode_jpeg(const sim_image *image, int quality,
                                              uint8_t **bytes, size_t *n);
/* Shorter side to `side` (antialiased, bilinear as torchvision's Resize), aspect kept. */
SIM_MUST_USE sim_status sim_image_resize_short(const sim_image *image, size_t side,
                                               sim_image *out);
/* The centre `side` x `side`, as torchvision's CenterCrop; the image must hold it. */
SIM_MUST_USE sim_status sim_image_crop_centre(const sim_image *image, size_t side,
                                              sim_image *out);

/* Sums of bytes and of their squares, per channel: whole numbers, so exact. */
typedef struct {
    uint64_t pixels, sum[3], squares[3];
} sim_moments;

/* Of a photo as it will be seen: shorter side to `short_side` (0: 256), centre crop. */
SIM_MUST_USE sim_status sim_image_moments(const sim_image *image, size_t short_side,
                                          sim_moments *out);

/* ---- data sets: reading ---- */

typedef struct sim_dataset sim_dataset;

typedef struct {
    size_t n_images;
    bool encoded;   /* photos: bytes and offsets, each its own size */
    size_t h, w, c; /* as stored; encoded: 0, 0, 3 */
    bool has_labels;
    size_t n_classes;       /* 1 + largest label, or the number of class names */
    double mean[3], std[3]; /* 0..1 scale, [c] */
    char fingerprint[33];
    char source[256];
} sim_dataset_info;

/* Fails: SIM_E_INPUT, SIM_E_DATA naming file and what is wrong.  Every size in the file
 * is checked against the file's length before it is used. */
SIM_MUST_USE sim_status sim_dataset_open(const char *path, sim_dataset **out);
void sim_dataset_close(sim_dataset **d);
const sim_dataset_info *sim_dataset_about(const sim_dataset *d);
const char *sim_dataset_path(const sim_dataset *d);
/* [n_images], borrowed; NULL without labels.  Labels are in [0, n_classes). */
const int32_t *sim_dataset_labels(const sim_dataset *d);
/* Name of a class; NULL when the file has none. */
const char *sim_dataset_class_name(const sim_dataset *d, size_t label);

/*
 * Reads and decodes image i into `image` (pixels grown as needed, keep it for the next
 * call), verifying its digest.  Thread-safe for different `image`s.
 * Fails: SIM_E_IO (short read), SIM_E_DATA (digest, decode), naming file and image.
 */
SIM_MUST_USE sim_status sim_dataset_read(const sim_dataset *d, size_t i,
                                         sim_image *image);

/* ---- data sets: writing (prepare) ---- */

typedef struct {
    bool encoded;
    size_t h, w, c;     /* of every image; encoded: 0, 0, 3 */
    const char *source; /* text for the attribute */
    const char *created_by;
    sim_hash identity; /* of what is converted and how; zero: never continued */
} sim_dataset_spec;

/* How far a conversion has come, in the caller's own count. */
typedef struct {
    uint64_t next, n_bad, n_warned;
} sim_dataset_mark;

/* An image to append, and what is known of it. */
typedef struct {
    const uint8_t *bytes; /* h*w*c pixels, or a JPEG/PNG file */
    size_t n;
    int32_t label; /* -1: none (all or none must have one) */
    sim_hash digest;
    sim_moments moments; /* its part of mean and std */
} sim_dataset_item;

typedef struct sim_dataset_writer sim_dataset_writer;

/*
 * Spools to PATH.part; finish puts the HDF5 frame around it and renames it into place:
 * after a crash either the old or the whole new file is there.  With an identity, what a
 * killed process of the same identity had committed (PATH.journal) is taken up.
 * Fails: SIM_E_CREATE (another process writes it), SIM_E_ACCESS, SIM_E_IO.
 */
SIM_MUST_USE sim_status sim_dataset_create(const char *path, const sim_dataset_spec *spec,
                                           sim_dataset_writer **out);
/* Where it goes on, zeros for a new one; and with how many images. */
sim_dataset_mark sim_dataset_resumed(const sim_dataset_writer *w, size_t *n_images);
/* Fills in digest and, but for encoded images, moments.  Any thread. */
void sim_dataset_measure(const sim_dataset_spec *spec, sim_dataset_item *item);
/* Appends an item that was measured. */
SIM_MUST_USE sim_status sim_dataset_append_item(sim_dataset_writer *w,
                                                const sim_dataset_item *item);
/* Both.  Encoded: `moments` gives the photo's part of mean and std. */
SIM_MUST_USE sim_status sim_dataset_append(sim_dataset_writer *w, const uint8_t *bytes,
                                           size_t n, int32_t label,
                                           const sim_moments *moments);
/* From here a killed conversion goes on. */
SIM_MUST_USE sim_status sim_dataset_commit(sim_dataset_writer *w,
                                           const sim_dataset_mark *mark);
/*
 * Appends all that another writer of `identity` had committed for `path`, of images like
 * these; its temporaries stay until sim_dataset_discard.
 */
SIM_MUST_USE sim_status sim_dataset_absorb(sim_dataset_writer *w, const char *path,
                                           sim_hash identity, sim_dataset_mark *mark);
SIM_MUST_USE sim_status sim_dataset_discard(const char *path);
/* class_names may be NULL.  At least one image.  *w is gone afterwards, also on failure;
 * SIM_E_IO leaves what was committed, other failures leave nothing. */
SIM_MUST_USE sim_status sim_dataset_finish(sim_dataset_writer **w,
                                           const char *const *class_names,
                                           size_t n_classes, char fingerprint[33]);
/* Gives up: keeps what was committed, or removes the temporaries. */
void sim_dataset_suspend(sim_dataset_writer **w);
void sim_dataset_abandon(sim_dataset_writer **w);

/* ---- order ---- */

typedef struct {
    uint64_t key;
    uint32_t i;
} sim_order_key;

/*
 * The permutation of an epoch: samples sorted by (Philox of (epoch, i), i).
 *   keys [n] to work in;  order [n], overwritten
 */
void sim_order_epoch(uint32_t seed, uint32_t epoch, size_t n, sim_order_key *keys,
                     uint32_t *order);
/*
 * The permutation of a batch's slots for shuffle BN: by (Philox of (epoch, samples done, i),
 * i).  order [n], overwritten.  Allocates nothing but scratch.
 */
void sim_order_shuffle(uint32_t seed, uint32_t epoch, uint64_t samples, size_t n,
                       uint32_t *order);

/* ---- augmentation ---- */

/* Section `augment` of a job. */
typedef struct {
    int preset;
    int64_t size; /* side of a view; 0: as stored (photos 224) */
    sim_option_items view1, view2;
} sim_augment_options;
extern const sim_option_table sim_augment_table;

typedef struct sim_augment sim_augment;

/*
 * The operations of each view, resolved from preset and lists for a data set.  Views past
 * the second alternate.  `none` is what evaluation uses: resize and centre crop for
 * photos, and normalisation by mean and std [c], always last.
 * Fails: SIM_E_CONFIG.
 */
SIM_MUST_USE sim_status sim_augment_create(const sim_augment_options *options,
                                           const sim_dataset_info *about,
                                           const double *mean, const double *std,
                                           sim_augment **out);
/* The evaluation pipeline at this size (0: as stored; photos 224). */
SIM_MUST_USE sim_status sim_augment_create_plain(size_t size,
                                                 const sim_dataset_info *about,
                                                 const double *mean, const double *std,
                                                 sim_augment **out);
void sim_augment_destroy(sim_augment **a);
/* Shape of a view. */
void sim_augment_shape(const sim_augment *a, size_t *h, size_t *w, size_t *c);
/* "crop 0.2-1.0, flip 0.5, ..." for headers; view 0 or 1.  Caller's. */
SIM_MUST_USE sim_status sim_augment_text(const sim_augment *a, int view, char **text);

/* Draws and applies view `view` of a sample: out [h][w][c] float, normalised.  Pure:
 * a function of (seed, sample, epoch, view).  Serial; uses sim_scratch. */
SIM_MUST_USE sim_status sim_augment_view(const sim_augment *a, uint32_t seed,
                                         uint32_t sample, uint32_t epoch, uint32_t view,
                                         const sim_image *image, float *out);
/* Bytes of scratch that it asks for, for an image of this shape. */
size_t sim_augment_scratch(const sim_augment *a, size_t h, size_t w, size_t c);
/* Undoes the normalisation for pictures: uint8 [h][w][c]. */
void sim_augment_show(const sim_augment *a, const float *view, uint8_t *out);

/* ---- loader ---- */

typedef struct {
    uint32_t sample, epoch, view;
    float *out; /* [h][w][c], disjoint between requests, valid until waited for */
} sim_view_request;

typedef struct sim_loader sim_loader;

/* n_threads threads that read, decode and augment lists of up to `most` requests; posting
 * allocates nothing.  Keeps: d, a. */
SIM_MUST_USE sim_status sim_loader_create(const sim_dataset *d, const sim_augment *a,
                                          uint32_t seed, int n_threads, size_t most,
                                          sim_loader **out);
/* Stops the threads, also with work under way. */
void sim_loader_destroy(sim_loader **l);
/*
 * Posts a list (copied); lists are finished in the order posted.  Requests of the same
 * sample that stand side by side share its read and decode.
 */
void sim_loader_post(sim_loader *l, const sim_view_request *requests, size_t n);
/* Waits until the oldest posted list is done; fails with its first failure in list order. */
SIM_MUST_USE sim_status sim_loader_wait(sim_loader *l);
/* Bytes that n_threads take besides scratch, for lists of `n` requests. */
size_t sim_loader_bytes(int n_threads, size_t n);
double sim_loader_wait_seconds(const sim_loader *l); /* spent waiting, in all */

#endif
