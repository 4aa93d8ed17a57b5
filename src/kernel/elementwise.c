/*
 * elementwise.c - activations, column sums, additions, pooling.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { CHUNK = 1 << 14 }; /* floats per item */

typedef struct {
    size_t rows, c, per_item; /* per_item: rows per item */
    const float *x, *bias, *dy;
    float *y;
    sim_activation act;
} row_call;

static row_call rows_call(size_t rows, size_t c)
{
    size_t per_item = CHUNK / (c ? c : 1);
    return (row_call){.rows = rows, .c = c, .per_item = per_item ? per_item : 1};
}

static size_t row_items(const row_call *q)
{
    return (q->rows + q->per_item - 1) / q->per_item;
}

static void activate_item(size_t i, void *ctx)
{
    const row_call *q = ctx;
    size_t lo = i * q->per_item, n = sim_min(q->per_item, q->rows - lo), at = lo * q->c;
    sim_kernels()->activate(n, q->c, q->x + at, q->bias, q->act, q->y + at);
}

void sim_activate(size_t rows, size_t c, const float *x, const float *bias,
                  sim_activation act, float *y)
{
    row_call q = rows_call(rows, c);
    q.x = x;
    q.bias = bias;
    q.act = act;
    q.y = y;
    sim_for(row_items(&q), activate_item, &q);
}

static void activate_backward_item(size_t i, void *ctx)
{
    const row_call *q = ctx;
    size_t lo = i * q->per_item, n = sim_min(q->per_item, q->rows - lo), at = lo * q->c;
    sim_kernels()->activate_backward(n, q->c, q->x + at, q->bias, q->act, q->dy + at,
                                     q->y + at);
}

void sim_activate_backward(size_t rows, size_t c, const float *x, const float *bias,
                           sim_activation act, const float *dy, float *dx)
{
    row_call q = rows_call(rows, c);
    q.x = x;
    q.bias = bias;
    q.act = act;
    q.dy = dy;
    q.y = dx;
    sim_for(row_items(&q), activate_backward_item, &q);
}

void sim_column_sums(size_t rows, size_t c, const float *x, double *out)
{
    memset(out, 0, c * sizeof *out);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i++)
            out[i] += (double)x[r * c + i];
}

typedef struct {
    size_t n;
    const float *x;
    float *y;
} add_call;

static void add_item(size_t i, void *ctx)
{
    const add_call *q = ctx;
    size_t lo = i * CHUNK;
    sim_kernels()->add(sim_min(CHUNK, q->n - lo), q->x + lo, q->y + lo);
}

void sim_add(size_t n, const float *x, float *y)
{
    add_call q = {n, x, y};
    sim_for((n + CHUNK - 1) / CHUNK, add_item, &q);
}

static void copy_item(size_t i, void *ctx)
{
    const add_call *q = ctx;
    size_t lo = i * CHUNK;
    memcpy(q->y + lo, q->x + lo, sim_min(CHUNK, q->n - lo) * sizeof *q->y);
}

void sim_copy(size_t n, const float *x, float *y)
{
    add_call q = {n, x, y};
    sim_for((n + CHUNK - 1) / CHUNK, copy_item, &q);
}

/* ---- pooling ---- */

typedef struct {
    size_t h, w, c, oh, ow, pixels;
    const float *in;
    float *out;
    const uint8_t *argmax;
    uint8_t *at;
} pool_call;

enum { POOL_TAPS = 9 };

static pool_call max_pool_call(size_t h, size_t w, size_t c)
{
    return (pool_call){
        .h = h, .w = w, .c = c, .oh = (h - 1) / 2 + 1, .ow = (w - 1) / 2 + 1};
}

/* Stores the input pixel under tap t (of 3 x 3) of output o; false if it is padding. */
static bool pool_pixel(const pool_call *q, size_t o, size_t t, size_t *pixel)
{
    /* Coordinates in the padded image. */
    size_t y = o / q->ow * 2 + t / 3, x = o % q->ow * 2 + t % 3;
    if (y < 1 || x < 1 || y > q->h || x > q->w)
        return false;
    *pixel = (y - 1) * q->w + x - 1;
    return true;
}

static void max_pool_image(size_t image, void *ctx)
{
    const pool_call *q = ctx;
    const float *x = q->in + image * q->h * q->w * q->c;
    float *y = q->out + image * q->oh * q->ow * q->c;
    uint8_t *at = q->at + image * q->oh * q->ow * q->c;

    for (size_t o = 0; o < q->oh * q->ow; o++, y += q->c, at += q->c) {
        const float *taps[POOL_TAPS];
        uint8_t index[POOL_TAPS];
        size_t n = 0, pixel = 0;
        for (size_t t = 0; t < POOL_TAPS; t++)
            if (pool_pixel(q, o, t, &pixel)) {
                taps[n] = x + pixel * q->c;
                index[n++] = (uint8_t)t;
            }
        sim_kernels()->max_pool(q->c, n, taps, index, y, at);
    }
}

void sim_max_pool(size_t n, size_t h, size_t w, size_t c, const float *x, float *y,
                  uint8_t *at)
{
    pool_call q = max_pool_call(h, w, c);
    q.in = x;
    q.out = y;
    q.at = at;
    sim_for(n, max_pool_image, &q);
}

static void max_pool_backward_image(size_t n, void *ctx)
{
    const pool_call *q = ctx;
    float *dx = q->out + n * q->h * q->w * q->c;
    const float *dy = q->in + n * q->oh * q->ow * q->c;
    const uint8_t *argmax = q->argmax + n * q->oh * q->ow * q->c;
    size_t pixel = 0;

    memset(dx, 0, q->h * q->w * q->c * sizeof *dx);
    for (size_t o = 0; o < q->oh * q->ow; o++)
        for (size_t c = 0; c < q->c; c++)
            if (pool_pixel(q, o, argmax[o * q->c + c], &pixel))
                dx[pixel * q->c + c] += dy[o * q->c + c];
}

void sim_max_pool_backward(size_t n, size_t h, size_t w, size_t c, const float *dy,
                           const uint8_t *at, float *dx)
{
    pool_call q = max_pool_call(h, w, c);
    q.in = dy;
    q.argmax = at;
    q.out = dx;
    sim_for(n, max_pool_backward_image, &q);
}

static void mean_pool_image(size_t n, void *ctx)
{
    const pool_call *q = ctx;
    const float *x = q->in + n * q->pixels * q->c;
    float *y = q->out + n * q->c, inverse = 1.0f / (float)q->pixels;
    memset(y, 0, q->c * sizeof *y);
    for (size_t p = 0; p < q->pixels; p++)
        for (size_t c = 0; c < q->c; c++)
            y[c] += x[p * q->c + c];
    for (size_t c = 0; c < q->c; c++)
        y[c] *= inverse;
}

void sim_mean_pool(size_t n, size_t pixels, size_t c, const float *x, float *y)
{
    pool_call q = {.c = c, .pixels = pixels, .in = x, .out = y};
    sim_for(n, mean_pool_image, &q);
}

static void mean_pool_backward_image(size_t n, void *ctx)
{
    const pool_call *q = ctx;
    const float *dy = q->in + n * q->c;
    float *dx = q->out + n * q->pixels * q->c, inverse = 1.0f / (float)q->pixels;
    for (size_t p = 0; p < q->pixels; p++)
        for (size_t c = 0; c < q->c; c++)
            dx[p * q->c + c] = dy[c] * inverse;
}

void sim_mean_pool_backward(size_t n, size_t pixels, size_t c, const float *dy, float *dx)
{
    pool_call q = {.c = c, .pixels = pixels, .in = dy, .out = dx};
    sim_for(n, mean_pool_backward_image, &q);
}
