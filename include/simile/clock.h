/*
 * clock.h - time for people and for profiles; never for results.
 *
 * Module: core
 */
#ifndef SIMILE_CLOCK_H
#define SIMILE_CLOCK_H

#include <stddef.h>

double sim_clock_s(void);      /* monotonic seconds since some moment */
double sim_clock_wall_s(void); /* seconds since 1970 */

/* "2026-11-24T08:45:35Z" of a wall time; `out` holds 21 bytes. */
void sim_clock_iso(double wall_s, char out[21]);

/* "3h12m", "45 s", "2d4h" for people. */
void sim_clock_span(double seconds, char *out, size_t out_bytes);

#endif
