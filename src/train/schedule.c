/*
 * schedule.c - the position in the schedule, and the step at which the run ends.
 *
 * Everything is measured in samples and divided by the current batch, so that a run continues
 * at the same point of its schedule after a change of the batch.  By epochs: the samples of
 * complete epochs and of the current one.  By steps: the samples that the updates used; keys in
 * steps count steps of the batch that the run began with.
 */
#include "state.h"

#include <math.h>

double sim_schedule_steps_done(const sim_progress *p)
{
    int64_t batch = p->job->train.batch;

    if (p->job->schedule.steps == 0)
        return (double)p->at.epoch * (double)p->plan.steps_per_epoch +
               (double)p->at.samples / (double)batch;
    int64_t since = (p->at.step - p->start_step) * batch;
    return (double)(p->seen + since) / (double)batch;
}

double sim_schedule_rate(const sim_progress *p)
{
    return p->plan.learning_rate * sim_schedule_factor(&p->job->schedule,
                                                       sim_schedule_steps_done(p),
                                                       p->plan.warmup_steps, p->total);
}

void sim_schedule_begin(sim_progress *p)
{
    const sim_schedule_options *s = &p->job->schedule;
    double per_epoch = (double)p->plan.steps_per_epoch;
    double batch = (double)p->job->train.batch, first = (double)p->first_batch;
    double left = 0;

    if (s->steps) {
        double samples = (double)s->steps * first;
        p->total = samples / batch;
        left = (samples - (double)p->seen) / batch;
    } else {
        p->total = (double)s->epochs * per_epoch;
        left = p->total - sim_schedule_steps_done(p);
    }
    p->plan.warmup_steps = s->warmup_steps ? (double)s->warmup_steps * first / batch
                                           : s->warmup_epochs * per_epoch;
    p->plan.total_steps = p->at.step + (left > 0 ? (int64_t)ceil(left) : 0);
}

static int64_t epoch_samples(const sim_progress *p)
{
    return (int64_t)p->plan.steps_per_epoch * p->job->train.batch;
}

void sim_schedule_resplit(sim_progress *p, bool data_changed)
{
    int64_t batch = p->job->train.batch;

    p->at.samples = data_changed ? 0 : p->at.samples / batch * batch;
    if (p->at.samples >= epoch_samples(p)) {
        p->at.samples = 0;
        p->at.epoch++;
    }
}

sim_position sim_schedule_next(const sim_progress *p)
{
    sim_position next = p->at;

    next.step++;
    next.samples += p->job->train.batch;
    if (next.samples >= epoch_samples(p)) {
        next.samples = 0;
        next.epoch++;
    }
    return next;
}
