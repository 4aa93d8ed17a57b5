/*
 * aug_rotate.c - rotation about the centre by a uniform angle, as torchvision's rotate with
 * bilinear interpolation and expand=False.
 *
 * Outside of the view values are 0, and the edges are interpolated with these.
 */
#include "private.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    double p, degrees_min, degrees_max;
} rotate_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(rotate_options, p), 0, 1, "1", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"degrees_min", SIM_OPTION_REAL, offsetof(rotate_options, degrees_min), -180, 180,
     "-30", NULL, "degrees", "smallest angle, counterclockwise", SIM_IDENTITY, NULL,
     NULL},
    {"degrees_max", SIM_OPTION_REAL, offsetof(rotate_options, degrees_max), -180, 180,
     "30", NULL, "degrees", "largest angle, counterclockwise", SIM_IDENTITY, NULL, NULL},
};

typedef struct {
    double cosine, sine;
} direction;

/* Taylor polynomials of at most 45 degrees, turned by quarters.  The functions of the C library may
 * differ between systems. */
static direction find_direction(double degrees)
{
    const double quarters = floor(degrees / 90 + 0.5);
    const double x = (degrees - 90 * quarters) * (3.14159265358979324 / 180);
    double c = 1, s = 1;

    for (int k = 16; k >= 2; k -= 2) {
        c = 1 - c * x * x / (k * (k - 1));
        s = 1 - s * x * x / (k * (k + 1));
    }
    s *= x;
    switch ((int)quarters & 3) {
    case 0:
        return (direction){c, s};
    case 1:
        return (direction){-s, c};
    case 2:
        return (direction){-c, -s};
    default:
        return (direction){s, -c};
    }
}

/* Value of a plane [h][w] at an index, 0 outside. */
static double value_at(const view *v, const float *plane, double y, double x)
{
    if (y < 0 || x < 0 || y >= (double)v->h || x >= (double)v->w)
        return 0;
    return (double)plane[(size_t)y * v->w + (size_t)x];
}

static float interpolate(const view *v, const float *plane, double y, double x)
{
    const double top = floor(y), left = floor(x), b = y - top, r = x - left;

    return (float)((1 - b) * ((1 - r) * value_at(v, plane, top, left) +
                              r * value_at(v, plane, top, left + 1)) +
                   b * ((1 - r) * value_at(v, plane, top + 1, left) +
                        r * value_at(v, plane, top + 1, left + 1)));
}

static void rotate_plane(const view *v, direction d, const float *in, float *out)
{
    const double middle_y = (double)(v->h - 1) / 2, middle_x = (double)(v->w - 1) / 2;

    for (size_t y = 0; y < v->h; y++)
        for (size_t x = 0; x < v->w; x++) {
            const double dy = (double)y - middle_y, dx = (double)x - middle_x;
            out[y * v->w + x] = interpolate(v, in, d.sine * dx + d.cosine * dy + middle_y,
                                            d.cosine * dx - d.sine * dy + middle_x);
        }
}

static void rotate_apply(const void *options, view *v)
{
    const rotate_options *o = options;
    const size_t n = v->h * v->w;

    if (!view_happens(v, o->p))
        return;
    const direction d = find_direction((double)sim_random_between(
        &v->draw, (float)o->degrees_min, (float)o->degrees_max));
    for (size_t c = 0; c < v->c; c++)
        rotate_plane(v, d, v->pixels + c * n, v->spare + c * n);
    view_swap(v);
}

static void rotate_text(const void *options, char *out, size_t out_bytes)
{
    const rotate_options *o = options;
    (void)snprintf(out, out_bytes, "rotate %g to %g degrees p %g", o->degrees_min,
                   o->degrees_max, o->p);
}

const augment_row sim_augment_rotate = {
    .name = "rotate",
    .id = 12,
    .table = {"rotate", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(rotate_options, sim_option_item_storage)},
    .apply = rotate_apply,
    .text = rotate_text};
