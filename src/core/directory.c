/*
 * directory.c - paths and directories: checks, creation, listing.
 */
#include "simile/file.h"

#include "simile/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

bool sim_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool sim_path_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool sim_path_is_same(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 &&
           first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

bool sim_path_is_taken(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

bool sim_path_is_link(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
}

bool sim_path_is_file(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISREG(info.st_mode);
}

sim_status sim_creation_status(int error)
{
    if (error == EACCES || error == EPERM || error == EROFS)
        return SIM_E_ACCESS;
    return error == ENOSPC || error == EDQUOT || error == EIO ? SIM_E_IO : SIM_E_CREATE;
}

/* Whether the file system of the directory of `path` has no inodes left. */
static bool is_out_of_inodes(const char *path)
{
    char directory[PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    struct statvfs info;

    if (slash && slash - path < PATH_MAX - 1)
        (void)snprintf(directory, sizeof directory, "%.*s", (int)(slash - path + 1),
                       path);
    return statvfs(directory, &info) == 0 && info.f_files > 0 && info.f_favail == 0;
}

void sim_creation_reason(int error, const char *path, char out[160])
{
    const char *more = "";
    if (error == ENOSPC && is_out_of_inodes(path))
        more =
            " for another file: the file system has no free inodes (df -i); delete files";
    else if (error == EDQUOT)
        more = ", of space or of the number of files";
    (void)snprintf(out, 160, "%s%s", strerror(error), more);
}

static sim_status lookup_code(int error)
{
    if (error == EACCES || error == EPERM)
        return SIM_E_ACCESS;
    return error == ENOENT || error == ENOTDIR ? SIM_E_INPUT : SIM_E_IO;
}

static sim_status create_one(const char *path)
{
    sim_status st = SIM_OK;
    char reason[160];
    int error = mkdir(path, 0777) == 0 ? 0 : errno;
    /* Automounters may return EACCES or EROFS for an existing directory. */
    if (error != 0 && !sim_path_is_directory(path)) {
        sim_creation_reason(error, path, reason);
        SIM_FAIL(sim_creation_status(error), "%s: cannot be created: %s", path,
                 error == EEXIST ? "it exists and is not a directory" : reason);
    }
done:
    return st;
}

sim_status sim_directory_create(const char *path)
{
    sim_status st = SIM_OK;
    char part[PATH_MAX];
    size_t n = strlen(path);

    SIM_CHECK(n > 0 && n < sizeof part, SIM_E_CREATE,
              "\"%.200s\" is not a valid directory path", path);
    memcpy(part, path, n + 1);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        SIM_TRY(create_one(part));
        *p = '/';
    }
    SIM_TRY(create_one(part));
done:
    return st;
}

sim_status sim_directory_remove(const char *path)
{
    sim_status st = SIM_OK;
    SIM_CHECK(rmdir(path) == 0, lookup_code(errno), "%s: cannot be removed: %s", path,
              strerror(errno));
done:
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sim_status add_name(sim_names *names, size_t *capacity, const char *name)
{
    sim_status st = SIM_OK;
    if (names->n == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 64;
        SIM_TRY(sim_grow(&names->names, *capacity, "core/names"));
    }
    SIM_TRY(sim_text_copy(name, "core/names", &names->names[names->n]));
    names->n++;
done:
    return st;
}

/* Follows no symbolic link.  Some file systems do not report the type of an entry. */
static bool is_subdirectory(DIR *d, const struct dirent *e)
{
    struct stat info;
    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    return fstatat(dirfd(d), e->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(info.st_mode);
}

static sim_status list_entries(const char *path, bool only_directories, sim_names *out)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    size_t capacity = 0;
    DIR *d = opendir(path);

    SIM_CHECK(d, lookup_code(errno), "%s: cannot be listed: %s", path, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        SIM_CHECK(e || errno == 0, SIM_E_IO, "%s: cannot be listed: %s", path,
                  strerror(errno));
        if (!e)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            (!only_directories || is_subdirectory(d, e)))
            SIM_TRY(add_name(&names, &capacity, e->d_name));
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

sim_status sim_directory_list(const char *path, sim_names *out)
{
    return list_entries(path, false, out);
}

sim_status sim_directory_list_subdirectories(const char *path, sim_names *out)
{
    return list_entries(path, true, out);
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
    struct statvfs info;
    SIM_CHECK(statvfs(path, &info) == 0, lookup_code(errno),
              "%s: free space cannot be determined: %s", path, strerror(errno));
    *n_bytes = (uint64_t)info.f_bavail * info.f_frsize;
done:
    return st;
}
