/*
 * heartbeat.h - progress counters of this process, read by a watchdog thread.
 *
 * Module: core
 * Code that completes a unit of work increments a counter: a parallel loop, a transfer of a
 * file, a message exchange between ranks. A counter that does not change means that no
 * progress is made. All functions are thread-safe and take a few nanoseconds.
 */
#ifndef SIMILE_HEARTBEAT_H
#define SIMILE_HEARTBEAT_H

#include <stdint.h>

typedef struct {
    uint64_t beats; /* units of work completed since the start of the process */
    /* Exchanges started plus exchanges completed; odd during an exchange. Equal on ranks that
     * have executed the same exchanges. */
    uint64_t exchanges;
    int64_t step;      /* last argument of sim_heartbeat_step; 0 initially */
    const char *phase; /* last argument of sim_heartbeat_phase; "" initially */
} sim_heartbeat;

/* Counts one completed unit of work. */
void sim_heartbeat_tick(void);
/* Marks the start or the end of an exchange with other ranks. Also counts as a unit of work. */
void sim_heartbeat_exchange(void);
/* Sets a short description of the current work for messages. `text` is stored, not copied;
 * pass a string literal. */
void sim_heartbeat_phase(const char *text);
void sim_heartbeat_step(int64_t value);

/* Excludes all further work of the calling thread from the counts; for the watchdog itself. */
void sim_heartbeat_mute(void);

/* Reads the counters, each atomically; not one consistent snapshot. */
sim_heartbeat sim_heartbeat_now(void);

#endif
