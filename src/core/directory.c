/*
 * directory.c - folders: making and listing.
 */
#include "simile/file.h"

#include "simile/memory.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

bool sim_path_exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

bool sim_path_is_directory(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

bool sim_path_is_same(const char *a, const char *b)
{
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static sim_status code_of_making(int error)
{
    if (error == EACCES || error == EPERM || error == EROFS)
        return SIM_E_ACCESS;
    return error == ENOSPC || error == EDQUOT || error == EIO ? SIM_E_IO : SIM_E_CREATE;
}

sim_status sim_path_check_output(const char *out, const char *in)
{
    sim_status st = SIM_OK;
    struct stat a;
    char folder[PATH_MAX] = ".";
    const char *slash = strrchr(out, '/');

    SIM_CHECK(strlen(out) < sizeof folder, SIM_E_CREATE, "%.200s ... is too long a path",
              out);
    if (slash)
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - out + 1), out);
    SIM_CHECK(stat(folder, &a) == 0 && access(folder, W_OK) == 0, code_of_making(errno),
              "%s: cannot be created: %s", out, strerror(errno));
    if (stat(out, &a) != 0)
        goto done;
    SIM_CHECK(!S_ISDIR(a.st_mode), SIM_E_CREATE, "%s is a folder, expected a file", out);
    SIM_CHECK(!sim_path_is_same(out, in), SIM_E_USAGE,
              "%s would be overwritten, but it is what is read from: give "
              "another --out",
              out);
done:
    return st;
}

static sim_status code_of_looking(int error)
{
    if (error == EACCES || error == EPERM)
        return SIM_E_ACCESS;
    return error == ENOENT || error == ENOTDIR ? SIM_E_INPUT : SIM_E_IO;
}

static sim_status make_one(const char *path)
{
    sim_status st = SIM_OK;
    int error = mkdir(path, 0777) == 0 ? 0 : errno;
    /* Automounters answer EACCES or EROFS for a folder that is there: so look. */
    if (error != 0 && !sim_path_is_directory(path))
        SIM_FAIL(code_of_making(error), "%s: cannot be made: %s", path, strerror(error));
done:
    return st;
}

sim_status sim_directory_make(const char *path)
{
    sim_status st = SIM_OK;
    char part[PATH_MAX];
    size_t n = strlen(path);

    SIM_CHECK(n > 0 && n < sizeof part, SIM_E_CREATE, "\"%.200s\": no path of a folder",
              path);
    memcpy(part, path, n + 1);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        SIM_TRY(make_one(part));
        *p = '/';
    }
    SIM_TRY(make_one(part));
done:
    return st;
}

sim_status sim_directory_remove(const char *path)
{
    sim_status st = SIM_OK;
    SIM_CHECK(rmdir(path) == 0, code_of_looking(errno), "%s: cannot be removed: %s", path,
              strerror(errno));
done:
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sim_status add_name(sim_names *names, size_t *room, const char *name)
{
    sim_status st = SIM_OK;
    if (names->n == *room) {
        *room = *room ? 2 * *room : 64;
        SIM_TRY(sim_grow(&names->names, *room, "core/names"));
    }
    SIM_TRY(sim_text_copy(name, "core/names", &names->names[names->n]));
    names->n++;
done:
    return st;
}

sim_status sim_directory_list(const char *path, sim_names *out)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    size_t room = 0;
    DIR *d = opendir(path);

    SIM_CHECK(d, code_of_looking(errno), "%s: cannot be listed: %s", path,
              strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        SIM_CHECK(e || errno == 0, SIM_E_IO, "%s: cannot be listed: %s", path,
                  strerror(errno));
        if (!e)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            SIM_TRY(add_name(&names, &room, e->d_name));
    }
    if (names.n)
        qsort(names.names, names.n, sizeof *names.names, by_name);
    *out = names;
    names = (sim_names){0};
done:
    if (d)
        (void)closedir(d);
    sim_names_clear(&names);
    return st;
}

void sim_names_clear(sim_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        sim_free(names->names[i]);
    SIM_FREE(names->names);
    names->n = 0;
}

void sim_host_name(char *out, size_t out_bytes)
{
    memset(out, 0, out_bytes);
    (void)gethostname(out, out_bytes - 1);
}

sim_status sim_path_free_bytes(const char *path, uint64_t *n_bytes)
{
    sim_status st = SIM_OK;
    struct statvfs about;
    SIM_CHECK(statvfs(path, &about) == 0, code_of_looking(errno),
              "%s: cannot be looked at: %s", path, strerror(errno));
    *n_bytes = (uint64_t)about.f_bavail * about.f_frsize;
done:
    return st;
}
