/*
 * exif.c - the orientation of a photo in its EXIF data, which is a TIFF directory.
 */
#include "private.h"

#include <string.h>

static unsigned read16(const uint8_t *p, bool little)
{
    return little ? (unsigned)(p[0] | p[1] << 8) : (unsigned)(p[0] << 8 | p[1]);
}

static unsigned long read32(const uint8_t *p, bool little)
{
    unsigned long a = read16(p, little), b = read16(p + 2, little);
    return little ? a | b << 16 : a << 16 | b;
}

int sim_exif_orientation(const uint8_t *p, size_t n)
{
    enum { HEAD = 8, ENTRY = 12, ORIENTATION = 0x0112 };

    if (n >= 6 && memcmp(p, "Exif\0\0", 6) == 0) {
        p += 6;
        n -= 6;
    }
    if (n < HEAD)
        return 1;
    bool little = p[0] == 'I';
    unsigned long at = read32(p + 4, little);
    if (at > n - 2)
        return 1;
    unsigned entries = read16(p + at, little);
    for (unsigned i = 0; i < entries; i++) {
        size_t e = at + 2 + ENTRY * (size_t)i;
        if (e + ENTRY > n)
            return 1;
        if (read16(p + e, little) == ORIENTATION) {
            unsigned v = read16(p + e + 8, little);
            return v >= 1 && v <= 8 ? (int)v : 1;
        }
    }
    return 1;
}
