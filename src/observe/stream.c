/*
 * stream.c - records of scalars, and the stream that hands them to the observers.
 */
#include "simile/observe.h"

#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- records ---- */

static void format_value(const sim_scalar *s, char *out, size_t out_bytes)
{
    if (s->total > 0)
        (void)snprintf(out, out_bytes, "%lld/%lld", (long long)s->value,
                       (long long)s->total);
    else if (s->about.format == SIM_FORMAT_INT)
        (void)snprintf(out, out_bytes, "%lld", (long long)s->value);
    else if (s->about.format == SIM_FORMAT_FIXED)
        (void)snprintf(out, out_bytes, "%.*f", s->about.digits, s->value);
    else
        (void)snprintf(out, out_bytes, "%.*g", s->about.digits, s->value);
}

void sim_scalar_text(const sim_scalar *s, char *out, size_t out_bytes)
{
    const char *label = s->about.label, *unit = s->about.unit;
    char value[64];

    format_value(s, value, sizeof value);
    (void)snprintf(out, out_bytes, "%s%s%s%s%s", label ? label : "", label ? " " : "",
                   value, unit ? " " : "", unit ? unit : "");
}

static void append_scalar(sim_record *r, const sim_metric *about, double value,
                          int64_t total)
{
    SIM_ASSERT(r->n_scalars < SIM_MAX_RECORD);
    r->scalars[r->n_scalars++] =
        (sim_scalar){.about = *about, .value = value, .total = total};
}

void sim_record_add(sim_record *r, const sim_metric *about, double value)
{
    append_scalar(r, about, value, 0);
}

void sim_record_add_part(sim_record *r, const sim_metric *about, int64_t part,
                         int64_t total)
{
    append_scalar(r, about, (double)part, total);
}

void sim_record_add_histogram(sim_record *r, const sim_histogram *h)
{
    SIM_ASSERT(r->n_histograms < SIM_MAX_HISTOGRAMS && h->n_bins <= SIM_HISTOGRAM_BINS);
    r->histograms[r->n_histograms++] = *h;
}

double sim_record_value(const sim_record *r, const char *name)
{
    for (size_t i = 0; i < r->n_scalars; i++)
        if (strcmp(r->scalars[i].about.name, name) == 0)
            return r->scalars[i].value;
    return NAN;
}

/* ---- the stream ---- */

typedef struct {
    const sim_observer *observer;
    char *state;
} receiver;

struct sim_stream {
    receiver *receivers;
    size_t n;
};

sim_status sim_stream_create(const sim_observer *const *observers, size_t n,
                             sim_stream **out)
{
    sim_status st = SIM_OK;
    sim_stream *s = NULL;

    SIM_TRY(sim_new(&s, "observe/stream"));
    SIM_TRY(sim_alloc(&s->receivers, n, "observe/stream"));
    for (; s->n < n; s->n++) {
        receiver *r = &s->receivers[s->n];
        SIM_TRY(sim_alloc(&r->state, observers[s->n]->state_bytes, "observe/stream"));
        r->observer = observers[s->n];
    }
    *out = s;
    s = NULL;
done:
    sim_stream_destroy(&s);
    return st;
}

void sim_stream_destroy(sim_stream **out)
{
    sim_stream *s = *out;
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        if (s->receivers[i].observer->clear)
            s->receivers[i].observer->clear(s->receivers[i].state);
        sim_free(s->receivers[i].state);
    }
    sim_free(s->receivers);
    sim_free(s);
    *out = NULL;
}

sim_status sim_stream_begin(sim_stream *s, const sim_observed_run *run)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; s && i < s->n; i++)
        if (s->receivers[i].observer->begin)
            SIM_TRY(s->receivers[i].observer->begin(s->receivers[i].state, run));
done:
    return st;
}

sim_status sim_stream_publish(sim_stream *s, const sim_record *record)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; s && i < s->n; i++)
        if (s->receivers[i].observer->publish)
            SIM_TRY(s->receivers[i].observer->publish(s->receivers[i].state, record));
done:
    return st;
}

sim_status sim_stream_sync(sim_stream *s)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; s && i < s->n; i++)
        if (s->receivers[i].observer->sync)
            SIM_TRY(s->receivers[i].observer->sync(s->receivers[i].state));
done:
    return st;
}

sim_status sim_stream_end(sim_stream *s)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; s && i < s->n; i++)
        if (s->receivers[i].observer->end)
            SIM_TRY(s->receivers[i].observer->end(s->receivers[i].state));
done:
    return st;
}
