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
    double *seconds; /* of each step, of the slowest rank */
    sim_step_parts least;
} step_bench;

enum { BENCH_BUFFERS = 5, BENCH_CLASSES = 10 };

typedef struct {
    size_t grad_floats, batch, steps;
} bench_size;

static void list_buffers(step_bench *b, const bench_size *s,
                         sim_buffer list[BENCH_BUFFERS])
{
    list[0] = SIM_BUFFER(b->x, b->method.x_floats);
    list[1] = SIM_BUFFER(b->grads, s->grad_floats);
    list[2] = SIM_BUFFER(b->order, s->batch);
    list[3] = SIM_BUFFER(b->labels, s->batch);
    list[4] = SIM_BUFFER(b->seconds, s->steps);
}

static sim_status create_method(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                                size_t channels, const sim_small_views *small,
                                step_bench *b)
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
                                .small = small ? *small : (sim_small_views){0},
                                .n_classes = BENCH_CLASSES,
                                .batch = (size_t)job->train.batch,
                                .block = (size_t)job->train.block,
                                .micro_batch = (size_t)job->train.micro_batch,
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
    sim_method_updated(m);
}

static sim_status create_bench(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                               size_t channels, const sim_small_views *small, int steps,
                               step_bench *b)
{
    sim_status st = SIM_OK;
    sim_buffer list[BENCH_BUFFERS];

    SIM_TRY(create_method(c, job, h, w, channels, small, b));
    const bench_size size = {
        .grad_floats = sim_method_gradient_capacity(&b->method, sim_comm_partition(c)),
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
static void fill_views(step_bench *b)
{
    size_t n = b->method.x_floats;
    uint32_t word = 12345;
    for (size_t i = 0; i < n; i++) {
        word = word * 1664525u + 1013904223u;
        b->x[i] = (float)(word >> 8) * 0x1p-23f - 1.0f;
    }
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* With one rank, the time in comm is that of reductions within the rank. */
static sim_step_parts make_parts(const sim_comm *c, const sim_method_times *t, double sum,
                                 double update)
{
    const double encoder_comm = c->size > 1 ? t->encoder_comm : 0;
    const double loss_comm = c->size > 1 ? t->loss_comm : 0;
    return (sim_step_parts){.encoder = t->forward + t->backward - encoder_comm,
                            .forward = t->forward,
                            .loss = t->loss - loss_comm,
                            .gather = encoder_comm + loss_comm,
                            .sum = sum,
                            .update = update};
}

static double time_step(const sim_comm *c, const sim_job *job, step_bench *b,
                        sim_step_parts *parts)
{
    sim_loss_report report = {0};
    sim_method_times times = {0};
    sim_method_batch batch = {.order = b->order,
                              .labels = b->method.row->needs_labels ? b->labels : NULL};

    sim_method_set_input(&b->method, b->x, &batch);
    sim_comm_barrier(c);
    double start = sim_clock_s();
    sim_method_forward_backward(&b->method, &batch, b->grads, &report, &times);
    double computed = sim_clock_s();
    sim_method_sum_gradients(&b->method, c, b->grads);
    double summed = sim_clock_s();
    sim_optimizer_step(b->optimizer, job->optimizer.lr, b->grads);
    sim_method_updated(&b->method);
    double end = sim_clock_s(), took = end - start;
    *parts = make_parts(c, &times, summed - computed, end - summed);
    sim_comm_max_f64(c, &took, 1);
    return took;
}

static void keep_least(sim_step_parts *least, const sim_step_parts *p)
{
    least->encoder = fmin(least->encoder, p->encoder);
    least->forward = fmin(least->forward, p->forward);
    least->loss = fmin(least->loss, p->loss);
    least->gather = fmin(least->gather, p->gather);
    least->sum = fmin(least->sum, p->sum);
    least->update = fmin(least->update, p->update);
}

static void time_steps(const sim_comm *c, const sim_job *job, step_bench *b, int steps)
{
    b->least =
        (sim_step_parts){INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY};
    for (int i = 0; i < steps; i++) {
        sim_step_parts parts;
        b->seconds[i] = time_step(c, job, b, &parts);
        keep_least(&b->least, &parts);
    }
    qsort(b->seconds, (size_t)steps, sizeof *b->seconds, compare_seconds);
}

static size_t views_per_image(const sim_job *job)
{
    sim_part parts[SIM_MAX_PARTS];
    const size_t n = job->method->parts(&job->method_options, parts);
    size_t views = 0;
    for (size_t i = 0; i < n; i++)
        views += parts[i].n_views;
    return views;
}

static double multiply_adds_per_view(const sim_method *m)
{
    sim_net *nets[SIM_MAX_NETS];
    const char *groups[SIM_MAX_NETS];
    const size_t n = m->row->nets(m->self, nets, groups);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += sim_net_multiply_adds(nets[i]);
    return sum;
}

/* The same in every step. */
static sim_comm_traffic traffic_per_step(sim_comm_traffic before, size_t steps)
{
    const sim_comm_traffic after = sim_comm_traffic_total();
    return (sim_comm_traffic){
        .gathers = (after.gathers - before.gathers) / steps,
        .gathered_bytes = (after.gathered_bytes - before.gathered_bytes) / steps,
        .reductions = (after.reductions - before.reductions) / steps,
        .reduced_bytes = (after.reduced_bytes - before.reduced_bytes) / steps};
}

sim_status sim_train_measure(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                             size_t channels, const sim_small_views *small, int steps,
                             sim_step_speed *out)
{
    sim_status st = SIM_OK;
    step_bench b = {0};

    SIM_TRY(sim_comm_agree(c, create_bench(c, job, h, w, channels, small, steps, &b)));
    fill_views(&b);
    time_steps(c, job, &b, 1); /* allocates scratch memory and warms caches */
    const sim_comm_traffic before = sim_comm_traffic_total();
    time_steps(c, job, &b, steps);
    *out = (sim_step_speed){.best_s = b.seconds[0],
                            .median_s = b.seconds[steps / 2],
                            .worst_s = b.seconds[steps - 1],
                            .images = (size_t)job->train.batch,
                            .views = views_per_image(job),
                            .multiply_adds = multiply_adds_per_view(&b.method),
                            .parts = b.least,
                            .gradient_floats = b.method.gradient_floats,
                            .traffic = traffic_per_step(before, (size_t)steps)};
done:
    destroy_bench(&b);
    return st;
}
