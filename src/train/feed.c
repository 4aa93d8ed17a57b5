/*
 * feed.c - selects the images of a step and prefetches their views.
 *
 * The epoch's permutation assigns sample i of an epoch to (step, block, slot); this rank
 * requests the views of its own blocks from the loader, one step ahead of the computation.
 */
#include "state.h"

#include "simile/memory.h"

sim_status sim_feed_augment(const sim_train_env *env, sim_feed *f)
{
    return sim_augment_create(&env->job->augment, &env->preprocessing, &f->augment);
}

enum { FEED_BUFFERS = 10 };
_Static_assert((int)SIM_MAX_VIEWS <= (int)SIM_SMALL_VIEW,
               "small views have numbers of their own");

/* Lists the buffers; those that the method does not need are left out.  Returns their number. */
static size_t list_buffers(sim_feed *f, sim_buffer list[FEED_BUFFERS])
{
    const size_t batch = (size_t)f->job->train.batch;
    size_t n = 0;

    for (int i = 0; i < 2; i++) {
        list[n++] = SIM_BUFFER(f->x[i], f->method->x_floats);
        if (sim_method_shuffles(f->method))
            list[n++] = SIM_BUFFER(f->shuffle[i], batch);
        if (f->method->row->needs_labels)
            list[n++] = SIM_BUFFER(f->labels[i], batch);
    }
    list[n++] = SIM_BUFFER(f->request, f->n_images);
    list[n++] = SIM_BUFFER(f->order, f->epoch_images);
    list[n++] = SIM_BUFFER(
        f->keys, f->epoch_images ? sim_order_keys(sim_dataset_about(f->data)) : 0);
    if (f->data && sim_dataset_about(f->data)->mixture.weighted)
        list[n++] = SIM_BUFFER(f->passes, f->epoch_images);
    return n;
}

sim_status sim_feed_create(const sim_train_env *env, const sim_schedule_plan *plan,
                           const sim_method *method, sim_feed *f)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &env->job->train;
    sim_buffer list[FEED_BUFFERS];

    f->job = env->job;
    f->method = method;
    f->data = env->data;
    f->n_images = method->n_images;
    f->epoch_images = plan->n_images;
    f->order_epoch = -1;
    SIM_TRY(sim_buffers_create(list, list_buffers(f, list), "train/feed"));
    if (o->views_from == SIM_VIEWS_FROM_GROUP)
        SIM_TRY(sim_groups_create(env->data, &f->groups));
    SIM_TRY(sim_loader_create(env->data, f->augment, (uint32_t)o->seed,
                              (int)o->loader_threads, f->n_images, &f->loader));
done:
    return st;
}

void sim_feed_destroy(sim_feed *f)
{
    sim_buffer list[FEED_BUFFERS];

    sim_loader_destroy(&f->loader);
    if (f->method) /* otherwise nothing was created */
        sim_buffers_destroy(list, list_buffers(f, list));
    sim_groups_destroy(&f->groups);
    sim_augment_destroy(&f->augment);
}

/* The image that a view of a sample shows. */
static uint32_t image_of_view(const sim_feed *f, const sim_position *at, uint32_t sample,
                              uint32_t view)
{
    return f->job->train.views_from == SIM_VIEWS_FROM_GROUP
               ? sim_groups_partner(&f->groups, (uint32_t)f->job->train.seed, sample,
                                    (uint32_t)at->epoch, view)
               : sample;
}

/* Requests of one slot of a part, whose views begin at x; those of one image are adjacent and share one
 * read. */
static void request_slot(const sim_feed *f, const sim_position *at, const sim_part *part,
                         size_t block, size_t slot, const uint32_t *shuffle, float *x,
                         sim_view_request *out)
{
    size_t slots = f->method->slots, i = block * slots + slot;
    size_t shown = part->shuffled ? shuffle[i] : i;
    size_t local = block - f->method->blocks.lo;

    for (size_t v = 0; v < part->n_views; v++) {
        size_t place = (local * part->n_views + v) * slots + slot;
        uint32_t sample = f->order[(size_t)at->samples + shown];
        const uint32_t view =
            part->small ? SIM_SMALL_VIEW + part->views[v] : part->views[v];
        out[v] = (sim_view_request){.image = image_of_view(f, at, sample, view),
                                    .sample = sample,
                                    .epoch = (uint32_t)at->epoch,
                                    .view = view,
                                    .out = x + place * part->image_floats};
    }
}

/* Requests of all parts, which begin at x; their number.  Those of a slot are adjacent, so that views
 * of the same image share one read. */
static size_t request_parts(const sim_feed *f, const sim_position *at,
                            const uint32_t *shuffle, float *x, sim_view_request *out)
{
    const sim_method *m = f->method;
    size_t n = 0;
    for (size_t b = m->blocks.lo; b < m->blocks.hi; b++)
        for (size_t i = 0; i < m->slots; i++)
            for (const sim_part *p = m->parts; p < m->parts + m->n_parts; p++) {
                request_slot(f, at, p, b, i, shuffle, x + p->offset, out + n);
                n += p->n_views;
            }
    return n;
}

/* Fills the shuffle and the labels of the step, if the method needs them. */
static void fill_batch(sim_feed *f, const sim_position *at, int buffer)
{
    const int32_t *labels = sim_job_labels(f->job, f->data);
    size_t batch = (size_t)f->job->train.batch;

    if (f->shuffle[buffer])
        sim_order_shuffle((uint32_t)f->job->train.seed, (uint32_t)at->epoch,
                          (uint64_t)at->samples, batch, f->shuffle[buffer]);
    for (size_t i = 0; f->labels[buffer] && i < batch; i++)
        f->labels[buffer][i] = labels[f->order[(size_t)at->samples + i]];
}

static void fill_order(sim_feed *f, int64_t epoch)
{
    const sim_mixture *m = &sim_dataset_about(f->data)->mixture;
    const uint32_t seed = (uint32_t)f->job->train.seed;

    if (m->weighted)
        sim_order_mixture(seed, (uint32_t)epoch, m, f->keys, f->passes, f->order);
    else
        sim_order_epoch(seed, (uint32_t)epoch, f->epoch_images, f->keys, f->order);
    f->order_epoch = epoch;
}

void sim_feed_post(sim_feed *f, const sim_position *at, int buffer)
{
    if (f->order_epoch != at->epoch)
        fill_order(f, at->epoch);
    fill_batch(f, at, buffer);
    size_t n = request_parts(f, at, f->shuffle[buffer], f->x[buffer], f->request);
    sim_loader_post(f->loader, f->request, n);
}
