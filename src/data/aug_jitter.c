/*
 * aug_jitter.c - brightness, contrast, saturation and hue in random order, as torchvision's
 * ColorJitter on floats.
 *
 * Factors are uniform in [max(0, 1 - s), 1 + s] and the shift of the hue in [-s, s].  Values
 * are clamped after each.
 */
#include "private.h"

#include "simile/kernel.h"

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

/* Mean gray value.  One chain of additions, whose order is that of the pixels. */
static float mean_gray(view *v)
{
    const size_t n = v->h * v->w;
    const float *gray = v->pixels;
    double sum = 0;

    if (v->c == 3) {
        sim_pixels_gray(n, v->pixels, v->spare);
        gray = v->spare;
    }
    for (size_t i = 0; i < n; i++)
        sum += (double)gray[i];
    return (float)(sum / (double)n);
}

/* Saturation and hue do not change images of one channel. */
static void adjust(view *v, int what, float factor)
{
    const size_t n = v->h * v->w;

    if (what == BRIGHTNESS)
        sim_pixels_scale(n * v->c, factor, 0, v->pixels);
    else if (what == CONTRAST)
        sim_pixels_scale(n * v->c, factor, (1 - factor) * mean_gray(v), v->pixels);
    else if (what == SATURATION && v->c == 3)
        sim_pixels_saturate(n, factor, v->pixels);
    else if (what == HUE && v->c == 3)
        sim_pixels_hue(n, factor, v->pixels);
}

static float draw_factor(view *v, double strength)
{
    float s = (float)strength;
    return sim_random_between(&v->draw, s < 1 ? 1 - s : 0, 1 + s);
}

static void jitter_apply(const void *options, view *v)
{
    const jitter_options *o = options;
    const double strengths[N_ADJUSTMENTS] = {o->brightness, o->contrast, o->saturation,
                                             o->hue};
    int order[N_ADJUSTMENTS] = {BRIGHTNESS, CONTRAST, SATURATION, HUE};

    if (!view_happens(v, o->p))
        return;
    for (uint32_t i = N_ADJUSTMENTS - 1; i > 0; i--) { /* Fisher-Yates shuffle */
        uint32_t j = sim_random_below(&v->draw, i + 1);
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    float factors[N_ADJUSTMENTS];
    for (int i = 0; i < HUE; i++)
        factors[i] = draw_factor(v, strengths[i]);
    factors[HUE] = sim_random_between(&v->draw, -(float)o->hue, (float)o->hue);
    for (int i = 0; i < N_ADJUSTMENTS; i++)
        if (strengths[order[i]] > 0)
            adjust(v, order[i], factors[order[i]]);
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
    .instead = "channel_jitter",
    .apply = jitter_apply,
    .text = jitter_text};
