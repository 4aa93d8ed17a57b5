/*
 * status.c - the error message and backtrace of each thread, and assertions.
 */
#include "simile/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[4096];
static _Thread_local char backtrace[1024];
static void (*assert_hook)(void);

/* The last two components of a source path: "module/file.c". */
static const char *short_path(const char *file)
{
    const char *last = strrchr(file, '/');
    if (!last)
        return file;
    while (last > file && last[-1] != '/')
        last--;
    return last;
}

/* A line break in an argument, such as a path, does not begin a line of the message. */
static void escape_line_breaks(const char *text)
{
    size_t used = 0;
    for (; *text && used + (*text == '\n') + 1 < sizeof message; text++) {
        if (*text == '\n')
            message[used++] = '\\';
        message[used++] = *text == '\n' ? 'n' : *text;
    }
    message[used] = '\0';
}

sim_status sim_error_begin(sim_status code, const char *file, int line, const char *fmt,
                           ...)
{
    char text[sizeof message]; /* arguments may point into `message` */
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (strchr(fmt, '\n') ||
        strchr(message, '\n')) /* of several lines, or continues such one */
        memcpy(message, text, sizeof message);
    else
        escape_line_breaks(text);
    backtrace[0] = '\0';
    sim_error_add_frame(file, line);
    return code;
}

void sim_error_add_frame(const char *file, int line)
{
    size_t used = strlen(backtrace);
    (void)snprintf(backtrace + used, sizeof backtrace - used, "%s%s:%d",
                   used ? " < " : "", short_path(file), line);
}

void sim_error_prefix(const char *fmt, ...)
{
    char text[sizeof message];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        return;
    (void)snprintf(text + n, sizeof text - (size_t)n, "%s", message);
    memcpy(message, text, sizeof message);
}

const char *sim_error_message(void)
{
    return message;
}

const char *sim_error_backtrace(void)
{
    return backtrace;
}

void sim_error_set(const char *text)
{
    size_t n = strnlen(text, sizeof message - 1);
    memmove(message, text, n); /* `text` may point into `message` */
    message[n] = '\0';
}

void sim_error_clear(void)
{
    message[0] = '\0';
    backtrace[0] = '\0';
}

const char *sim_status_name(sim_status code)
{
    switch (code) {
    case SIM_OK:
        return "done";
    case SIM_E_USAGE:
        return "usage";
    case SIM_E_DATA:
        return "bad data";
    case SIM_E_INPUT:
        return "input missing";
    case SIM_E_INSTALL:
        return "not installed";
    case SIM_E_BUG:
        return "internal";
    case SIM_E_CREATE:
        return "cannot create";
    case SIM_E_IO:
        return "input/output";
    case SIM_E_AGAIN:
        return "stopped, run again";
    case SIM_E_ACCESS:
        return "permission";
    case SIM_E_CONFIG:
        return "configuration";
    }
    return "unknown";
}

void sim_assert_hook(void (*hook)(void))
{
    assert_hook = hook;
}

void sim_assert_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr,
                  "simile: bug: %s:%d: assertion failed: %s; please report this line\n",
                  short_path(file), line, what);
    if (assert_hook)
        assert_hook();
    abort();
}
