/*
 * conv_plain.c - convolutions by their definition.
 *
 * y[o][k] = sum over r, s, c of x[stride o + (r, s) - pad][c] w[k][c][r][s].
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

typedef struct {
    const sim_conv *v;
    const float *w, *x, *dy;
    float *out;
    size_t n;
} plain_call;

/* The input pixel under tap t of output o, or NULL in the padding. */
static const float *pixel(const sim_conv *v, const float *image, size_t oy, size_t ox,
                          size_t r, size_t s)
{
    size_t y = oy * v->stride + r, x = ox * v->stride + s;
    if (y < v->pad || x < v->pad || y - v->pad >= v->h || x - v->pad >= v->w)
        return NULL;
    return image + ((y - v->pad) * v->w + x - v->pad) * v->c;
}

static float one_output(const sim_conv *v, const float *w, const float *image, size_t oy,
                        size_t ox)
{
    float sum = 0;
    for (size_t r = 0; r < v->size; r++)
        for (size_t s = 0; s < v->size; s++) {
            const float *x = pixel(v, image, oy, ox, r, s);
            for (size_t c = 0; x && c < v->c; c++)
                sum += x[c] * w[(c * v->size + r) * v->size + s];
        }
    return sum;
}

static void forward_image(size_t n, void *ctx)
{
    const plain_call *p = ctx;
    const sim_conv *v = p->v;
    const float *image = p->x + n * v->h * v->w * v->c;
    float *y = p->out + n * v->oh * v->ow * v->k;
    for (size_t o = 0; o < v->oh * v->ow; o++)
        for (size_t k = 0; k < v->k; k++)
            y[o * v->k + k] = one_output(v, p->w + k * v->c * v->size * v->size, image,
                                         o / v->ow, o % v->ow);
}

void sim_plain_forward(const sim_conv *v, const float *w, size_t n, const float *x,
                       float *y)
{
    plain_call p = {.v = v, .w = w, .x = x, .out = y};
    sim_for(n, forward_image, &p);
}

/* Adds dy[k] w[k] of one tap to the input pixel under it. */
static void embedding_std(const sim_conv *v, const float *w, const float *dy, size_t tap,
                          float *dx)
{
    size_t taps = v->size * v->size;
    for (size_t k = 0; k < v->k; k++)
        for (size_t c = 0; c < v->c; c++)
            dx[c] += dy[k] * w[(k * v->c + c) * taps + tap];
}

static void backward_image(size_t n, void *ctx)
{
    const plain_call *p = ctx;
    const sim_conv *v = p->v;
    float *image = p->out + n * v->h * v->w * v->c;
    const float *dy = p->dy + n * v->oh * v->ow * v->k;
    memset(image, 0, v->h * v->w * v->c * sizeof *image);
    for (size_t o = 0; o < v->oh * v->ow; o++)
        for (size_t t = 0; t < v->size * v->size; t++) {
            const float *at =
                pixel(v, image, o / v->ow, o % v->ow, t / v->size, t % v->size);
            if (at)
                embedding_std(v, p->w, dy + o * v->k, t, image + (at - image));
        }
}

void sim_plain_backward_data(const sim_conv *v, const float *w, size_t n, const float *dy,
                             float *dx)
{
    plain_call p = {.v = v, .w = w, .dy = dy, .out = dx};
    sim_for(n, backward_image, &p);
}

/* dw[k][c][tap] for one k, over all images in order. */
static void weights_of_k(size_t k, void *ctx)
{
    const plain_call *p = ctx;
    const sim_conv *v = p->v;
    size_t taps = v->size * v->size;
    float *dw = p->out + k * v->c * taps;
    memset(dw, 0, v->c * taps * sizeof *dw);
    for (size_t n = 0; n < p->n; n++)
        for (size_t o = 0; o < v->oh * v->ow; o++) {
            float g = p->dy[(n * v->oh * v->ow + o) * v->k + k];
            for (size_t t = 0; t < taps; t++) {
                const float *x = pixel(v, p->x + n * v->h * v->w * v->c, o / v->ow,
                                       o % v->ow, t / v->size, t % v->size);
                for (size_t c = 0; x && c < v->c; c++)
                    dw[c * taps + t] += g * x[c];
            }
        }
}

void sim_plain_weights(const sim_conv *v, size_t n, const float *x, const float *dy,
                       float *dw)
{
    plain_call p = {.v = v, .x = x, .dy = dy, .out = dw, .n = n};
    sim_for(v->k, weights_of_k, &p);
}
