/*
 * groups.c - the images of every group, and the partner of an image that is drawn for a view.
 *
 * A partner is a pure function of (seed, epoch, image, view): it depends on no rank or thread.
 */
#include "simile/data.h"

#include "simile/memory.h"
#include "simile/random.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP_BUFFERS = 2 };

/* The arrays, listed once for allocation, accounting and release. */
static void list_buffers(sim_groups *g, const sim_dataset_info *about,
                         sim_buffer out[GROUP_BUFFERS])
{
    out[0] = SIM_BUFFER(g->first, about->n_groups + 1);
    out[1] = SIM_BUFFER(g->members, about->n_images);
}

/* Sorts the images by group: first the number of images before each group, then their places. */
static void sort_images(sim_groups *g, size_t n_images)
{
    for (size_t i = 0; i < n_images; i++)
        g->first[g->of_image[i] + 1]++;
    for (size_t k = 0; k < g->n; k++)
        g->first[k + 1] += g->first[k];
    for (size_t i = 0; i < n_images; i++)
        g->members[g->first[g->of_image[i]]++] = (uint32_t)i;
    for (size_t k = g->n; k > 0; k--) /* the loop before moved each to the next one's */
        g->first[k] = g->first[k - 1];
    g->first[0] = 0;
}

sim_status sim_groups_create(const sim_dataset *d, sim_groups *out)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(d);
    sim_buffer buffers[GROUP_BUFFERS];

    SIM_ASSERT(about->has_groups);
    out->n = about->n_groups;
    out->n_images = about->n_images;
    out->of_image = sim_dataset_groups(d);
    list_buffers(out, about, buffers);
    SIM_TRY(sim_buffers_create(buffers, GROUP_BUFFERS, "data/groups"));
    sort_images(out, about->n_images);
done:
    return st;
}

void sim_groups_destroy(sim_groups *g)
{
    const sim_dataset_info about = {.n_groups = g->n, .n_images = g->n_images};
    sim_buffer buffers[GROUP_BUFFERS];

    list_buffers(g, &about, buffers);
    sim_buffers_destroy(buffers, GROUP_BUFFERS);
    *g = (sim_groups){0};
}

size_t sim_groups_bytes(const sim_dataset_info *about)
{
    sim_groups none = {0};
    sim_buffer buffers[GROUP_BUFFERS];

    list_buffers(&none, about, buffers);
    return sim_buffers_bytes(buffers, GROUP_BUFFERS);
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

uint32_t sim_groups_partner(const sim_groups *g, uint32_t seed, uint32_t image,
                            uint32_t epoch, uint32_t view)
{
    enum { VIEW_SHIFT = 16 };
    const int32_t of = g->of_image[image];
    const uint32_t *members = g->members + g->first[of];
    const uint32_t n = g->first[of + 1] - g->first[of];
    sim_random r = {.seed = seed,
                    .purpose = SIM_RANDOM_PARTNER,
                    .sample = image,
                    .epoch = epoch,
                    .view_op = view << VIEW_SHIFT};

    if (view == 0 || n == 1)
        return image;
    const uint32_t *own = bsearch(&image, members, n, sizeof *members, by_number);
    const uint32_t drawn = sim_random_below(&r, n - 1);
    return members[drawn + (drawn >= (uint32_t)(own - members))];
}

static int by_size(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

sim_status sim_groups_measure(const sim_dataset *d, sim_group_sizes *out)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(d);
    const int32_t *groups = sim_dataset_groups(d);
    size_t *size = NULL, empty = 0;

    memset(out, 0, sizeof *out);
    SIM_TRY(sim_alloc(&size, about->n_groups, "data/groups"));
    for (size_t i = 0; groups && i < about->n_images; i++)
        size[groups[i]]++;
    for (size_t k = 0; k < about->n_groups; k++) {
        empty += size[k] == 0;
        out->n_single += size[k] == 1;
    }
    out->n = about->n_groups - empty;
    if (out->n == 0)
        goto done;
    qsort(size, about->n_groups, sizeof *size, by_size);
    out->smallest = size[empty];
    out->median = size[empty + (out->n - 1) / 2];
    out->largest = size[about->n_groups - 1];
done:
    sim_free(size);
    return st;
}
