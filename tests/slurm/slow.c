/*
 * slow.c - delays writes, so that tests can interrupt a small job at a known step (LD_PRELOAD).
 *
 *   SLOW_MS     each write to a matching file first sleeps this many milliseconds
 *   SLOW_PATH   pattern of the files' paths (fnmatch); default: all metrics.jsonl, one write per
 *               logged step
 *   SLOW_AFTER  number of matching writes of a process that are not delayed; default 0
 *   SLOW_UNTIL  a file; once it exists, sleeps end and no write is delayed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const long POLL_MS = 10;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static int matches(int fd)
{
    char link[64], path[4096] = "";
    const char *pattern = getenv("SLOW_PATH");

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 &&
           fnmatch(pattern ? pattern : "*/metrics.jsonl", path, 0) == 0;
}

static int released(void)
{
    const char *until = getenv("SLOW_UNTIL");
    return until && access(until, F_OK) == 0;
}

static void delay(int fd)
{
    static atomic_long n_matching;
    const int error = errno;

    if (!getenv("SLOW_MS") || !matches(fd) ||
        atomic_fetch_add(&n_matching, 1) < number("SLOW_AFTER"))
        return;
    for (long left = number("SLOW_MS"); left > 0 && !released(); left -= POLL_MS) {
        struct timespec span = {0, (left < POLL_MS ? left : POLL_MS) * 1000000};
        while (nanosleep(&span, &span) != 0)
            continue; /* interrupted by a signal */
    }
    errno = error;
}

ssize_t write(int fd, const void *data, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    delay(fd);
    return real(fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
    delay(fd);
    return real(fd, data, n, at);
}
