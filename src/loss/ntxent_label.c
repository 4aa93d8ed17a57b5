/*
 * ntxent_label.c - which columns of a tile share the anchor's label, without a branch.
 *
 * With ten classes a tenth of all columns are positives: a loop over them one by one would
 * cost as much as the product. Every loop here is elementwise, or 16 lanes reduced 8, 4, 2,
 * 1, so the compiler vectorizes it and the bits do not depend on their width.
 */
#include "ntxent.h"

#include <math.h>

enum { LANES = 16 };

size_t sim_label_count(size_t n, const int32_t *labels, int32_t label)
{
    int32_t count = 0; /* of a tile; as wide as a label: vectors need no widening */
    for (size_t j = 0; j < n; j++)
        count += labels[j] == label;
    return (size_t)count;
}

void sim_label_split(size_t n, const int32_t *labels, int32_t label, float *s,
                     float *same)
{
    for (size_t j = 0; j < n; j++) {
        float x = s[j];
        same[j] = labels[j] == label ? x : -INFINITY;
        s[j] = labels[j] == label ? -INFINITY : x;
    }
}

static void accumulate_lanes(size_t n, const float *same, double *sums, float *minima)
{
    for (size_t l = 0; l < n; l++) {
        float x = same[l];
        sums[l] += x == -INFINITY ? 0 : (double)x;
        x = x == -INFINITY ? INFINITY : x;
        minima[l] = x < minima[l] ? x : minima[l];
    }
}

void sim_label_sum(size_t n, const float *same, double *sum, float *min)
{
    double sums[LANES] = {0};
    float minima[LANES];

    for (size_t l = 0; l < LANES; l++)
        minima[l] = INFINITY;
    size_t whole = n / LANES * LANES;
    for (size_t j = 0; j < whole; j += LANES)
        accumulate_lanes(LANES, same + j, sums, minima);
    accumulate_lanes(n - whole, same + whole, sums, minima);
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++) {
            sums[l] += sums[l + half];
            minima[l] = minima[l + half] < minima[l] ? minima[l + half] : minima[l];
        }
    *sum += sums[0];
    *min = minima[0] < *min ? minima[0] : *min;
}

void sim_label_accumulate(size_t n, const int32_t *labels, int32_t label, bool decoupled,
                          float positive_weight, float *p)
{
    for (size_t j = 0; j < n; j++) {
        float value = (decoupled ? 0 : p[j]) - positive_weight;
        p[j] = labels[j] == label ? value : p[j];
    }
}
