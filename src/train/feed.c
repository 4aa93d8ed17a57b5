/*
 * feed.c - selects the images of a step and prefetches their views.
 *
 * The epoch's permutation assigns sample i of an epoch to (step, block, slot); this rank
 * requests the views of its own blocks from the loader, one step ahead of the computation.
 */
#include "state.h"

#include "simile/memory.h"

sim_status sim_feed_create(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_feed *f = &t->feed;
    size_t batch = (size_t)t->job->train.batch;

    f->n_images = t->method.n_images;
    f->image_floats = t->plan.h * t->plan.w * t->plan.c;
    f->order_epoch = -1;
    for (int i = 0; i < 2; i++) {
        SIM_TRY(sim_alloc(&f->x[i], f->n_images * f->image_floats, "train/views"));
        if (sim_method_shuffles(&t->method))
            SIM_TRY(sim_alloc(&f->shuffle[i], batch, "train/order"));
        if (t->method.row->needs_labels)
            SIM_TRY(sim_alloc(&f->labels[i], batch, "train/order"));
    }
    SIM_TRY(sim_alloc(&f->request, f->n_images, "train/views"));
    SIM_TRY(sim_alloc(&f->order, t->plan.n_images, "train/order"));
    SIM_TRY(sim_alloc(&f->keys, t->plan.n_images, "train/order"));
done:
    return st;
}

void sim_feed_destroy(sim_train_state *t)
{
    for (int i = 0; i < 2; i++) {
        SIM_FREE(t->feed.x[i]);
        SIM_FREE(t->feed.shuffle[i]);
        SIM_FREE(t->feed.labels[i]);
    }
    SIM_FREE(t->feed.request);
    SIM_FREE(t->feed.order);
    SIM_FREE(t->feed.keys);
}

sim_position sim_position_next(const sim_train_state *t, const sim_position *at)
{
    sim_position next = *at;
    int64_t epoch_samples = (int64_t)t->plan.steps_per_epoch * t->job->train.batch;
    next.step++;
    next.samples += t->job->train.batch;
    if (next.samples >= epoch_samples) {
        next.samples = 0;
        next.epoch++;
    }
    return next;
}

/* Requests of one slot of a part; its views are adjacent, so they share one read. */
static void request_slot(sim_train_state *t, const sim_position *at, const sim_part *part,
                         size_t block, size_t slot, const uint32_t *shuffle, float *x,
                         sim_view_request *out)
{
    size_t slots = t->method.slots, i = block * slots + slot;
    size_t shown = part->shuffled ? shuffle[i] : i;
    size_t local = block - t->method.blocks.lo;

    for (size_t v = 0; v < part->n_views; v++) {
        size_t place = (local * part->n_views + v) * slots + slot;
        out[v] = (sim_view_request){.sample = t->feed.order[(size_t)at->samples + shown],
                                    .epoch = (uint32_t)at->epoch,
                                    .view = part->views[v],
                                    .out = x + place * t->feed.image_floats};
    }
}

/* Requests of a part, whose views begin at x; their number. */
static size_t request_part(sim_train_state *t, const sim_position *at,
                           const sim_part *part, const uint32_t *shuffle, float *x,
                           sim_view_request *out)
{
    const sim_method *m = &t->method;
    size_t n = 0;
    for (size_t b = m->blocks.lo; b < m->blocks.hi; b++)
        for (size_t i = 0; i < m->slots; i++, n += part->n_views)
            request_slot(t, at, part, b, i, shuffle, x, out + n);
    return n;
}

/* Fills the shuffle and the labels of the step, if the method needs them. */
static void fill_batch(sim_train_state *t, const sim_position *at, int slot)
{
    sim_feed *f = &t->feed;
    const int32_t *labels = sim_dataset_labels(t->data);
    size_t batch = (size_t)t->job->train.batch;

    if (f->shuffle[slot])
        sim_order_shuffle((uint32_t)t->job->train.seed, (uint32_t)at->epoch,
                          (uint64_t)at->samples, batch, f->shuffle[slot]);
    for (size_t i = 0; f->labels[slot] && i < batch; i++)
        f->labels[slot][i] = labels[f->order[(size_t)at->samples + i]];
}

void sim_feed_post(sim_train_state *t, const sim_position *at, int slot)
{
    sim_feed *f = &t->feed;

    if (f->order_epoch != at->epoch) {
        sim_order_epoch((uint32_t)t->job->train.seed, (uint32_t)at->epoch,
                        t->plan.n_images, f->keys, f->order);
        f->order_epoch = at->epoch;
    }
    fill_batch(t, at, slot);
    size_t n = 0;
    for (size_t p = 0; p < t->method.n_parts; p++)
        n += request_part(t, at, &t->method.parts[p], f->shuffle[slot],
                          f->x[slot] + n * f->image_floats, f->request + n);
    sim_loader_post(t->loader, f->request, n);
}
