/*
 * resize.c - antialiased resizing with the separable filters of PIL.
 *
 * Each output sample is a weighted mean of the inputs around its centre.  The weights are a
 * triangle of support 1 (bilinear) or Keys' cubic with a = -0.5 of support 2 (bicubic).
 * When the image shrinks, the support is multiplied by the ratio.  The result is that of
 * torchvision with antialias=True.
 */
#include "private.h"

#include "simile/kernel.h"
#include "simile/memory.h"

#include <math.h>
#include <string.h>

static double weight_at(resize_filter filter, double x)
{
    x = fabs(x);
    if (filter == RESIZE_BILINEAR)
        return x < 1 ? 1 - x : 0;
    const double a = -0.5;
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static size_t max_taps(size_t in, size_t out)
{
    double scale = (double)in / (double)out, stretch = scale > 1 ? scale : 1;
    return (size_t)ceil(2 * stretch) * 2 + 1;
}

/* ---- filters ---- */

/* Inputs [first, first + n) of an output. */
typedef struct {
    size_t first, n;
} span;

/* The filters of the outputs along one axis. */
typedef struct {
    size_t max_taps;
    span *spans;
    float *weights; /* [outputs][max_taps] */
} filters;

/* Computes the filter of output o.  exact [max_taps]: workspace. */
static span compute_weights(size_t in, size_t out, size_t o, resize_filter filter,
                            double *exact, float *weights)
{
    double scale = (double)in / (double)out, stretch = scale > 1 ? scale : 1;
    double support = (filter == RESIZE_BICUBIC ? 2 : 1) * stretch;
    double centre = ((double)o + 0.5) * scale, sum = 0;
    double lo = floor(centre - support + 0.5), hi = floor(centre + support + 0.5);
    size_t a = lo < 0 ? 0 : (size_t)lo, b = hi > (double)in ? in : (size_t)hi;

    for (size_t i = a; i < b; i++) {
        exact[i - a] = weight_at(filter, ((double)i - centre + 0.5) / stretch);
        sum += exact[i - a];
    }
    for (size_t i = 0; i < b - a; i++)
        weights[i] = (float)(exact[i] / sum);
    return (span){a, b - a};
}

/* Computes the filters of outputs [from, from + n) of `out`, which have `in` inputs. */
static void compute_filters(size_t in, size_t out, size_t from, size_t n,
                            resize_filter filter, double *exact, filters *f)
{
    for (size_t o = 0; o < n; o++)
        f->spans[o] = compute_weights(in, out, from + o, filter, exact,
                                      f->weights + o * f->max_taps);
}

/* ---- workspace ---- */

/* Rows that the horizontal pass filters at a time: the lanes of a vector, or fewer. */
enum { STRIP = 16, ALIGNMENT = 64 };

static size_t strip_rows(size_t rows)
{
    return rows < STRIP ? rows : STRIP;
}

typedef struct {
    double *exact;
    filters x, y;
    float *rows;     /* [strip][box_w][c], converted from samples */
    float *columns;  /* [box_w][c][strip] */
    float *filtered; /* [dw][c][strip] */
    float *narrow;   /* [c][box_h][dw] */
} workspace;

enum { N_PARTS = 9 };

static void list_parts(size_t box_h, size_t box_w, size_t dh, size_t dw, size_t c,
                       workspace *k, sim_buffer out[N_PARTS])
{
    k->x.max_taps = max_taps(box_w, dw);
    k->y.max_taps = max_taps(box_h, dh);
    size_t most = k->x.max_taps > k->y.max_taps ? k->x.max_taps : k->y.max_taps;
    const size_t strip = strip_rows(box_h);
    const sim_buffer parts[N_PARTS] = {SIM_BUFFER(k->exact, most),
                                       SIM_BUFFER(k->x.spans, dw),
                                       SIM_BUFFER(k->x.weights, dw * k->x.max_taps),
                                       SIM_BUFFER(k->y.spans, dh),
                                       SIM_BUFFER(k->y.weights, dh * k->y.max_taps),
                                       SIM_BUFFER(k->rows, strip * box_w * c),
                                       SIM_BUFFER(k->columns, strip * box_w * c),
                                       SIM_BUFFER(k->filtered, strip * dw * c),
                                       SIM_BUFFER(k->narrow, box_h * dw * c)};
    memcpy(out, parts, sizeof parts);
}

static size_t aligned_bytes(const sim_buffer *part)
{
    return (part->count * part->size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

size_t sim_resize_work_bytes(size_t box_h, size_t box_w, size_t dh, size_t dw, size_t c)
{
    workspace none;
    sim_buffer parts[N_PARTS];
    size_t bytes = 0;

    list_parts(box_h, box_w, dh, dw, c, &none, parts);
    for (size_t i = 0; i < N_PARTS; i++)
        bytes += aligned_bytes(&parts[i]);
    return bytes;
}

/* Assigns the parts of r->work. */
static void divide_work(const resize *r, workspace *k)
{
    sim_buffer parts[N_PARTS];
    char *at = r->work;

    list_parts(r->part.h, r->part.w, r->window.h, r->window.w, r->c, k, parts);
    for (size_t i = 0; i < N_PARTS; i++) {
        memcpy(parts[i].pointer, &at, sizeof at);
        at += aligned_bytes(&parts[i]);
    }
}

/* ---- passes ---- */

/* Reads n rows of the box from row y on as columns [box_w][c][n]. */
static void read_columns(const resize *r, const workspace *k, size_t y, size_t n)
{
    const size_t w = r->part.w, c = r->c;

    for (size_t i = 0; r->image && i < n; i++)
        sim_image_to_floats(r->image, r->scale, (r->part.y + y + i) * r->sw + r->part.x,
                            w, k->rows + i * w * c);
    if (r->image) {
        sim_pixels_transpose(n, w * c, k->rows, w * c, k->columns, n);
        return;
    }
    for (size_t p = 0; p < c; p++)
        sim_pixels_transpose(n, w,
                             r->planes + (p * r->sh + r->part.y + y) * r->sw + r->part.x,
                             r->sw, k->columns + p * n, c * n);
}

/* Filters along rows: weighted sums of columns, which are vectors over the rows of a strip. */
static void filter_rows(const resize *r, const workspace *k)
{
    const size_t h = r->part.h, c = r->c, dw = r->window.w;

    for (size_t y = 0; y < h; y += STRIP) {
        const size_t n = strip_rows(h - y);
        read_columns(r, k, y, n);
        for (size_t o = 0; o < dw; o++)
            sim_pixels_sum(c * n, k->x.spans[o].n, k->x.weights + o * k->x.max_taps,
                           k->columns + k->x.spans[o].first * c * n, c * n,
                           k->filtered + o * c * n);
        for (size_t p = 0; p < c; p++)
            sim_pixels_transpose(dw, n, k->filtered + p * n, c * n,
                                 k->narrow + (p * h + y) * dw, dw);
    }
}

static void filter_columns(const resize *r, const workspace *k)
{
    const size_t h = r->part.h, dw = r->window.w, dh = r->window.h;

    for (size_t p = 0; p < r->c; p++)
        for (size_t o = 0; o < dh; o++)
            sim_pixels_sum(dw, k->y.spans[o].n, k->y.weights + o * k->y.max_taps,
                           k->narrow + (p * h + k->y.spans[o].first) * dw, dw,
                           r->dst + (p * dh + o) * dw);
}

void sim_resize_box(const resize *r)
{
    workspace k;

    divide_work(r, &k);
    compute_filters(r->part.w, r->rw, r->window.x, r->window.w, r->filter, k.exact, &k.x);
    compute_filters(r->part.h, r->rh, r->window.y, r->window.h, r->filter, k.exact, &k.y);
    filter_rows(r, &k);
    filter_columns(r, &k);
}

/* ---- sizes ---- */

void sim_resize_cover(size_t h, size_t w, size_t out_h, size_t out_w, size_t *rh,
                      size_t *rw)
{
    *rh = out_h;
    *rw = out_w;
    if (h * out_w <= w * out_h)
        *rw = (size_t)((double)out_h * (double)w / (double)h);
    else
        *rh = (size_t)((double)out_w * (double)h / (double)w);
}

size_t sim_centred(size_t whole, size_t part)
{
    size_t rest = whole - part;
    return rest / 2 + (rest & rest / 2 & 1);
}

/* Pixels [n][c] to planes [c][n] and back.  Bytes are divided by 255, as PIL; other types keep their
 * values, and those of 16 bits are rounded. */
static void split_planes(const sim_image *image, float *planes)
{
    const size_t n = image->h * image->w, c = image->c;
    const float divisor = image->type == SIM_U8 ? 255 : 1;

    for (size_t p = 0; p < c; p++)
        for (size_t i = 0; i < n; i++)
            planes[p * n + i] = (float)sim_image_sample(image, i * c + p) / divisor;
}

static float to_integer(float x, float largest)
{
    x += 0.5f;
    return x <= 0 ? 0 : x >= largest ? largest : x;
}

static void merge_planes(const float *planes, sim_image *image)
{
    const size_t n = image->h * image->w, c = image->c;

    for (size_t p = 0; p < c; p++)
        for (size_t i = 0; i < n; i++) {
            const float x = planes[p * n + i];
            const size_t at = i * c + p;

            if (image->type == SIM_U8)
                ((uint8_t *)image->pixels)[at] = (uint8_t)to_integer(x * 255, 255);
            else if (image->type == SIM_U16)
                ((uint16_t *)image->pixels)[at] = (uint16_t)to_integer(x, UINT16_MAX);
            else
                ((float *)image->pixels)[at] = x;
        }
}

sim_status sim_image_resize_short(const sim_image *image, size_t side, sim_image *out)
{
    sim_status st = SIM_OK;
    size_t h = image->h, w = image->w, c = image->c, dh = 0, dw = 0;
    float *src = NULL, *dst = NULL;
    char *work = NULL;

    sim_resize_cover(h, w, side, side, &dh, &dw);
    SIM_CHECK(dh <= SIM_MAX_PIXELS / dw, SIM_E_DATA,
              "resizing %zu x %zu to %zu x %zu: more than %d pixels", w, h, dw, dh,
              SIM_MAX_PIXELS);
    SIM_TRY(sim_alloc(&src, h * w * c, "data/resize"));
    SIM_TRY(sim_alloc(&dst, dh * dw * c, "data/resize"));
    SIM_TRY(sim_alloc(&work, sim_resize_work_bytes(h, w, dh, dw, c), "data/resize"));
    split_planes(image, src);
    sim_resize_box(&(resize){.planes = src,
                             .sh = h,
                             .sw = w,
                             .c = c,
                             .part = {0, 0, h, w},
                             .rh = dh,
                             .rw = dw,
                             .window = {0, 0, dh, dw},
                             .dst = dst,
                             .filter = RESIZE_BILINEAR,
                             .work = work});
    SIM_TRY(sim_image_shape(out, dh, dw, c, image->type));
    merge_planes(dst, out);
done:
    sim_free(src);
    sim_free(dst);
    sim_free(work);
    return st;
}

sim_status sim_image_crop_centre(const sim_image *image, size_t side, sim_image *out)
{
    sim_status st = SIM_OK;
    SIM_CHECK(image->h >= side && image->w >= side, SIM_E_DATA,
              "an image of %zu x %zu is too small for a crop of %zu x %zu", image->w,
              image->h, side, side);
    size_t y = sim_centred(image->h, side), x = sim_centred(image->w, side);
    const size_t pixel = image->c * sim_type_bytes(image->type);
    SIM_TRY(sim_image_shape(out, side, side, image->c, image->type));
    for (size_t r = 0; r < side; r++)
        memcpy((char *)out->pixels + r * side * pixel,
               (const char *)image->pixels + ((y + r) * image->w + x) * pixel,
               side * pixel);
done:
    return st;
}
