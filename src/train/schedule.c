/*
 * schedule.c - the position in the schedule, and the step at which the run ends.
 *
 * Everything is measured in samples and divided by the current batch, so that a run continues
 * at the same point of its schedule after a change of the batch.  By epochs: the samples of
 * complete epochs and of the current one.  By steps: the samples that the updates used; keys in
 * steps count steps of the batch that the run began with.
 */
#include "state.h"

#include "simile/memory.h"

#include <math.h>
#include <stdio.h>

double sim_schedule_steps_done(const sim_progress *p)
{
    int64_t batch = p->job->train.batch;

    if (p->job->schedule.steps == 0)
        return (double)p->at.epoch * (double)p->plan.steps_per_epoch +
               (double)p->at.samples / (double)batch;
    int64_t since = (p->at.step - p->start_step) * batch;
    return (double)(p->seen + since) / (double)batch;
}

static double rate_at(const sim_progress *p, double steps)
{
    return sim_schedule_learning_rate(&p->job->schedule, p->plan.learning_rate, steps,
                                      p->plan.warmup_steps, p->total);
}

double sim_schedule_rate(const sim_progress *p)
{
    return rate_at(p, sim_schedule_steps_done(p));
}

sim_scheduled sim_schedule_at(const sim_progress *p, int ahead)
{
    const sim_method_row *m = p->job->method;
    double steps = sim_schedule_steps_done(p) + ahead;
    double momentum =
        m->momentum ? m->momentum(&p->job->method_options, steps / p->total) : 0;
    return (sim_scheduled){.rate = rate_at(p, steps), .momentum = momentum};
}

sim_status sim_schedule_compare(const sim_progress *p, sim_changes *c)
{
    sim_status st = SIM_OK;
    sim_job *job = NULL;
    sim_progress saved = *p;

    SIM_TRY(sim_new(&job, "train/changes"));
    *job = *p->job;
    job->train.batch = c->batch;
    job->schedule.epochs = c->epochs;
    job->schedule.steps = c->steps;
    job->optimizer.lr = c->lr;
    saved.job = job;
    saved.at = c->before;
    saved.plan.n_images = (size_t)c->images;
    saved.plan.steps_per_epoch = (size_t)c->images / (size_t)c->batch;
    saved.plan.learning_rate = sim_learning_rate(&job->optimizer, (size_t)c->batch);
    if (saved.plan.steps_per_epoch == 0)
        saved.plan.steps_per_epoch = 1;
    sim_schedule_begin(&saved);
    c->last = sim_schedule_at(&saved, -1);
    c->unchanged = sim_schedule_at(&saved, 0);
    c->next = sim_schedule_at(p, 0);
    if (c->images == 0)
        c->last = c->unchanged =
            (sim_scheduled){.rate = (double)NAN, .momentum = (double)NAN};
done:
    sim_free(job);
    return st;
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

/* The position in the unit of the length of the run: epochs, or steps of the first batch. */
static double position_in_schedule(const sim_progress *p)
{
    double steps = sim_schedule_steps_done(p);

    return p->job->schedule.steps
               ? steps * (double)p->job->train.batch / (double)p->first_batch
               : steps / (double)p->plan.steps_per_epoch;
}

sim_status sim_schedule_check_length(const sim_progress *p, const sim_changes *c)
{
    sim_status st = SIM_OK;
    const sim_schedule_options *s = &p->job->schedule;
    const bool by_steps = s->steps > 0;
    const double present = position_in_schedule(p);
    char batch[64] = "";

    if (s->steps == c->steps && s->epochs == c->epochs)
        goto done;
    if (by_steps && p->first_batch != p->job->train.batch)
        (void)snprintf(batch, sizeof batch, " in steps of the first batch, %lld,",
                       (long long)p->first_batch);
    SIM_CHECK(sim_schedule_steps_done(p) <= p->total, SIM_E_CONFIG,
              "schedule.%s: %lld is below the present position of the run, which is%s "
              "%.6g (step %lld); set a larger value, or return to an earlier checkpoint "
              "with --resume FILE",
              by_steps ? "steps" : "epochs", (long long)(by_steps ? s->steps : s->epochs),
              batch, present, (long long)p->at.step);
done:
    return st;
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
