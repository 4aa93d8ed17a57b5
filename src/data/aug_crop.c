/*
 * aug_crop.c - random resized crop, as torchvision's RandomResizedCrop with antialias=True.
 *
 * The area is uniform and the aspect ratio log-uniform.  After ten boxes that do not fit,
 * the largest centred box of an allowed ratio is used.
 */
#include "private.h"

#include "simile/kernel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CROP_BICUBIC, CROP_BILINEAR }; /* in the order of interpolation_names */
static const char interpolation_names[] = "bicubic|bilinear";

typedef struct {
    double p, scale_min, scale_max, ratio_min, ratio_max;
    int interpolation;
} crop_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(crop_options, p), 0, 1, "1", NULL, "", "probability",
     SIM_IDENTITY, NULL, NULL},
    {"scale_min", SIM_OPTION_REAL, offsetof(crop_options, scale_min), 0.001, 1, "0.08",
     NULL, "", "smallest fraction of the area", SIM_IDENTITY, NULL, NULL},
    {"scale_max", SIM_OPTION_REAL, offsetof(crop_options, scale_max), 0.001, 1, "1", NULL,
     "", "largest fraction of the area", SIM_IDENTITY, NULL, NULL},
    {"ratio_min", SIM_OPTION_REAL, offsetof(crop_options, ratio_min), 0.1, 10, "0.75",
     NULL, "", "smallest aspect ratio (width / height)", SIM_IDENTITY, NULL, NULL},
    {"ratio_max", SIM_OPTION_REAL, offsetof(crop_options, ratio_max), 0.1, 10,
     "1.3333333333333333", NULL, "", "largest aspect ratio (width / height)",
     SIM_IDENTITY, NULL, NULL},
    {"interpolation", SIM_OPTION_ENUM, offsetof(crop_options, interpolation), 0, 0,
     "bicubic", interpolation_names, "", "filter of the resize", SIM_IDENTITY, NULL,
     NULL},
};

/* The largest centred box of an allowed aspect ratio. */
static box centre_box(const crop_options *o, size_t h, size_t w)
{
    double ratio = (double)w / (double)h;
    box b = {0, 0, h, w};
    if (ratio < o->ratio_min)
        b.h = (size_t)((double)w / o->ratio_min + 0.5);
    else if (ratio > o->ratio_max)
        b.w = (size_t)((double)h * o->ratio_max + 0.5);
    b.h = b.h < 1 ? 1 : b.h > h ? h : b.h;
    b.w = b.w < 1 ? 1 : b.w > w ? w : b.w;
    b.y = (h - b.h) / 2;
    b.x = (w - b.w) / 2;
    return b;
}

static box draw_box(const crop_options *o, view *v)
{
    enum { N_TRIES = 10 };
    double area = (double)(v->h * v->w), lo = sim_ln(o->ratio_min),
           hi = sim_ln(o->ratio_max);
    for (int i = 0; i < N_TRIES; i++) {
        double fraction = (double)sim_random_between(&v->draw, (float)o->scale_min,
                                                     (float)o->scale_max);
        double ratio =
            sim_exp_double((double)sim_random_between(&v->draw, (float)lo, (float)hi));
        size_t w = (size_t)(sqrt(area * fraction * ratio) + 0.5);
        size_t h = (size_t)(sqrt(area * fraction / ratio) + 0.5);
        if (w > 0 && h > 0 && w <= v->w && h <= v->h) {
            box b = {0, 0, h, w};
            b.y = sim_random_below(&v->draw, (uint32_t)(v->h - h + 1));
            b.x = sim_random_below(&v->draw, (uint32_t)(v->w - w + 1));
            return b;
        }
    }
    return centre_box(o, v->h, v->w);
}

static void crop_apply(const void *options, view *v)
{
    const crop_options *o = options;
    bool random = view_happens(v, o->p);
    box b = random ? draw_box(o, v) : centre_box(o, v->h, v->w);

    view_resize_box(v, b,
                    o->interpolation == CROP_BICUBIC ? RESIZE_BICUBIC : RESIZE_BILINEAR);
    sim_pixels_scale(v->h * v->w * v->c, 1, 0, v->pixels); /* clamps */
}

static void crop_text(const void *options, char *out, size_t out_bytes)
{
    const crop_options *o = options;
    (void)snprintf(out, out_bytes, "crop %g-%g of the area (%s)", o->scale_min,
                   o->scale_max,
                   o->interpolation == CROP_BICUBIC ? "bicubic" : "bilinear");
}

const augment_row sim_augment_crop = {
    .name = "crop",
    .id = 1,
    .table = {"crop", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(crop_options, sim_option_item_storage)},
    .takes_image = true,
    .apply = crop_apply,
    .text = crop_text};
