/*
 * survey.c - the type and the channels of the samples of a source of image files.
 *
 * Files of formats that always have 8 bits are not read.  A source with only such files, or with files
 * of 8 bits and of more, becomes RGB of 8 bits; one whose files all have more keeps their type and
 * channels, and so does one with images of other than 1 or 3 channels.
 */
#include "prep.h"

#include "simile/log.h"
#include "simile/memory.h"

static sim_type larger_type(sim_type a, sim_type b)
{
    if (a == SIM_F32 || b == SIM_F32)
        return SIM_F32;
    return a == SIM_U16 || b == SIM_U16 ? SIM_U16 : SIM_U8;
}

static void add_image(prep_survey *s, const sim_image *image)
{
    double lo = 0, hi = 0;
    prep_survey one = {.n = 1,
                       .n_bytes = image->type == SIM_U8,
                       .type = image->type,
                       .first_c = image->c,
                       .least_c = image->c,
                       .most_c = image->c};

    if (image->type != SIM_U8 &&
        sim_image_find_unusable(image) == image->h * image->w * image->c) {
        sim_image_extremes(image, &lo, &hi);
        sim_prep_extremes_add(&one.extremes, lo, hi, image->type == SIM_U16);
    }
    sim_prep_survey_merge(s, &one);
}

void sim_prep_survey_add(prep_survey *s, const prep_options *o, const char *name,
                         const uint8_t *bytes, size_t n)
{
    sim_image image = {0};
    const sim_image_target target = {.as_stored = true, .pages = o->pages};
    sim_decode_notes notes;

    if (!sim_image_may_be_deep(bytes, n))
        s->n_others++;
    else if (sim_image_decode(name, bytes, n, &target, &image, &notes) == SIM_OK)
        add_image(s, &image);
    sim_free(image.pixels);
    sim_error_clear(); /* a bad file is reported when it is converted */
}

void sim_prep_survey_merge(prep_survey *s, const prep_survey *more)
{
    s->n_others += more->n_others;
    if (more->extremes.any)
        sim_prep_extremes_add(&s->extremes, more->extremes.lo, more->extremes.hi,
                              more->extremes.integers);
    if (more->n == 0)
        return;
    if (s->n == 0) {
        s->type = more->type;
        s->first_c = more->first_c;
        s->least_c = more->least_c;
        s->most_c = more->most_c;
    }
    s->n += more->n;
    s->n_bytes += more->n_bytes;
    s->type = larger_type(s->type, more->type);
    s->least_c = more->least_c < s->least_c ? more->least_c : s->least_c;
    s->most_c = more->most_c > s->most_c ? more->most_c : s->most_c;
}

/* Whether all images that can be decoded have more than 8 bits. */
static bool is_all_deep(const prep_survey *s)
{
    return s->n > 0 && s->n_others == 0 && s->n_bytes == 0;
}

static size_t choose_channels(const prep_survey *s, bool is_deep)
{
    const bool is_usual =
        (s->least_c == 1 || s->least_c == 3) && (s->most_c == 1 || s->most_c == 3);

    if (s->n == 0)
        return 3;
    if (!is_usual)
        return s->first_c;
    return is_deep && s->most_c == 1 ? 1 : 3;
}

void sim_prep_survey_apply(const prep_survey *s, const prep_options *o,
                           prep_source *source)
{
    const bool stores_pixels = o->size > 0 && !o->keep_shape, is_deep = is_all_deep(s);

    source->type = o->has_type ? o->type : is_deep ? s->type : SIM_U8;
    if (!stores_pixels && source->type != SIM_U8) {
        sim_log("the images have more than 8 bits per sample, are stored as files and "
                "used with 8 bits; --size PIXELS stores their values");
        source->type = SIM_U8;
    }
    source->c = choose_channels(s, source->type != SIM_U8);
    if (source->type == SIM_U8)
        source->range = sim_prep_choose_range(&s->extremes, o);
}
