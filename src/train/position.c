/*
 * position.c - where the schedule stands, and at which step the run ends.
 *
 * Everything is measured in samples and divided by the present batch, so that a run whose
 * batch was changed goes on where it was.  By epochs: the samples of whole epochs and of the
 * present one.  By steps: those that the updates have seen; keys in steps count steps of the
 * batch that the run began with.
 */
#include "state.h"

#include <math.h>

double sim_schedule_steps_done(const sim_train_state *t)
{
    const sim_position *p = &t->at;
    double batch = (double)t->job->train.batch;

    if (t->job->schedule.steps == 0)
        return (double)p->epoch * (double)t->plan.steps_per_epoch +
               (double)p->samples / batch;
    int64_t since = (p->step - t->start_step) * t->job->train.batch;
    return (double)(t->course.seen + since) / batch;
}

void sim_schedule_begin(sim_train_state *t)
{
    const sim_schedule_options *s = &t->job->schedule;
    double per_epoch = (double)t->plan.steps_per_epoch;
    double batch = (double)t->job->train.batch, first = (double)t->course.first_batch;
    double left = 0;

    if (s->steps) {
        double samples = (double)s->steps * first;
        t->course.total = samples / batch;
        left = (samples - (double)t->course.seen) / batch;
    } else {
        t->course.total = (double)s->epochs * per_epoch;
        left = t->course.total - sim_schedule_steps_done(t);
    }
    t->plan.warmup_steps = s->warmup_steps ? (double)s->warmup_steps * first / batch
                                           : s->warmup_epochs * per_epoch;
    t->plan.total_steps = t->at.step + (left > 0 ? (int64_t)ceil(left) : 0);
}

void sim_schedule_resplit(sim_train_state *t)
{
    sim_position *p = &t->at;
    int64_t batch = t->job->train.batch;

    p->samples = t->changes.data ? 0 : p->samples / batch * batch;
    if (p->samples >= (int64_t)t->plan.steps_per_epoch * batch) {
        p->samples = 0;
        p->epoch++;
    }
}
