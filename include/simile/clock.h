/*
 * clock.h - clocks for log lines and time measurements. Results never depend on them.
 *
 * Module: core
 */
#ifndef SIMILE_CLOCK_H
#define SIMILE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>

double sim_clock_s(void);      /* monotonic, in seconds since an arbitrary origin */
double sim_clock_cpu_s(void);  /* CPU time of all threads of this process */
double sim_clock_wall_s(void); /* seconds since 1970-01-01 UTC */
void sim_clock_sleep(double seconds); /* or less, if a signal arrives */

/* Formats a wall time as UTC, "2026-11-24T08:45:35Z"; "" if it cannot be represented. */
void sim_clock_iso(double wall_s, char out[21]);

/* Formats a duration as "45 s", "12m05s", "3h12m" or "2d4h"; "?" if negative or not finite. */
void sim_clock_span(double seconds, char *out, size_t out_bytes);

/* "90s", "15min", "2h", "1d", "1h30m" -> seconds.  false: not a duration; a number alone is none. */
bool sim_clock_duration(const char *text, double *seconds);
/*
 * A time limit of a job, with the meaning that Slurm gives to --time: minutes, minutes:seconds,
 * hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds; or a duration
 * as above.  false: none of these.
 */
bool sim_clock_limit(const char *text, double *seconds);

#endif
