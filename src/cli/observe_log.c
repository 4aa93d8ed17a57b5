/*
 * observe_log.c - progress in the log: one line per interval, and one that is redrawn on a terminal.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    double last_s; /* when the line in place was drawn */
} state;

/* Time to the end of the run, or to the limit and the step reached by then. */
static void format_eta(const sim_step_metrics *m, char *out, size_t out_bytes)
{
    char eta[32], left[32];
    double part = m->eta_s > 0 ? m->left_s / m->eta_s : 1;
    int64_t near = m->step + (int64_t)(part * (double)(m->total_steps - m->step));

    sim_clock_span(m->eta_s, eta, sizeof eta);
    sim_clock_span(m->left_s, left, sizeof left);
    if (m->left_s <= 0)
        (void)snprintf(out, out_bytes, "eta %s", eta);
    else if (part >= 1)
        (void)snprintf(out, out_bytes, "eta %s, limit in %s", eta, left);
    else
        (void)snprintf(out, out_bytes, "eta %s, but the limit in %s, at about step %lld",
                       eta, left, (long long)near);
}

static void format_line(const sim_step_metrics *m, char *out, size_t out_bytes)
{
    char eta[128], means[128] = "no update";
    format_eta(m, eta, sizeof eta);
    if (!isnan(m->loss))
        (void)snprintf(means, sizeof means, "loss %.4f lr %.4g acc %.3f emb_std %.4f",
                       m->loss, m->lr, m->accuracy, m->embedding_std);
    (void)snprintf(out, out_bytes, "step %lld/%lld epoch %.2f %s %.0f images/s %s",
                   (long long)m->step, (long long)m->total_steps, m->epochs, means,
                   m->images_per_s, eta);
}

/* How far the queue is filled, until it is full. */
static void add_fill(const sim_train_state *t, char *out, size_t out_bytes)
{
    const sim_queue *q = sim_method_queue(sim_train_method(t));
    size_t used = strlen(out);
    if (q && (size_t)sim_queue_filled(q) < sim_queue_slots(q))
        (void)snprintf(out + used, out_bytes - used, " queue %lld/%zu",
                       (long long)sim_queue_filled(q), sim_queue_slots(q));
}

/* Anchors without a positive, which the loss ignores. */
static void add_without_positive(const sim_step_metrics *m, char *out, size_t out_bytes)
{
    size_t used = strlen(out);
    if (m->anchors_without_positive)
        (void)snprintf(out + used, out_bytes - used, " %lld anchors without a positive",
                       (long long)m->anchors_without_positive);
}

/* Trained scalars of the method, such as its temperature. */
static void add_numbers(const sim_train_state *t, char *out, size_t out_bytes)
{
    sim_method_number numbers[SIM_MAX_SCALARS];
    size_t n = sim_method_numbers(sim_train_method(t), numbers);
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(out);
        (void)snprintf(out + used, out_bytes - used, " %s %.4g", numbers[i].name,
                       numbers[i].value);
    }
}

static sim_status on_step(void *ctx, const sim_train_state *t, const sim_step_metrics *m,
                          bool interval)
{
    state *s = ctx;
    char line[320];
    double now = sim_clock_s();

    if (sim_train_comm(t)->rank != 0)
        return SIM_OK;
    if (interval) {
        format_line(m, line, sizeof line);
        add_fill(t, line, sizeof line);
        add_without_positive(m, line, sizeof line);
        add_numbers(t, line, sizeof line);
        sim_log_record("%s", line);
    }
    if (sim_log_is_terminal() && (interval || now - s->last_s > 0.2)) {
        format_line(m, line, sizeof line);
        sim_log_progress("%s", line);
        s->last_s = now;
    }
    return SIM_OK;
}

sim_observer sim_observe_log(void *memory)
{
    return (sim_observer){.ctx = memory, .on_step = on_step};
}

size_t sim_observe_log_bytes(void)
{
    return sizeof(state);
}
