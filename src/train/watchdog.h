/*
 * watchdog.h - detects when no rank makes progress, and ends the job.
 *
 * Two threads, neither of which uses MPI.  On every rank the reporting thread publishes the counts
 * of heartbeat.h in a file that all ranks can read, RUN/heartbeat/rank-N.  When its own main thread
 * makes no progress for long, it reads the files of the other ranks.  The counting thread reads only
 * memory, so that nothing can block it: it ends the job when the reporting thread has found a hang,
 * or when neither the main thread nor the reporting thread makes progress, as on a failed disk.
 */
#ifndef SIMILE_TRAIN_WATCHDOG_H
#define SIMILE_TRAIN_WATCHDOG_H

#include "simile/heartbeat.h"
#include "simile/status.h"

/* If the rank that should end the job cannot, the others do so after this time. */
enum { SIM_HANG_GRACE_S = 10 };

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
    /* Called by the reporting thread, on the lowest rank that can.  The text names the ranks
     * that are behind, with step and phase, as far as they are known. */
    void (*report)(void *ctx, sim_hang event, const char *text);
    /* Called by the counting thread at a certain hang, with the same text if there is a report;
     * ends the job. */
    void (*end)(void *ctx, const char *text);
    void *ctx;
    /* Counts of this rank; NULL: sim_heartbeat_now.  Tests simulate several ranks. */
    sim_heartbeat (*beats)(void *ctx);
} sim_watchdog_options;

typedef struct sim_watchdog sim_watchdog;

/*
 * Writes the first heartbeat of this rank; `start` then starts the threads.  The file of another
 * rank may be from an earlier job until that rank has called create, so all ranks must agree
 * before work begins.  Errors: those of files.
 */
SIM_MUST_USE sim_status sim_watchdog_create(const sim_watchdog_options *options,
                                            sim_watchdog **out);
SIM_MUST_USE sim_status sim_watchdog_start(sim_watchdog *w);
/* One check of the reporting thread, made many times within hang_s: publishes the heartbeat, and
 * reads those of other ranks if there is no progress.  elapsed_s: since the last check.  Returns
 * false if it was the last one. */
bool sim_watchdog_tick(sim_watchdog *w, double elapsed_s);
/* Whether a path is that of a heartbeat file, by its name and length. */
bool sim_watchdog_is_record(const char *path);
/* One check of the counting thread, made as often.  Returns false if the job must end; *text then has
 * the reason, valid until `stop`.  Reads and writes no file. */
bool sim_watchdog_count(sim_watchdog *w, double elapsed_s, const char **text);
/* Ends the threads, if they were started, and removes the heartbeat file. */
void sim_watchdog_stop(sim_watchdog **out);

#endif
