/*
 * changes.h - forwards the calls that change a file (LD_PRELOAD), and first calls on_change with the
 * absolute path.  The including file defines it; a call for which it does not return 0 returns -1.
 */
#ifndef TESTS_LIB_CHANGES_H
#define TESTS_LIB_CHANGES_H

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int on_change(const char *path);

static int on_path(const char *path)
{
    char absolute[8192];

    if (path[0] == '/')
        return on_change(path);
    if (!getcwd(absolute, sizeof absolute / 2))
        return 0;
    const size_t n = strlen(absolute);
    (void)snprintf(absolute + n, sizeof absolute - n, "/%s", path);
    return on_change(absolute);
}

static int on_fd(int fd)
{
    char link[64], path[4096] = "";

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 ? on_change(path) : 0;
}

#define FORWARD(type, name, parameters, arguments, changed)                              \
    type name parameters                                                                 \
    {                                                                                    \
        static type(*real) parameters;                                                   \
        if (!real)                                                                       \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                   \
        return changed ? -1 : real arguments;                                            \
    }

FORWARD(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), on_fd(fd))
FORWARD(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at),
        (fd, data, n, at), on_fd(fd))
FORWARD(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at),
        (fd, data, n, at), on_fd(fd))
FORWARD(int, fsync, (int fd), (fd), on_fd(fd))
FORWARD(int, fdatasync, (int fd), (fd), on_fd(fd))
FORWARD(int, ftruncate, (int fd, off_t n), (fd, n), on_fd(fd))
FORWARD(int, ftruncate64, (int fd, off64_t n), (fd, n), on_fd(fd))
FORWARD(int, rename, (const char *from, const char *to), (from, to), on_path(to))
FORWARD(int, link, (const char *from, const char *to), (from, to), on_path(to))
FORWARD(int, unlink, (const char *path), (path), on_path(path))
FORWARD(int, mkdir, (const char *path, mode_t mode), (path, mode), on_path(path))

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
        if ((flags & O_ACCMODE) != O_RDONLY && on_path(path))                            \
            return -1;                                                                   \
        return real(path, flags, mode);                                                  \
    }

FORWARD_OPEN(open)
FORWARD_OPEN(open64)

#endif
