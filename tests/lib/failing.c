/*
 * failing.c - one call that changes a path below the directory FAILING_BELOW fails (LD_PRELOAD): the
 * FAILING_CALL-th of the process, from 1, with the error number FAILING_ERROR.
 */
#define _GNU_SOURCE
#include "changes.h"

#include <errno.h>
#include <stdatomic.h>

static atomic_long calls;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static int on_change(const char *path)
{
    const char *below = getenv("FAILING_BELOW");

    if (!below || strncmp(path, below, strlen(below)) != 0 ||
        atomic_fetch_add(&calls, 1) + 1 != number("FAILING_CALL"))
        return 0;
    errno = (int)number("FAILING_ERROR");
    return 1;
}
