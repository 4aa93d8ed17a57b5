/*
 * private.h - declarations shared by the files of this module.
 */
#ifndef SIMILE_DATA_PRIVATE_H
#define SIMILE_DATA_PRIVATE_H

#include "simile/data.h"
#include "simile/random.h"

/* Sets dims and type, and grows `pixels` if they are too small. */
SIM_MUST_USE sim_status sim_image_shape(sim_image *image, size_t h, size_t w, size_t c,
                                        sim_type type);
/* Sample i of [h][w][c]. */
double sim_image_sample(const sim_image *image, size_t i);

/* A decoder of one image format: sim_image_decode with the samples as in the file, one channel if gray;
 * `notes` is zeroed. */
typedef sim_status image_decoder(const char *name, const uint8_t *bytes, size_t n,
                                 sim_image *out, sim_decode_notes *notes);
#define SIM_IMAGE_FORMAT(name, ...) SIM_MUST_USE image_decoder sim_decode_##name;
#include "image_formats.def"
#undef SIM_IMAGE_FORMAT
/* As sim_decode_tiff; the pages of a file of several ones are channels. */
SIM_MUST_USE image_decoder sim_decode_tiff_pages;

/* Checks the size of an image before it is allocated.  Errors: SIM_E_DATA. */
SIM_MUST_USE sim_status sim_image_check_size(const char *name, size_t h, size_t w,
                                             size_t c, sim_type type);
/* Adds a warning of a library. */
void sim_notes_warn(sim_decode_notes *notes, const char *text);
/* A sample of CMYK, 0 to `most`, as one of RGB: (most - ink) (most - key) / most. */
static inline unsigned cmyk_sample(unsigned ink, unsigned key, unsigned most)
{
    return (unsigned)(((uint64_t)(most - ink) * (most - key) + most / 2) / most);
}

/* ---- numbers.c: numbers in files ---- */

typedef enum { NUMBER_UNSIGNED, NUMBER_SIGNED, NUMBER_FLOAT } number_kind;

/* 1 to 16 bits if unsigned; 8, 16, 32 or 64 if signed or unsigned; 16, 32 or 64 if floats. */
typedef struct {
    number_kind kind;
    unsigned bits;
} number_format;

/* The type of samples of numbers; false if a format is not one of the above. */
bool sim_number_type(number_format f, sim_type *out);
/* Number i of a row, in the byte order of this machine.  Those of less than a byte, and of 9 to 15 bits,
 * are packed from the most significant bit. */
double sim_number_at(number_format f, const uint8_t *row, size_t i);
/* Stores a number as sample i; false if it is finite and its sample is not. */
bool sim_number_store(double v, sim_type type, void *samples, size_t i);

/* Orientation, 1 to 8, in EXIF data with or without the prefix "Exif"; 1 if there is none. */
int sim_exif_orientation(const uint8_t *p, size_t n);
/* Applies an EXIF orientation of 1 to 8; other values leave the image unchanged. */
SIM_MUST_USE sim_status sim_image_upright(sim_image *image, int orientation);

/* ---- resize.c: antialiased separable filters, as PIL and torchvision ---- */

typedef enum { RESIZE_BILINEAR, RESIZE_BICUBIC } resize_filter;

/* A rectangle of an image; (y, x) is its upper left pixel. */
typedef struct {
    size_t y, x, h, w;
} box;

/* The values of samples of each channel that become 0 and 1; not used for SIM_U8. */
typedef struct {
    float low[SIM_MAX_CHANNELS],
        inverse[SIM_MAX_CHANNELS]; /* inverse: 1 / (high - low) */
} sample_scale;

/* Converts pixels [at, at + n) of an image to floats [n][c], 0 to 1 on the scale. */
void sim_image_to_floats(const sim_image *image, const sample_scale *scale, size_t at,
                         size_t n, float *out);

/*
 * Resizes a box of an image to rh x rw and computes a window of the result.
 *
 *   image   the image [sh][sw][c], and the scale of its samples
 *   planes  or, if image is NULL, as floats [c][sh][sw]
 *   dst     [c][window.h][window.w]
 *   work    sim_resize_work_bytes(part.h, part.w, window.h, window.w, c), aligned to 8
 */
typedef struct {
    const sim_image *image;
    const sample_scale *scale;
    const float *planes;
    size_t sh, sw, c;
    box part;
    size_t rh, rw;
    box window;
    float *dst;
    resize_filter filter;
    void *work;
} resize;
/* dh, dw: of the window. */
size_t sim_resize_work_bytes(size_t box_h, size_t box_w, size_t dh, size_t dw, size_t c);
void sim_resize_box(const resize *r);

/* Size of an image of h x w after a resize to the least size that covers out_h x out_w. */
void sim_resize_cover(size_t h, size_t w, size_t out_h, size_t out_w, size_t *rh,
                      size_t *rw);
/* First index of a centred range; like torchvision, halves are rounded to even. */
size_t sim_centred(size_t whole, size_t part);

/* ---- augmentation ---- */

/* A view in progress: floats [c][h][w] in [0, 1]. */
typedef struct {
    size_t h, w, c;
    const sim_image *image; /* while no operation has changed it; then NULL */
    const sample_scale *scale;
    float *pixels;   /* unspecified while `image` is not NULL */
    float *spare;    /* as large as `pixels`, for operations that do not work in place */
    void *work;      /* for sim_resize_box and sim_blur_work_bytes */
    sim_random draw; /* random numbers of the operation */
    size_t out_h, out_w;           /* of the model's input */
    const float *mean, *deviation; /* of each channel, by which the view is normalized */
} view;

/* A row of augments.def. */
typedef struct {
    const char *name;
    int id; /* selects the random numbers: never changes */
    sim_option_table table;
    /* Operations for images with other than 1 or 3 channels, which this one cannot process; NULL: it
     * can. */
    const char *instead;
    bool takes_image; /* `apply` accepts a view whose `image` is not NULL */
    void (*apply)(const void *options, view *v);
    void (*text)(const void *options, char *out, size_t out_bytes);
} augment_row;

#define SIM_AUGMENT(name, id) extern const augment_row sim_augment_##name;
#include "augments.def"
#undef SIM_AUGMENT

/* Options of operations that have a probability only. */
typedef struct {
    double p;
} probability;

static inline void view_swap(view *v)
{
    float *swap = v->pixels;
    v->pixels = v->spare;
    v->spare = swap;
}

/* Bytes of `work` for the blur of a view of h x w: one plane and one row with their borders. */
size_t sim_blur_work_bytes(size_t h, size_t w);

/* Replaces the view by a window of a box of it that is resized to rh x rw. */
static inline void view_resize(view *v, box part, size_t rh, size_t rw, box window,
                               resize_filter filter)
{
    sim_resize_box(&(resize){.image = v->image,
                             .scale = v->scale,
                             .planes = v->pixels,
                             .sh = v->h,
                             .sw = v->w,
                             .c = v->c,
                             .part = part,
                             .rh = rh,
                             .rw = rw,
                             .window = window,
                             .dst = v->spare,
                             .filter = filter,
                             .work = v->work});
    view_swap(v);
    v->image = NULL;
    v->h = window.h;
    v->w = window.w;
}

/* Replaces the view by a box of it, resized to the size of the output. */
static inline void view_resize_box(view *v, box part, resize_filter filter)
{
    view_resize(v, part, v->out_h, v->out_w, (box){0, 0, v->out_h, v->out_w}, filter);
}

/* Draws whether an operation is applied: its first draw. */
static inline bool view_happens(view *v, double p)
{
    return (double)sim_random_unit(&v->draw) < p;
}

static inline float view_clamp(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* The nearest value of 8 bits. */
static inline uint8_t view_byte(float x)
{
    return (uint8_t)(view_clamp(x) * 255 + 0.5f);
}

/* The conversion of the pixels of an image. */
static inline float view_from_byte(unsigned byte)
{
    return (float)byte * (1.0f / 255);
}

#endif
