/*
 * measure.c - the speed of a step on views made in memory: encoder, loss, sum, update.
 *
 * No disk, no data set, no log: what `simile bench step` and the comparison with the peer
 * time.
 */
#include "simile/train.h"

#include "simile/clock.h"
#include "simile/memory.h"

#include <stdlib.h>

typedef struct {
    sim_method method;
    sim_optimizer *optimizer;
    float *x, *grads;
    uint32_t *order;
    int32_t *labels;
    double *seconds;
} bench;

static sim_status create(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                         size_t channels, int steps, bench *b)
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
                                .batch = (size_t)job->train.batch,
                                .block = (size_t)job->train.block,
                                .seed = (uint32_t)job->train.seed};

    SIM_TRY(sim_method_create(job->method, &env, &job->method_options, &b->method));
    SIM_TRY(sim_method_parameters(&b->method, &list, &n));
    SIM_TRY(sim_optimizer_create(&job->optimizer, list, n, &b->optimizer));
    SIM_TRY(sim_alloc(&b->x, b->method.n_images * h * w * channels, "bench/views"));
    SIM_TRY(
        sim_alloc(&b->grads,
                  sim_comm_sum_leaves_capacity(sim_comm_partition(c), b->method.n_blocks,
                                               b->method.gradient_floats),
                  "bench/gradients"));
    SIM_TRY(sim_alloc(&b->order, env.batch, "bench/views"));
    SIM_TRY(sim_alloc(&b->labels, env.batch, "bench/views"));
    for (size_t i = 0; i < env.batch; i++) {
        b->order[i] = (uint32_t)(env.batch - 1 - i);
        b->labels[i] = (int32_t)(i % 10);
    }
    SIM_TRY(sim_alloc(&b->seconds, (size_t)steps, "bench/times"));
    if (b->method.row->started)
        b->method.row->started(b->method.self);
    if (sim_method_queue(&b->method)) /* a whole step, not one that fills it */
        sim_queue_set_full(sim_method_queue(&b->method));
    b->method.row->updated(b->method.self);
done:
    sim_free(list);
    return st;
}

/* Views that differ from image to image, cheap and the same everywhere. */
static void fill(bench *b, size_t image_floats)
{
    size_t n = b->method.n_images * image_floats;
    uint32_t word = 12345;
    for (size_t i = 0; i < n; i++) {
        word = word * 1664525u + 1013904223u;
        b->x[i] = (float)(word >> 8) * 0x1p-23f - 1.0f;
    }
}

static double one_step(const sim_comm *c, const sim_job *job, bench *b)
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
    return took;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

sim_status sim_train_measure(const sim_comm *c, const sim_job *job, size_t h, size_t w,
                             size_t channels, int steps, sim_step_speed *out)
{
    sim_status st = SIM_OK;
    bench b = {0};

    SIM_TRY(sim_comm_agree(c, create(c, job, h, w, channels, steps, &b)));
    fill(&b, h * w * channels);
    (void)one_step(c, job, &b); /* the first step grows scratch and warms caches */
    for (int i = 0; i < steps; i++)
        b.seconds[i] = one_step(c, job, &b);
    qsort(b.seconds, (size_t)steps, sizeof *b.seconds, ascending);
    *out = (sim_step_speed){.best_s = b.seconds[0],
                            .median_s = b.seconds[steps / 2],
                            .images = (size_t)job->train.batch};
done:
    sim_optimizer_destroy(&b.optimizer);
    if (b.method.self)
        sim_method_destroy(&b.method);
    sim_free(b.x);
    sim_free(b.order);
    sim_free(b.labels);
    sim_free(b.grads);
    sim_free(b.seconds);
    return st;
}
