/*
 * resume_check.c - whether the scalars of a checkpoint agree with each other, the job and the data.
 *
 * Counts that only have a range are checked by the loader (sim_tensor.bounded).
 */
#include "state.h"

/* The keys that an accepted change took from the identity of the checkpoint. */
static sim_status check_accepted(const sim_changes *c, const char *path)
{
    sim_status st = SIM_OK;
    const int64_t most = (int64_t)1e12;

    SIM_CHECK(c->batch >= 1 && c->batch <= 1 << 24, SIM_E_DATA,
              "%s: /identity: batch is %lld, expected 1 to %d", path, (long long)c->batch,
              1 << 24);
    SIM_CHECK(c->epochs >= 1 && c->epochs <= most, SIM_E_DATA,
              "%s: /identity: schedule.epochs is %lld, expected 1 or more", path,
              (long long)c->epochs);
    SIM_CHECK(c->steps >= 0 && c->steps <= most, SIM_E_DATA,
              "%s: /identity: schedule.steps is %lld, expected 0 or more", path,
              (long long)c->steps);
    SIM_CHECK(c->lr >= 0 && c->lr <= 1e4, SIM_E_DATA,
              "%s: /identity: optimizer.lr is %g, expected 0 to 10000", path, c->lr);
done:
    return st;
}

/* The history was recorded with the batch and the number of images of the identity. */
static sim_status check_recorded(const sim_progress *p, const sim_segment *s,
                                 const char *path)
{
    sim_status st = SIM_OK;
    const int64_t n_images = (int64_t)p->plan.n_images;

    SIM_CHECK(s->saved_batch == s->changes.batch, SIM_E_DATA,
              "%s: /history: the batch of the last segment is %lld, expected %lld as in "
              "/identity",
              path, (long long)s->saved_batch, (long long)s->changes.batch);
    SIM_CHECK(s->changes.data || s->saved_images == 0 || s->saved_images == n_images,
              SIM_E_DATA,
              "%s: /history: the last segment had %lld images, but the data set of its "
              "fingerprint has %lld",
              path, (long long)s->saved_images, (long long)n_images);
    SIM_CHECK(s->saved_images == 0 || s->saved_images >= s->saved_batch, SIM_E_DATA,
              "%s: /history: a batch of %lld of %lld images", path,
              (long long)s->saved_batch, (long long)s->saved_images);
done:
    return st;
}

/* The position in the epoch, in images of complete batches. */
static sim_status check_samples(const sim_position *at, int64_t batch, int64_t steps,
                                const char *path)
{
    sim_status st = SIM_OK;
    const int64_t last = (steps - 1) * batch;

    SIM_CHECK(at->samples >= 0 && at->samples <= last && at->samples % batch == 0,
              SIM_E_DATA,
              "%s: /samples is %lld, expected a multiple of the batch, %lld, from 0 to "
              "%lld",
              path, (long long)at->samples, (long long)batch, (long long)last);
done:
    return st;
}

/* Without an accepted change every step advances the position by one batch. */
static sim_status check_steps(const sim_position *at, int64_t batch, int64_t steps,
                              const char *path)
{
    sim_status st = SIM_OK;
    const int64_t epoch = at->step / steps, samples = at->step % steps * batch;

    SIM_CHECK(at->epoch == epoch && at->samples == samples, SIM_E_DATA,
              "%s: /epoch is %lld and /samples %lld, expected %lld and %lld at step %lld "
              "with %lld steps per epoch",
              path, (long long)at->epoch, (long long)at->samples, (long long)epoch,
              (long long)samples, (long long)at->step, (long long)steps);
done:
    return st;
}

sim_status sim_resume_check_position(const sim_progress *p, const sim_segment *s,
                                     const char *path)
{
    sim_status st = SIM_OK;
    const sim_position *at = &p->at;
    const int64_t batch = s->changes.batch;
    /* An accepted change may skip the rest of an epoch. */
    const int64_t most_epochs = at->step + (int64_t)s->n_earlier;

    SIM_TRY(check_accepted(&s->changes, path));
    SIM_TRY(check_recorded(p, s, path));
    SIM_CHECK(at->epoch >= 0 && at->epoch <= most_epochs, SIM_E_DATA,
              "%s: /epoch is %lld, expected 0 to %lld at step %lld", path,
              (long long)at->epoch, (long long)most_epochs, (long long)at->step);
    /* Before 0.2.0, the number of images was not recorded. */
    const int64_t n_images = s->changes.data
                                 ? (s->saved_images ? s->saved_images : UINT32_MAX)
                                 : (int64_t)p->plan.n_images,
                  steps = n_images / batch;
    SIM_TRY(check_samples(at, batch, steps, path));
    if (s->is_uniform)
        SIM_TRY(check_steps(at, batch, steps, path));
done:
    return st;
}

/* ---- loaded state ---- */

/* A queue that is not full has been filled from slot 0. */
static sim_status check_queue(const sim_queue *q, const char *path)
{
    sim_status st = SIM_OK;
    const int64_t pointer = sim_queue_pointer(q), filled = sim_queue_filled(q);

    SIM_CHECK(filled == pointer || (size_t)filled == sim_queue_slots(q), SIM_E_DATA,
              "%s: /queue/filled is %lld and /queue/pointer %lld, expected equal numbers "
              "or a full queue of %zu slots",
              path, (long long)filled, (long long)pointer, sim_queue_slots(q));
done:
    return st;
}

sim_status sim_resume_check_state(const sim_train_state *t, const char *path)
{
    sim_status st = SIM_OK;
    const sim_position *at = &t->progress.at;
    const sim_queue *q = sim_method_queue(&t->learner.method);
    const int64_t updates = sim_optimizer_updates(t->learner.optimizer);
    const double counted = t->interval.metrics.steps;

    SIM_CHECK(
        updates <= at->step - at->skipped, SIM_E_DATA,
        "%s: /optimizer/updates is %lld, expected at most %lld: step %lld, of which "
        "%lld skipped",
        path, (long long)updates, (long long)(at->step - at->skipped),
        (long long)at->step, (long long)at->skipped);
    SIM_CHECK(counted >= 0 && counted <= (double)updates, SIM_E_DATA,
              "%s: /train/metrics/steps is %.17g, expected 0 to %lld, the updates", path,
              counted, (long long)updates);
    if (q)
        SIM_TRY(check_queue(q, path));
    SIM_TRY(sim_method_check_scalars(&t->learner.method, path));
done:
    return st;
}
