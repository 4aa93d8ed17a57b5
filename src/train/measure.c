/*
 * measure.c - the speed of a step on generated views: encoder, loss, gradient sum, update.
 *
 * Without disk, data set and log.  Used by `simile bench step`.
 */
#include "simile/train.h"

#include "simile/clock.h"
#include "simile/memory.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    sim_method method;
    sim_optimizer *optimizer;
    float *x, *grads;
    uint32_t *order;
    int32_t *labels;
    double *seconds; /* of each step */
} step_bench;

enum { BENCH_BUFFERS = 5, BENCH_CLASSES = 10 };

typedef struct {
    size_t image_floats, grad_floats, batch, steps;
} bench_size;

static void list_buffers(step_bench *b, const bench_size *s,
                         sim_buffer list[BENCH_BUFFERS])
{
    list[0] = SIM_BUFFER(b->x, b->method.n_images * s->image_floats);
    list[1] = SIM_BUFFER(b->grads, s->grad_floats);
    list[2] = SIM_BUFFER(b->order, s->batch);
    list[3] = SIM_BUFFER(b->labels, s->batch);
    list[4] = SIM_BUFFER(b->seconds, s->steps);
}

static sim_status create_method(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                                size_t channels, step_bench *b)
{
    sim_status st = SIM_OK;
    sim_parameter *list = NULL;
    size_t n = 0;
    const sim_method_env env = {.comm = c,
                                .partition = sim_comm_partition(c),
                                .encoder = &job->encoder,
                                .batchnorm = &job->batchnorm,
                                .h = h,
                                .w = w,
                                .c = channels,
                                .n_classes = BENCH_CLASSES,
                                .batch = (size_t)job->train.batch,
                                .block = (size_t)job->train.block,
                                .seed = (uint32_t)job->train.seed};

    SIM_TRY(sim_method_create(job->method, &env, &job->method_options, &b->method));
    SIM_TRY(sim_method_parameters(&b->method, &list, &n));
    SIM_TRY(sim_optimizer_create(&job->optimizer, list, n, &b->optimizer));
done:
    sim_free(list);
    return st;
}

/* The state after the first step of a run, with a full queue. */
static void start_method(sim_method *m)
{
    if (m->row->started)
        m->row->started(m->self);
    if (sim_method_queue(m)) /* so that the measured steps use all keys */
        sim_queue_set_full(sim_method_queue(m));
    m->row->updated(m->self);
}

static sim_status create_bench(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                               size_t channels, int steps, step_bench *b)
{
    sim_status st = SIM_OK;
    sim_buffer list[BENCH_BUFFERS];

    SIM_TRY(create_method(c, job, h, w, channels, b));
    const bench_size size = {
        .image_floats = h * w * channels,
        .grad_floats = sim_comm_sum_leaves_capacity(
            sim_comm_partition(c), b->method.n_blocks, b->method.gradient_floats),
        .batch = (size_t)job->train.batch,
        .steps = (size_t)steps};
    list_buffers(b, &size, list);
    SIM_TRY(sim_buffers_create(list, BENCH_BUFFERS, "train/bench"));
    for (size_t i = 0; i < size.batch; i++) {
        b->order[i] = (uint32_t)(size.batch - 1 - i);
        b->labels[i] = (int32_t)(i % BENCH_CLASSES);
    }
    start_method(&b->method);
done:
    return st;
}

static void destroy_bench(step_bench *b)
{
    const bench_size none = {0}; /* not used to destroy */
    sim_buffer list[BENCH_BUFFERS];

    sim_optimizer_destroy(&b->optimizer);
    list_buffers(b, &none, list);
    sim_buffers_destroy(list, BENCH_BUFFERS);
    if (b->method.self)
        sim_method_destroy(&b->method);
}

/* Pseudo-random views, different for each image and equal on all machines. */
static void fill_views(step_bench *b, size_t image_floats)
{
    size_t n = b->method.n_images * image_floats;
    uint32_t word = 12345;
    for (size_t i = 0; i < n; i++) {
        word = word * 1664525u + 1013904223u;
        b->x[i] = (float)(word >> 8) * 0x1p-23f - 1.0f;
    }
}

static double time_step(const sim_comm *c, const sim_job *job, step_bench *b,
                        double *forward)
{
    sim_loss_report report = {0};
    sim_method_times times = {0};
    const sim_method_batch batch = {.x = b->x,
                                    .order = b->order,
                                    .labels =
                                        b->method.row->needs_labels ? b->labels : NULL};

    sim_comm_barrier(c);
    double start = sim_clock_s();
    sim_method_forward_backward(&b->method, &batch, b->grads, &report, &times);
    sim_comm_sum_leaves(c, b->method.n_blocks, b->method.gradient_floats, b->grads);
    sim_optimizer_step(b->optimizer, job->optimizer.lr, b->grads);
    b->method.row->updated(b->method.self);
    double took = sim_clock_s() - start;
    sim_comm_max_f64(c, &took, 1);
    *forward = times.forward;
    return took;
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

sim_status sim_train_measure(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                             size_t channels, int steps, sim_step_speed *out)
{
    sim_status st = SIM_OK;
    step_bench b = {0};
    double forward = 0, least = HUGE_VAL;

    SIM_TRY(sim_comm_agree(c, create_bench(c, job, h, w, channels, steps, &b)));
    fill_views(&b, h * w * channels);
    /* The first step allocates scratch memory and warms caches. */
    (void)time_step(c, job, &b, &forward);
    for (int i = 0; i < steps; i++) {
        b.seconds[i] = time_step(c, job, &b, &forward);
        least = forward < least ? forward : least;
    }
    qsort(b.seconds, (size_t)steps, sizeof *b.seconds, compare_seconds);
    *out = (sim_step_speed){.best_s = b.seconds[0],
                            .median_s = b.seconds[steps / 2],
                            .forward_s = least,
                            .images = (size_t)job->train.batch};
done:
    destroy_bench(&b);
    return st;
}
