/*
 * thumbnail.c - images of a data set as small pictures.
 */
#include "simile/data.h"

#include "simile/memory.h"

sim_status sim_thumbnails_create(const sim_preprocessing *p, size_t most,
                                 sim_thumbnails *out)
{
    sim_status st = SIM_OK;
    sim_preprocessing small = *p;

    if (p->h > most || p->w > most)
        small.h = small.w = most;
    *out = (sim_thumbnails){.h = small.h, .w = small.w, .bytes = small.h * small.w * 3};
    SIM_TRY(sim_augment_create_plain(&small, &out->plain));
    SIM_TRY(sim_alloc(&out->view, small.h * small.w * small.c, "cli/thumbnails"));
done:
    return st;
}

void sim_thumbnails_destroy(sim_thumbnails *t)
{
    sim_augment_destroy(&t->plain);
    SIM_FREE(t->view);
}

sim_status sim_thumbnails_draw_image(const sim_thumbnails *t, const sim_image *image,
                                     uint8_t *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_augment_view(t->plain, 0, 0, 0, 0, image, t->view));
    sim_augment_show(t->plain, 0, t->view, out);
done:
    return st;
}

sim_status sim_thumbnails_draw(const sim_thumbnails *t, const sim_dataset *d, size_t i,
                               uint8_t *out)
{
    sim_status st = SIM_OK;
    sim_image image = {0};

    SIM_TRY(sim_dataset_read(d, i, &image));
    SIM_TRY(sim_thumbnails_draw_image(t, &image, out));
done:
    sim_free(image.pixels);
    return st;
}
