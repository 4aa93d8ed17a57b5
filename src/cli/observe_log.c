/*
 * observe_log.c - progress in the log: one line per interval or evaluation; on a terminal, one
 * line that is overwritten after every step.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    double drawn_s; /* when the line on the terminal was overwritten */
} log_state;

static void append(char *out, size_t out_bytes, const char *text)
{
    size_t used = strlen(out);
    (void)snprintf(out + used, out_bytes - used, " %s", text);
}

/* Time to the end of the run, or to the limit and the step reached by then. */
static void format_eta(const sim_record *r, char *out, size_t out_bytes)
{
    char eta[32], left[32];
    double part = r->eta_s > 0 ? r->limit_s / r->eta_s : 1;
    int64_t reached = r->step + (int64_t)(part * (double)(r->total_steps - r->step));

    sim_clock_span(r->eta_s, eta, sizeof eta);
    sim_clock_span(r->limit_s, left, sizeof left);
    if (r->limit_s <= 0)
        (void)snprintf(out, out_bytes, "eta %s", eta);
    else if (part >= 1)
        (void)snprintf(out, out_bytes, "eta %s, limit in %s", eta, left);
    else
        (void)snprintf(out, out_bytes, "eta %s, but the limit in %s, at about step %lld",
                       eta, left, (long long)reached);
}

static bool is_note(const sim_scalar *s)
{
    return s->about.place == SIM_LOG_NOTE ||
           (s->about.place == SIM_LOG_NONZERO && s->value != 0);
}

static void append_scalars(const sim_record *r, bool notes, char *out, size_t out_bytes)
{
    char text[96];
    for (size_t i = 0; i < r->n_scalars; i++) {
        const sim_scalar *s = &r->scalars[i];
        const bool is_mean = s->about.place == SIM_LOG_MEAN && !isnan(s->value);
        if (notes ? !is_note(s) : !is_mean)
            continue; /* NaN: the method does not define it */
        sim_scalar_text(s, text, sizeof text);
        append(out, out_bytes, text);
    }
}

static void format_line(const sim_record *r, char *out, size_t out_bytes)
{
    char eta[128], speed[64];

    (void)snprintf(out, out_bytes, "step %lld/%lld epoch %.2f", (long long)r->step,
                   (long long)r->total_steps, sim_record_value(r, "epoch"));
    if (r->updated)
        append_scalars(r, false, out, out_bytes);
    else
        append(out, out_bytes, "no update");
    (void)snprintf(speed, sizeof speed, "%.0f images/s",
                   sim_record_value(r, "images_per_s"));
    append(out, out_bytes, speed);
    format_eta(r, eta, sizeof eta);
    append(out, out_bytes, eta);
}

static void log_interval(const sim_record *r)
{
    char line[512];
    format_line(r, line, sizeof line);
    append_scalars(r, true, line, sizeof line);
    sim_log_record("%s", line);
}

static void draw_progress(log_state *s, const sim_record *r)
{
    const double least_s = 0.2; /* between two updates of the line */
    char line[512];
    double now = sim_clock_s();

    if (!sim_log_is_terminal() ||
        (r->kind == SIM_RECORD_PROGRESS && now - s->drawn_s <= least_s))
        return;
    format_line(r, line, sizeof line);
    sim_log_progress("%s", line);
    s->drawn_s = now;
}

static sim_status log_publish(void *state, const sim_record *r)
{
    if (r->kind == SIM_RECORD_EVALUATION) {
        sim_log("%s", r->text);
        return SIM_OK;
    }
    if (r->kind == SIM_RECORD_INTERVAL)
        log_interval(r);
    if (r->kind != SIM_RECORD_PICTURE)
        draw_progress(state, r);
    return SIM_OK;
}

const sim_observer sim_observe_log = {
    .name = "log", .state_bytes = sizeof(log_state), .publish = log_publish};
