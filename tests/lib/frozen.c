/*
 * frozen.c - a file system that stops responding (LD_PRELOAD): once the file FROZEN exists, calls that
 * change a path below the directory FROZEN_BELOW never return, and their thread receives no signals.
 */
#define _GNU_SOURCE
#include "changes.h"

#include <signal.h>

static int on_change(const char *path)
{
    const char *below = getenv("FROZEN_BELOW"), *frozen = getenv("FROZEN");
    sigset_t all;

    if (!below || !frozen || strncmp(path, below, strlen(below)) != 0 ||
        access(frozen, F_OK) != 0)
        return 0;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;)
        (void)pause();
}
