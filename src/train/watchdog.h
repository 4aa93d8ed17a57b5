/*
 * watchdog.h - a thread that detects when no rank makes progress.
 *
 * The thread does not use MPI.  On every rank it publishes the counts of heartbeat.h in a file
 * that all ranks can read, RUN/heartbeat/rank-N.  When its own main thread makes no progress
 * for long, it reads the files of the other ranks.
 */
#ifndef SIMILE_TRAIN_WATCHDOG_H
#define SIMILE_TRAIN_WATCHDOG_H

#include "simile/heartbeat.h"
#include "simile/status.h"

typedef enum {
    SIM_HANG_SUSPECTED, /* half of the time has passed */
    SIM_HANG_OVER,      /* progress after a suspected hang */
    SIM_HANG_CERTAIN    /* no progress for the whole time; the thread then ends */
} sim_hang;

typedef struct {
    const char *directory; /* of the heartbeat files; exists */
    const char *host;
    int rank, size;
    double hang_s;
    /* Called by the watchdog's thread, on the lowest rank that can.  The text names the ranks
     * that are behind, with step and phase, as far as they are known. */
    void (*report)(void *ctx, sim_hang event, const char *text);
    void *ctx;
    /* Counts of this rank; NULL: sim_heartbeat_now.  Tests simulate several ranks. */
    sim_heartbeat (*beats)(void *ctx);
} sim_watchdog_options;

typedef struct sim_watchdog sim_watchdog;

/*
 * Writes the first heartbeat of this rank; `start` then starts the thread.  The file of another
 * rank may be from an earlier job until that rank has called create, so all ranks must agree
 * before work begins.  Errors: those of files.
 */
SIM_MUST_USE sim_status sim_watchdog_create(const sim_watchdog_options *options,
                                            sim_watchdog **out);
SIM_MUST_USE sim_status sim_watchdog_start(sim_watchdog *w);
/* One check, which the thread makes many times within hang_s: publishes the heartbeat, and reads
 * those of other ranks if there is no progress.  elapsed_s: since the last check.  Returns false
 * if it was the last one. */
bool sim_watchdog_tick(sim_watchdog *w, double elapsed_s);
/* Whether a path is that of a heartbeat file, by its name and length. */
bool sim_watchdog_is_record(const char *path);
/* Ends the thread, if it was started, and removes the heartbeat file. */
void sim_watchdog_stop(sim_watchdog **out);

#endif
