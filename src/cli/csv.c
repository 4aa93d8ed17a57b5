/*
 * csv.c - files of comma-separated values.
 */
#include "csv.h"

#include "simile/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BUFFER_BYTES = 1 << 20, NUMBER_BYTES = 32 };

sim_status sim_csv_begin(const char *path, csv_writer *w)
{
    sim_status st = SIM_OK;

    *w = (csv_writer){.file = {.fd = -1}};
    SIM_TRY(sim_alloc(&w->buffer, BUFFER_BYTES, "cli/csv"));
    SIM_TRY(sim_file_replace_begin(path, &w->file));
done:
    return st;
}

static sim_status flush_text(csv_writer *w)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_file_replace_add(&w->file, w->buffer, w->used));
    w->used = 0;
done:
    return st;
}

sim_status sim_csv_bytes(csv_writer *w, const char *text, size_t n)
{
    sim_status st = SIM_OK;

    while (n > 0) {
        const size_t left = BUFFER_BYTES - w->used, part = n < left ? n : left;
        memcpy(w->buffer + w->used, text, part);
        w->used += part;
        text += part;
        n -= part;
        if (w->used == BUFFER_BYTES)
            SIM_TRY(flush_text(w));
    }
done:
    return st;
}

sim_status sim_csv_format(csv_writer *w, const char *fmt, ...)
{
    char text[NUMBER_BYTES];
    va_list args;

    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    SIM_ASSERT(n >= 0 && n < NUMBER_BYTES);
    return sim_csv_bytes(w, text, (size_t)n);
}

sim_status sim_csv_field(csv_writer *w, const char *text, size_t n)
{
    sim_status st = SIM_OK;
    bool quotes = false;

    SIM_TRY(sim_csv_bytes(w, ",", 1));
    for (size_t i = 0; i < n && !quotes; i++)
        quotes = strchr(",\"\r\n", text[i]) != NULL;
    if (!quotes) {
        SIM_TRY(sim_csv_bytes(w, text, n));
        goto done;
    }
    SIM_TRY(sim_csv_bytes(w, "\"", 1));
    for (size_t i = 0; i < n; i++)
        SIM_TRY(
            sim_csv_bytes(w, text[i] == '"' ? "\"\"" : text + i, text[i] == '"' ? 2 : 1));
    SIM_TRY(sim_csv_bytes(w, "\"", 1));
done:
    return st;
}

sim_status sim_csv_end(csv_writer *w)
{
    sim_status st = SIM_OK;

    SIM_TRY(flush_text(w));
    SIM_TRY(sim_file_replace_end(&w->file));
done:
    return st;
}

void sim_csv_cancel(csv_writer *w)
{
    sim_file_replace_cancel(&w->file);
    SIM_FREE(w->buffer);
}
