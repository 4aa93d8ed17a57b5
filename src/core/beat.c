/*
 * beat.c - counts of work done, that one thread adds to and another looks at.
 */
#include "simile/beat.h"

#include <stdatomic.h>
#include <stdbool.h>

static _Atomic uint64_t beats, place;
static _Atomic int64_t step;
static const char *_Atomic phase = "";
static _Thread_local bool muted;

void sim_beat(void)
{
    if (!muted)
        atomic_fetch_add_explicit(&beats, 1, memory_order_relaxed);
}

void sim_beat_exchange(void)
{
    atomic_fetch_add_explicit(&place, 1, memory_order_relaxed);
    sim_beat();
}

void sim_beat_phase(const char *words)
{
    atomic_store_explicit(&phase, words, memory_order_relaxed);
}

void sim_beat_step(int64_t number)
{
    atomic_store_explicit(&step, number, memory_order_relaxed);
}

void sim_beat_mute(void)
{
    muted = true;
}

sim_beats sim_beats_now(void)
{
    return (sim_beats){.beats = atomic_load_explicit(&beats, memory_order_relaxed),
                       .place = atomic_load_explicit(&place, memory_order_relaxed),
                       .step = atomic_load_explicit(&step, memory_order_relaxed),
                       .phase = atomic_load_explicit(&phase, memory_order_relaxed)};
}
