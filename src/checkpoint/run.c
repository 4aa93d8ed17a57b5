/*
 * run.c - the run directory: creation, lock, and stop requests.
 *
 * The lock is a file, created exclusively, with the host, process and job of its holder.  It
 * is taken over only if the holder has certainly ended: there is no such process on this
 * host, or Slurm reports that its job has ended.
 */
#include "private.h"

#include "simile/clock.h"
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

/* Start time of a process; "" if there is none with this pid, or it is a zombie. */
static void process_start(long pid, char out[32])
{
    sim_process p;
    bool lives = sim_process_query(pid, &p) && p.state != 'Z' && p.state != 'X';
    (void)snprintf(out, 32, "%s", lives ? p.start_ticks : "");
}

static sim_status write_lock(const char *path, const char *host)
{
    char text[704], start[32], space[64], when[21];
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    process_start(sim_process_id(), start);
    sim_process_namespace(space, sizeof space);
    sim_clock_iso(sim_clock_wall_s(), when);
    (void)snprintf(text, sizeof text,
                   "host %s\npid %ld\nstart %s\nspace %s\njob %s\nrestart %s\nsince %s\n",
                   host, sim_process_id(), start, space, job ? job : "-",
                   restart ? restart : "0", when);
    return sim_file_create_new(path, text);
}

/* The value of the line "name value". */
static void read_field(const char *text, const char *name, char *out, size_t out_bytes)
{
    size_t n = strlen(name);
    out[0] = '\0';
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, n) == 0 && line[n] == ' ') {
            (void)snprintf(out, out_bytes, "%.*s", (int)strcspn(line + n + 1, "\n"),
                           line + n + 1);
            return;
        }
        if (!*line)
            return;
    }
}

typedef struct {
    char host[256], pid[32], start[32], space[64], job[64], restart[32], since[32];
} holder;

static holder read_holder(const char *text)
{
    holder h;
    read_field(text, "host", h.host, sizeof h.host);
    read_field(text, "pid", h.pid, sizeof h.pid);
    read_field(text, "start", h.start, sizeof h.start);
    read_field(text, "space", h.space, sizeof h.space);
    read_field(text, "job", h.job, sizeof h.job);
    read_field(text, "restart", h.restart, sizeof h.restart);
    read_field(text, "since", h.since, sizeof h.since);
    return h;
}

/* True if every state that squeue prints is PENDING.  A pending holder was requeued, so its
 * processes have ended.  For a job array squeue prints one state per task. */
static bool all_pending(const char *lines)
{
    for (const char *at = lines + strspn(lines, " \n"); *at; at += strspn(at, " \n")) {
        size_t n = strcspn(at, " \n");
        if (n != 7 || strncmp(at, "PENDING", n) != 0)
            return false;
        at += n;
    }
    return true;
}

/* True if Slurm reports that no process of the job is left. */
static bool job_has_ended(const char *job)
{
    enum { WAIT_MS = 15000 };
    const char *const argv[] = {"squeue", "--noheader", "--format=%T",
                                "--jobs", job,          NULL};
    char answer[8192];
    int code = 0;

    if (!*job || job[strspn(job, "0123456789")] != '\0')
        return false;
    if (sim_process_output(argv, WAIT_MS, answer, sizeof answer, &code) != SIM_OK) {
        sim_error_clear(); /* no Slurm, or no reply: unknown */
        return false;
    }
    if (code != 0)
        return strstr(answer, "Invalid job id") != NULL;
    return strlen(answer) + 1 < sizeof answer && all_pending(answer);
}

/* True if the holder's pid is valid in this process's pid namespace: containers with one host
 * name may have different ones.  Locks of early versions have no `space` line. */
static bool shares_pids(const holder *h, const char *host)
{
    char space[64];
    sim_process_namespace(space, sizeof space);
    return strcmp(h->host, host) == 0 && (!h->space[0] || strcmp(h->space, space) == 0);
}

/* True if the holder has certainly ended. */
static bool has_ended(const holder *h, const char *host)
{
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    char start[32];

    if (shares_pids(h, host)) {
        process_start(strtol(h->pid, NULL, 10), start);
        return strcmp(start, h->start) != 0;
    }
    /* This job was requeued, so its earlier start has ended. */
    if (job && restart && strcmp(job, h->job) == 0 &&
        strtol(restart, NULL, 10) > strtol(h->restart, NULL, 10))
        return true;
    return job_has_ended(h->job);
}

/* Opens for writing if permitted: NFS does not lock files that are open for reading. */
static sim_status open_for_lock(const char *path, int *fd)
{
    uint64_t n = 0;
    sim_status st = sim_file_open_update(path, fd);
    if (st != SIM_E_ACCESS)
        return st;
    sim_error_clear();
    return sim_file_open_read(path, fd, &n);
}

/*
 * Removes the lock file of a holder that has ended, while this process has the kernel's lock
 * on that file (released when the process ends).  A concurrent start that also found it stale
 * fails to lock it, or finds different text at its path; so a new lock is never removed.
 */
static sim_status remove_stale(const char *path, const char *text)
{
    sim_status st = SIM_OK;
    char *current = NULL;
    size_t n = 0;
    int fd = -1;

    st = open_for_lock(path, &fd);
    if (st == SIM_OK)
        st = sim_file_lock(fd, path);
    if (st == SIM_OK)
        st = sim_file_load(path, 4096, &current, &n);
    if (st == SIM_E_INPUT || st == SIM_E_CREATE) { /* another start is taking over */
        sim_error_clear();
        st = SIM_OK;
        goto done;
    }
    SIM_TRY(st);
    if (strcmp(current, text) == 0)
        SIM_TRY(sim_file_remove(path));
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(current);
    return st;
}

/* Removes the lock if its holder has ended; otherwise fails with the name of the holder. */
static sim_status remove_if_stale(const char *path, const char *text, const char *host)
{
    sim_status st = SIM_OK;
    const holder h = read_holder(text);

    SIM_CHECK(
        h.host[0] && h.pid[0], SIM_E_CREATE,
        "%s is empty or corrupted and names no holder; if no job is running there, type: "
        "rm %s",
        path, path);
    SIM_CHECK(has_ended(&h, host), SIM_E_CREATE,
              "%s: the run is held by pid %s on %s (job %s, since %s); stop it with "
              "simile stop, "
              "or, if it has certainly ended, type: rm %s",
              path, h.pid, h.host, h.job, h.since, path);
    sim_log("taking over the lock of pid %s on %s (job %s), which has ended", h.pid,
            h.host, h.job);
    SIM_TRY(remove_stale(path, text));
done:
    return st;
}

static sim_status acquire_lock(const char *path, const char *host)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    size_t n = 0;

    for (int i = 0; i < 3; i++) {
        st = write_lock(path, host);
        if (st != SIM_E_CREATE)
            goto done;
        SIM_FREE(text);
        st = sim_file_load(path, 4096, &text, &n);
        if (st == SIM_E_INPUT)
            continue;         /* released in the meantime */
        if (st == SIM_E_DATA) /* too large for a lock file */
            st = sim_text_copy("", "checkpoint/lock", &text);
        SIM_TRY(st);
        SIM_TRY(remove_if_stale(path, text, host));
    }
    st = write_lock(path, host);
done:
    sim_free(text);
    return st;
}

/* True for NAME.tmp.HOST.PID of this host if the process has ended. */
static bool is_stale(const char *temporary)
{
    char host[64], start[32];
    const char *of = strstr(temporary, ".tmp."), *pid = strrchr(temporary, '.');

    sim_host_name(host, sizeof host);
    of += strlen(".tmp.");
    if (pid <= of || strlen(host) != (size_t)(pid - of) ||
        strncmp(of, host, (size_t)(pid - of)) != 0)
        return false;
    process_start(strtol(pid + 1, NULL, 10), start);
    return start[0] == '\0';
}

/* Removes temporary files of killed processes.  Only the holder of the lock writes to
 * checkpoints/, so all of them are stale there.  RUN also has those of `simile stop` and of
 * starts that try to acquire the lock, possibly on other hosts. */
static void remove_temporaries(const char *directory, bool only_stale)
{
    sim_names names = {0};
    char path[4400];

    if (sim_directory_list(directory, &names) != SIM_OK)
        return;
    for (size_t i = 0; i < names.n; i++)
        if (strstr(names.names[i], ".tmp.") &&
            (!only_stale || is_stale(names.names[i]))) {
            (void)snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
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

/* Rank 0's part of sim_run_open. */
static sim_status open_local(const sim_comm *c, const char *path, sim_run *run)
{
    sim_status st = SIM_OK;
    char part[4200];

    SIM_TRY(make_directory(path, &run->is_new));
    SIM_TRY(sim_run_path(run, "run.lock", part, sizeof part));
    SIM_TRY(acquire_lock(part, c->host));
    run->locked = true;
    for (size_t i = 0; i < N_SUBDIRECTORIES;
         i++) { /* created and removed under the lock */
        SIM_TRY(sim_run_path(run, subdirectories[i], part, sizeof part));
        SIM_TRY(make_directory(part, &run->subdirectory_is_new[i]));
    }
    sim_run_stop_clear(run); /* a request for an earlier job */
    remove_temporaries(path, true);
    SIM_TRY(sim_run_path(run, "checkpoints", part, sizeof part));
    remove_temporaries(part, false);
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
        SIM_IGNORE(sim_file_remove(path));
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
    for (size_t i = N_SUBDIRECTORIES; i-- > 0;)
        if (sim_run_path(run, subdirectories[i], path, sizeof path) == SIM_OK)
            remove_if_new(path, &run->subdirectory_is_new[i]);
    sim_run_close(c, run);
    remove_if_new(run->path, &run->is_new);
    sim_error_set(message);
}

bool sim_run_is_locked(const char *path)
{
    char lock[4200], host[256] = "", *text = NULL;
    size_t n = 0;
    bool held = false;

    (void)snprintf(lock, sizeof lock, "%s/run.lock", path);
    if (sim_file_load(lock, 4096, &text, &n) == SIM_OK) {
        const holder h = read_holder(text);
        sim_host_name(host, sizeof host);
        held = !has_ended(&h, host);
    }
    sim_error_clear();
    sim_free(text);
    return held;
}

/* ---- stop requests ---- */

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
    SIM_TRY(sim_file_replace(file, &piece, 1));
done:
    return sim_path_explain(st, path, SIM_USE_RUN);
}

bool sim_run_stop_requested(const sim_run *run)
{
    char path[4200];
    return sim_run_path(run, "stop", path, sizeof path) == SIM_OK &&
           sim_path_exists(path);
}

void sim_run_stop_clear(const sim_run *run)
{
    char path[4200];
    if (run->locked && sim_run_path(run, "stop", path, sizeof path) == SIM_OK)
        SIM_IGNORE(sim_file_remove(path));
}
