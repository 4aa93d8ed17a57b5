/*
 * aug_jitter.c - brightness, contrast, saturation and hue in random order, as torchvision
 * on floats: factors uniform in [max(0, 1 - s), 1 + s], hue in [-s, s], clamped after each.
 * With one channel saturation and hue do nothing.
 */
#include "private.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    double p, brightness, contrast, saturation, hue;
} jitter_options;

#define STRENGTH(field, most, fallback)                                                  \
    {                                                                                    \
#field, SIM_OPTION_REAL, offsetof(jitter_options, field), 0, most, fallback,     \
            NULL, "", "strength", SIM_IDENTITY, NULL                                     \
    }

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(jitter_options, p), 0, 1, "0.8", NULL, "", "chance",
     SIM_IDENTITY, NULL},
    STRENGTH(brightness, 10, "0.4"),
    STRENGTH(contrast, 10, "0.4"),
    STRENGTH(saturation, 10, "0.4"),
    STRENGTH(hue, 0.5, "0.1"),
};

static void brighten(view *v, float factor)
{
    for (size_t i = 0; i < v->h * v->w * v->c; i++)
        v->pixels[i] = view_clamp(v->pixels[i] * factor);
}

static void stretch_contrast(view *v, float factor)
{
    double sum = 0;
    size_t n = v->h * v->w;
    for (size_t i = 0; i < n; i++)
        sum += (double)(v->c == 3 ? view_gray(v->pixels + 3 * i) : v->pixels[i]);
    float mean = (float)(sum / (double)n);
    for (size_t i = 0; i < n * v->c; i++)
        v->pixels[i] = view_clamp(factor * v->pixels[i] + (1 - factor) * mean);
}

static void saturate(view *v, float factor)
{
    for (size_t i = 0; v->c == 3 && i < v->h * v->w; i++) {
        float *p = v->pixels + 3 * i, gray = view_gray(p);
        for (size_t c = 0; c < 3; c++)
            p[c] = view_clamp(factor * p[c] + (1 - factor) * gray);
    }
}

/* torchvision's _rgb2hsv and _hsv2rgb for one pixel, the hue moved by `shift`. */
static void turn_pixel(float *p, float shift)
{
    float most = fmaxf(p[0], fmaxf(p[1], p[2])), least = fminf(p[0], fminf(p[1], p[2]));
    float span = most - least, s = most == least ? 0 : span / most;
    float divide = most == least ? 1 : span;
    float r = (most - p[0]) / divide, g = (most - p[1]) / divide,
          b = (most - p[2]) / divide;
    float h = most == p[0] ? b - g : most == p[1] ? 2 + r - b : 4 + g - r;

    h = h / 6 + 1;
    h -= floorf(h);
    h += shift;
    h -= floorf(h);
    float i = floorf(h * 6), f = h * 6 - i, v = most;
    float a = view_clamp(v * (1 - s)), q = view_clamp(v * (1 - s * f));
    float t = view_clamp(v * (1 - s * (1 - f)));
    const float table[6][3] = {{v, t, a}, {q, v, a}, {a, v, t},
                               {a, q, v}, {t, a, v}, {v, a, q}};
    int k = (int)i % 6;
    for (size_t c = 0; c < 3; c++)
        p[c] = table[k][c];
}

static void turn_hue(view *v, float shift)
{
    for (size_t i = 0; v->c == 3 && i < v->h * v->w; i++)
        turn_pixel(v->pixels + 3 * i, shift);
}

static float factor_of(view *v, double strength)
{
    float s = (float)strength;
    return sim_random_between(&v->draw, s < 1 ? 1 - s : 0, 1 + s);
}

static void apply(const void *options, view *v)
{
    const jitter_options *o = options;
    int order[4] = {0, 1, 2, 3};

    if (!view_happens(v, o->p))
        return;
    for (uint32_t i = 3; i > 0; i--) { /* Fisher and Yates */
        uint32_t j = sim_random_below(&v->draw, i + 1);
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    float b = factor_of(v, o->brightness), c = factor_of(v, o->contrast);
    float s = factor_of(v, o->saturation);
    float h = sim_random_between(&v->draw, -(float)o->hue, (float)o->hue);
    for (int i = 0; i < 4; i++) {
        if (order[i] == 0 && o->brightness > 0)
            brighten(v, b);
        else if (order[i] == 1 && o->contrast > 0)
            stretch_contrast(v, c);
        else if (order[i] == 2 && o->saturation > 0)
            saturate(v, s);
        else if (order[i] == 3 && o->hue > 0)
            turn_hue(v, h);
    }
}

static void text(const void *options, char *out, size_t out_bytes)
{
    const jitter_options *o = options;
    (void)snprintf(out, out_bytes, "jitter %g %g %g %g p %g", o->brightness, o->contrast,
                   o->saturation, o->hue, o->p);
}

const augment_row sim_augment_jitter = {
    .name = "jitter",
    .id = 3,
    .table = {"jitter", rows, sizeof rows / sizeof rows[0], sizeof(jitter_options)},
    .apply = apply,
    .text = text};
