/*
 * output.c - what the output of a command may replace.
 *
 * Every command checks its outputs here, before it computes.  Files are compared by their identity
 * (device and inode), so that links and other spellings of a path are found.
 */
#include "simile/file.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names that pretrain, compare and the scripts for Slurm use in a run directory. */
static const char *const run_files[] = {
    "config.yaml", "config.resolved.yaml", "metrics.jsonl", "segments.json",
    "log.txt",     "trace-hash.txt",       "run.lock",      "stop",
    "output.txt",  "failure.json",         "slurm-starts",  "*.old-[0-9]*"};
/* In these, new files too belong to the run. */
static const char *const run_directories[] = {"checkpoints", "heartbeat", "abandoned-*",
                                              "tensorboard"};
static const char run_results[] = "results";

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool matches_any(const char *name, const char *const *patterns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

/* The directory of a file, absolute and without links.  false: it does not exist. */
static bool real_directory(const char *path, char out[PATH_MAX])
{
    char directory[PATH_MAX] = ".";
    const size_t n = (size_t)(last_component(path) - path);

    if (n >= sizeof directory)
        return false;
    if (n > 0)
        (void)snprintf(directory, sizeof directory, "%.*s", (int)n, path);
    return realpath(directory, out) != NULL;
}

/* Replaces an absolute path by its parent; false for "/". */
static bool go_up(char path[PATH_MAX])
{
    char *slash = strrchr(path, '/');
    if (!slash || !slash[1])
        return false;
    slash[slash == path] = '\0';
    return true;
}

static bool is_run(const char *directory)
{
    char checkpoints[PATH_MAX + 16];
    (void)snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", directory);
    return sim_path_is_directory(checkpoints);
}

typedef enum { OUTSIDE, RESULT_OF_RUN, FILE_OF_RUN } run_part;

/* Whether a path has a name that a run uses; `run` is then the directory of the run. */
static run_part find_run(const char *path, char run[PATH_MAX])
{
    char below[PATH_MAX]; /* first component of the path below `run` */

    (void)snprintf(below, sizeof below, "%s", last_component(path));
    if (!real_directory(path, run))
        return OUTSIDE;
    for (bool is_directory = false;; is_directory = true) {
        if (is_run(run)) {
            if (is_directory && strcmp(below, run_results) == 0)
                return RESULT_OF_RUN;
            if (is_directory
                    ? matches_any(below, run_directories,
                                  sizeof run_directories / sizeof *run_directories)
                    : matches_any(below, run_files, sizeof run_files / sizeof *run_files))
                return FILE_OF_RUN;
        }
        (void)snprintf(below, sizeof below, "%s", last_component(run));
        if (!go_up(run))
            return OUTSIDE;
    }
}

/* The same file, or the same name in the same directory if it does not exist. */
static bool is_same_target(const char *a, const char *b)
{
    char of_a[PATH_MAX], of_b[PATH_MAX];

    if (sim_path_is_same(a, b))
        return true;
    return strcmp(last_component(a), last_component(b)) == 0 && real_directory(a, of_a) &&
           real_directory(b, of_b) && sim_path_is_same(of_a, of_b);
}

/* Whether the file is in the directory or below it. */
static bool is_below(const char *path, const char *directory)
{
    char parent[PATH_MAX];

    if (!sim_path_is_directory(directory) || !real_directory(path, parent))
        return false;
    do
        if (sim_path_is_same(parent, directory))
            return true;
    while (go_up(parent));
    return false;
}

static sim_status check_creation(const char *target)
{
    sim_status st = SIM_OK;
    char directory[PATH_MAX] = ".";
    const size_t n = (size_t)(last_component(target) - target);
    struct stat info;

    if (n > 0)
        (void)snprintf(directory, sizeof directory, "%.*s", (int)n, target);
    if (stat(directory, &info) != 0 || access(directory, W_OK) != 0)
        SIM_FAIL(sim_creation_status(errno), "%s: cannot be created: %s", target,
                 strerror(errno));
    if (stat(target, &info) != 0)
        goto done;
    SIM_CHECK(!S_ISDIR(info.st_mode), SIM_E_CREATE, "%s is a directory; expected a file",
              target);
    SIM_CHECK(S_ISREG(info.st_mode), SIM_E_CREATE,
              "%s exists and is not a regular file; choose another output", target);
done:
    return st;
}

/* Inputs are never replaced, also by --force.  An output of an earlier call may be in a directory
 * that is read. */
static sim_status check_inputs(const sim_output *o, const char *target)
{
    sim_status st = SIM_OK;
    char run[PATH_MAX];
    const run_part part = find_run(target, run);

    for (size_t i = 0; i < o->n_inputs; i++) {
        const char *in = o->inputs[i];
        if (!in || !*in)
            continue;
        SIM_CHECK(!is_same_target(target, in), SIM_E_USAGE,
                  "%s is read by this command, as %s; choose another output with %s",
                  o->path, in, o->option);
        if (o->is_own || !sim_path_exists(target))
            continue;
        SIM_CHECK(
            is_run(in) ? part == OUTSIDE || !sim_path_is_same(run, in)
                       : !is_below(target, in),
            SIM_E_USAGE,
            "%s is a file of %s, which this command reads; choose another output with %s",
            o->path, in, o->option);
    }
done:
    return st;
}

static sim_status check_existing(const sim_output *o, const char *target)
{
    sim_status st = SIM_OK;
    char run[PATH_MAX];
    struct stat info;
    const bool exists = stat(target, &info) == 0;
    const run_part part = find_run(target, run);

    if (o->force || (exists && o->is_own))
        goto done;
    SIM_CHECK(part != FILE_OF_RUN, SIM_E_CREATE,
              "%s is a file of the run %s; choose another file, or replace it with "
              "--force",
              o->path, run);
    SIM_CHECK(!exists || (info.st_size == 0 && part == OUTSIDE), SIM_E_CREATE,
              "%s exists and is not %s; choose another file, or replace it with --force",
              o->path, o->kind);
done:
    return st;
}

sim_status sim_output_check(const sim_output *o, char target[PATH_MAX])
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_path_follow(o->path, target));
    SIM_TRY(check_creation(target));
    SIM_TRY(check_inputs(o, target));
    SIM_TRY(check_existing(o, target));
    sim_temporary_remove_stale(target);
done:
    return st;
}
