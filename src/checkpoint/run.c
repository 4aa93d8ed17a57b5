/*
 * run.c - the run directory: creation, lock, and stop requests.
 *
 * The lock is RUN/run.lock (file.h: sim_lock_acquire).
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const subdirectories[] = {"checkpoints", "results"};
enum { N_SUBDIRECTORIES = sizeof subdirectories / sizeof *subdirectories };
_Static_assert(N_SUBDIRECTORIES ==
                   sizeof((sim_run *)0)->subdirectory_is_new / sizeof(bool),
               "one flag per subdirectory");

sim_status sim_run_path(const sim_run *run, const char *name, char *out, size_t out_bytes)
{
    sim_status st = SIM_OK;
    int n = snprintf(out, out_bytes, "%s/%s", run->path, name);
    SIM_CHECK(n > 0 && (size_t)n < out_bytes, SIM_E_CREATE, "%s/%s: the path is too long",
              run->path, name);
done:
    return st;
}

/* Whether a name is that of a temporary file of a checkpoint, a part file or a hint. */
static bool is_of_checkpoint(const char *name)
{
    int64_t step = 0;
    const char *mark = strstr(name, ".tmp.");
    return mark && (sim_checkpoint_parse_step(name, &step) ||
                    strncmp(name, "latest.tmp.", strlen("latest.tmp.")) == 0 ||
                    strncmp(name, "best.tmp.", strlen("best.tmp.")) == 0);
}

/* Removes temporary files of killed processes.  Only the holder of the lock writes to
 * checkpoints/, so all of them are stale there.  RUN also has those of `simile stop` and of
 * starts that try to acquire the lock, possibly on other hosts. */
static void remove_temporaries(const char *directory, bool is_checkpoints)
{
    sim_names names = {0};
    char path[4400];

    if (sim_directory_list(directory, &names) != SIM_OK)
        return;
    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        if (is_checkpoints ? is_of_checkpoint(names.names[i])
                           : sim_temporary_is_stale(path))
            SIM_IGNORE(sim_file_remove(path));
    }
    sim_names_clear(&names);
}

static sim_status make_directory(const char *path, bool *is_new)
{
    bool existed = sim_path_exists(path);
    sim_status st = sim_directory_create(path);
    *is_new = st == SIM_OK && !existed;
    return st;
}

/*
 * A link is refused: the directory that it leads to has no lock of its own, so another run may use
 * it at the same time, and checkpoints that this run replaces or deletes may be those of the other.
 */
static sim_status make_subdirectory(const char *path, bool *is_new)
{
    sim_status st = SIM_OK;
    SIM_CHECK(
        !sim_path_is_link(path), SIM_E_CREATE,
        "%s is a symbolic link; expected a directory: to write to another disk, let "
        "the key run name a directory there, or make the run directory the link",
        path);
    SIM_TRY(make_directory(path, is_new));
done:
    return st;
}

/* Rank 0's part of sim_run_open. */
static sim_status open_local(const sim_comm *c, const char *path, sim_run *run)
{
    sim_status st = SIM_OK;
    char part[4200];

    SIM_TRY(make_directory(path, &run->is_new));
    SIM_TRY(sim_run_path(run, "run.lock", part, sizeof part));
    SIM_TRY(sim_lock_acquire(part, c->host, "the run", "stop it with simile stop",
                             run->token));
    run->locked = true;
    for (size_t i = 0; i < N_SUBDIRECTORIES;
         i++) { /* created and removed under the lock */
        SIM_TRY(sim_run_path(run, subdirectories[i], part, sizeof part));
        SIM_TRY(make_subdirectory(part, &run->subdirectory_is_new[i]));
    }
    sim_run_stop_clear(run); /* a request for an earlier job */
    remove_temporaries(path, false);
    SIM_TRY(sim_run_path(run, "results", part, sizeof part));
    remove_temporaries(part, false);
    SIM_TRY(sim_run_path(run, "checkpoints", part, sizeof part));
    remove_temporaries(part, true);
done:
    return st;
}

sim_status sim_run_open(const sim_comm *c, const char *path, sim_run *run)
{
    sim_status st = SIM_OK;
    int n = snprintf(run->path, sizeof run->path, "%s", path);

    SIM_CHECK(n > 0 && (size_t)n + 64 < sizeof run->path, SIM_E_CREATE,
              "run: \"%.60s\" is empty or too long for a directory path", path);
    if (c->rank == 0)
        st = open_local(c, path, run);
done:
    st = sim_comm_agree(c, st);
    if (st != SIM_OK)
        sim_run_drop(c, run);
    return st;
}

void sim_run_close(const sim_comm *c, sim_run *run)
{
    char path[4200];
    if (c->rank != 0 || !run->locked)
        return;
    run->locked = false;
    if (sim_run_path(run, "run.lock", path, sizeof path) == SIM_OK)
        sim_lock_release(path, run->token);
}

sim_status sim_run_check(const sim_run *run)
{
    sim_status st = SIM_OK;
    char path[4200];

    if (!run->locked)
        goto done;
    SIM_TRY(sim_run_path(run, "run.lock", path, sizeof path));
    SIM_TRY(sim_lock_check(path, run->token));
done:
    return st;
}

bool sim_run_is_lost(const sim_run *run)
{
    char message[4096];

    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    const bool is_lost = sim_run_check(run) != SIM_OK;
    sim_error_set(message);
    return is_lost;
}

/* Removes a directory if sim_run_open created it and it is empty. */
static void remove_if_new(const char *path, bool *is_new)
{
    if (*is_new)
        SIM_IGNORE(sim_directory_remove(path));
    *is_new = false;
}

void sim_run_drop(const sim_comm *c, sim_run *run)
{
    char path[4200], message[4096];

    if (c->rank != 0)
        return;
    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    const bool is_lost = sim_run_is_lost(run); /* the directories are of another job */
    for (size_t i = N_SUBDIRECTORIES; i-- > 0 && !is_lost;)
        if (sim_run_path(run, subdirectories[i], path, sizeof path) == SIM_OK)
            remove_if_new(path, &run->subdirectory_is_new[i]);
    sim_run_close(c, run);
    if (!is_lost)
        remove_if_new(run->path, &run->is_new);
    sim_error_set(message);
}

bool sim_run_is_locked(const char *path)
{
    char lock[4200];
    (void)snprintf(lock, sizeof lock, "%s/run.lock", path);
    return sim_lock_is_held(lock);
}

sim_status sim_run_set_aside(const char *path, const char *problem, char aside[PATH_MAX])
{
    sim_status st = SIM_OK;
    char old[PATH_MAX];

    SIM_TRY(sim_file_set_aside(path, old));
    sim_log_warn("%s: %s; it is kept as %s, and a new file is started", path, problem,
                 old);
    if (aside)
        memcpy(aside, old, PATH_MAX);
done:
    return st;
}

int64_t sim_run_last_step(const char *run_path)
{
    sim_names names = {0};
    char path[4200];
    int64_t step = 0, last = -1;

    (void)snprintf(path, sizeof path, "%s/checkpoints", run_path);
    if (sim_directory_list(path, &names) != SIM_OK)
        sim_error_clear();
    for (size_t i = 0; i < names.n; i++)
        if (sim_checkpoint_step_of(names.names[i], &step) && step > last)
            last = step;
    sim_names_clear(&names);
    return last;
}

/* ---- stop requests ---- */

static bool is_stop_request(const char *path)
{
    static const char word[] = "stop\n";
    char *text = NULL;
    size_t n = 0;

    if (!sim_path_is_file(path))
        return false;
    bool is = sim_file_load(path, sizeof word, &text, &n) == SIM_OK &&
              (n == 0 || strcmp(text, word) == 0);
    sim_error_clear();
    sim_free(text);
    return is;
}

sim_status sim_run_request_stop(const char *path)
{
    sim_status st = SIM_OK;
    char file[4200];
    const sim_piece piece = {"stop\n", 5};

    SIM_CHECK(sim_path_is_directory(path), SIM_E_INPUT, "%s is not a run directory",
              path);
    (void)snprintf(file, sizeof file, "%s/run.lock", path);
    SIM_CHECK(sim_path_exists(file), SIM_E_INPUT, "%s: no job is running there", path);
    SIM_CHECK(sim_run_is_locked(path), SIM_E_INPUT,
              "%s: no job is running there: the last one was killed", path);
    (void)snprintf(file, sizeof file, "%s/stop", path);
    SIM_CHECK(
        !sim_path_is_taken(file) || is_stop_request(file), SIM_E_CREATE,
        "%s is not a stop request of simile; rename it, or stop the job by a signal",
        file);
    SIM_TRY(sim_file_replace(file, &piece, 1));
done:
    return sim_path_explain(st, path, SIM_USE_RUN);
}

bool sim_run_stop_requested(const sim_run *run)
{
    char path[4200];
    return sim_run_path(run, "stop", path, sizeof path) == SIM_OK &&
           is_stop_request(path);
}

void sim_run_stop_clear(const sim_run *run)
{
    char path[4200];
    if (run->locked && sim_run_path(run, "stop", path, sizeof path) == SIM_OK &&
        is_stop_request(path))
        SIM_IGNORE(sim_file_remove(path));
}
