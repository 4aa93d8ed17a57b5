/*
 * slow.c - delays writes, for tests that interrupt a small job (LD_PRELOAD).
 *
 * Every write to a file whose path contains SLOW_PATH (default /metrics.jsonl, one write per
 * step) first sleeps SLOW_MS milliseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void wait_for(int fd)
{
    char link[64], path[4096] = "";
    const char *ms = getenv("SLOW_MS"), *part = getenv("SLOW_PATH");

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!ms || readlink(link, path, sizeof path - 1) <= 0 ||
        !strstr(path, part ? part : "/metrics.jsonl"))
        return;
    const long wait = strtol(ms, NULL, 10);
    struct timespec span = {wait / 1000, wait % 1000 * 1000000};
    while (nanosleep(&span, &span) != 0)
        continue; /* interrupted by a signal */
}

ssize_t write(int fd, const void *data, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    wait_for(fd);
    return real(fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
    wait_for(fd);
    return real(fd, data, n, at);
}
