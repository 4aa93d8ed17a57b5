/*
 * status.c - the story of a failure: thread-local text, and the trail behind it.
 */
#include "simile/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char story[4096];
static _Thread_local char trail[1024];
static void (*assert_hook)(void);

/* The part of a source path that people know: "room/file.c". */
static const char *short_path(const char *file)
{
    const char *last = strrchr(file, '/');
    if (!last)
        return file;
    while (last > file && last[-1] != '/')
        last--;
    return last;
}

sim_status sim_error_begin(sim_status code, const char *file, int line, const char *fmt,
                           ...)
{
    char text[sizeof story]; /* arguments may point into the present story */
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(story, text, sizeof story);
    trail[0] = '\0';
    sim_error_add_frame(file, line);
    return code;
}

void sim_error_add_frame(const char *file, int line)
{
    size_t used = strlen(trail);
    (void)snprintf(trail + used, sizeof trail - used, "%s%s:%d", used ? " < " : "",
                   short_path(file), line);
}

void sim_error_prefix(const char *fmt, ...)
{
    char text[sizeof story];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        return;
    (void)snprintf(text + n, sizeof text - (size_t)n, "%s", story);
    memcpy(story, text, sizeof story);
}

const char *sim_error_message(void)
{
    return story;
}

const char *sim_error_backtrace(void)
{
    return trail;
}

void sim_error_set(const char *text)
{
    size_t n = strnlen(text, sizeof story - 1);
    memmove(story, text, n); /* it may point into the present story */
    story[n] = '\0';
}

void sim_error_clear(void)
{
    story[0] = '\0';
    trail[0] = '\0';
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
                  "simile: bug: %s:%d: %s does not hold; please report this line\n",
                  short_path(file), line, what);
    if (assert_hook)
        assert_hook();
    abort();
}
