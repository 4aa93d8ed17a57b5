/*
 * heartbeat.c - the progress counters of the process.
 */
#include "simile/heartbeat.h"

#include <stdatomic.h>
#include <stdbool.h>

static _Atomic uint64_t beats, exchanges;
static _Atomic int64_t step;
static const char *_Atomic phase = "";
static _Thread_local bool muted;

void sim_heartbeat_tick(void)
{
    if (!muted)
        atomic_fetch_add_explicit(&beats, 1, memory_order_relaxed);
}

void sim_heartbeat_exchange(void)
{
    atomic_fetch_add_explicit(&exchanges, 1, memory_order_relaxed);
    sim_heartbeat_tick();
}

void sim_heartbeat_phase(const char *text)
{
    atomic_store_explicit(&phase, text, memory_order_relaxed);
}

void sim_heartbeat_step(int64_t value)
{
    atomic_store_explicit(&step, value, memory_order_relaxed);
}

void sim_heartbeat_mute(void)
{
    muted = true;
}

sim_heartbeat sim_heartbeat_now(void)
{
    return (sim_heartbeat){.beats = atomic_load_explicit(&beats, memory_order_relaxed),
                           .exchanges =
                               atomic_load_explicit(&exchanges, memory_order_relaxed),
                           .step = atomic_load_explicit(&step, memory_order_relaxed),
                           .phase = atomic_load_explicit(&phase, memory_order_relaxed)};
}
