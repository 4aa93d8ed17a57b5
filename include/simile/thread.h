/*
 * thread.h - the parallel loop, per-thread scratch memory, and POSIX threads.
 *
 * Module: core
 * sim_for uses OpenMP; OMP_NUM_THREADS, OMP_PLACES and OMP_PROC_BIND apply. Denormals are
 * flushed to zero in every thread that computes.
 */
#ifndef SIMILE_THREAD_H
#define SIMILE_THREAD_H

#include "simile/status.h"

#include <pthread.h>
#include <stdint.h>

/*
 * Makes idle threads of sim_for spin for about 10 microseconds and then sleep, unless the
 * environment selects another policy (OMP_WAIT_POLICY, GOMP_SPINCOUNT). libgomp reads the
 * policy when it is loaded, so the process re-executes itself once with the variable set; if
 * that fails, it continues with libgomp's default, which spins for milliseconds.
 * argv: of main, which calls this first.
 */
void sim_threads_limit_spinning(char **argv);

/* Sets the number of threads of sim_for. 0 selects OMP_NUM_THREADS if set, otherwise the number
 * of allowed cores. */
void sim_threads_set(int n);
int sim_threads(void);

/* Cores in the affinity mask of this process, and cores of the machine that are online. */
int sim_cores_allowed(void);
int sim_cores_present(void);
/* Cores that the mpirun (or daemon of it on this node) which started this process may use, at most
 * those that Slurm allocated; 0: another launcher, or unknown. */
int sim_cores_of_launcher(void);
/* Formats the affinity mask, "0-3,8"; truncated to out_bytes; "?" if unknown. */
void sim_cores_text(char *out, size_t out_bytes);
/* The affinity mask, one bit per core; all zero if unknown. */
enum { SIM_CORE_WORDS = 16 };
void sim_cores_mask(uint64_t out[SIM_CORE_WORDS]);

/*
 * Calls fn(i, ctx) for each i in [0, n), in any order, on sim_threads() threads. Iterations
 * write disjoint outputs, so results do not depend on the number of threads. Loops do not nest:
 * inside an iteration, sim_for runs serially. A loop with a single iteration is not parallel;
 * its iteration may call sim_for and use all threads.
 */
void sim_for(size_t n, void (*fn)(size_t i, void *ctx), void *ctx);

/* Index of the calling thread in the running sim_for; 0 outside. */
int sim_thread_index(void);

/*
 * Returns scratch memory of the calling thread: at least `bytes`, 64-byte aligned, content
 * undefined. It is valid until the next call in this thread, so a caller must not use it
 * across calls of functions that use scratch themselves. It grows on demand and is never
 * shrunk. Aborts if memory is exhausted.
 */
void *sim_scratch(size_t bytes);
/* Bytes that a thread allocates for a request of `bytes`. */
size_t sim_scratch_capacity(size_t bytes);
/* Allocates at least `bytes` of scratch in every thread of sim_for. Otherwise a thread allocates
 * in the first iteration that needs scratch, possibly late in a run. */
void sim_scratch_reserve(size_t bytes);

/* Enables flush-to-zero and denormals-are-zero in the calling thread, on x86 and AArch64. */
void sim_flush_denormals(void);

/* POSIX threads, for the image loader and the watchdog. These threads never call sim_for, MPI
 * or HDF5. */
typedef struct {
    pthread_t id;
} sim_thread;
typedef struct {
    pthread_mutex_t lock;
} sim_mutex;
typedef struct {
    pthread_cond_t condition;
} sim_signal;

/* Starts a thread that runs body(ctx). Errors: SIM_E_IO. */
SIM_MUST_USE sim_status sim_thread_start(sim_thread *t, void *(*body)(void *), void *ctx);
void sim_thread_join(sim_thread *t);
/* Instead of join: nothing waits for the thread. */
void sim_thread_detach(sim_thread *t);

void sim_mutex_init(sim_mutex *m);
void sim_mutex_lock(sim_mutex *m);
void sim_mutex_unlock(sim_mutex *m);
void sim_mutex_destroy(sim_mutex *m);

/* A condition variable. Both waits require that the caller holds m and may return spuriously. */
void sim_signal_init(sim_signal *s);
void sim_signal_wait(sim_signal *s, sim_mutex *m);
/* Waits for at most `seconds`. */
void sim_signal_wait_for(sim_signal *s, sim_mutex *m, double seconds);
void sim_signal_all(sim_signal *s);
void sim_signal_destroy(sim_signal *s);

#endif
