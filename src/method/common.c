/*
 * common.c - steps and state of the methods that train one branch.
 *
 * Called by: simclr.c, siglip.c, moco.c, mocov3.c, nnclr.c; cpc.c, for its step alone.
 */
#include "common.h"

#include "simile/clock.h"

sim_status sim_common_create(const sim_method_env *env, const sim_model_spec *spec,
                             size_t views, method_common *out)
{
    out->batch = env->batch;
    return sim_online_create(env, spec, views, &out->encoder);
}

void sim_common_release(method_common *b)
{
    sim_online_destroy(&b->encoder);
    sim_momentum_encoder_destroy(&b->momentum);
    sim_queue_destroy(&b->queue);
}

/* ---- a step ---- */

void sim_method_step_run(const step_parts *parts, void *self,
                         const sim_method_batch *batch, float *grads,
                         sim_loss_report *report, sim_method_times *times)
{
    double t0 = sim_clock_s();
    parts->forward(self, batch);
    double t1 = sim_clock_s();
    parts->compare(self, batch, report);
    double t2 = sim_clock_s();
    parts->backward(self, report, grads);
    double t3 = sim_clock_s();
    times->forward += t1 - t0;
    times->loss += t2 - t1;
    times->backward += t3 - t2;
}

void sim_common_forward(void *self, const sim_method_batch *batch)
{
    sim_online_forward(((method_common *)self)->encoder, batch->x);
}

void sim_common_backward(void *self, const sim_loss_report *report, float *grads)
{
    const method_common *b = self;
    size_t scalar = sim_online_parameters(b->encoder);
    size_t stride = scalar + (b->temperature.learned ? 1 : 0);

    sim_online_backward(b->encoder, grads, stride);
    if (b->temperature.learned)
        sim_scalar_gradient(&b->encoder->shape, report->d_log_temperature, scalar, grads,
                            stride);
}

/* ---- the rest of a row ---- */

sim_model_spec sim_common_model(const void *options)
{
    (void)options;
    return (sim_model_spec){.projector = true};
}

size_t sim_common_two_views(const void *options, sim_part parts[SIM_MAX_PARTS])
{
    (void)options;
    parts[0] = (sim_part){.n_views = 2, .views = {0, 1}};
    return 1;
}

void sim_common_updated(void *self)
{
    sim_online_updated(((method_common *)self)->encoder);
}

void sim_common_started(void *self)
{
    method_common *b = self;
    sim_momentum_encoder_copy(b->momentum, b->encoder);
}

size_t sim_common_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                       const char *groups[SIM_MAX_NETS])
{
    return sim_online_nets(((method_common *)self)->encoder, nets, groups);
}

size_t sim_common_momentum_nets(void *self, sim_net *nets[SIM_MAX_NETS],
                                const char *groups[SIM_MAX_NETS])
{
    return sim_momentum_encoder_nets(((method_common *)self)->momentum, nets, groups);
}

size_t sim_common_scalars(void *self, sim_method_scalar out[SIM_MAX_SCALARS])
{
    return sim_temperature_scalars(&((method_common *)self)->temperature, out);
}

sim_queue *sim_common_queue(void *self)
{
    return ((method_common *)self)->queue;
}

sim_status sim_common_visit(void *self, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    method_common *b = self;

    SIM_TRY(sim_online_visit(b->encoder, v));
    SIM_TRY(sim_temperature_visit(&b->temperature, v));
    if (b->momentum)
        SIM_TRY(sim_momentum_encoder_visit(b->momentum, v));
    if (b->queue)
        SIM_TRY(sim_queue_visit(b->queue, "queue", v));
done:
    return st;
}

sim_rows_shape sim_common_rows(const sim_method_env *env, size_t views)
{
    return (sim_rows_shape){.n = env->batch,
                            .unit = env->block,
                            .views = views,
                            .d = (size_t)env->encoder->projector_dim};
}
