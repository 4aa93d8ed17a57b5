/*
 * text.c - a text that grows while it is written, by open_memstream.
 */
#include "simile/text.h"

#include "simile/memory.h"

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
        const char *escape = n == 0 ? "?" : escape_of(*p);
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
