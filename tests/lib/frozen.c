/*
 * frozen.c - a file system that stops responding (LD_PRELOAD): once the file FROZEN exists, calls that
 * change a path below the directory FROZEN_BELOW never return, and their thread receives no signals.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void block_if_below(const char *path)
{
    const char *below = getenv("FROZEN_BELOW"), *frozen = getenv("FROZEN");
    sigset_t all;

    if (!below || !frozen || strncmp(path, below, strlen(below)) != 0 ||
        access(frozen, F_OK) != 0)
        return;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;)
        (void)pause();
}

static void block_path(const char *path)
{
    char absolute[8192];

    if (path[0] == '/') {
        block_if_below(path);
        return;
    }
    if (!getcwd(absolute, sizeof absolute / 2))
        return;
    (void)snprintf(absolute + strlen(absolute), sizeof absolute / 2, "/%s", path);
    block_if_below(absolute);
}

static void block_fd(int fd)
{
    char link[64], path[4096] = "";

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0)
        block_if_below(path);
}

#define FORWARD(type, name, parameters, arguments, check)                                \
    type name parameters                                                                 \
    {                                                                                    \
        static type(*real) parameters;                                                   \
        if (!real)                                                                       \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                   \
        check;                                                                           \
        return real arguments;                                                           \
    }

FORWARD(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), block_fd(fd))
FORWARD(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at),
        (fd, data, n, at), block_fd(fd))
FORWARD(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at),
        (fd, data, n, at), block_fd(fd))
FORWARD(int, fsync, (int fd), (fd), block_fd(fd))
FORWARD(int, rename, (const char *from, const char *to), (from, to), block_path(to))
FORWARD(int, unlink, (const char *path), (path), block_path(path))

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
        if ((flags & O_ACCMODE) != O_RDONLY)                                             \
            block_path(path);                                                            \
        return real(path, flags, mode);                                                  \
    }

FORWARD_OPEN(open)
FORWARD_OPEN(open64)
