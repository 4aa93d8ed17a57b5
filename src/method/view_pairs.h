/*
 * view_pairs.h - which views of an image are compared with which, if only some are compared with.
 *
 * Views 0 to `all` - 1 receive a gradient; views 0 to `targets` - 1, those that are not small, are what
 * they are compared with: keys, or neighbours. A view is compared with every target but itself; if
 * there is one target, it is of another view, and all are compared with it.
 * Source: multi-crop as in Caron et al. 2020, arXiv 2006.09882, equation 6.
 */
#ifndef SIMILE_METHOD_VIEW_PAIRS_H
#define SIMILE_METHOD_VIEW_PAIRS_H

#include "simile/status.h"

#include <stddef.h>

typedef struct {
    size_t targets, all;
    size_t floats; /* of the local rows of a view */
    float *dz;     /* [all][floats], overwritten */
    float *work;   /* [sim_pairs_work], the gradient of a further pair of a view */
} view_pairs;

/* Floats of `work`. */
size_t sim_pairs_work(size_t targets, size_t all, size_t floats);
size_t sim_pairs_count(const view_pairs *p);
bool sim_pairs_has(const view_pairs *p, size_t view, size_t target);
/* Where the gradient of a pair is to be written, in ascending order of the targets of a view. */
float *sim_pairs_gradient(const view_pairs *p, size_t view, size_t target);
/* Adds it to that of the earlier pairs of the view. */
void sim_pairs_add(const view_pairs *p, size_t view, size_t target);

#endif
