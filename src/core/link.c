/*
 * link.c - symbolic links of output files: results are written to what they refer to.
 */
#include "simile/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Replaces `path` by the target of the link; a relative target is relative to its directory. */
static sim_status follow_once(char path[PATH_MAX], const char *target)
{
    sim_status st = SIM_OK;
    char next[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = target[0] == '/' || !slash ? snprintf(next, sizeof next, "%s", target)
                                       : snprintf(next, sizeof next, "%.*s%s",
                                                  (int)(slash + 1 - path), path, target);

    SIM_CHECK(n > 0 && n < PATH_MAX, SIM_E_CREATE, "%.200s: the path is too long", path);
    memcpy(path, next, (size_t)n + 1);
done:
    return st;
}

sim_status sim_path_follow(const char *path, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    enum { MAX_LINKS = 40 };
    char target[PATH_MAX];

    SIM_CHECK(strlen(path) < PATH_MAX, SIM_E_CREATE, "%.200s: the path is too long",
              path);
    memcpy(out, path, strlen(path) + 1);
    for (int i = 0;; i++) {
        ssize_t n = readlink(out, target, sizeof target - 1);
        if (n < 0)
            break;
        SIM_CHECK(i < MAX_LINKS, SIM_E_CREATE, "%s: %s", path, strerror(ELOOP));
        target[n] = '\0';
        SIM_TRY(follow_once(out, target));
    }
done:
    return st;
}
