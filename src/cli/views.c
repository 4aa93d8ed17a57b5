/*
 * views.c - a picture of augmented views, for `simile plan --preview` and the observers of a run.
 *
 * In: a job and its training set.  Out: a PNG file with one row per image.
 */
#include "cli.h"

#include "simile/memory.h"
#include "simile/report.h"

enum { IMAGES = 8, COLUMNS = 5 };

typedef struct {
    const sim_job *job;
    const sim_dataset *data;
    sim_augment *augment, *plain; /* plain: the original */
    sim_groups groups;            /* zeros unless views are of images of a group */
    size_t picture_bytes;
    float *view; /* workspace */
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

/* One row: the original, then both views of two epochs. */
static sim_status draw_row(const drawing *d, uint32_t i, uint8_t *cells)
{
    sim_status st = SIM_OK;
    sim_image image = {0};
    const uint32_t seed = (uint32_t)d->job->train.seed;

    SIM_TRY(sim_dataset_read(d->data, i, &image));
    SIM_TRY(sim_augment_view(d->plain, seed, i, 0, 0, &image, d->view));
    sim_augment_show(d->plain, d->view, cells);
    for (uint32_t k = 1; k < COLUMNS; k++) {
        const uint32_t epoch = (k - 1) / 2, view = (k - 1) % 2;
        SIM_TRY(sim_dataset_read(d->data, image_of_view(d, i, epoch, view), &image));
        SIM_TRY(sim_augment_view(d->augment, seed, i, epoch, view, &image, d->view));
        sim_augment_show(d->augment, d->view, cells + k * d->picture_bytes);
    }
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
    drawing d = {.job = job, .data = data, .picture_bytes = p.h * p.w * 3};
    const uint8_t *cells[IMAGES * COLUMNS];
    uint8_t *pixels = NULL;

    if (job->train.views_from == SIM_VIEWS_FROM_GROUP)
        SIM_TRY(sim_groups_create(data, &d.groups));
    SIM_TRY(sim_augment_create(&job->augment, &p, &d.augment));
    SIM_TRY(sim_augment_create_plain(&p, &d.plain));
    SIM_TRY(sim_alloc(&pixels, rows * COLUMNS * d.picture_bytes, "cli/views"));
    SIM_TRY(sim_alloc(&d.view, p.h * p.w * p.c, "cli/views"));
    for (uint32_t i = 0; i < rows; i++)
        SIM_TRY(draw_row(&d, i, pixels + i * COLUMNS * d.picture_bytes));
    for (size_t i = 0; i < rows * COLUMNS; i++)
        cells[i] = pixels + i * d.picture_bytes;
    const sim_grid grid = {.rows = rows,
                           .columns = COLUMNS,
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
    sim_free(d.view);
    return st;
}
