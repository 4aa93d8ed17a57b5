/*
 * clock.c - clocks and their text formats.
 */
#include "simile/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

double sim_clock_cpu_s(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

double sim_clock_wall_s(void)
{
    return read_clock(CLOCK_REALTIME);
}

void sim_clock_sleep(double seconds)
{
    const time_t whole = (time_t)seconds;
    const struct timespec span = {.tv_sec = whole,
                                  .tv_nsec = (long)(1e9 * (seconds - (double)whole))};
    (void)nanosleep(&span, NULL);
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

/* ---- durations as text ---- */

enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };

/* Seconds of the unit that a word names; 0: none. */
static double unit_seconds(const char *word, size_t n)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"s", 1},      {"sec", 1},      {"second", 1},      {"seconds", 1},
                 {"m", MINUTE}, {"min", MINUTE}, {"minute", MINUTE}, {"minutes", MINUTE},
                 {"h", HOUR},   {"hour", HOUR},  {"hours", HOUR},    {"d", DAY},
                 {"day", DAY},  {"days", DAY}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i].name) == n && memcmp(word, units[i].name, n) == 0)
            return units[i].seconds;
    return 0;
}

/* Parts "NUMBER UNIT" from large to small units, as 1h30m. */
bool sim_clock_duration(const char *text, double *seconds)
{
    static const char digits[] = "0123456789.";
    double sum = 0, last = INFINITY;

    if (!*text)
        return false;
    while (*text) {
        char *end = NULL;
        const size_t n = strspn(text, digits);
        const double value = n > 0 ? strtod(text, &end) : 0;
        if (n == 0 || end != text + n || !isfinite(value))
            return false;
        text += n + strspn(text + n, " ");
        const size_t word = strcspn(text, "0123456789. ");
        const double unit = unit_seconds(text, word);
        if (unit == 0 || unit >= last)
            return false;
        sum += value * unit;
        last = unit;
        text += word + strspn(text + word, " ");
    }
    *seconds = sum;
    return true;
}

/* Up to `most` numbers that colons separate; returns how many, 0: malformed. */
static size_t read_fields(const char *text, size_t most, double fields[3])
{
    enum { MAX_DIGITS = 9 };
    for (size_t i = 0; i < most; i++) {
        const size_t n = strspn(text, "0123456789");
        if (n < 1 || n > MAX_DIGITS)
            return 0;
        fields[i] = strtod(text, NULL);
        if (text[n] == '\0')
            return i + 1;
        if (text[n] != ':')
            return 0;
        text += n + 1;
    }
    return 0;
}

bool sim_clock_limit(const char *text, double *seconds)
{
    const char *dash = strchr(text, '-');
    double f[3] = {0, 0, 0};
    char days[16];

    if (sim_clock_duration(text, seconds))
        return true;
    if (dash) {
        const size_t n = (size_t)(dash - text);
        double whole[3] = {0, 0, 0};
        (void)snprintf(days, sizeof days, "%.*s", n < sizeof days ? (int)n : 0, text);
        if (read_fields(days, 1, whole) == 0 || read_fields(dash + 1, 3, f) == 0)
            return false;
        *seconds = DAY * whole[0] + HOUR * f[0] + MINUTE * f[1] + f[2];
        return true;
    }
    switch (read_fields(text, 3, f)) {
    case 1:
    case 2:
        *seconds = MINUTE * f[0] + f[1];
        return true;
    case 3:
        *seconds = HOUR * f[0] + MINUTE * f[1] + f[2];
        return true;
    default:
        return false;
    }
}
