/*
 * feed.c - which images a step takes, and their views ahead of need.
 *
 * The epoch's permutation gives sample i of an epoch to (step, block, slot); this rank
 * asks the loader for the views of its own blocks, one step ahead of the computation.
 */
#include "state.h"

#include "simile/memory.h"

sim_status sim_feed_create(sim_train_state *t)
{
    sim_status st = SIM_OK;
    sim_feed *f = &t->feed;

    f->n_images = sim_batch_images(&t->method.shape);
    f->image_floats = t->plan.h * t->plan.w * t->plan.c;
    f->order_epoch = -1;
    SIM_TRY(sim_alloc(&f->x[0], f->n_images * f->image_floats, "train/views"));
    SIM_TRY(sim_alloc(&f->x[1], f->n_images * f->image_floats, "train/views"));
    SIM_TRY(sim_alloc(&f->request, f->n_images, "train/views"));
    SIM_TRY(sim_alloc(&f->order, t->plan.n_images, "train/order"));
    SIM_TRY(sim_alloc(&f->keys, t->plan.n_images, "train/order"));
done:
    return st;
}

void sim_feed_destroy(sim_train_state *t)
{
    SIM_FREE(t->feed.x[0]);
    SIM_FREE(t->feed.x[1]);
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

/* Requests of one slot: all views of its image side by side, so that a read is shared. */
static void ask_slot(sim_train_state *t, const sim_position *at, size_t block,
                     size_t slot, float *x, sim_view_request *out)
{
    const sim_batch_shape *s = &t->method.shape;
    size_t i = (size_t)at->samples + block * s->slots + slot;
    size_t local = block - s->blocks.lo;

    for (size_t v = 0; v < s->views; v++) {
        size_t place = (local * s->views + v) * s->slots + slot;
        out[v] = (sim_view_request){.sample = t->feed.order[i],
                                    .epoch = (uint32_t)at->epoch,
                                    .view = (uint32_t)v,
                                    .out = x + place * t->feed.image_floats};
    }
}

void sim_feed_post(sim_train_state *t, const sim_position *at, int slot)
{
    sim_feed *f = &t->feed;
    const sim_batch_shape *s = &t->method.shape;

    if (f->order_epoch != at->epoch) {
        sim_order_epoch((uint32_t)t->job->train.seed, (uint32_t)at->epoch,
                        t->plan.n_images, f->keys, f->order);
        f->order_epoch = at->epoch;
    }
    size_t n = 0;
    for (size_t b = s->blocks.lo; b < s->blocks.hi; b++)
        for (size_t i = 0; i < s->slots; i++, n += s->views)
            ask_slot(t, at, b, i, f->x[slot], f->request + n);
    sim_loader_post(t->loader, f->request, n);
}
