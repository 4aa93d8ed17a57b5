/*
 * aug_channel_jitter.c - brightness and contrast of every channel alone, as torchvision's
 * ColorJitter on a float image of one channel.
 *
 * Each channel draws its order of both, and factors that are uniform in [max(0, 1 - s), 1 + s].
 */
#include "private.h"

#include "simile/kernel.h"

#include <stdio.h>

typedef struct {
    double p, brightness, contrast;
} channel_jitter_options;

static const sim_option rows[] = {
    {"p", SIM_OPTION_REAL, offsetof(channel_jitter_options, p), 0, 1, "0.8", NULL, "",
     "probability", SIM_IDENTITY, NULL, NULL},
    {"brightness", SIM_OPTION_REAL, offsetof(channel_jitter_options, brightness), 0, 10,
     "0.4", NULL, "", "strength", SIM_IDENTITY, NULL, NULL},
    {"contrast", SIM_OPTION_REAL, offsetof(channel_jitter_options, contrast), 0, 10,
     "0.4", NULL, "", "strength", SIM_IDENTITY, NULL, NULL},
};

static float draw_factor(view *v, double strength)
{
    const float s = (float)strength;
    return sim_random_between(&v->draw, s < 1 ? 1 - s : 0, 1 + s);
}

/* Scales the differences to the mean, whose additions have the order of the pixels. */
static void adjust_contrast(size_t n, float factor, float *plane)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)plane[i];
    sim_pixels_scale(n, factor, (1 - factor) * (float)(sum / (double)n), plane);
}

static void channel_jitter_apply(const void *options, view *v)
{
    const channel_jitter_options *o = options;
    const size_t n = v->h * v->w;

    if (!view_happens(v, o->p))
        return;
    for (size_t c = 0; c < v->c; c++) {
        float *plane = v->pixels + c * n;
        const bool contrast_first = sim_random_below(&v->draw, 2) == 1;
        const float brightness = draw_factor(v, o->brightness);
        const float contrast = draw_factor(v, o->contrast);

        if (contrast_first)
            adjust_contrast(n, contrast, plane);
        sim_pixels_scale(n, brightness, 0, plane);
        if (!contrast_first)
            adjust_contrast(n, contrast, plane);
    }
}

static void channel_jitter_text(const void *options, char *out, size_t out_bytes)
{
    const channel_jitter_options *o = options;
    (void)snprintf(out, out_bytes, "channel_jitter %g %g p %g", o->brightness,
                   o->contrast, o->p);
}

const augment_row sim_augment_channel_jitter = {
    .name = "channel_jitter",
    .id = 16,
    .table = {"channel_jitter", rows, sizeof rows / sizeof rows[0],
              SIM_OPTION_BYTES(channel_jitter_options, sim_option_item_storage)},
    .apply = channel_jitter_apply,
    .text = channel_jitter_text};
