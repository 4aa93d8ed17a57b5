/*
 * private.h - what the files of this room share.
 */
#ifndef SIMILE_DATA_PRIVATE_H
#define SIMILE_DATA_PRIVATE_H

#include "simile/data.h"
#include "simile/random.h"

/* Room for an image of these dims; keeps a larger block. */
SIM_MUST_USE sim_status sim_image_shape(sim_image *image, size_t h, size_t w, size_t c);

SIM_MUST_USE sim_status sim_decode_jpeg(const char *name, const uint8_t *bytes, size_t n,
                                        sim_image *out, sim_decode_notes *notes);
SIM_MUST_USE sim_status sim_decode_png(const char *name, const uint8_t *bytes, size_t n,
                                       sim_image *out, sim_decode_notes *notes);
/* Turns an image as EXIF orientation 1 to 8 says. */
SIM_MUST_USE sim_status sim_image_upright(sim_image *image, int orientation);

/* ---- resize.c: antialiased separable filters, as PIL and torchvision ---- */

typedef enum { RESIZE_BILINEAR, RESIZE_BICUBIC } resize_filter;

/* A part of an image, from its row y and column x on. */
typedef struct {
    size_t y, x, h, w;
} box;

/*
 * A box of src [sh][sw][c], float, to dst [dh][dw][c].  `work` holds
 * sim_resize_work_floats(...).
 */
typedef struct {
    const float *src;
    size_t sw, c;
    box part;
    float *dst;
    size_t dh, dw;
    resize_filter filter;
    float *work;
} resize;
size_t sim_resize_work_floats(size_t box_h, size_t dh, size_t dw, size_t box_w, size_t c);
void sim_resize_box(const resize *r);

/* ---- augmentation ---- */

/* A view under way: float [h][w][c] in [0, 1] until it is normalised. */
typedef struct {
    size_t h, w, c;
    float *pixels;
    float *spare;    /* as large, for operations that cannot work in place */
    float *work;     /* work_floats of them */
    sim_random draw; /* the operation's own draws */
    size_t out;      /* side wanted; 0: as it is */
} view;

/* A row of augments.def. */
typedef struct {
    const char *name;
    int id; /* part of every run's bits: append only */
    sim_option_table table;
    void (*apply)(const void *options, view *v);
    void (*text)(const void *options, char *out, size_t out_bytes);
} augment_row;

#define SIM_AUGMENT(name, id) extern const augment_row sim_augment_##name;
#include "augments.def"
#undef SIM_AUGMENT

/* The options that every operation begins with. */
typedef struct {
    double p;
} chance;

/* The view becomes a part of itself, resized. */
static inline void view_resize(view *v, box part, size_t h, size_t w,
                               resize_filter filter)
{
    sim_resize_box(&(resize){.src = v->pixels,
                             .sw = v->w,
                             .c = v->c,
                             .part = part,
                             .dst = v->spare,
                             .dh = h,
                             .dw = w,
                             .filter = filter,
                             .work = v->work});
    float *swap = v->pixels;
    v->pixels = v->spare;
    v->spare = swap;
    v->h = h;
    v->w = w;
}

/* First draw of an operation: does it happen? */
static inline bool view_happens(view *v, double p)
{
    return (double)sim_random_unit(&v->draw) < p;
}

/* Gray value of a pixel, ITU-R 601 as torchvision. */
static inline float view_gray(const float *p)
{
    return 0.2989f * p[0] + 0.587f * p[1] + 0.114f * p[2];
}

static inline float view_clamp(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

#endif
