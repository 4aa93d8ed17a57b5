/*
 * aug_jitter.c - brightness, contrast, saturation and hue in random order, as torchvision's
 * ColorJitter on floats.
 *
 * Factors are uniform in [max(0, 1 - s), 1 + s] and the shift of the hue in [-s, s].  Values
 * are clamped after each.  Saturation and hue do not change images of one channel.
 */
#include "private.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    double p, brightness, contrast, saturation, hue;
} jitter_options;

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE, N_ADJUSTMENTS };

#define STRENGTH(field, max, fallback)                                                   \
    {                                                                                    \
#field, SIM_OPTION_REAL, offsetof(jitter_options, field), 0, max, fallback,      \
            NULL, "", "strength", SIM_IDENTITY, NULL, NULL                               \
    }

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(jitter_options, p), 0, 1, "0.8", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    STRENGTH(brightness, 10, "0.4"),
    STRENGTH(contrast, 10, "0.4"),
    STRENGTH(saturation, 10, "0.4"),
    STRENGTH(hue, 0.5, "0.1"),
};

static void adjust_brightness(view *v, float factor)
{
    for (size_t i = 0; i < v->h * v->w * v->c; i++)
        v->pixels[i] = view_clamp(v->pixels[i] * factor);
}

static void adjust_contrast(view *v, float factor)
{
    double sum = 0;
    size_t n = v->h * v->w;
    for (size_t i = 0; i < n; i++)
        sum += (double)(v->c == 3 ? view_gray(v->pixels + 3 * i) : v->pixels[i]);
    float mean = (float)(sum / (double)n);
    for (size_t i = 0; i < n * v->c; i++)
        v->pixels[i] = view_clamp(factor * v->pixels[i] + (1 - factor) * mean);
}

static void adjust_saturation(view *v, float factor)
{
    for (size_t i = 0; v->c == 3 && i < v->h * v->w; i++) {
        float *p = v->pixels + 3 * i, gray = view_gray(p);
        for (size_t c = 0; c < 3; c++)
            p[c] = view_clamp(factor * p[c] + (1 - factor) * gray);
    }
}

/* Shifts the hue of one pixel, as torchvision's _rgb2hsv and _hsv2rgb. */
static void shift_pixel_hue(float *p, float shift)
{
    float max = fmaxf(p[0], fmaxf(p[1], p[2])), min = fminf(p[0], fminf(p[1], p[2]));
    float chroma = max - min, s = max == min ? 0 : chroma / max;
    float divisor = max == min ? 1 : chroma;
    float r = (max - p[0]) / divisor, g = (max - p[1]) / divisor,
          b = (max - p[2]) / divisor;
    float h = max == p[0] ? b - g : max == p[1] ? 2 + r - b : 4 + g - r;

    h = h / 6 + 1;
    h -= floorf(h);
    h += shift;
    h -= floorf(h);
    float i = floorf(h * 6), f = h * 6 - i, v = max;
    float a = view_clamp(v * (1 - s)), q = view_clamp(v * (1 - s * f));
    float t = view_clamp(v * (1 - s * (1 - f)));
    const float table[6][3] = {{v, t, a}, {q, v, a}, {a, v, t},
                               {a, q, v}, {t, a, v}, {v, a, q}};
    int k = (int)i % 6;
    for (size_t c = 0; c < 3; c++)
        p[c] = table[k][c];
}

static void adjust_hue(view *v, float shift)
{
    for (size_t i = 0; v->c == 3 && i < v->h * v->w; i++)
        shift_pixel_hue(v->pixels + 3 * i, shift);
}

static float draw_factor(view *v, double strength)
{
    float s = (float)strength;
    return sim_random_between(&v->draw, s < 1 ? 1 - s : 0, 1 + s);
}

static void jitter_apply(const void *options, view *v)
{
    const jitter_options *o = options;
    int order[N_ADJUSTMENTS] = {BRIGHTNESS, CONTRAST, SATURATION, HUE};

    if (!view_happens(v, o->p))
        return;
    for (uint32_t i = N_ADJUSTMENTS - 1; i > 0; i--) { /* Fisher-Yates shuffle */
        uint32_t j = sim_random_below(&v->draw, i + 1);
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    float b = draw_factor(v, o->brightness), c = draw_factor(v, o->contrast);
    float s = draw_factor(v, o->saturation);
    float h = sim_random_between(&v->draw, -(float)o->hue, (float)o->hue);
    for (int i = 0; i < N_ADJUSTMENTS; i++) {
        if (order[i] == BRIGHTNESS && o->brightness > 0)
            adjust_brightness(v, b);
        else if (order[i] == CONTRAST && o->contrast > 0)
            adjust_contrast(v, c);
        else if (order[i] == SATURATION && o->saturation > 0)
            adjust_saturation(v, s);
        else if (order[i] == HUE && o->hue > 0)
            adjust_hue(v, h);
    }
}

static void jitter_text(const void *options, char *out, size_t out_bytes)
{
    const jitter_options *o = options;
    (void)snprintf(out, out_bytes, "jitter %g %g %g %g p %g", o->brightness, o->contrast,
                   o->saturation, o->hue, o->p);
}

const augment_row sim_augment_jitter = {
    .name = "jitter",
    .id = 3,
    .table = {"jitter", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(jitter_options, sim_option_item_storage)},
    .apply = jitter_apply,
    .text = jitter_text};
