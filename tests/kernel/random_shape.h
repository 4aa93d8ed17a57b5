/*
 * random_shape.h - random sizes and options for the runs of cases.h.
 */
#ifndef SIMILE_TEST_KERNEL_RANDOM_SHAPE_H
#define SIMILE_TEST_KERNEL_RANDOM_SHAPE_H

#include "cases.h"

#include "simile/random.h"

enum { N_SHAPES = 40 };

/* Sizes at and next to multiples of the vector widths, or any other. */
static inline size_t random_size(sim_random *r)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 31, 32, 33, 64, SIM_CASE_MAX};
    size_t i = sim_random_below(r, 2 * sizeof sizes / sizeof sizes[0]);
    return i < sizeof sizes / sizeof sizes[0] ? sizes[i]
                                              : sim_random_below(r, SIM_CASE_MAX + 1);
}

static inline void random_span(sim_random *r, int *lo, int *hi)
{
    *lo = (int)sim_random_below(r, WINO_OUT);
    *hi = *lo + 1 + (int)sim_random_below(r, (uint32_t)(WINO_OUT - *lo));
    if (sim_random_below(r, 2)) { /* a tile inside the image */
        *lo = 0;
        *hi = WINO_OUT;
    }
}

/* The shape; *r continues with the operands. */
static inline sim_kernel_shape random_shape(sim_random *r)
{
    static const float scales[] = {1, 10, 80};
    sim_kernel_shape s = {.m = random_size(r),
                          .n = random_size(r),
                          .k = random_size(r),
                          .act = (sim_activation)sim_random_below(r, 3),
                          .option = sim_random_below(r, 2),
                          .alias = sim_random_below(r, 2),
                          .scale = scales[sim_random_below(r, 3)]};
    random_span(r, &s.window.y_lo, &s.window.y_hi);
    random_span(r, &s.window.x_lo, &s.window.x_hi);
    return s;
}

#endif
