/*
 * preprocessing.c - how an image becomes the input of a model; its text in checkpoints.
 *
 * Training derives it from its data set.  Every later use of the model reads it from the
 * checkpoint, whatever data set it is given.
 */
#include "private.h"

#include "simile/json.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

enum { PHOTO_SIDE = 224, MAX_SIDE = 1 << 16 };

/* Samples of 8 bits are divided by 255 before mean and std apply: larger ones cannot be theirs. */
enum { MAX_SAMPLE = 255 };

/* Names of the operations in the text. A reader refuses others. */
static const char resize_name[] = "shorter side, bilinear, antialiased",
                  crop_name[] = "centre";

#define RESIZE_TO "shorter side to %zu, bilinear, antialiased"
enum { RESIZE_BYTES = 64 };

/* The name of a resize; see sim_preprocessing.resize. */
static const char *format_resize(size_t side, char out[RESIZE_BYTES])
{
    if (side == 0)
        return resize_name;
    (void)snprintf(out, RESIZE_BYTES, RESIZE_TO, side);
    return out;
}

sim_preprocessing sim_preprocessing_of(size_t size, const sim_dataset_info *about)
{
    const size_t side = about->encoded && size == 0 ? PHOTO_SIDE : size;
    sim_preprocessing p = {.h = side ? side : about->h,
                           .w = side ? side : about->w,
                           .c = about->c,
                           .type = about->type,
                           .range = about->range};

    memcpy(p.mean, about->mean, sizeof p.mean);
    memcpy(p.std, about->std, sizeof p.std);
    memcpy(p.scale, about->scale, sizeof p.scale);
    return p;
}

/* ---- text ---- */

/* The type of the samples, if it is not uint8, and what augmentations treat as 0 and 1. */
static void describe_scale(const sim_preprocessing *p, sim_json *j)
{
    sim_json_text(j, "sample_type", sim_type_name(p->type));
    sim_json *low = sim_json_array(j, "scale_low"),
             *high = sim_json_array(j, "scale_high");
    for (size_t c = 0; c < p->c; c++) {
        sim_json_real(low, NULL, p->scale[c].lo);
        sim_json_real(high, NULL, p->scale[c].hi);
    }
}

void sim_preprocessing_describe(const sim_preprocessing *p, sim_json *j)
{
    char name[RESIZE_BYTES];

    sim_json_int(j, "height", (int64_t)p->h);
    sim_json_int(j, "width", (int64_t)p->w);
    sim_json_int(j, "channels", (int64_t)p->c);
    sim_json_text(j, "resize", format_resize(p->resize, name));
    sim_json_text(j, "crop", crop_name);
    sim_json *mean = sim_json_array(j, "mean"), *std = sim_json_array(j, "std");
    for (size_t c = 0; c < p->c; c++) {
        sim_json_real(mean, NULL, p->mean[c]);
        sim_json_real(std, NULL, p->std[c]);
    }
    if (p->type != SIM_U8)
        describe_scale(p, j);
    if (p->range.hi > p->range.lo) {
        sim_json *range = sim_json_array(j, "value_range");
        sim_json_real(range, NULL, p->range.lo);
        sim_json_real(range, NULL, p->range.hi);
    }
}

sim_status sim_preprocessing_text(const sim_preprocessing *p, char **text)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    SIM_TRY(sim_json_create(&j));
    sim_preprocessing_describe(p, j);
    SIM_TRY(sim_json_dump(j, 0, text));
done:
    sim_json_destroy(&j);
    return st;
}

/* False unless the key is an array of exactly n numbers in [lowest, highest]. */
static bool read_numbers(const sim_json *j, const char *key, size_t n, double lowest,
                         double highest, double *out)
{
    sim_json *list = NULL;

    if (!sim_json_get_object(j, key, &list) || sim_json_size(list) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        out[i] = sim_json_real_at(list, i);
        if (!(out[i] >= lowest && out[i] <= highest))
            return false;
    }
    return true;
}

static bool read_size(const sim_json *j, const char *key, size_t *out)
{
    int64_t value = 0;

    if (!sim_json_get_int(j, key, &value) || value < 1 || value > MAX_SIDE)
        return false;
    *out = (size_t)value;
    return true;
}

static bool read_range(const sim_json *j, sim_value_range *out)
{
    sim_json *list = NULL;
    double ends[2];

    if (!sim_json_get_object(j, "value_range", &list))
        return true;
    if (!read_numbers(j, "value_range", 2, -DBL_MAX, DBL_MAX, ends) ||
        !(ends[0] < ends[1]))
        return false;
    *out = (sim_value_range){ends[0], ends[1]};
    return true;
}

static bool read_type(const sim_json *j, sim_type *out)
{
    const char *name = "uint8";

    (void)sim_json_get_text(j, "sample_type", &name);
    return sim_sample_type_find(name, out);
}

static bool read_scale(const sim_json *j, sim_preprocessing *p)
{
    double low[SIM_MAX_CHANNELS], high[SIM_MAX_CHANNELS];

    if (p->type == SIM_U8)
        return true;
    if (!read_numbers(j, "scale_low", p->c, -FLT_MAX, FLT_MAX, low) ||
        !read_numbers(j, "scale_high", p->c, -FLT_MAX, FLT_MAX, high))
        return false;
    for (size_t c = 0; c < p->c; c++) {
        p->scale[c] = (sim_value_range){low[c], high[c]};
        if (!sim_value_range_is_usable(&p->scale[c]))
            return false;
    }
    return true;
}

static bool read_values(const sim_json *j, sim_preprocessing *p)
{
    if (!read_size(j, "height", &p->h) || !read_size(j, "width", &p->w) ||
        p->w > SIM_MAX_PIXELS / p->h || !read_size(j, "channels", &p->c) ||
        p->c > SIM_MAX_CHANNELS || !read_type(j, &p->type))
        return false;
    const double least = p->type == SIM_U8 ? 0 : -FLT_MAX,
                 most = p->type == SIM_U8 ? MAX_SAMPLE : FLT_MAX;
    return read_numbers(j, "mean", p->c, least, most, p->mean) &&
           read_numbers(j, "std", p->c, 0, most, p->std) && read_range(j, &p->range) &&
           read_scale(j, p);
}

/* False unless `name` is that of a resize that covers [h][w]. */
static bool parse_resize(const char *name, sim_preprocessing *p)
{
    char again[RESIZE_BYTES];
    size_t side = 0;

    p->resize = 0;
    if (strcmp(name, resize_name) == 0)
        return true;
    if (sscanf(name, RESIZE_TO, &side) != 1 || side < p->h || side < p->w ||
        side > MAX_SIDE || strcmp(name, format_resize(side, again)) != 0)
        return false;
    p->resize = side;
    return true;
}

sim_status sim_preprocessing_parse(const char *text, const char *path,
                                   sim_preprocessing *out)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    sim_preprocessing p = {0};
    const char *filter = "", *crop = "";

    st = sim_json_parse(text, strlen(text), &j);
    SIM_CHECK(st == SIM_OK && read_values(j, &p), SIM_E_DATA,
              "%s: /preprocessing is not valid: %.200s", path, text);
    (void)sim_json_get_text(j, "resize", &filter);
    (void)sim_json_get_text(j, "crop", &crop);
    SIM_CHECK(
        parse_resize(filter, &p) && strcmp(crop, crop_name) == 0, SIM_E_INSTALL,
        "%s: preprocessing with resize \"%.100s\" and crop \"%.100s\" needs a newer "
        "simile",
        path, filter, crop);
    *out = p;
done:
    sim_json_destroy(&j);
    return st;
}

/* ---- use with a data set ---- */

static bool same_range(const sim_value_range *a, const sim_value_range *b)
{
    return !(a->lo < b->lo || a->lo > b->lo || a->hi < b->hi || a->hi > b->hi);
}

static void warn_of_range(const sim_value_range *of_model, const sim_dataset *d)
{
    const sim_value_range *own = &sim_dataset_about(d)->range;

    if (same_range(of_model, own))
        return;
    if (!(own->hi > own->lo))
        sim_log_warn("%s: the images have 8 bits per sample; of the training set, values "
                     "%g to %g were scaled to 0 to 255, so its brightness may differ",
                     sim_dataset_path(d), of_model->lo, of_model->hi);
    else if (of_model->hi > of_model->lo)
        sim_log_warn("%s: values %g to %g were scaled to 0 to 255, but %g to %g in the "
                     "training set, so its brightness differs; prepare it again with "
                     "--range %g:%g",
                     sim_dataset_path(d), own->lo, own->hi, of_model->lo, of_model->hi,
                     of_model->lo, of_model->hi);
    else
        sim_log_warn(
            "%s: values %g to %g were scaled to 0 to 255; the training set had 8 "
            "bits per sample, so its brightness may differ",
            sim_dataset_path(d), own->lo, own->hi);
}

sim_status sim_preprocessing_check(const sim_preprocessing *p, const sim_dataset *d)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(d);

    SIM_CHECK(
        about->c == p->c, SIM_E_DATA,
        "%s: images have %zu channel%s, but the model was trained on images of %zu; "
        "prepare a data set of such images",
        sim_dataset_path(d), about->c, about->c == 1 ? "" : "s", p->c);
    SIM_CHECK(about->type == p->type, SIM_E_DATA,
              "%s: samples are %s, but the model was trained on %s; prepare the images "
              "again with --type %s",
              sim_dataset_path(d), sim_type_name(about->type), sim_type_name(p->type),
              sim_type_name(p->type));
    if (p->type == SIM_U8)
        warn_of_range(&p->range, d);
done:
    return st;
}
