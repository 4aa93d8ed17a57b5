/*
 * step.c - one update: forward, loss, backward, the tree sum, the guard, the optimizer.
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
    SIM_ASSERT(s->at + n <= s->n);
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

static sim_status copy_snapshot(sim_train_state *t, bool restore)
{
    const sim_visitor v = {.visit = restore ? restore_tensor : save_tensor,
                           .ctx = &t->buffers};
    t->buffers.at = 0;
    return sim_method_visit_forward_state(&t->method, &v);
}

double sim_step_rate(const sim_train_state *t)
{
    return t->plan.learning_rate *
           sim_schedule_factor(&t->job->schedule, sim_schedule_steps_done(t),
                               t->plan.warmup_steps, t->course.total);
}

/* Logs the image ids of the step, to find a corrupted image. */
static void log_samples(const sim_train_state *t)
{
    char text[256];
    size_t used = 0;
    sim_log_warn("step %lld: epoch %lld, images %lld to %lld of its order (seed %lld)",
                 (long long)(t->at.step + 1), (long long)t->at.epoch,
                 (long long)t->at.samples,
                 (long long)(t->at.samples + t->job->train.batch - 1),
                 (long long)t->job->train.seed);
    for (size_t i = 0; i < 16 && i < (size_t)t->job->train.batch; i++) {
        int n = snprintf(text + used, sizeof text - used, " %u",
                         t->feed.order[(size_t)t->at.samples + i]);
        used += n > 0 ? (size_t)n : 0;
    }
    sim_log_warn("samples:%s ...", text);
}

static sim_status skip_update(sim_train_state *t, double loss, double norm)
{
    sim_status st = SIM_OK;
    SIM_TRY(copy_snapshot(t, true));
    t->at.skipped++;
    t->at.bad_run++;
    sim_log_warn(
        "step %lld skipped: loss %g, gradient norm %g (%lld in a row, %lld allowed)",
        (long long)(t->at.step + 1), loss, norm, (long long)t->at.bad_run,
        (long long)t->job->train.bad_steps);
    log_samples(t);
    SIM_CHECK(
        t->at.bad_run <= t->job->train.bad_steps, SIM_E_BUG,
        "step %lld: the loss or gradient was not finite %lld times in a row (loss %g, "
        "gradient norm %g); the last checkpoint is good.  Lower optimizer.lr, lengthen "
        "schedule.warmup_epochs, or check the images listed above",
        (long long)(t->at.step + 1), (long long)t->at.bad_run, loss, norm);
done:
    return st;
}

static void compute_gradient(sim_train_state *t, int slot, sim_loss_report *report)
{
    sim_method_times times = {0};
    size_t n = t->method.gradient_floats;
    const sim_method_batch batch = {.x = t->feed.x[slot],
                                    .order = t->feed.shuffle[slot],
                                    .labels = t->feed.labels[slot],
                                    .epoch = (uint32_t)t->at.epoch,
                                    .samples = t->at.samples,
                                    .progress =
                                        sim_schedule_steps_done(t) / t->course.total};

    sim_method_forward_backward(&t->method, &batch, t->grads, report, &times);
    t->phase_s[SIM_PHASE_FORWARD] += times.forward;
    t->phase_s[SIM_PHASE_LOSS] += times.loss;
    t->phase_s[SIM_PHASE_BACKWARD] += times.backward;
    double start = sim_clock_s();
    sim_heartbeat_phase("gradient sum");
    sim_comm_sum_leaves(t->comm, t->method.n_blocks, n, t->grads);
    t->phase_s[SIM_PHASE_SUM] += sim_clock_s() - start;
}

/* Applies the summed gradient, or skips it. */
static sim_status apply_gradient(sim_train_state *t, sim_step_values *s)
{
    sim_status st = SIM_OK;
    const sim_method_row *row = t->method.row;
    bool bad = false;

    s->gradient_norm = sim_norm_l2(t->grads, t->method.gradient_floats, &bad);
    if (bad || !isfinite(s->report.loss)) {
        SIM_TRY(skip_update(t, s->report.loss, s->gradient_norm));
        goto done;
    }
    t->at.bad_run = 0;
    s->updated = !(row->idle && row->idle(t->method.self));
    if (s->updated) {
        sim_optimizer_step(t->optimizer, s->lr, t->grads);
        sim_method_bound(&t->method);
    }
    row->updated(t->method.self);
done:
    return st;
}

void sim_step_run(sim_train_state *t, int slot)
{
    sim_step_values s = {.lr = sim_step_rate(t)};

    sim_train_defer_error(t, sim_hash_trace_input(t, t->feed.x[slot]));
    sim_train_defer_error(t, copy_snapshot(t, false));
    compute_gradient(t, slot, &s.report);
    sim_train_defer_error(t, sim_hash_trace_loss(t, s.report.loss));
    double start = sim_clock_s();
    sim_heartbeat_phase("update");
    sim_train_defer_error(t, apply_gradient(t, &s));
    s.skipped = t->at.skipped;
    sim_metrics_add(&t->interval, &s);
    t->phase_s[SIM_PHASE_UPDATE] += sim_clock_s() - start;
    sim_train_defer_error(t, sim_hash_trace_update(t));
}
