/*
 * content.c - what is exported: the tensors of the networks, and a sample with its features.
 *
 * In: a checkpoint with its job and preprocessing.  Out: a sim_export, from which a format writes
 * its files.
 */
#include "private.h"

#include "simile/memory.h"
#include "simile/random.h"

#include <stdio.h>
#include <string.h>

enum {
    COARSE = 4
}; /* pixels; side of the squares of one colour in the images of the sample */

/* ---- networks ---- */

static sim_status list_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    sim_export *e = ctx;

    if (e->n_tensors == e->capacity) {
        e->capacity = e->capacity ? 2 * e->capacity : 128;
        SIM_TRY(sim_grow(&e->tensors, e->capacity, "export/tensors"));
    }
    export_tensor *x = &e->tensors[e->n_tensors];
    *x = (export_tensor){.group = group, .tensor = *t};
    SIM_TRY(sim_text_copy(t->name, "export/tensors", &x->name));
    x->tensor.name = x->name;
    e->n_tensors++;
done:
    return st;
}

static sim_status list_tensors(sim_export *e)
{
    sim_status st = SIM_OK;
    const sim_visitor v = {list_tensor, e};

    SIM_TRY(sim_net_visit(e->embedder.backbone, sim_model_group(SIM_BACKBONE), &v));
    if (e->embedder.projector)
        SIM_TRY(sim_net_visit(e->embedder.projector, sim_model_group(SIM_PROJECTOR), &v));
done:
    return st;
}

static sim_status find_momentum(void *ctx, const sim_stored_tensor *t)
{
    static const char prefix[] = SIM_MOMENTUM_WEIGHTS "/encoder/";
    if (strncmp(t->name, prefix, sizeof prefix - 1) == 0)
        *(bool *)ctx = true;
    return SIM_OK;
}

static sim_status check_momentum(const sim_checkpoint *k, const sim_job *job)
{
    sim_status st = SIM_OK;
    bool found = false;

    SIM_TRY(sim_checkpoint_visit(k, find_momentum, &found));
    SIM_CHECK(found, SIM_E_USAGE,
              "--momentum: %s has no momentum encoder, because its method is %s",
              sim_checkpoint_path(k), job->method->name);
done:
    return st;
}

static sim_status open_networks(const sim_checkpoint *k, const sim_job *job,
                                const sim_preprocessing *p,
                                const sim_export_options *options, sim_export *e)
{
    sim_status st = SIM_OK;
    unsigned nets = (options->projector ? SIM_EMBED_PROJECTOR : 0U) |
                    (options->momentum ? SIM_EMBED_MOMENTUM : 0U);

    if (options->momentum)
        SIM_TRY(check_momentum(k, job));
    SIM_TRY(sim_embedder_open(k, job, p, nets, &e->embedder));
    SIM_CHECK(!options->projector || e->embedder.projector, SIM_E_USAGE,
              "--projector: %s has no projector, because its method is %s",
              sim_checkpoint_path(k), job->method->name);
done:
    return st;
}

/* ---- the sample ---- */

/* Four random bytes of a pixel or of a square of an image. */
static sim_random position(size_t image, size_t y, size_t x, uint32_t kind)
{
    return (sim_random){.purpose = SIM_RANDOM_EXPORT,
                        .sample = (uint32_t)image,
                        .epoch = (uint32_t)(y << 16 | x),
                        .view_op = kind};
}

/* Sample `at` of an image: a value of 0 to 255 on the scale of its channel. */
static void set_sample(const sim_value_range *scale, unsigned value, size_t at,
                       sim_image *image)
{
    const double v = scale->lo + (scale->hi - scale->lo) * value / 255;

    if (image->type == SIM_U8)
        ((uint8_t *)image->pixels)[at] = (uint8_t)value;
    else if (image->type == SIM_U16)
        ((uint16_t *)image->pixels)[at] = (uint16_t)v;
    else
        ((float *)image->pixels)[at] = (float)v;
}

/* Random squares and random pixels in equal parts. */
static void draw_pixel(const sim_preprocessing *p, size_t number, size_t y, size_t x,
                       sim_image *image)
{
    uint32_t square[4], pixel[4];

    for (size_t k = 0; k < image->c; k++) {
        if (k % 4 == 0) {
            const uint32_t kind = (uint32_t)(k / 4 * 2);
            sim_random of_square = position(number, y / COARSE, x / COARSE, kind),
                       of_pixel = position(number, y, x, kind + 1);
            sim_random_words(&of_square, square);
            sim_random_words(&of_pixel, pixel);
        }
        set_sample(&p->scale[k], (square[k % 4] >> 24) / 2 + (pixel[k % 4] >> 24) / 2,
                   (y * image->w + x) * image->c + k, image);
    }
}

static sim_status draw_image(const sim_preprocessing *p, size_t number, size_t h,
                             size_t w, sim_image *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_alloc_bytes(h * w * p->c, sim_type_bytes(p->type), "export/sample",
                            &out->pixels));
    out->h = h;
    out->w = w;
    out->c = p->c;
    out->type = p->type;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            draw_pixel(p, number, y, x, out);
done:
    return st;
}

static sim_status draw_images(const sim_preprocessing *p, sim_image *out)
{
    sim_status st = SIM_OK;
    const size_t h = p->h, w = p->w;
    const size_t sizes[SAMPLE_IMAGES][2] = {{h, w},
                                            {h + h / 2 + 1, w + w / 4},
                                            {h + h / 3, 2 * w + 3},
                                            {2 * h / 3 + 1, w * 3 / 4 + 1}};

    for (size_t i = 0; i < SAMPLE_IMAGES; i++)
        SIM_TRY(draw_image(p, i, sizes[i][0], sizes[i][1], &out[i]));
done:
    return st;
}

static sim_status compute_sample(sim_export *e)
{
    sim_status st = SIM_OK;
    const sim_embedder *m = &e->embedder;

    SIM_TRY(draw_images(&m->preprocessing, e->images));
    SIM_TRY(sim_alloc(&e->features, SAMPLE_IMAGES * sim_net_dim(m->backbone),
                      "export/sample"));
    if (m->projector)
        SIM_TRY(sim_alloc(&e->projections, SAMPLE_IMAGES * sim_net_dim(m->projector),
                          "export/sample"));
    SIM_TRY(sim_embed_images(m, SAMPLE_IMAGES, e->images, e->features, e->projections));
done:
    return st;
}

size_t sim_export_sample(const sim_export *e, sim_tensor out[SAMPLE_TENSORS])
{
    static const char *const names[SAMPLE_IMAGES] = {"image0", "image1", "image2",
                                                     "image3"};
    const sim_embedder *m = &e->embedder;
    size_t n = 0;

    for (; n < SAMPLE_IMAGES; n++)
        out[n] = (sim_tensor){.name = names[n],
                              .type = e->images[n].type,
                              .n_dims = 3,
                              .dims = {e->images[n].h, e->images[n].w, e->images[n].c},
                              .data = e->images[n].pixels};
    out[n++] = (sim_tensor){.name = "features",
                            .type = SIM_F32,
                            .n_dims = 2,
                            .dims = {SAMPLE_IMAGES, sim_net_dim(m->backbone)},
                            .data = e->features};
    if (e->projections)
        out[n++] = (sim_tensor){.name = "projections",
                                .type = SIM_F32,
                                .n_dims = 2,
                                .dims = {SAMPLE_IMAGES, sim_net_dim(m->projector)},
                                .data = e->projections};
    return n;
}

/* ---- the whole ---- */

sim_status sim_export_create(const sim_checkpoint *k, const sim_job *job,
                             const sim_preprocessing *p,
                             const sim_export_options *options, sim_export **out)
{
    sim_status st = SIM_OK;
    sim_export *e = NULL;

    SIM_TRY(sim_new(&e, "export/content"));
    e->format = options->format;
    e->batch = options->batch;
    e->fold_batchnorm = options->fold_batchnorm;
    e->created_by = options->created_by;
    SIM_TRY(open_networks(k, job, p, options, e));
    SIM_TRY(list_tensors(e));
    SIM_TRY(compute_sample(e));
    SIM_TRY(sim_export_describe(k, job, options, e, &e->metadata));
    *out = e;
    e = NULL;
done:
    sim_export_destroy(&e);
    return st;
}

void sim_export_destroy(sim_export **export)
{
    sim_export *e = *export;

    *export = NULL;
    if (!e)
        return;
    for (size_t i = 0; i < e->n_tensors; i++)
        sim_free(e->tensors[i].name);
    for (size_t i = 0; i < SAMPLE_IMAGES; i++)
        sim_free(e->images[i].pixels);
    sim_free(e->tensors);
    sim_free(e->features);
    sim_free(e->projections);
    sim_free(e->metadata);
    sim_embedder_close(&e->embedder);
    sim_free(e);
}
