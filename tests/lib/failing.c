/*
 * failing.c - one call that changes a file below the directory FAILING_BELOW fails (LD_PRELOAD): the
 * FAILING_CALL-th of the process, from 1, with the error number FAILING_ERROR.  FAILING_COUNT: a file to
 * which the number of calls is written at exit.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static int fails_below(const char *path)
{
    const char *below = getenv("FAILING_BELOW");

    if (!below || strncmp(path, below, strlen(below)) != 0)
        return 0;
    if (atomic_fetch_add(&calls, 1) + 1 != number("FAILING_CALL"))
        return 0;
    errno = (int)number("FAILING_ERROR");
    return 1;
}

static int fails_path(const char *path)
{
    char absolute[8192];

    if (path[0] == '/')
        return fails_below(path);
    if (!getcwd(absolute, sizeof absolute / 2))
        return 0;
    const size_t n = strlen(absolute);
    (void)snprintf(absolute + n, sizeof absolute - n, "/%s", path);
    return fails_below(absolute);
}

static int fails_fd(int fd)
{
    char link[64], path[4096] = "";

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && fails_below(path);
}

#define FORWARD(type, name, parameters, arguments, fails)                                \
    type name parameters                                                                 \
    {                                                                                    \
        static type(*real) parameters;                                                   \
        if (!real)                                                                       \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                   \
        return fails ? -1 : real arguments;                                              \
    }

FORWARD(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), fails_fd(fd))
FORWARD(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at),
        (fd, data, n, at), fails_fd(fd))
FORWARD(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at),
        (fd, data, n, at), fails_fd(fd))
FORWARD(int, fsync, (int fd), (fd), fails_fd(fd))
FORWARD(int, fdatasync, (int fd), (fd), fails_fd(fd))
FORWARD(int, ftruncate, (int fd, off_t n), (fd, n), fails_fd(fd))
FORWARD(int, ftruncate64, (int fd, off64_t n), (fd, n), fails_fd(fd))
FORWARD(int, rename, (const char *from, const char *to), (from, to), fails_path(to))
FORWARD(int, link, (const char *from, const char *to), (from, to), fails_path(to))
FORWARD(int, unlink, (const char *path), (path), fails_path(path))
FORWARD(int, mkdir, (const char *path, mode_t mode), (path, mode), fails_path(path))

#define FORWARD_OPEN(name)                                                               \
    int name(const char *path, int flags, ...)                                           \
    {                                                                                    \
        static int (*real)(const char *, int, ...);                                      \
        va_list args;                                                                    \
        va_start(args, flags);                                                           \
        const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                  \
        va_end(args);                                                                    \
        if (!real)                                                                       \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                   \
        if ((flags & O_ACCMODE) != O_RDONLY && fails_path(path))                         \
            return -1;                                                                   \
        return real(path, flags, mode);                                                  \
    }

FORWARD_OPEN(open)
FORWARD_OPEN(open64)

__attribute__((destructor)) static void store_count(void)
{
    const char *path = getenv("FAILING_COUNT");
    FILE *f = path ? fopen(path, "w") : NULL;

    if (!f)
        return;
    (void)fprintf(f, "%ld\n", atomic_load(&calls));
    (void)fclose(f);
}
