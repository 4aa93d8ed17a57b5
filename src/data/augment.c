/*
 * augment.c - the sequence of operations of a view and their random numbers.
 *
 * Each operation draws from its own range of (sample, epoch, view, operation).  So adding an
 * operation changes the draws of no other, and the thread or rank does not matter.
 */
#include "private.h"

#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_AUGMENT(name, id) &sim_augment_##name,
static const augment_row *const rows[] = {
#include "augments.def"
};
#undef SIM_AUGMENT
enum { N_ROWS = sizeof rows / sizeof rows[0] };

#define SIM_AUGMENT(name, id) "|" #name
static const char op_names[] =
#include "augments.def"
    ;
#undef SIM_AUGMENT

/* ---- presets ---- */

typedef struct {
    const char *name;
    const char *views[2]; /* operations and options; an empty second equals the first */
} preset;

#define SIM_PRESET(name, view1, view2) {name, {view1, view2}},
static const preset presets[] = {
#include "presets.def"
};
#undef SIM_PRESET

#define SIM_PRESET(name, view1, view2) "|" name
static const char preset_names[] =
#include "presets.def"
    ;
#undef SIM_PRESET

static sim_option_table item_tables[N_ROWS]; /* copied from the rows before main */

static const sim_option option_rows[] = {
    {"preset", SIM_OPTION_ENUM, offsetof(sim_augment_options, preset), 0, 0,
     "simclr-cifar", preset_names + 1, "", "preset of operations for both views",
     SIM_IDENTITY, NULL, NULL},
    {"size", SIM_OPTION_INT, offsetof(sim_augment_options, size), 0, 4096, "0", NULL,
     "pixels", "side of a view; 0: as stored, photos 224", SIM_IDENTITY, NULL, NULL},
    {"view1", SIM_OPTION_ITEMS, offsetof(sim_augment_options, view1), 0, 0, NULL,
     op_names + 1, "", "operations of view 1, and of view 2 if that has none",
     SIM_IDENTITY, item_tables, NULL},
    {"view2", SIM_OPTION_ITEMS, offsetof(sim_augment_options, view2), 0, 0, NULL,
     op_names + 1, "", "operations of view 2", SIM_IDENTITY, item_tables, NULL},
    {"small_views", SIM_OPTION_INT, offsetof(sim_augment_options, small_views), 0,
     SIM_MAX_SMALL_VIEWS, "0", NULL, "views", "small views of an image (multi-crop)",
     SIM_IDENTITY, NULL, NULL},
    {"small_size", SIM_OPTION_INT, offsetof(sim_augment_options, small_size), 0, 4096,
     "0", NULL, "pixels",
     "side of a small view; 0: 9/16 of a view up to 64 pixels, 3/7 of a larger one",
     SIM_IDENTITY, NULL, NULL},
    {"small", SIM_OPTION_ITEMS, offsetof(sim_augment_options, small), 0, 0, NULL,
     op_names + 1, "",
     "operations of a small view; default: those of view 1 with smaller crops",
     SIM_IDENTITY, item_tables, NULL},
};

const sim_option_table sim_augment_table = {.section = "augment",
                                            .rows = option_rows,
                                            .n_rows = sizeof option_rows /
                                                      sizeof option_rows[0],
                                            .struct_bytes = sizeof(sim_augment_options)};

/* Each file of an operation defines its table.  This runs before main. */
__attribute__((constructor)) static void fill_item_tables(void)
{
    for (int i = 0; i < N_ROWS; i++)
        item_tables[i] = rows[i]->table;
}

/* ---- resolved operations ---- */

typedef struct {
    const augment_row *row;
    uint32_t range; /* of its draws: id + 64 * number of earlier operations of this row */
    sim_option_item_storage options; /* the struct of row->table */
} operation;

typedef struct {
    size_t n;
    operation ops[SIM_OPTION_MAX_ITEMS];
    size_t h, w; /* of a view */
    size_t
        resize; /* without operations: shorter side before the crop; 0: just covers [h][w] */
} pipeline;

enum { VIEW_1, VIEW_2, SMALL_VIEW, N_PIPELINES };

struct sim_augment {
    pipeline views[N_PIPELINES];
    size_t c;      /* of a view */
    sim_type type; /* of the samples of images */
    sample_scale scale;
    /* Of the samples on the scale; inverse: 1 / deviation. */
    float mean[SIM_MAX_CHANNELS], deviation[SIM_MAX_CHANNELS], inverse[SIM_MAX_CHANNELS];
};

static const pipeline *pipeline_of(const sim_augment *a, uint32_t view_index)
{
    return &a->views[view_index >= SIM_SMALL_VIEW ? SMALL_VIEW : view_index % 2];
}

/* Parses a value into an operation's options, which are enums, integers or reals. */
static void set_value(const sim_option *row, const char *text, void *options)
{
    void *to = (char *)options + row->offset;
    if (row->type == SIM_OPTION_ENUM)
        *(int *)to = sim_choices_find(row->choices, text);
    else if (row->type == SIM_OPTION_INT)
        *(int64_t *)to = strtoll(text, NULL, 10);
    else
        *(double *)to = strtod(text, NULL);
}

static void set_defaults(const sim_option_table *t, void *options)
{
    for (size_t i = 0; i < t->n_rows; i++)
        set_value(&t->rows[i], t->rows[i].fallback, options);
}

/* The key whose name is text [n]; an unknown one is a bug. */
static const sim_option *find_key(const sim_option_table *t, const char *text, size_t n)
{
    size_t i = 0;
    while (i < t->n_rows &&
           (strlen(t->rows[i].name) != n || strncmp(t->rows[i].name, text, n) != 0))
        i++;
    SIM_ASSERT(i < t->n_rows);
    return &t->rows[i];
}

/* Parses "key=value" of a preset. */
static void set_pair(const sim_option_table *t, const char *text, void *options)
{
    const char *value = strchr(text, '=') + 1;
    set_value(find_key(t, text, (size_t)(value - text) - 1), value, options);
}

static operation *append_operation(pipeline *p, const augment_row *row)
{
    operation *o = &p->ops[p->n];
    uint32_t n_before = 0;
    for (size_t i = 0; i < p->n; i++)
        n_before += p->ops[i].row == row;
    o->row = row;
    o->range = (uint32_t)row->id + 64 * n_before;
    p->n++;
    return o;
}

static const augment_row *find_row(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    return NULL;
}

static void parse_preset(const preset *from, int view_index, pipeline *p)
{
    const char *text = from->views[from->views[1][0] ? view_index : 0];
    char word[64];
    int used = 0;
    operation *o = NULL;
    for (; sscanf(text, "%63s%n", word, &used) == 1; text += used) {
        if (strchr(word, '=')) {
            SIM_ASSERT(o);
            set_pair(&o->row->table, word, &o->options);
            continue;
        }
        o = append_operation(p, find_row(word));
        set_defaults(&o->row->table, &o->options);
    }
}

/* Options X_min and X_max are adjacent rows of a table, in this order. */
static sim_status check_ranges(const char *key, size_t item, const operation *o)
{
    sim_status st = SIM_OK;
    const sim_option_table *t = &o->row->table;

    for (size_t i = 0; i + 1 < t->n_rows; i++) {
        const char *name = t->rows[i].name, *end = strstr(name, "_min");
        if (!end)
            continue;
        double lo = *(const double *)((const char *)&o->options + t->rows[i].offset);
        double hi = *(const double *)((const char *)&o->options + t->rows[i + 1].offset);
        SIM_CHECK(lo <= hi, SIM_E_CONFIG, "%s.%zu: %s: %s is %g, which exceeds %s: %g",
                  key, item, t->section, name, lo, t->rows[i + 1].name, hi);
    }
done:
    return st;
}

static sim_status copy_items(const char *key, const sim_option_items *items, pipeline *p)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < items->n; i++) {
        operation *o = append_operation(p, rows[items->op[i]]);
        o->options = items->values[i];
        SIM_TRY(check_ranges(key, i, o));
    }
done:
    return st;
}

/* Constant channels are not scaled. */
static double usable_deviation(double std)
{
    return std > 1e-6 ? std : 1;
}

void sim_augment_normalize(sim_augment *a, const sim_preprocessing *p)
{
    for (size_t c = 0; c < a->c; c++) {
        const bool scaled = p->type != SIM_U8; /* else mean and std are on the scale */
        const double low = scaled ? p->scale[c].lo : 0;
        const double length = scaled ? p->scale[c].hi - p->scale[c].lo : 1;
        const double deviation = usable_deviation(p->std[c] / length);

        a->scale.low[c] = (float)low;
        a->scale.inverse[c] = (float)(1 / length);
        a->mean[c] = (float)((p->mean[c] - low) / length);
        a->deviation[c] = (float)deviation;
        a->inverse[c] = (float)(1 / deviation);
    }
}

sim_status sim_augment_visit(const sim_augment *a, const char *group,
                             const sim_visitor *v)
{
    sim_status st = SIM_OK;
    const struct {
        const char *name;
        const float *values;
    } parts[] = {{"mean", a->mean},
                 {"deviation", a->deviation},
                 {"inverse_deviation", a->inverse}};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const sim_tensor t = {.name = parts[i].name,
                              .type = SIM_F32,
                              .n_dims = 1,
                              .dims = {a->c},
                              .data = (void *)(uintptr_t)parts[i].values};
        SIM_TRY(v->visit(v->ctx, group, &t));
    }
done:
    return st;
}

sim_status sim_augment_create_plain(const sim_preprocessing *p, sim_augment **out)
{
    sim_status st = SIM_OK;
    sim_augment *a = NULL;

    SIM_TRY(sim_new(&a, "data/augment"));
    for (size_t i = VIEW_1; i <= VIEW_2; i++)
        a->views[i] = (pipeline){.h = p->h, .w = p->w, .resize = p->resize};
    a->c = p->c;
    a->type = p->type;
    sim_augment_normalize(a, p);
    *out = a;
done:
    return st;
}

/* Operations on the colours of RGB images, which do nothing to gray ones, have no meaning for other
 * channels. */
static sim_status check_channels(const sim_augment *a, const sim_augment_options *options)
{
    sim_status st = SIM_OK;
    const bool is_usual = a->c == 1 || a->c == 3;

    for (size_t v = 0; v < N_PIPELINES; v++)
        for (size_t i = 0; i < a->views[v].n; i++) {
            const augment_row *row = a->views[v].ops[i].row;
            SIM_CHECK(is_usual || !row->instead, SIM_E_CONFIG,
                      "augment: %s (of %s) needs images with 1 or 3 channels, these have "
                      "%zu; use %s, or augment.preset: multichannel",
                      row->name,
                      options->view1.given || v == SMALL_VIEW
                          ? "a list of operations"
                          : presets[options->preset].name,
                      a->c, row->instead);
        }
done:
    return st;
}

/* ---- small views ---- */

/* Areas of crops as fractions of an image, and the side of a small view as a fraction of the others'. */
typedef struct {
    size_t largest; /* view to which it applies */
    double small_min, small_max, large_min;
    size_t side, of;
} multi_crop;

/* The first row: facebookresearch/suncet for CIFAR-10, 18 of 32 pixels; the second: SwAV, 96 of 224. */
static const multi_crop multi_crops[] = {{64, 0.3, 0.75, 0.75, 9, 16},
                                         {SIZE_MAX, 0.05, 0.14, 0.14, 3, 7}};

static const multi_crop *multi_crop_of(const sim_preprocessing *p)
{
    const size_t side = p->h > p->w ? p->h : p->w;
    const multi_crop *m = multi_crops;
    while (side > m->largest)
        m++;
    return m;
}

static size_t small_side(const multi_crop *m, size_t side)
{
    return (m->side * side + m->of / 2) / m->of;
}

static void set_real(operation *o, const char *key, double value)
{
    const sim_option *row = find_key(&o->row->table, key, strlen(key));
    memcpy((char *)&o->options + row->offset, &value, sizeof value);
}

/* Sets the areas of the crops of a pipeline. */
static void set_crops(pipeline *p, double scale_min, double scale_max)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->ops[i].row == &sim_augment_crop) {
            set_real(&p->ops[i], "scale_min", scale_min);
            set_real(&p->ops[i], "scale_max", scale_max);
        }
}

static sim_status create_small(const sim_augment_options *options,
                               const sim_preprocessing *p, sim_augment *a)
{
    sim_status st = SIM_OK;
    const multi_crop *m = multi_crop_of(p);
    const size_t side = (size_t)options->small_size;
    pipeline *small = &a->views[SMALL_VIEW];

    SIM_CHECK(side <= p->h && side <= p->w, SIM_E_CONFIG,
              "augment.small_size: %zu exceeds the size of the other views, %zu x %zu",
              side, p->h, p->w);
    if (!options->small.given) {
        *small = a->views[VIEW_1];
        set_crops(small, m->small_min, m->small_max);
    }
    small->h = side ? side : small_side(m, p->h);
    small->w = side ? side : small_side(m, p->w);
    small->resize = 0;
    SIM_TRY(copy_items("augment.small", &options->small, small));
done:
    return st;
}

sim_status sim_augment_create(const sim_augment_options *options,
                              const sim_preprocessing *preprocessing, sim_augment **out)
{
    sim_status st = SIM_OK;
    sim_augment *a = NULL;

    SIM_TRY(sim_augment_create_plain(preprocessing, &a));
    for (int v = 0; v < 2; v++) {
        const sim_option_items *own = v ? &options->view2 : &options->view1;
        const sim_option_items *use = own->given ? own : &options->view1;
        if (use->given) {
            SIM_TRY(copy_items(use == own && v ? "augment.view2" : "augment.view1", use,
                               &a->views[v]));
            continue;
        }
        parse_preset(&presets[options->preset], v, &a->views[v]);
        if (options->small_views > 0)
            set_crops(&a->views[v], multi_crop_of(preprocessing)->large_min, 1);
    }
    if (options->small_views > 0)
        SIM_TRY(create_small(options, preprocessing, a));
    SIM_TRY(check_channels(a, options));
    *out = a;
    a = NULL;
done:
    sim_augment_destroy(&a);
    return st;
}

void sim_augment_destroy(sim_augment **a)
{
    sim_free(*a);
    *a = NULL;
}

void sim_augment_shape(const sim_augment *a, uint32_t view_index, size_t *h, size_t *w,
                       size_t *c)
{
    const pipeline *p = pipeline_of(a, view_index);
    *h = p->h;
    *w = p->w;
    *c = a->c;
}

sim_status sim_augment_text(const sim_augment *a, uint32_t view_index, char **text)
{
    char all[1024] = "", one[128];
    const pipeline *p = pipeline_of(a, view_index);
    for (size_t i = 0; i < p->n; i++) {
        p->ops[i].row->text(&p->ops[i].options, one, sizeof one);
        size_t used = strlen(all);
        (void)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", one);
    }
    return sim_text_format("data/augment", text, "%s", p->n ? all : "none");
}

/* ---- a view ---- */

/*
 * Resizes to the least size that covers the view, or as the preprocessing specifies, and crops the
 * centre, if no operation has resized: Resize and CenterCrop of torchvision,
 * sim_image_resize_short of `prepare --size`.
 */
static void resize_to_view(const pipeline *p, view *v)
{
    const size_t side = p->n == 0 ? p->resize : 0;
    size_t rh = 0, rw = 0;

    if (side == 0 && v->h == p->h && v->w == p->w)
        return;
    sim_resize_cover(v->h, v->w, side ? side : p->h, side ? side : p->w, &rh, &rw);
    view_resize(v, (box){0, 0, v->h, v->w}, rh, rw,
                (box){sim_centred(rh, p->h), sim_centred(rw, p->w), p->h, p->w},
                RESIZE_BILINEAR);
}

/* Whether the pipelines need an image as floats, before it has the size of a view. */
static bool converts_image(const sim_augment *a)
{
    for (size_t i = 0; i < N_PIPELINES; i++)
        if (a->views[i].n > 0 && !a->views[i].ops[0].row->takes_image)
            return true;
    return false;
}

/* How the scratch is divided for an image. */
typedef struct {
    size_t floats;     /* of `pixels` and `spare` of a view, each */
    size_t work_bytes; /* of its `work`; multiples of 64, so that planes are aligned */
} scratch_sizes;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Operations receive the image, or a view that is not larger than the output. */
static scratch_sizes size_scratch(const sim_augment *a, size_t h, size_t w, size_t c)
{
    size_t floats = 0, work = 0;

    for (const pipeline *p = a->views; p < a->views + N_PIPELINES && p->h > 0; p++) {
        floats = larger(floats, p->h * p->w * c);
        work = larger(work, sim_resize_work_bytes(h, w, p->h, p->w, c));
        work = larger(work, sim_resize_work_bytes(p->h, p->w, p->h, p->w, c));
        work = larger(work, sim_blur_work_bytes(p->h, p->w));
    }
    if (converts_image(a)) {
        floats = larger(floats, h * w * c);
        work = larger(work, sim_blur_work_bytes(h, w));
    }
    return (scratch_sizes){(floats + 15) / 16 * 16, (work + 63) / 64 * 64};
}

static size_t scratch_bytes(const scratch_sizes *s)
{
    return s->work_bytes + 2 * s->floats * sizeof(float);
}

size_t sim_augment_scratch(const sim_augment *a, size_t h, size_t w, size_t c)
{
    const scratch_sizes s = size_scratch(a, h, w, c);
    return scratch_bytes(&s);
}

/* Converts the pixels of an image to planes. */
static void convert_image(view *v)
{
    const size_t n = v->h * v->w;
    sim_image_to_floats(v->image, v->scale, 0, n, v->spare);
    sim_pixels_transpose(n, v->c, v->spare, v->c, v->pixels, n);
    v->image = NULL;
}

static void apply_operation(const operation *o, view *v)
{
    if (v->image && !o->row->takes_image)
        convert_image(v);
    o->row->apply(&o->options, v);
}

sim_status sim_augment_view(const sim_augment *a, uint32_t seed, uint32_t sample,
                            uint32_t epoch, uint32_t view_index, const sim_image *image,
                            float *out)
{
    const pipeline *p = pipeline_of(a, view_index);
    const scratch_sizes sizes = size_scratch(a, image->h, image->w, image->c);
    char *scratch = sim_scratch(scratch_bytes(&sizes));
    float *planes = (float *)(void *)(scratch + sizes.work_bytes);
    view v = {.h = image->h,
              .w = image->w,
              .c = image->c,
              .image = image,
              .scale = &a->scale,
              .pixels = planes,
              .spare = planes + sizes.floats,
              .work = scratch,
              .out_h = p->h,
              .out_w = p->w,
              .mean = a->mean,
              .deviation = a->deviation};

    for (size_t i = 0; i < p->n; i++) {
        v.draw = (sim_random){.seed = seed,
                              .purpose = SIM_RANDOM_AUGMENT,
                              .sample = sample,
                              .epoch = epoch,
                              .view_op = view_index << 16 | p->ops[i].range};
        apply_operation(&p->ops[i], &v);
    }
    resize_to_view(p, &v);
    if (v.image)
        convert_image(&v);
    sim_pixels_normalize(v.h * v.w, v.c, v.pixels, a->mean, a->inverse, out);
    return SIM_OK;
}

/* The channel that is drawn as red, green or blue; gray has one, and two are drawn as red and green. */
static size_t shown_channel(size_t c, size_t colour)
{
    return colour < c ? colour : c == 2 ? 2 : 0;
}

/* The brightness of a normalized value: samples of 8 bits as they are, others within 2 deviations of
 * the mean, because their scale may be much wider. */
static float shown_value(const sim_augment *a, float value, size_t c)
{
    return a->type == SIM_U8 ? value * a->deviation[c] + a->mean[c] : value / 4 + 0.5f;
}

void sim_augment_show(const sim_augment *a, uint32_t view_index, const float *values,
                      uint8_t *out)
{
    const pipeline *p = pipeline_of(a, view_index);

    for (size_t i = 0; i < p->h * p->w; i++)
        for (size_t colour = 0; colour < 3; colour++) {
            const size_t c = shown_channel(a->c, colour);
            out[3 * i + colour] =
                c < a->c ? view_byte(shown_value(a, values[i * a->c + c], c)) : 0;
        }
}
