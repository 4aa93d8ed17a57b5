/*
 * thread.h - a parallel loop, and the few thread tools the loader needs.
 *
 * Module: core
 * sim_for runs on OpenMP, so OMP_NUM_THREADS, OMP_PLACES and OMP_PROC_BIND do what
 * people expect.  Denormals are flushed to zero in every thread that computes.
 */
#ifndef SIMILE_THREAD_H
#define SIMILE_THREAD_H

#include "simile/status.h"

#include <pthread.h>
#include <stdint.h>

/* Number of threads sim_for uses; 0 asks OpenMP (OMP_NUM_THREADS, Slurm, affinity). */
void sim_threads_set(int wanted);
int sim_threads(void);

/* Cores this process may run on, of those that the machine has; "0-3,8" for people, cut
 * where `out` ends. */
int sim_cores_allowed(void);
int sim_cores_present(void);
void sim_cores_text(char *out, size_t out_bytes);
/* The allowed ones, a bit each; none where the system does not tell. */
enum { SIM_CORE_WORDS = 16 };
void sim_cores_mask(uint64_t out[SIM_CORE_WORDS]);

/*
 * Calls fn(i, ctx) for i in [0, n), in any order, on sim_threads() threads.
 * Items write disjoint outputs: that is what makes results independent of the count.
 * Not nested: called from inside an item it runs serially.  (A loop of one item is no
 * loop: its item may call sim_for and have all threads.)
 */
void sim_for(size_t n, void (*fn)(size_t i, void *ctx), void *ctx);

/* Index of the calling thread within the running sim_for, 0 outside of one. */
int sim_thread_index(void);

/*
 * Scratch of the calling thread, at least `bytes`, 64-byte aligned, contents
 * undefined, valid until the thread asks again.  Grows and stays; one user at a time:
 * whoever calls a function that may ask for scratch must not hold any.
 * Running out of memory here ends the job.
 */
void *sim_scratch(size_t bytes);
/* What a thread holds after asking for so much. */
size_t sim_scratch_capacity(size_t bytes);
/* Every thread of sim_for holds `room` from now on: without it a thread takes its scratch
 * whenever an item that wants some first falls to it, which may be late in a run. */
void sim_scratch_reserve(size_t room);

/* Sets flush-to-zero and denormals-are-zero for the calling thread. */
void sim_flush_denormals(void);

/* For data's loader and train's watchdog: threads that never call sim_for, MPI or HDF5. */
typedef struct {
    pthread_t id;
} sim_thread;
typedef struct {
    pthread_mutex_t lock;
} sim_mutex;
typedef struct {
    pthread_cond_t condition;
} sim_signal;

SIM_MUST_USE sim_status sim_thread_start(sim_thread *t, void *(*body)(void *), void *ctx);
void sim_thread_join(sim_thread *t);
void sim_mutex_init(sim_mutex *m);
void sim_mutex_lock(sim_mutex *m);
void sim_mutex_unlock(sim_mutex *m);
void sim_mutex_destroy(sim_mutex *m);
void sim_signal_init(sim_signal *s);
void sim_signal_wait(sim_signal *s, sim_mutex *m);
/* The same for `seconds` at most. */
void sim_signal_wait_for(sim_signal *s, sim_mutex *m, double seconds);
void sim_signal_all(sim_signal *s);
void sim_signal_destroy(sim_signal *s);

#endif
