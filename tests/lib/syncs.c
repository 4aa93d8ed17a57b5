/*
 * syncs.c - records in the file SYNCS, in their order, the writes to metrics.jsonl ("write"), its syncs
 * ("sync") and the renames to checkpoints ("checkpoint") (LD_PRELOAD).  With SYNC_FAILS its syncs fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void record(const char *event)
{
    const char *path = getenv("SYNCS");
    const int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;

    if (fd >= 0) {
        (void)!write(fd, event, strlen(event));
        (void)close(fd);
    }
}

static int is_metrics(int fd)
{
    static const char name[] = "/metrics.jsonl";
    char link[64], path[4096] = "";

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    return n > (ssize_t)strlen(name) && strcmp(path + n - strlen(name), name) == 0;
}

static ssize_t count_write(int fd, ssize_t n)
{
    if (n > 0 && is_metrics(fd))
        record("write\n");
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
    return count_write(fd, real(fd, data, n, at));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
    return count_write(fd, real(fd, data, n, at));
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    if (!is_metrics(fd))
        return real(fd);
    record("sync\n");
    if (!getenv("SYNC_FAILS"))
        return real(fd);
    errno = EIO;
    return -1;
}

int rename(const char *from, const char *to)
{
    static int (*real)(const char *, const char *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "rename");
    if (strstr(to, "/checkpoints/step-"))
        record("checkpoint\n");
    return real(from, to);
}
