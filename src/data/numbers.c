/*
 * numbers.c - integers and floats of any size in files, as samples.
 */
#include "private.h"

#include <float.h>
#include <math.h>
#include <string.h>

bool sim_number_type(number_format f, sim_type *out)
{
    const bool is_whole = f.bits == 16 || f.bits == 32 || f.bits == 64;

    *out = f.kind != NUMBER_UNSIGNED || f.bits > 16 ? SIM_F32
           : f.bits > 8                             ? SIM_U16
                                                    : SIM_U8;
    switch (f.kind) {
    case NUMBER_UNSIGNED:
        return is_whole || (f.bits >= 1 && f.bits <= 16);
    case NUMBER_SIGNED:
        return is_whole || f.bits == 8;
    default:
        return is_whole;
    }
}

/* A number of n <= 16 bits that begins at bit `at` of a row. */
static unsigned bits_at(const uint8_t *row, size_t at, unsigned n)
{
    unsigned v = 0;
    for (size_t i = at; i < at + n; i++)
        v = v << 1 | (((unsigned)row[i / 8] >> (7 - i % 8)) & 1u);
    return v;
}

static double unsigned_at(unsigned bits, const uint8_t *row, size_t i)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (bits) {
    case 8:
        return row[i];
    case 16:
        memcpy(&u16, row + 2 * i, sizeof u16);
        return u16;
    case 32:
        memcpy(&u32, row + 4 * i, sizeof u32);
        return u32;
    case 64:
        memcpy(&u64, row + 8 * i, sizeof u64);
        return (double)u64;
    default:
        return bits_at(row, i * bits, bits);
    }
}

static double signed_at(unsigned bits, const uint8_t *row, size_t i)
{
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;

    switch (bits) {
    case 8:
        memcpy(&i8, row + i, sizeof i8);
        return i8;
    case 16:
        memcpy(&i16, row + 2 * i, sizeof i16);
        return i16;
    case 32:
        memcpy(&i32, row + 4 * i, sizeof i32);
        return i32;
    default:
        memcpy(&i64, row + 8 * i, sizeof i64);
        return (double)i64;
    }
}

/* A float of 16 bits (IEEE 754). */
static double half_value(unsigned half)
{
    enum { FRACTION_BITS = 10, BIAS = 15, SPECIAL = 31 };
    const int exponent = (int)(half >> FRACTION_BITS & SPECIAL);
    const int fraction = (int)(half & ((1u << FRACTION_BITS) - 1)),
              one = 1 << FRACTION_BITS;
    const double sign = half >> 15 ? -1 : 1;

    if (exponent == SPECIAL)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - BIAS - FRACTION_BITS);
    return sign * ldexp(one + fraction, exponent - BIAS - FRACTION_BITS);
}

static double float_at(unsigned bits, const uint8_t *row, size_t i)
{
    float f32;
    double f64;

    switch (bits) {
    case 16:
        return half_value((unsigned)unsigned_at(16, row, i));
    case 32:
        memcpy(&f32, row + 4 * i, sizeof f32);
        return (double)f32;
    default:
        memcpy(&f64, row + 8 * i, sizeof f64);
        return f64;
    }
}

double sim_number_at(number_format f, const uint8_t *row, size_t i)
{
    switch (f.kind) {
    case NUMBER_UNSIGNED:
        return unsigned_at(f.bits, row, i);
    case NUMBER_SIGNED:
        return signed_at(f.bits, row, i);
    default:
        return float_at(f.bits, row, i);
    }
}

bool sim_number_store(double v, sim_type type, void *samples, size_t i)
{
    if (type == SIM_U8)
        ((uint8_t *)samples)[i] = (uint8_t)v;
    else if (type == SIM_U16)
        ((uint16_t *)samples)[i] = (uint16_t)v;
    else if (isfinite(v) && fabs(v) > (double)FLT_MAX)
        return false;
    else
        ((float *)samples)[i] = (float)v;
    return true;
}

void sim_swap_bytes(uint8_t *bytes, size_t number_bytes, size_t n)
{
    for (size_t i = 0; i < n; i++, bytes += number_bytes)
        for (size_t k = 0; k < number_bytes / 2; k++) {
            const uint8_t b = bytes[k];
            bytes[k] = bytes[number_bytes - 1 - k];
            bytes[number_bytes - 1 - k] = b;
        }
}
