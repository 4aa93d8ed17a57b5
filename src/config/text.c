/*
 * text.c - UTF-8, and the characters that a job may contain.
 *
 * Text of a job is written to the resolved job, to terminals and to checkpoints, so
 * characters that YAML must escape are refused.
 */
#include "private.h"

#include <string.h>

size_t sim_config_utf8(const char *text, size_t n, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)text;
    size_t length = p[0] < 0x80   ? 1
                    : p[0] < 0xC0 ? 0
                    : p[0] < 0xE0 ? 2
                    : p[0] < 0xF0 ? 3
                    : p[0] < 0xF8 ? 4
                                  : 0;

    if (length == 0 || length > n)
        return 0;
    uint32_t c = length == 1 ? p[0] : p[0] & (0x7FU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (c < least[length] || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF)
        return 0;
    *code = c;
    return length;
}

bool sim_config_is_plain(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    bool line_end = c == 0x2028 || c == 0x2029;
    bool no_character = c == 0xFEFF || (c >= 0xFFFE && c < 0x10000);
    return !control && !line_end && !no_character;
}

void sim_config_quote(const char *text, char out[SHOW_BYTES])
{
    enum { LONGEST = SHOW_BYTES - 8 };
    size_t n = strlen(text), used = 0, length = 1;
    uint32_t code = 0;

    for (size_t at = 0; at < n; at += length) {
        if (used >= LONGEST) {
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        length = sim_config_utf8(text + at, n - at, &code);
        if (length > 0 && sim_config_is_plain(code)) {
            memcpy(out + used, text + at, length);
            used += length;
        } else {
            out[used++] = '?';
            length = length > 0 ? length : 1;
        }
    }
    out[used] = '\0';
}
