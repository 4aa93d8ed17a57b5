/*
 * report_images.c - what the encoder of a run makes of some images: nearest neighbours and a map.
 *
 * In: the newest checkpoint of a run, and its test or training set.  Out: a picture and a scatter plot.
 */
#include "report.h"

#include "simile/import.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    QUERIES = 12,
    NEIGHBOURS = 8,
    CELL = 48,
    COLUMNS = 25,
    QUALITY = 80,
    LEAST_IMAGES = 3,
    MOST_CLUSTERS = 8
};
static const double perplexity = 30;

/* The evenly spaced images of a data set that are shown. */
typedef struct {
    sim_checkpoint *checkpoint;
    sim_job *job;
    sim_dataset *data;
    sim_embedder embedder;
    sim_thumbnails thumbnails;
    size_t n, dim;
    float *features; /* [n][dim] */
    uint8_t *cells;  /* [n][thumbnails.bytes] */
} image_sample;

static const sim_comm alone = {.rank = 0, .size = 1};

/* ---- the sample ---- */

static sim_status open_sample(const report_run *r, image_sample *s)
{
    sim_status st = SIM_OK;
    sim_evaluate_options unused;
    sim_preprocessing p;

    SIM_TRY(sim_import_open(&alone, r->path, &s->checkpoint));
    SIM_TRY(sim_new(&s->job, "cli/report"));
    SIM_TRY(sim_cli_job_of_checkpoint(sim_checkpoint_head_of(s->checkpoint)->config,
                                      sim_checkpoint_path(s->checkpoint), s->job,
                                      &unused));
    SIM_TRY(sim_kernels_pick(s->job->train.kernels));
    SIM_TRY(s->job->train.test[0] ? sim_job_open_test(s->job, &s->data)
                                  : sim_job_open_train(s->job, &s->data));
    SIM_TRY(sim_preprocessing_open(s->checkpoint, s->job,
                                   (const sim_dataset *[]){s->data}, 1, &p));
    SIM_TRY(sim_preprocessing_check(&p, s->data));
    SIM_TRY(
        sim_embedder_open(s->checkpoint, s->job, &p, SIM_EMBED_BACKBONE, &s->embedder));
    s->dim = sim_net_dim(s->embedder.backbone);
    SIM_TRY(sim_thumbnails_create(&p, CELL, &s->thumbnails));
done:
    return st;
}

static size_t image_of(const image_sample *s, size_t i)
{
    return sim_sample_image(sim_dataset_about(s->data)->n_images, s->n, i);
}

static sim_status compute_sample(image_sample *s, size_t n_images)
{
    sim_status st = SIM_OK;
    const size_t n = sim_dataset_about(s->data)->n_images;
    sim_embed_choice choice = {.n_images = n_images < n ? n_images : n};

    s->n = choice.n_images;
    SIM_TRY(
        sim_embed_chosen(&alone, &s->embedder, s->data, &choice, 1, &s->features, NULL));
    SIM_TRY(sim_alloc(&s->cells, s->n * s->thumbnails.bytes, "cli/report"));
    for (size_t i = 0; i < s->n; i++)
        SIM_TRY(sim_thumbnails_draw(&s->thumbnails, s->data, image_of(s, i),
                                    s->cells + i * s->thumbnails.bytes));
done:
    return st;
}

static void close_sample(image_sample *s)
{
    sim_embedder_close(&s->embedder);
    sim_dataset_close(&s->data);
    sim_checkpoint_close(&s->checkpoint);
    sim_thumbnails_destroy(&s->thumbnails);
    sim_free(s->job);
    sim_free(s->features);
    sim_free(s->cells);
}

/* ---- neighbours ---- */

static sim_status draw_neighbours(const image_sample *s, report_images *out)
{
    return sim_neighbours_draw(s->n, s->dim, s->features, &s->thumbnails, s->cells,
                               &out->png, &out->neighbours);
}

/* ---- the map ---- */

/* All thumbnails in one picture, each centred in a square cell. */
static sim_status draw_sprite(const image_sample *s, size_t cell, report_images *out)
{
    sim_status st = SIM_OK;
    const sim_thumbnails *p = &s->thumbnails;
    const size_t rows = (s->n + COLUMNS - 1) / COLUMNS;
    sim_image sheet = {.h = rows * cell, .w = COLUMNS * cell, .c = 3, .type = SIM_U8};
    uint8_t *pixels = NULL;

    SIM_TRY(sim_alloc(&pixels, sheet.h * sheet.w * 3, "cli/report"));
    sheet.pixels = pixels;
    for (size_t i = 0; i < s->n; i++)
        for (size_t y = 0; y < p->h; y++)
            for (size_t x = 0; x < p->w; x++) {
                const uint8_t *from =
                    s->cells + i * s->thumbnails.bytes + (y * p->w + x) * 3;
                const size_t row = i / COLUMNS * cell + (cell - p->h) / 2 + y,
                             column = i % COLUMNS * cell + (cell - p->w) / 2 + x;
                memcpy(pixels + (row * sheet.w + column) * 3, from, 3);
            }
    SIM_TRY(sim_image_encode_jpeg(&sheet, QUALITY, &out->jpeg, &out->n_jpeg));
done:
    sim_free(pixels);
    return st;
}

typedef struct {
    char **labels;      /* [n] owned */
    const char **names; /* [classes], borrowed or in `numbers` */
    char (*numbers)[32];
    size_t n_classes;
} map_texts;

static const char *class_of(const image_sample *s, const map_texts *t, size_t i)
{
    const int32_t *labels = sim_dataset_labels(s->data);
    return labels ? t->names[labels[image_of(s, i)]] : "";
}

static sim_status write_texts(const image_sample *s, map_texts *t)
{
    sim_status st = SIM_OK;
    char *names = NULL;
    size_t width = 0;

    t->n_classes =
        sim_dataset_labels(s->data) ? sim_dataset_about(s->data)->n_classes : 0;
    SIM_TRY(sim_dataset_read_names(s->data, &width, &names));
    SIM_TRY(sim_alloc(&t->labels, s->n, "cli/report"));
    SIM_TRY(sim_alloc(&t->names, t->n_classes + MOST_CLUSTERS, "cli/report"));
    SIM_TRY(sim_alloc(&t->numbers, t->n_classes + MOST_CLUSTERS, "cli/report"));
    for (size_t k = 0; k < t->n_classes; k++) {
        (void)snprintf(t->numbers[k], sizeof t->numbers[k], "%zu", k);
        t->names[k] = sim_dataset_class_name(s->data, k);
        t->names[k] = t->names[k] ? t->names[k] : t->numbers[k];
    }
    for (size_t i = 0; i < s->n; i++) {
        const char *name = names ? names + image_of(s, i) * width : "",
                   *class = class_of(s, t, i);
        SIM_TRY(sim_text_format("cli/report", &t->labels[i], "%s%s%zu %.*s", class,
                                *class ? ", " : "", image_of(s, i),
                                (int)strnlen(name, names ? width : 0), name));
    }
done:
    sim_free(names);
    return st;
}

static void clear_texts(const image_sample *s, map_texts *t)
{
    for (size_t i = 0; t->labels && i < s->n; i++)
        sim_free(t->labels[i]);
    sim_free(t->labels);
    sim_free(t->names);
    sim_free(t->numbers);
}

/* Colors of the points: classes, or clusters where there are no labels. */
static sim_status color_points(const image_sample *s, const float *unit, map_texts *t,
                               int32_t *groups)
{
    sim_status st = SIM_OK;
    const int32_t *labels = sim_dataset_labels(s->data);

    for (size_t i = 0; labels && i < s->n; i++)
        groups[i] = labels[image_of(s, i)];
    if (labels)
        goto done;
    SIM_TRY(sim_map_clusters(s->n, s->dim, unit, MOST_CLUSTERS, groups));
    t->n_classes = s->n < MOST_CLUSTERS ? s->n : MOST_CLUSTERS;
    for (size_t k = 0; k < t->n_classes; k++) {
        (void)snprintf(t->numbers[k], sizeof t->numbers[k], "cluster %zu", k + 1);
        t->names[k] = t->numbers[k];
    }
done:
    return st;
}

static sim_status draw_plot(const image_sample *s, const map_texts *t, const char *title,
                            const double *at, const int32_t *groups, char **out)
{
    enum { MOST_COLORED = 32 };
    const size_t h = s->thumbnails.h, w = s->thumbnails.w;
    const bool colored = t->n_classes <= MOST_COLORED;
    const sim_scatter plot = {.title = title,
                              .n = s->n,
                              .at = at,
                              .groups = colored ? groups : NULL,
                              .n_groups = colored ? t->n_classes : 0,
                              .group_names = t->names,
                              .labels = (const char *const *)t->labels,
                              .columns = COLUMNS,
                              .cell = h > w ? h : w};
    return sim_scatter_svg(&plot, out);
}

static sim_status draw_map(const image_sample *s, report_images *out)
{
    sim_status st = SIM_OK;
    const size_t h = s->thumbnails.h, w = s->thumbnails.w;
    float *unit = NULL, *norms = NULL;
    double *at = NULL;
    int32_t *groups = NULL;
    char *neighbour_map = NULL, *linear_map = NULL;
    map_texts t = {.n_classes = 0};

    SIM_TRY(sim_alloc(&unit, s->n * s->dim, "cli/report"));
    SIM_TRY(sim_alloc(&norms, s->n, "cli/report"));
    SIM_TRY(sim_alloc(&at, 2 * s->n, "cli/report"));
    SIM_TRY(sim_alloc(&groups, s->n, "cli/report"));
    SIM_TRY(write_texts(s, &t));
    sim_unit_rows(s->n, s->dim, s->features, unit, norms);
    SIM_TRY(color_points(s, unit, &t, groups));
    SIM_TRY(sim_map_tsne(s->n, s->dim, unit, perplexity, at));
    SIM_TRY(draw_plot(s, &t, "t-SNE of the features", at, groups, &neighbour_map));
    SIM_TRY(sim_map_pca(s->n, s->dim, unit, at));
    SIM_TRY(draw_plot(s, &t, "principal components of the features", at, groups,
                      &linear_map));
    SIM_TRY(sim_text_format("cli/report", &out->map, "%s%s", neighbour_map, linear_map));
    SIM_TRY(draw_sprite(s, h > w ? h : w, out));
done:
    clear_texts(s, &t);
    sim_free(unit);
    sim_free(norms);
    sim_free(at);
    sim_free(groups);
    sim_free(neighbour_map);
    sim_free(linear_map);
    return st;
}

/* ---- */

static sim_status draw_images(const report_run *r, size_t n_images, report_images *out)
{
    sim_status st = SIM_OK;
    image_sample s = {.n = 0};

    SIM_TRY(open_sample(r, &s));
    SIM_TRY(compute_sample(&s, n_images));
    SIM_CHECK(s.n >= LEAST_IMAGES, SIM_E_DATA, "%s has %zu images",
              sim_dataset_path(s.data), s.n);
    SIM_TRY(draw_neighbours(&s, out));
    SIM_TRY(draw_map(&s, out));
    SIM_TRY(sim_text_format("cli/report", &out->about, "%zu images of %s, step %lld", s.n,
                            sim_dataset_path(s.data),
                            (long long)sim_checkpoint_head_of(s.checkpoint)->step));
done:
    close_sample(&s);
    return st;
}

void sim_report_images(const report_run *r, size_t n_images, report_images *out)
{
    *out = (report_images){.png = NULL};
    if (n_images == 0 || draw_images(r, n_images, out) == SIM_OK)
        return;
    sim_log("%s: no neighbours and no map: %s", r->path, sim_error_message());
    sim_error_clear();
    sim_report_images_clear(out);
}

void sim_report_images_clear(report_images *i)
{
    sim_free(i->png);
    sim_free(i->jpeg);
    sim_free(i->map);
    sim_free(i->about);
    *i = (report_images){.png = NULL};
}
