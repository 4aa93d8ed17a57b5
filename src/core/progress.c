/*
 * progress.c - progress of long work, on the terminal and in logs.
 */
#include "simile/clock.h"
#include "simile/log.h"

#include <stdio.h>

enum { RECORD_S = 60 };
static const double show_s = 0.5;

sim_progress_line sim_progress_line_begin(const char *what, const char *unit,
                                          size_t begun, size_t total)
{
    const double now_s = sim_clock_s();

    return (sim_progress_line){.what = what,
                               .unit = unit,
                               .begun = begun,
                               .total = total,
                               .start_s = now_s,
                               .shown_s = now_s,
                               .recorded_s = now_s};
}

void sim_progress_line_report(sim_progress_line *p, size_t done)
{
    const double now_s = sim_clock_s();
    char text[256], left[32];

    if (now_s - p->shown_s < show_s)
        return;
    p->shown_s = now_s;
    const double per_s = (double)(done - p->begun) / (now_s - p->start_s);
    sim_clock_span((double)(p->total - done) / per_s, left, sizeof left);
    (void)snprintf(text, sizeof text, "%s%s%zu of %zu %s, %.*f %s/s, %s left",
                   p->what ? p->what : "", p->what ? ": " : "", done, p->total, p->unit,
                   per_s < 10 ? 1 : 0, per_s, p->unit, left);
    sim_log_progress("%s", text);
    if (now_s - p->recorded_s < RECORD_S)
        return;
    p->recorded_s = now_s;
    sim_log_record("%s", text);
}
