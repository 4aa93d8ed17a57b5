/*
 * text.c - a text that grows while it is written, by open_memstream.
 */
#include "simile/text.h"

#include "simile/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

sim_status sim_text_open(sim_text *t)
{
    sim_status st = SIM_OK;

    *t = (sim_text){0};
    t->file = open_memstream(&t->bytes, &t->n_bytes);
    SIM_CHECK(t->file, SIM_E_IO, "no memory for a text");
done:
    return st;
}

sim_status sim_text_finish(sim_text *t, const char *tag, char **out)
{
    sim_status st = SIM_OK;

    SIM_CHECK(fflush(t->file) == 0 && !ferror(t->file), SIM_E_IO, "no memory for a text");
    SIM_TRY(sim_text_copy(t->bytes, tag, out));
done:
    return st;
}

void sim_text_close(sim_text *t)
{
    if (t->file)
        (void)fclose(t->file);
    free(t->bytes);
    *t = (sim_text){0};
}

/* Bytes of the UTF-8 character at p; 0: p begins none. */
static size_t character_bytes(const unsigned char *p)
{
    const size_t n = *p < 0x80    ? 1
                     : *p < 0xc2  ? 0
                     : *p < 0xe0  ? 2
                     : *p < 0xf0  ? 3
                     : *p <= 0xf4 ? 4
                                  : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

enum { ESCAPE_BYTES = 8 }; /* "\\u202e" and its end */

/* Characters that terminals and browsers interpret: C1 controls, marks of direction, separators. */
static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c ||
           (code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

static uint32_t code_of(const unsigned char *p, size_t n)
{
    uint32_t code = n == 1 ? p[0] : p[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++)
        code = code << 6 | (p[i] & 0x3fU);
    return code;
}

/* Bytes of the character at p; `escape` is how it is printed, "" if as it is. */
static size_t next_character(const unsigned char *p, bool keep_lines,
                             char escape[ESCAPE_BYTES])
{
    const size_t n = character_bytes(p);
    const uint32_t code = n ? code_of(p, n) : 0;

    escape[0] = '\0';
    if (n == 0)
        (void)snprintf(escape, ESCAPE_BYTES, "\\x%02x", *p);
    else if (code == '\n' || code == '\t')
        (void)snprintf(escape, ESCAPE_BYTES, "%s",
                       keep_lines     ? ""
                       : code == '\n' ? "\\n"
                                      : "\\t");
    else if (is_control(code))
        (void)snprintf(escape, ESCAPE_BYTES, code < 0x80 ? "\\x%02x" : "\\u%04x",
                       (unsigned)(code & 0xffff));
    return n ? n : 1;
}

void sim_text_put_printable(FILE *file, const char *text, bool keep_lines)
{
    char escape[ESCAPE_BYTES];
    const char *plain = text; /* start of the characters that are not yet written */

    for (const char *p = text; *p;) {
        const size_t n = next_character((const unsigned char *)p, keep_lines, escape);
        if (escape[0]) {
            (void)fwrite(plain, 1, (size_t)(p - plain), file);
            (void)fputs(escape, file);
            plain = p + n;
        }
        p += n;
    }
    (void)fputs(plain, file);
}

void sim_text_escape(const char *text, bool keep_lines, char *out, size_t out_bytes)
{
    char escape[ESCAPE_BYTES];
    size_t used = 0;

    for (const char *p = text; *p;) {
        const size_t n = next_character((const unsigned char *)p, keep_lines, escape),
                     n_out = escape[0] ? strlen(escape) : n;
        if (used + n_out >= out_bytes)
            break;
        memcpy(out + used, escape[0] ? escape : p, n_out);
        used += n_out;
        p += n;
    }
    out[used] = '\0';
}

static const char *escape_of(unsigned char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return (c < 32 && c != '\n') || c == 127 ? "?" : NULL;
    }
}

void sim_text_put_escaped(FILE *file, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const size_t n = character_bytes(p);
        const bool is_hidden = n == 0 || (n > 1 && is_control(code_of(p, n)));
        const char *escape = is_hidden ? "?" : escape_of(*p);
        if (escape)
            (void)fputs(escape, file);
        else
            (void)fwrite(p, 1, n, file);
        p += n ? n : 1;
    }
}

size_t sim_text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

bool sim_text_ends_with(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}
