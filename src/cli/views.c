/*
 * views.c - a picture of augmented views, for `simile plan --preview` and the observers of a run.
 *
 * In: a job and its training set.  Out: a PNG file with one row per image.  A small view is centred in
 * a cell of the size of the others.
 */
#include "cli.h"

#include "simile/memory.h"
#include "simile/report.h"

#include <string.h>

/* SMALL: shown of an image, at most. */
enum {
    IMAGES = 8,
    ORIGINAL_AND_VIEWS = 5,
    SMALL = 8,
    COLUMNS = ORIGINAL_AND_VIEWS + SMALL
};
enum { WHITE = 255 };

typedef struct {
    const sim_job *job;
    const sim_dataset *data;
    sim_augment *augment, *plain; /* plain: the original */
    sim_groups groups;            /* zeros unless views are of images of a group */
    size_t h, w, picture_bytes;   /* of a cell */
    size_t n_small, columns;
    float *view;     /* workspace */
    uint8_t *pixels; /* workspace */
} drawing;

/* The image that a view of a sample shows. */
static uint32_t image_of_view(const drawing *d, uint32_t sample, uint32_t epoch,
                              uint32_t view)
{
    const sim_train_options *o = &d->job->train;
    return o->views_from == SIM_VIEWS_FROM_GROUP
               ? sim_groups_partner(&d->groups, (uint32_t)o->seed, sample, epoch, view)
               : sample;
}

/* Draws view `number` of an epoch in the middle of a cell. */
static sim_status draw_view(const drawing *d, uint32_t i, uint32_t epoch, uint32_t number,
                            sim_image *image, uint8_t *cell)
{
    sim_status st = SIM_OK;
    size_t h = 0, w = 0, c = 0;

    SIM_TRY(sim_dataset_read(d->data, image_of_view(d, i, epoch, number), image));
    SIM_TRY(sim_augment_view(d->augment, (uint32_t)d->job->train.seed, i, epoch, number,
                             image, d->view));
    sim_augment_show(d->augment, number, d->view, d->pixels);
    sim_augment_shape(d->augment, number, &h, &w, &c);
    memset(cell, WHITE, d->picture_bytes);
    cell += ((d->h - h) / 2 * d->w + (d->w - w) / 2) * 3;
    for (size_t y = 0; y < h; y++)
        memcpy(cell + y * d->w * 3, d->pixels + y * w * 3, w * 3);
done:
    return st;
}

/* One row: the original, then both views of two epochs, and the small views of the first. */
static sim_status draw_row(const drawing *d, uint32_t i, uint8_t *cells)
{
    sim_status st = SIM_OK;
    sim_image image = {0};

    SIM_TRY(sim_dataset_read(d->data, i, &image));
    SIM_TRY(sim_augment_view(d->plain, 0, i, 0, 0, &image, d->view));
    sim_augment_show(d->plain, 0, d->view, cells);
    for (uint32_t k = 1; k < ORIGINAL_AND_VIEWS; k++)
        SIM_TRY(draw_view(d, i, (k - 1) / 2, (k - 1) % 2, &image,
                          cells + k * d->picture_bytes));
    for (uint32_t k = 0; k < d->n_small; k++)
        SIM_TRY(draw_view(d, i, 0, SIM_SMALL_VIEW + k, &image,
                          cells + (ORIGINAL_AND_VIEWS + k) * d->picture_bytes));
done:
    sim_free(image.pixels);
    return st;
}

sim_status sim_cli_draw_views(const sim_job *job, const sim_dataset *data, uint8_t **png,
                              sim_picture *out)
{
    sim_status st = SIM_OK;
    const size_t n = sim_dataset_about(data)->n_images, rows = n < IMAGES ? n : IMAGES;
    const sim_preprocessing p =
        sim_preprocessing_of((size_t)job->augment.size, sim_dataset_about(data));
    const size_t n_small = (size_t)job->augment.small_views;
    drawing d = {.job = job,
                 .data = data,
                 .h = p.h,
                 .w = p.w,
                 .picture_bytes = p.h * p.w * 3,
                 .n_small = n_small < SMALL ? n_small : SMALL};
    const uint8_t *cells[IMAGES * COLUMNS];
    uint8_t *pixels = NULL;

    d.columns = ORIGINAL_AND_VIEWS + d.n_small;
    if (job->train.views_from == SIM_VIEWS_FROM_GROUP)
        SIM_TRY(sim_groups_create(data, &d.groups));
    SIM_TRY(sim_augment_create(&job->augment, &p, &d.augment));
    SIM_TRY(sim_augment_create_plain(&p, &d.plain));
    SIM_TRY(sim_alloc(&pixels, rows * d.columns * d.picture_bytes, "cli/views"));
    SIM_TRY(sim_alloc(&d.pixels, d.picture_bytes, "cli/views"));
    SIM_TRY(sim_alloc(&d.view, p.h * p.w * p.c, "cli/views"));
    for (uint32_t i = 0; i < rows; i++)
        SIM_TRY(draw_row(&d, i, pixels + i * d.columns * d.picture_bytes));
    for (size_t i = 0; i < rows * d.columns; i++)
        cells[i] = pixels + i * d.picture_bytes;
    const sim_grid grid = {.rows = rows,
                           .columns = d.columns,
                           .h = p.h,
                           .w = p.w,
                           .c = 3,
                           .zoom = p.h < 48 ? 3 : 1,
                           .gap = 4,
                           .cells = cells};
    *out = (sim_picture){.name = "views"};
    SIM_TRY(sim_grid_encode(&grid, png, &out->n_bytes, &out->w, &out->h));
    out->png = *png;
done:
    sim_groups_destroy(&d.groups);
    sim_augment_destroy(&d.augment);
    sim_augment_destroy(&d.plain);
    sim_free(pixels);
    sim_free(d.pixels);
    sim_free(d.view);
    return st;
}
