/*
 * clock.c - clocks and their text formats.
 */
#include "simile/clock.h"

#include <stdio.h>
#include <time.h>

static double read_clock(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double sim_clock_s(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double sim_clock_wall_s(void)
{
    return read_clock(CLOCK_REALTIME);
}

void sim_clock_iso(double wall_s, char out[21])
{
    const double last = 253402300799.0; /* end of the year 9999 */
    time_t seconds = wall_s > 0 ? (time_t)(wall_s < last ? wall_s : last) : 0;
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) ||
        strftime(out, 21, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        out[0] = '\0';
}

void sim_clock_span(double seconds, char *out, size_t out_bytes)
{
    if (!(seconds >= 0 && seconds < 1e12)) {
        (void)snprintf(out, out_bytes, "?");
        return;
    }
    long long s = (long long)(seconds + 0.5);
    if (s < 60)
        (void)snprintf(out, out_bytes, "%lld s", s);
    else if (s < 3600)
        (void)snprintf(out, out_bytes, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(out, out_bytes, "%lldh%02lldm", s / 3600, s % 3600 / 60);
    else
        (void)snprintf(out, out_bytes, "%lldd%lldh", s / 86400, s % 86400 / 3600);
}
