/*
 * range.c - which values of images with more than 8 bits become black and white.
 *
 * The range is one for the whole set, so that images stay comparable.
 */
#include "prep.h"

#include "simile/log.h"

#include <math.h>

/* Floats of 0 to 1 that stay below this may have another scale. */
static const double dark = 1.0 / 16;

/* Values that exceed a range by a rounding error are within it. */
static const double rounding = 1e-3;

void sim_prep_extremes_add(prep_extremes *e, double lo, double hi, bool integers)
{
    e->lo = !e->any || lo < e->lo ? lo : e->lo;
    e->hi = !e->any || hi > e->hi ? hi : e->hi;
    e->integers = (!e->any || e->integers) && integers;
    e->any = true;
}

/* Whole numbers from 0: all values of the number of bits in use. */
static sim_value_range bits_in_use(double hi)
{
    static const int bits[] = {8, 10, 12, 14, 16, 24, 32};
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        if (hi < ldexp(1, bits[i]))
            return (sim_value_range){0, ldexp(1, bits[i]) - 1};
    return (sim_value_range){0, hi};
}

static sim_value_range fitting_range(const prep_extremes *e)
{
    enum { BRIGHT = 128 }; /* values of 0 to 255 reach at least this */

    if (e->lo >= -rounding && e->hi <= 1 + rounding)
        return (sim_value_range){0, 1};
    if (e->lo >= 0 && e->integers)
        return bits_in_use(e->hi);
    if (e->lo >= -255 * rounding && e->hi <= 255 * (1 + rounding) && e->hi >= BRIGHT)
        return (sim_value_range){0, 255};
    return (sim_value_range){e->lo, e->hi > e->lo ? e->hi : e->lo + 1};
}

static bool is_obvious(sim_value_range r)
{
    return r.lo == 0 && (r.hi == 1 || r.hi == 255 || r.hi == 65535);
}

uint8_t sim_prep_scale_value(const sim_value_range *r, double v)
{
    const double x = (v - r->lo) * (255 / (r->hi - r->lo));
    return (uint8_t)lround(x < 0 ? 0 : x > 255 ? 255 : x);
}

sim_value_range sim_prep_choose_range(const prep_extremes *e, const prep_options *options)
{
    sim_value_range r = {options->range_lo, options->range_hi};

    if (!e->any)
        return (sim_value_range){0};
    if (r.lo < r.hi) {
        if (e->lo < r.lo || e->hi > r.hi)
            sim_log_warn("values from %g to %g are clipped to --range %g:%g", e->lo,
                         e->hi, r.lo, r.hi);
        return r;
    }
    r = fitting_range(e);
    if (!is_obvious(r) || (r.hi == 1 && e->hi < dark && !e->integers))
        sim_log_warn(
            "the values of the images are %g to %g; %g becomes black and %g white "
            "(change this with --range LO:HI)",
            e->lo, e->hi, r.lo, r.hi);
    else
        sim_log(
            "the values of the images are %.9g to %.9g; %g becomes black and %g white",
            e->lo, e->hi, r.lo, r.hi);
    return r;
}
