/*
 * exp.c - exponential and logarithm in double, with the same bits on every machine.
 *
 * The functions of the C library may differ between systems.
 */
#include "simile/kernel.h"

#include <math.h>

/* x = n ln 2 + r with |r| <= ln 2 / 2; e^r is its Taylor polynomial of degree 14. */
double sim_exp_double(double x)
{
    if (!(x > -700))
        return x != x ? x : 0;
    if (x > 700)
        return (double)INFINITY;
    double n = floor(x * 1.4426950408889634 + 0.5);
    double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    double sum = 1;
    for (int k = 14; k >= 1; k--)
        sum = 1 + sum * r / k;
    return ldexp(sum, (int)n);
}

/*
 * x = m 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m - 1)/(m + 1)) by its series.
 * Only operations with one IEEE result, so the bits are the same on every machine.
 */
double sim_ln(double x)
{
    int e = 0;
    if (!(x > 0) || isinf(x))
        return x == 0 ? -(double)INFINITY : x > 0 ? x : (double)NAN;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, sum = 0;
    for (int k = 25; k >= 1; k -= 2)
        sum = sum * s2 + 1.0 / k;
    return 2 * s * sum + (double)e * 0.69314718055994530942;
}
