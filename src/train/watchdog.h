/*
 * watchdog.h - a thread that sees when no rank gets anything done any more.
 *
 * It never speaks MPI.  Every rank's thread keeps a small record of heartbeat.h's counts in a
 * file that all ranks see, RUN/heartbeat/rank-N; when its own main thread stands still for
 * long, it reads the records of the others.
 */
#ifndef SIMILE_TRAIN_WATCHDOG_H
#define SIMILE_TRAIN_WATCHDOG_H

#include "simile/heartbeat.h"
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
    /* What this rank has done; NULL: sim_heartbeat_now.  Tests play several ranks. */
    sim_heartbeat (*beats)(void *ctx);
} sim_watchdog_options;

typedef struct sim_watchdog sim_watchdog;

/*
 * Writes this rank's first record; `start` then starts the thread.  A record that an earlier run left
 * is another rank's until that rank has started too: let all agree before work begins.
 * Fails: as files do.
 */
SIM_MUST_USE sim_status sim_watchdog_create(const sim_watchdog_options *options,
                                            sim_watchdog **out);
SIM_MUST_USE sim_status sim_watchdog_start(sim_watchdog *w);
/* A tick, which the thread does many times in hang_s: a record, and a look at the others where
 * nothing moves.  It comes `elapsed_s` after the last one.  False: it was the last. */
bool sim_watchdog_look(sim_watchdog *w, double elapsed_s);
/* Ends the thread, if it was started, and removes the record. */
void sim_watchdog_stop(sim_watchdog **out);

#endif
