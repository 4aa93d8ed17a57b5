/*
 * step.c - one step: forward, loss, backward, sum over ranks, check of the gradient, optimizer.
 *
 * Called by the loop with the views of this rank's blocks.  The summed gradient has the
 * same bits on every rank, so every rank takes the same decision without communication.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/heartbeat.h"
#include "simile/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static sim_status copy_tensor(sim_snapshot *s, const sim_tensor *t, bool restore)
{
    size_t n = sim_tensor_count(t) * sim_type_bytes(t->type);
    SIM_ASSERT(s->at + n <= s->n_bytes);
    char *saved = s->bytes + s->at;
    memcpy(restore ? t->data : saved, restore ? saved : t->data, n);
    s->at += n;
    return SIM_OK;
}

static sim_status save_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    return copy_tensor(ctx, t, false);
}

static sim_status restore_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    (void)group;
    return copy_tensor(ctx, t, true);
}

static sim_status copy_snapshot(sim_learner *l, bool restore)
{
    const sim_visitor v = {.visit = restore ? restore_tensor : save_tensor,
                           .ctx = &l->snapshot};
    l->snapshot.at = 0;
    return sim_method_visit_forward_state(&l->method, &v);
}

/* Logs the indices of the images of the step, to find a corrupted image. */
static void log_samples(const sim_position *at, const sim_feed *f)
{
    const sim_train_options *o = &f->job->train;
    char text[256];
    size_t used = 0;

    sim_log_warn("step %lld: epoch %lld, images %lld to %lld of its order (seed %lld)",
                 (long long)(at->step + 1), (long long)at->epoch, (long long)at->samples,
                 (long long)(at->samples + o->batch - 1), (long long)o->seed);
    for (size_t i = 0; i < 16 && i < (size_t)o->batch; i++) {
        int n = snprintf(text + used, sizeof text - used, " %u",
                         f->order[(size_t)at->samples + i]);
        used += n > 0 ? (size_t)n : 0;
    }
    sim_log_warn("samples:%s ...", text);
}

/* Restores the state before the step. */
static sim_status skip_update(sim_learner *l, sim_position *at, const sim_feed *f,
                              const sim_step_values *s)
{
    sim_status st = SIM_OK;
    int64_t allowed = f->job->train.bad_steps;

    SIM_TRY(copy_snapshot(l, true));
    at->skipped++;
    at->skipped_in_a_row++;
    sim_log_warn(
        "step %lld skipped: loss %g, gradient norm %g (%lld in a row, %lld allowed)",
        (long long)(at->step + 1), s->report.loss, s->gradient_norm,
        (long long)at->skipped_in_a_row, (long long)allowed);
    log_samples(at, f);
    SIM_CHECK(
        at->skipped_in_a_row <= allowed, SIM_E_BUG,
        "step %lld: the loss or gradient was not finite %lld times in a row (loss %g, "
        "gradient norm %g); the last checkpoint is good.  Lower optimizer.lr, lengthen "
        "schedule.warmup_epochs, or check the images listed above",
        (long long)(at->step + 1), (long long)at->skipped_in_a_row, s->report.loss,
        s->gradient_norm);
done:
    return st;
}

static void compute_gradient(sim_train_state *t, int buffer, sim_loss_report *report)
{
    sim_method_times times = {0};
    sim_method_batch batch = {.order = t->feed.shuffle[buffer],
                              .labels = t->feed.labels[buffer],
                              .epoch = (uint32_t)t->progress.at.epoch,
                              .samples = t->progress.at.samples,
                              .progress = sim_schedule_steps_done(&t->progress) /
                                          t->progress.total};

    sim_method_set_input(&t->learner.method, t->feed.x[buffer], &batch);
    sim_method_forward_backward(&t->learner.method, &batch, t->learner.grads, report,
                                &times);
    t->costs.phase_s[SIM_PHASE_FORWARD] += times.forward;
    t->costs.phase_s[SIM_PHASE_LOSS] += times.loss;
    t->costs.phase_s[SIM_PHASE_BACKWARD] += times.backward;
    double start = sim_clock_s();
    sim_heartbeat_phase("gradient sum");
    sim_method_sum_gradients(&t->learner.method, t->env.comm, t->learner.grads);
    t->costs.phase_s[SIM_PHASE_SUM] += sim_clock_s() - start;
}

/* Updates the weights, or skips the step if the loss or the gradient is not finite. */
static sim_status apply_gradient(sim_learner *l, sim_position *at, const sim_feed *f,
                                 sim_step_values *s)
{
    sim_status st = SIM_OK;
    const sim_method_row *row = l->method.row;
    bool bad = false;

    s->gradient_norm = sim_norm_l2(l->grads, l->method.gradient_floats, &bad);
    if (bad || !isfinite(s->report.loss)) {
        SIM_TRY(skip_update(l, at, f, s));
        goto done;
    }
    at->skipped_in_a_row = 0;
    s->updated = !(row->idle && row->idle(l->method.self));
    if (s->updated) {
        sim_optimizer_step(l->optimizer, s->lr, l->grads);
        sim_method_clip_scalars(&l->method);
    }
    sim_method_updated(&l->method);
done:
    return st;
}

void sim_step_run(sim_train_state *t, int buffer)
{
    sim_deferred *d = &t->deferred;
    int64_t step = t->progress.at.step + 1;
    sim_step_values s = {.lr = sim_schedule_rate(&t->progress)};

    sim_defer_error(d, sim_hash_trace_input(&t->trace, step, t->feed.x[buffer]));
    sim_defer_error(d, copy_snapshot(&t->learner, false));
    compute_gradient(t, buffer, &s.report);
    sim_defer_error(d, sim_hash_trace_loss(&t->trace, step, s.report.loss));
    double start = sim_clock_s();
    sim_heartbeat_phase("update");
    sim_defer_error(d, apply_gradient(&t->learner, &t->progress.at, &t->feed, &s));
    s.skipped = t->progress.at.skipped;
    sim_metrics_add(&t->interval.metrics, &s);
    t->costs.phase_s[SIM_PHASE_UPDATE] += sim_clock_s() - start;
    sim_defer_error(d, sim_hash_trace_update(&t->trace, step));
}
