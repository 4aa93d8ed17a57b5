/*
 * aug_erase.c - random erasing, as torchvision's RandomErasing after Normalize.
 *
 * Paper: arXiv 1708.04896.  The area is uniform and the aspect ratio (height / width, unlike that
 * of crop) log-uniform.  Of ten boxes the first that is smaller than the view in both directions
 * is erased; if there is none, the view is unchanged.  torchvision's value 0 of a normalized
 * view is the mean of its channel, and value "random" is the mean plus normal deviates of the
 * standard deviation of the channel; here these are clamped to [0, 1] like all values of a view.
 */
#include "private.h"

#include "simile/kernel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ERASE_MEAN, ERASE_NOISE }; /* in the order of value_names */
static const char value_names[] = "mean|noise";

typedef struct {
    double p, scale_min, scale_max, ratio_min, ratio_max;
    int value;
} erase_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(erase_options, p), 0, 1, "0.5", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"scale_min", SIM_OPTION_REAL, offsetof(erase_options, scale_min), 0.001, 1, "0.02",
     NULL, "", "smallest fraction of the area that is erased", SIM_IDENTITY, NULL, NULL},
    {"scale_max", SIM_OPTION_REAL, offsetof(erase_options, scale_max), 0.001, 1, "0.33",
     NULL, "", "largest fraction of the area that is erased", SIM_IDENTITY, NULL, NULL},
    {"ratio_min", SIM_OPTION_REAL, offsetof(erase_options, ratio_min), 0.1, 10, "0.3",
     NULL, "", "smallest aspect ratio (height / width)", SIM_IDENTITY, NULL, NULL},
    {"ratio_max", SIM_OPTION_REAL, offsetof(erase_options, ratio_max), 0.1, 10, "3.3",
     NULL, "", "largest aspect ratio (height / width)", SIM_IDENTITY, NULL, NULL},
    {"value", SIM_OPTION_ENUM, offsetof(erase_options, value), 0, 0, "mean", value_names,
     "", "mean of the channel, or normal noise of its mean and standard deviation",
     SIM_IDENTITY, NULL, NULL},
};

/* Draws a box; false if none of ten is smaller than the view. */
static bool draw_box(const erase_options *o, view *v, box *out)
{
    enum { N_TRIES = 10 };
    const double area = (double)(v->h * v->w);
    const float lo = (float)sim_ln(o->ratio_min), hi = (float)sim_ln(o->ratio_max);

    for (int i = 0; i < N_TRIES; i++) {
        double fraction = (double)sim_random_between(&v->draw, (float)o->scale_min,
                                                     (float)o->scale_max);
        double ratio = sim_exp_double((double)sim_random_between(&v->draw, lo, hi));
        size_t h = (size_t)(sqrt(area * fraction * ratio) + 0.5);
        size_t w = (size_t)(sqrt(area * fraction / ratio) + 0.5);
        if (h >= v->h || w >= v->w)
            continue;
        out->h = h;
        out->w = w;
        out->y = sim_random_below(&v->draw, (uint32_t)(v->h - h + 1));
        out->x = sim_random_below(&v->draw, (uint32_t)(v->w - w + 1));
        return true;
    }
    return false;
}

/* Deviates of the values of the box, [c][b.h][b.w]; zeros for the mean. */
static const float *draw_deviates(const erase_options *o, view *v, size_t n)
{
    if (o->value == ERASE_NOISE)
        sim_random_normals(&v->draw, n, v->spare);
    else
        memset(v->spare, 0, n * sizeof *v->spare);
    return v->spare;
}

static void erase_apply(const void *options, view *v)
{
    const erase_options *o = options;
    box b;

    if (!view_happens(v, o->p) || !draw_box(o, v, &b))
        return;
    const float *deviate = draw_deviates(o, v, v->c * b.h * b.w);
    for (size_t c = 0; c < v->c; c++)
        for (size_t y = b.y; y < b.y + b.h; y++)
            for (size_t x = b.x; x < b.x + b.w; x++)
                v->pixels[(c * v->h + y) * v->w + x] =
                    view_clamp(v->mean[c] + v->deviation[c] * *deviate++);
}

static void erase_text(const void *options, char *out, size_t out_bytes)
{
    const erase_options *o = options;
    (void)snprintf(out, out_bytes, "erase %g-%g of the area (%s) p %g", o->scale_min,
                   o->scale_max, o->value == ERASE_MEAN ? "mean" : "noise", o->p);
}

const augment_row sim_augment_erase = {
    .name = "erase",
    .id = 10,
    .table = {"erase", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(erase_options, sim_option_item_storage)},
    .apply = erase_apply,
    .text = erase_text};
