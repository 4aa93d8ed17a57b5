/*
 * random.h - counter-based random numbers: pure functions of purpose and position.
 *
 * Module: core
 * Philox4x32-10 (Salmon et al. 2011, by Random123). The key is (seed, purpose), the counter is
 * (sample, epoch, view and operation, draw). Each operation has its own range of draws, so
 * adding an operation changes no other. The result does not depend on the rank or thread that
 * computes it.
 */
#ifndef SIMILE_RANDOM_H
#define SIMILE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Append only: the values are part of the bits of every run. */
typedef enum {
    SIM_RANDOM_ORDER = 1,    /* permutation of an epoch */
    SIM_RANDOM_AUGMENT = 2,  /* augmentation of a view */
    SIM_RANDOM_INIT = 3,     /* initial weights */
    SIM_RANDOM_QUEUE = 4,    /* initial rows of a queue */
    SIM_RANDOM_SHUFFLE = 5,  /* shuffle BN of MoCo */
    SIM_RANDOM_SPLIT = 6,    /* prepare --limit */
    SIM_RANDOM_SAMPLE = 7,   /* sampled negatives */
    SIM_RANDOM_EXPORT = 8,   /* images of the sample of an export */
    SIM_RANDOM_SETS = 9,     /* images of a data set of a union that an epoch draws */
    SIM_RANDOM_PARTNER = 10, /* images of the same group */
    SIM_RANDOM_TEST = 99
} sim_random_purpose;

/* A position in a stream. Plain data: it may be copied and built anywhere. Every function
 * below advances `draw`. */
typedef struct {
    uint32_t seed, purpose;
    uint32_t sample, epoch;
    uint32_t view_op; /* view << 16 | operation */
    uint32_t draw;    /* index of the next block of four words */
} sim_random;

/* Reads the four words of the current block and advances to the next. */
void sim_random_words(sim_random *r, uint32_t out[4]);

/* Uniform in [0, 1) with 24 bits. Uses one block. */
float sim_random_unit(sim_random *r);

/* Uniform in [lo, hi). Uses one block. */
float sim_random_between(sim_random *r, float lo, float hi);

/* Uniform integer in [0, n), n >= 1, without bias (rejection). */
uint32_t sim_random_below(sim_random *r, uint32_t n);

/* Standard normal deviate by the polar method. Uses its own logarithm, because that of the C
 * library may differ between systems. */
float sim_random_normal(sim_random *r);

/* `n` standard normal deviates, by the same method.  Up to four of one block are used, so they are
 * not those of sim_random_normal; those of a partly used block are lost. */
void sim_random_normals(sim_random *r, size_t n, float *out);

#endif
