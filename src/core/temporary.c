/*
 * temporary.c - the temporary files that replace a file, "PATH.tmp.HOST.PID": their names, and the
 * removal of those whose process was killed.
 */
#include "simile/file.h"

#include "simile/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char mark[] = ".tmp.";
enum { MARK_BYTES = sizeof mark - 1 };

sim_status sim_temporary_path(const char *path, char *out, size_t out_bytes)
{
    sim_status st = SIM_OK;
    char host[64];

    sim_host_name(host, sizeof host);
    int n = snprintf(out, out_bytes, "%s%s%s.%ld", path, mark, host, sim_process_id());
    SIM_CHECK(n > 0 && (size_t)n < out_bytes, SIM_E_IO,
              "%.200s...: a path of %zu bytes is too long", path, strlen(path));
done:
    return st;
}

/* "HOST.PID" of the name of a temporary file; NULL for other names. */
static const char *find_writer(const char *name)
{
    const char *writer = NULL;

    for (const char *p = strstr(name, mark); p; p = strstr(p + 1, mark))
        writer = p + MARK_BYTES;
    const char *pid = writer ? strrchr(writer, '.') : NULL;
    if (!pid || pid == writer || !pid[1] || pid[1 + strspn(pid + 1, "0123456789")])
        return NULL;
    return writer;
}

static bool is_alive(long pid)
{
    sim_process p;
    return sim_process_query(pid, &p) && p.state != 'Z' && p.state != 'X';
}

/* Writing a file takes minutes at most. */
static bool is_old(const char *path)
{
    enum { DAY_S = 24 * 60 * 60 };
    struct stat info;
    return lstat(path, &info) == 0 &&
           sim_clock_wall_s() - (double)info.st_mtim.tv_sec > DAY_S;
}

bool sim_temporary_is_stale(const char *path)
{
    const char *slash = strrchr(path, '/'), *writer = find_writer(slash ? slash : path);
    char host[64];

    if (!writer || sim_path_is_link(path))
        return false;
    const char *pid = strrchr(writer, '.');
    sim_host_name(host, sizeof host);
    if (strlen(host) != (size_t)(pid - writer) ||
        strncmp(writer, host, strlen(host)) != 0)
        return is_old(path);
    return !is_alive(strtol(pid + 1, NULL, 10));
}

void sim_temporary_remove_stale(const char *path)
{
    char message[4096], directory[PATH_MAX] = ".", file[2 * PATH_MAX];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const size_t n = strlen(base);
    sim_names names = {0};

    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (slash)
        (void)snprintf(directory, sizeof directory, "%.*s", (int)(base - path), path);
    SIM_IGNORE(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.names[i];
        (void)snprintf(file, sizeof file, "%.*s%s", (int)(base - path), path, name);
        if (strncmp(name, base, n) == 0 && strncmp(name + n, mark, MARK_BYTES) == 0 &&
            sim_temporary_is_stale(file))
            SIM_IGNORE(sim_file_remove(file));
    }
    sim_names_clear(&names);
    sim_error_set(message);
}
