/*
 * aug_crop.c - random resized crop, as torchvision: area uniform, ratio log-uniform, ten
 * tries, then the centre; antialiased.
 */
#include "private.h"

#include "simile/kernel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    double p, scale_min, scale_max, ratio_min, ratio_max;
    int interpolation; /* bicubic|bilinear */
} crop_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(crop_options, p), 0, 1, "1", NULL, "", "chance",
     SIM_IDENTITY, NULL},
    {"scale_min", SIM_OPTION_REAL, offsetof(crop_options, scale_min), 0.001, 1, "0.08",
     NULL, "", "least share of the area", SIM_IDENTITY, NULL},
    {"scale_max", SIM_OPTION_REAL, offsetof(crop_options, scale_max), 0.001, 1, "1", NULL,
     "", "largest share of the area", SIM_IDENTITY, NULL},
    {"ratio_min", SIM_OPTION_REAL, offsetof(crop_options, ratio_min), 0.1, 10, "0.75",
     NULL, "", "least width per height", SIM_IDENTITY, NULL},
    {"ratio_max", SIM_OPTION_REAL, offsetof(crop_options, ratio_max), 0.1, 10,
     "1.3333333333333333", NULL, "", "largest width per height", SIM_IDENTITY, NULL},
    {"interpolation", SIM_OPTION_ENUM, offsetof(crop_options, interpolation), 0, 0,
     "bicubic", "bicubic|bilinear", "", "filter of the resize", SIM_IDENTITY, NULL},
};

/* The largest centred box whose ratio is allowed. */
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
    double area = (double)(v->h * v->w), lo = sim_ln(o->ratio_min),
           hi = sim_ln(o->ratio_max);
    for (int i = 0; i < 10; i++) {
        double share = (double)sim_random_between(&v->draw, (float)o->scale_min,
                                                  (float)o->scale_max);
        double ratio =
            sim_exp_double((double)sim_random_between(&v->draw, (float)lo, (float)hi));
        size_t w = (size_t)(sqrt(area * share * ratio) + 0.5);
        size_t h = (size_t)(sqrt(area * share / ratio) + 0.5);
        if (w > 0 && h > 0 && w <= v->w && h <= v->h) {
            box b = {0, 0, h, w};
            b.y = sim_random_below(&v->draw, (uint32_t)(v->h - h + 1));
            b.x = sim_random_below(&v->draw, (uint32_t)(v->w - w + 1));
            return b;
        }
    }
    return centre_box(o, v->h, v->w);
}

static void apply(const void *options, view *v)
{
    const crop_options *o = options;
    bool happens = view_happens(v, o->p);
    size_t side_h = v->out ? v->out : v->h, side_w = v->out ? v->out : v->w;
    box b = happens ? draw_box(o, v) : centre_box(o, v->h, v->w);

    view_resize(v, b, side_h, side_w,
                o->interpolation == 0 ? RESIZE_BICUBIC : RESIZE_BILINEAR);
    for (size_t i = 0; i < v->h * v->w * v->c; i++)
        v->pixels[i] = view_clamp(v->pixels[i]);
}

static void text(const void *options, char *out, size_t out_bytes)
{
    const crop_options *o = options;
    (void)snprintf(out, out_bytes, "crop %g-%g of the area (%s)", o->scale_min,
                   o->scale_max, o->interpolation == 0 ? "bicubic" : "bilinear");
}

const augment_row sim_augment_crop = {
    .name = "crop",
    .id = 1,
    .table = {"crop", rows, sizeof rows / sizeof rows[0], sizeof(crop_options)},
    .apply = apply,
    .text = text};
