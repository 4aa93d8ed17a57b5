/*
 * random.h - random numbers without state: a pure function of what they are for.
 *
 * Module: core
 * Philox4x32-10 (Salmon et al. 2011, by Random123).  Key (seed, purpose), counter
 * (sample, epoch, view and operation, draw).  Each operation has its own draw space,
 * so that adding one shifts no other, and who computes a number does not matter.
 */
#ifndef SIMILE_RANDOM_H
#define SIMILE_RANDOM_H

#include <stdint.h>

/* What a number is for.  Append only: the values are part of every run's bits. */
typedef enum {
    SIM_RANDOM_ORDER = 1,   /* the epoch's permutation */
    SIM_RANDOM_AUGMENT = 2, /* views */
    SIM_RANDOM_INIT = 3,    /* initial weights */
    SIM_RANDOM_QUEUE = 4,   /* initial queue */
    SIM_RANDOM_SHUFFLE = 5, /* MoCo's shuffle-BN */
    SIM_RANDOM_SPLIT = 6,   /* prepare --limit */
    SIM_RANDOM_SAMPLE = 7,  /* sampled negatives */
    SIM_RANDOM_TEST = 99
} sim_random_purpose;

/* Names a stream; `draw` moves along it.  Plain data: copy it, build it anywhere. */
typedef struct {
    uint32_t seed, purpose;
    uint32_t sample, epoch;
    uint32_t view_op; /* view << 16 | operation */
    uint32_t draw;    /* index of the next block of four words */
} sim_random;

/* Four words of the stream's present block; moves to the next. */
void sim_random_words(sim_random *r, uint32_t out[4]);

/* Uniform in [0, 1), 24 bits.  Each call uses one block. */
float sim_random_unit(sim_random *r);

/* Uniform in [lo, hi). */
float sim_random_between(sim_random *r, float lo, float hi);

/* Uniform integer in [0, n), n >= 1, without bias (rejection). */
uint32_t sim_random_below(sim_random *r, uint32_t n);

/* Standard normal (polar method, own logarithm: no libm in the bits). */
float sim_random_normal(sim_random *r);

#endif
