/*
 * random.c - Philox4x32-10 by Random123, and distributions derived from it.
 */
#include "simile/random.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wpedantic"
#include <Random123/philox.h>
#pragma GCC diagnostic pop

void sim_random_words(sim_random *r, uint32_t out[4])
{
    const philox4x32_key_t key = {{r->seed, r->purpose}};
    const philox4x32_ctr_t counter = {{r->sample, r->epoch, r->view_op, r->draw}};
    const philox4x32_ctr_t words = philox4x32(counter, key);
    memcpy(out, words.v, sizeof words.v);
    r->draw++;
}

float sim_random_unit(sim_random *r)
{
    uint32_t w[4];
    sim_random_words(r, w);
    return (float)(w[0] >> 8) * 0x1p-24f;
}

float sim_random_between(sim_random *r, float lo, float hi)
{
    float x = lo + (hi - lo) * sim_random_unit(r);
    return x < hi ? x : lo; /* the sum may be rounded to hi */
}

uint32_t sim_random_below(sim_random *r, uint32_t n)
{
    uint32_t w[4], limit = UINT32_MAX - (UINT32_MAX % n + 1) % n;
    do
        sim_random_words(r, w);
    while (w[0] > limit);
    return w[0] % n;
}

/*
 * Natural logarithm of x in (0, 1] by additions, products and one division, which yield the same
 * bits on every machine: x = m 2^e with m in [sqrt(1/2), sqrt(2)), then
 * log m = 2 atanh((m - 1) / (m + 1)) by its series.
 */
static double plain_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52) - 1022;
    bits = (bits & 0xfffffffffffffull) | 0x3fe0000000000000ull; /* m in [1/2, 1) */
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, sum = 0;
    for (int k = 25; k >= 1; k -= 2)
        sum = sum * s2 + 1.0 / k;
    return 2 * s * sum + e * 0.69314718055994530942;
}

/* Two deviates of two words by the polar method; false if the words are rejected. */
static bool find_deviates(const uint32_t w[2], float out[2])
{
    double u = ((double)w[0] + 0.5) * 0x1p-31 - 1;
    double v = ((double)w[1] + 0.5) * 0x1p-31 - 1;
    double q = u * u + v * v;
    if (!(q > 0 && q < 1))
        return false;
    double scale = sqrt(-2 * plain_log(q) / q);
    out[0] = (float)(u * scale);
    out[1] = (float)(v * scale);
    return true;
}

float sim_random_normal(sim_random *r)
{
    uint32_t w[4];
    float deviates[2];
    do
        sim_random_words(r, w);
    while (!find_deviates(w, deviates));
    return deviates[0];
}

void sim_random_normals(sim_random *r, size_t n, float *out)
{
    size_t done = 0;
    while (done < n) {
        uint32_t w[4];
        float deviates[2];
        sim_random_words(r, w);
        for (size_t pair = 0; pair < 4; pair += 2)
            if (find_deviates(w + pair, deviates))
                for (size_t i = 0; i < 2 && done < n; i++)
                    out[done++] = deviates[i];
    }
}
