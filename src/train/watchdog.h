/*
 * watchdog.h - a thread that sees when no rank gets anything done any more.
 *
 * It never speaks MPI.  Every rank's thread keeps a small record of beat.h's counts in a
 * file that all ranks see, RUN/heartbeat/rank-N; when its own main thread stands still for
 * long, it reads the records of the others.
 */
#ifndef SIMILE_TRAIN_WATCHDOG_H
#define SIMILE_TRAIN_WATCHDOG_H

#include "simile/status.h"

typedef enum {
    SIM_HANG_FEARED, /* half of the time is over */
    SIM_HANG_OVER,   /* after that: work goes on */
    SIM_HANG_SURE    /* nobody did anything for all of it; the thread ends here */
} sim_hang;

typedef struct {
    const char *folder; /* of the records; it is there */
    const char *host;
    int rank, size;
    double hang_s;
    /* From the watchdog's thread, on one rank where there is a choice: the text names who
     * is behind, in which step and phase, as far as it can be known. */
    void (*tell)(void *ctx, sim_hang event, const char *text);
    void *ctx;
} sim_watchdog_options;

typedef struct sim_watchdog sim_watchdog;

/*
 * Writes this rank's first record and starts the thread.  A record that an earlier run left
 * is another rank's until that rank has started too: let all agree before work begins.
 * Fails: as files do.
 */
SIM_MUST_USE sim_status sim_watchdog_start(const sim_watchdog_options *options,
                                           sim_watchdog **out);
/* Ends the thread and removes the record. */
void sim_watchdog_stop(sim_watchdog **out);

#endif
