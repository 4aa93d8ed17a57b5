/*
 * heartbeat.h - how far this process is, for a watchdog in another thread to see.
 *
 * Module: core
 * Whoever finishes a piece of work beats: a parallel loop, a transfer of a file, an exchange
 * between ranks.  A count that stands still means that nothing gets done.  All functions
 * may be called from any thread and cost a few nanoseconds.
 */
#ifndef SIMILE_HEARTBEAT_H
#define SIMILE_HEARTBEAT_H

#include <stdint.h>

typedef struct {
    uint64_t beats; /* pieces of work done since the start */
    uint64_t place; /* exchanges begun + exchanges ended; odd inside of one.  Ranks that
                          did the same have the same number. */
    int64_t step;   /* as last said */
    const char *phase; /* as last said; "" before */
} sim_heartbeat;

/* A piece of work is done. */
void sim_heartbeat_tick(void);
/* An exchange with other ranks begins, or ends.  Counts as a beat. */
void sim_heartbeat_exchange(void);
/* What the work is for, in words that a person reads.  Keeps: words, a literal. */
void sim_heartbeat_phase(const char *words);
void sim_heartbeat_step(int64_t number);

/* From now on nothing that the calling thread does counts: for the watchdog itself. */
void sim_heartbeat_mute(void);

/* The present counts; not all of the very same moment. */
sim_heartbeat sim_heartbeat_now(void);

#endif
