/*
 * metrics.c - the metrics of a step: accumulated over a log interval, published as a record.
 *
 * Called by the loop after each step, on every rank; only rank 0's stream has observers.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/heartbeat.h"

#include <math.h>
#include <string.h>

static const sim_interval_metric step_metrics[] = {
#define SIM_STEP_METRIC(name_, reduce_, label_, unit_, format_, digits_, place_, value)  \
    {.about = {.name = (name_),                                                          \
               .label = (label_),                                                        \
               .unit = (unit_),                                                          \
               .format = SIM_FORMAT_##format_,                                           \
               .digits = (digits_),                                                      \
               .place = SIM_LOG_##place_},                                               \
     .reduce = SIM_REDUCE_##reduce_},
#include "metrics.def"
#undef SIM_STEP_METRIC
};

enum { METRICS = sizeof step_metrics / sizeof step_metrics[0] };

static void list_values(const sim_step_values *s, double out[METRICS])
{
    size_t n = 0;
#define SIM_STEP_METRIC(name, reduce, label, unit, format, digits, place, value)         \
    out[n++] = (value);
#include "metrics.def"
#undef SIM_STEP_METRIC
}

/* Scalars that are not reduced over an interval. */
static const sim_metric queue_fill = {.name = "queue_filled",
                                      .label = "queue",
                                      .format = SIM_FORMAT_INT,
                                      .place = SIM_LOG_NOTE,
                                      .log_only = true};
static const sim_metric epochs = {
    .name = "epoch", .label = "epoch", .format = SIM_FORMAT_FIXED, .digits = 2};
static const sim_metric speed = {
    .name = "images_per_s", .unit = "images/s", .format = SIM_FORMAT_FIXED};
static const sim_metric data_wait = {.name = "data_percent",
                                     .label = "data",
                                     .unit = "%",
                                     .format = SIM_FORMAT_FIXED,
                                     .digits = 1,
                                     .place = SIM_LOG_NONZERO};
static const sim_metric gradient_sum = {.name = "gradient_sum_percent",
                                        .label = "sum",
                                        .unit = "%",
                                        .format = SIM_FORMAT_FIXED,
                                        .digits = 1,
                                        .place = SIM_LOG_NONZERO};
static const sim_metric elapsed = {
    .name = "elapsed_s", .unit = "s", .format = SIM_FORMAT_FIXED};

double sim_train_elapsed_s(const sim_train_state *t)
{
    return t->segment.earlier_s + sim_clock_s() - t->segment.start_s;
}

void sim_metrics_begin(sim_interval *interval)
{
    sim_interval_begin(interval, step_metrics, METRICS);
}

void sim_metrics_add(sim_interval *interval, const sim_step_values *s)
{
    double values[METRICS];

    list_values(s, values);
    if (s->updated)
        sim_interval_count(interval);
    for (size_t i = 0; i < METRICS; i++)
        if (s->updated || step_metrics[i].reduce == SIM_REDUCE_LAST)
            sim_interval_add(interval, step_metrics[i].about.name, values[i]);
}

/* ---- in checkpoints ---- */

sim_status sim_metrics_visit(void *interval, const sim_visitor *v)
{
    return sim_interval_visit(interval, "train/metrics", v);
}

/* The interval as version 0.1.0 stored it: one array, in this order. */
static const char *const interval_array[] = {
    "steps",    "loss",          "accuracy",      "positive",
    "negative", "embedding_std", "gradient_norm", "anchors_without_positive"};

enum { INTERVAL_ARRAY = sizeof interval_array / sizeof interval_array[0] };

/* Assigns the element of the array that has the tensor's name. */
static sim_status take_from_array(void *array, const char *group, const sim_tensor *t)
{
    (void)group;
    for (size_t i = 0; i < INTERVAL_ARRAY; i++)
        if (strcmp(interval_array[i], t->name) == 0)
            *(double *)t->data = ((const double *)array)[i];
    return SIM_OK;
}

sim_status sim_metrics_visit_array(void *interval, const sim_visitor *v)
{
    sim_status st = SIM_OK;
    double array[INTERVAL_ARRAY] = {NAN}; /* if there is no array */
    const sim_tensor tensor = {.name = "interval",
                               .type = SIM_F64,
                               .n_dims = 1,
                               .dims = {INTERVAL_ARRAY},
                               .data = array,
                               .optional = true};
    const sim_visitor take = {.visit = take_from_array, .ctx = array};

    SIM_TRY(sim_visit(v, "train", &tensor));
    if (!isnan(array[0]))
        SIM_TRY(sim_metrics_visit(interval, &take));
done:
    return st;
}

/* ---- records ---- */

/* Seconds until the earliest known limit; 0: no limit. */
static double time_left(const sim_train_request *r, double elapsed_s)
{
    double own = r->time_limit_s, job = r->job_left_s;
    double limit = own > 0 && (job <= 0 || own < job) ? own : job;
    double left = limit - elapsed_s;
    return limit <= 0 ? 0 : left > 1 ? left : 1;
}

static void add_queue(const sim_method *m, sim_record *r)
{
    const sim_queue *q = sim_method_queue(m);
    if (q && (size_t)sim_queue_filled(q) < sim_queue_slots(q))
        sim_record_add_part(r, &queue_fill, sim_queue_filled(q),
                            (int64_t)sim_queue_slots(q));
}

/* Trained scalars of the method, such as its temperature. */
static void add_scalars_of_method(const sim_method *m, sim_record *r)
{
    sim_method_number numbers[SIM_MAX_SCALARS];
    size_t n = sim_method_numbers(m, numbers);
    for (size_t i = 0; i < n; i++) {
        const sim_metric about = {.name = numbers[i].name,
                                  .label = numbers[i].name,
                                  .format = SIM_FORMAT_GENERAL,
                                  .digits = 4,
                                  .place = SIM_LOG_NOTE};
        sim_record_add(r, &about, numbers[i].value);
    }
}

/* Per cent of the time of the interval, rounded to a tenth. */
static double percent(double part_s, double span_s)
{
    return span_s > 0 ? round(1000 * part_s / span_s) / 10 : 0;
}

static void fill_record(const sim_train_state *t, sim_record *r)
{
    double now = sim_clock_s(), span = now - t->interval.start_s;
    double batch = (double)t->env.job->train.batch;
    int64_t steps = t->progress.at.step - t->interval.start_step;
    double images_per_s = span > 0 ? (double)steps * batch / span : 0;

    r->step = t->progress.at.step;
    r->total_steps = t->progress.plan.total_steps;
    r->updated = t->interval.metrics.steps > 0;
    r->eta_s =
        images_per_s > 0 ? (double)(r->total_steps - r->step) * batch / images_per_s : 0;
    r->limit_s = time_left(t->env.request, now - t->segment.start_s);
    add_queue(&t->learner.method, r);
    sim_record_add(r, &epochs,
                   (double)t->progress.at.epoch + (double)t->progress.at.samples /
                                                      (double)t->progress.plan.n_images);
    sim_interval_publish(&t->interval.metrics, r);
    sim_record_add(r, &data_wait,
                   percent(t->costs.phase_s[SIM_PHASE_DATA] - t->interval.data_s, span));
    sim_record_add(r, &gradient_sum,
                   percent(t->costs.phase_s[SIM_PHASE_SUM] - t->interval.sum_s, span));
    add_scalars_of_method(&t->learner.method, r);
    sim_record_add(r, &speed, images_per_s);
    sim_record_add(r, &elapsed, sim_train_elapsed_s(t));
}

/* Of equal scores the first is the best.  A score of NaN is none. */
static void note_score(sim_saves *s, int64_t step, double score)
{
    if (!(score > s->best_score) && (s->best_step > 0 || isnan(score)))
        return;
    s->best_step = step;
    s->best_score = score;
}

/* The observers of the run, or NULL on ranks other than 0 and once the run is lost.  Steps may take
 * less time than the read of the lock. */
static sim_stream *writable_stream(sim_train_state *t)
{
    const double period_s = 1, now_s = sim_clock_s();

    if (now_s - t->interval.checked_s >= period_s && !t->interval.is_lost) {
        const sim_status st = sim_run_check(&t->env.run);
        t->interval.checked_s = now_s;
        t->interval.is_lost = st != SIM_OK;
        sim_defer_error(&t->deferred, st);
    }
    return t->interval.is_lost ? NULL : t->env.request->stream;
}

/* Publishes the record, then runs the callbacks; adds their time to the phase. */
static void notify(sim_train_state *t, const sim_record *r)
{
    double start = sim_clock_s();
    sim_stream *stream = writable_stream(t);

    sim_defer_error(&t->deferred, sim_stream_publish(stream, r));
    for (size_t i = 0; i < t->env.request->n_callbacks; i++) {
        const sim_train_callback *c = &t->env.request->callbacks[i];
        sim_defer_error(&t->deferred, c->after_step(c->ctx, t, stream));
        if (c->score)
            note_score(&t->saves, t->progress.at.step, c->score(c->ctx));
    }
    double took = sim_clock_s() - start;
    t->costs.phase_s[SIM_PHASE_OBSERVERS] += took;
    if (took > t->costs.slowest_observers_s)
        t->costs.slowest_observers_s = took;
    t->interval.start_s += took; /* images_per_s excludes the observers */
}

static void check_collapse(sim_train_state *t, double embedding_std)
{
    const sim_method *m = &t->learner.method;
    const sim_embeddings z = m->row->embeddings(m->self);
    sim_defer_error(&t->deferred,
                    sim_collapse_check(&t->collapse, &t->progress, &z, embedding_std));
}

void sim_metrics_publish(sim_train_state *t)
{
    bool interval = t->progress.at.step % t->env.job->train.log_every_steps == 0 ||
                    t->progress.at.step == t->progress.plan.total_steps;
    sim_record r = {.kind = interval ? SIM_RECORD_INTERVAL : SIM_RECORD_PROGRESS};

    sim_heartbeat_phase("log and evaluation");
    fill_record(t, &r);
    notify(t, &r);
    if (!interval)
        return;
    t->interval.published = r.step;
    if (r.updated)
        check_collapse(t, sim_record_value(&r, "embedding_std"));
    sim_interval_reset(&t->interval.metrics);
    t->interval.start_s = sim_clock_s();
    t->interval.data_s = t->costs.phase_s[SIM_PHASE_DATA];
    t->interval.sum_s = t->costs.phase_s[SIM_PHASE_SUM];
    t->interval.start_step = t->progress.at.step;
}
