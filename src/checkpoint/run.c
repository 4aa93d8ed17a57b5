/*
 * run.c - the run directory: made, locked, asked to stop.
 *
 * The lock is a file made exclusively that names its holder; it is taken over only when
 * the holder is provably gone: no such process on this host, or Slurm says that its job
 * has ended.
 */
#include "private.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const folders[] = {"checkpoints", "results"};
enum { N_FOLDERS = sizeof folders / sizeof *folders };
_Static_assert(N_FOLDERS == sizeof((sim_run *)0)->folder_is_new / sizeof(bool),
               "a flag for each folder");

sim_status sim_run_path(const sim_run *run, const char *name, char *out, size_t out_bytes)
{
    sim_status st = SIM_OK;
    int n = snprintf(out, out_bytes, "%s/%s", run->path, name);
    SIM_CHECK(n > 0 && (size_t)n < out_bytes, SIM_E_CREATE, "%s/%s: the path is too long",
              run->path, name);
done:
    return st;
}

/* When a process began; "" when there is none of this number, or it is dead and only not yet
 * reaped. */
static void start_of(long pid, char out[32])
{
    sim_process p;
    bool lives = sim_process_query(pid, &p) && p.state != 'Z' && p.state != 'X';
    (void)snprintf(out, 32, "%s", lives ? p.began : "");
}

static sim_status write_lock(const char *path, const char *host)
{
    char text[704], start[32], space[64], when[21];
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    start_of(sim_process_id(), start);
    sim_process_space(space, sizeof space);
    sim_clock_iso(sim_clock_wall_s(), when);
    (void)snprintf(text, sizeof text,
                   "host %s\npid %ld\nstart %s\nspace %s\njob %s\nrestart %s\nsince %s\n",
                   host, sim_process_id(), start, space, job ? job : "-",
                   restart ? restart : "0", when);
    return sim_file_create_new(path, text);
}

/* The word after `name` at a line's start. */
static void field(const char *text, const char *name, char *out, size_t out_bytes)
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
    field(text, "host", h.host, sizeof h.host);
    field(text, "pid", h.pid, sizeof h.pid);
    field(text, "start", h.start, sizeof h.start);
    field(text, "space", h.space, sizeof h.space);
    field(text, "job", h.job, sizeof h.job);
    field(text, "restart", h.restart, sizeof h.restart);
    field(text, "since", h.since, sizeof h.since);
    return h;
}

/* squeue lists what runs, completes or waits; one that waits was requeued, and is over.  The
 * number of an array stands for all its tasks: those that wait come first. */
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

/* Does Slurm say that none of the job's processes is left? */
static bool job_is_gone(const char *job)
{
    enum { WAIT_MS = 15000 };
    const char *const argv[] = {"squeue", "--noheader", "--format=%T",
                                "--jobs", job,          NULL};
    char answer[8192];
    int code = 0;

    if (!*job || job[strspn(job, "0123456789")] != '\0')
        return false;
    if (sim_process_answer(argv, WAIT_MS, answer, sizeof answer, &code) != SIM_OK) {
        sim_error_clear(); /* no Slurm here, or it is silent: nobody knows */
        return false;
    }
    if (code != 0)
        return strstr(answer, "Invalid job id") != NULL;
    return strlen(answer) + 1 < sizeof answer && all_pending(answer);
}

/* Does its number mean to us what it means to the holder?  Containers of one host name may
 * see other processes; a lock without that line is of an older simile. */
static bool is_near(const holder *h, const char *host)
{
    char space[64];
    sim_process_space(space, sizeof space);
    return strcmp(h->host, host) == 0 && (!h->space[0] || strcmp(h->space, space) == 0);
}

/* Is the holder gone for certain? */
static bool is_dead(const holder *h, const char *host)
{
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    char start[32];

    if (is_near(h, host)) {
        start_of(strtol(h->pid, NULL, 10), start);
        return strcmp(start, h->start) != 0;
    }
    /* The same job, requeued: its earlier life is over. */
    if (job && restart && strcmp(job, h->job) == 0 &&
        strtol(restart, NULL, 10) > strtol(h->restart, NULL, 10))
        return true;
    return job_is_gone(h->job);
}

/* For writing where we may: NFS gives no hold on what is open to read. */
static sim_status open_to_hold(const char *path, int *fd)
{
    uint64_t n = 0;
    sim_status st = sim_file_open_update(path, fd);
    if (st != SIM_E_ACCESS)
        return st;
    sim_error_clear();
    return sim_file_open_read(path, fd, &n);
}

/*
 * Removes a dead holder's lock while we hold that very file, which the kernel lets go when we
 * die.  Whoever else found it stale too comes too late, or finds another text at its path: a
 * fresh lock never leaves its place.
 */
static sim_status remove_stale(const char *path, const char *text)
{
    sim_status st = SIM_OK;
    char *now = NULL;
    size_t n = 0;
    int fd = -1;

    st = open_to_hold(path, &fd);
    if (st == SIM_OK)
        st = sim_file_hold(fd, path);
    if (st == SIM_OK)
        st = sim_file_load(path, 4096, &now, &n);
    if (st == SIM_E_INPUT || st == SIM_E_CREATE) { /* another start takes it over */
        sim_error_clear();
        st = SIM_OK;
        goto done;
    }
    SIM_TRY(st);
    if (strcmp(now, text) == 0)
        SIM_TRY(sim_file_remove(path));
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(now);
    return st;
}

/* Takes a held lock away, or says who holds it. */
static sim_status challenge(const char *path, const char *text, const char *host)
{
    sim_status st = SIM_OK;
    const holder h = read_holder(text);

    SIM_CHECK(
        h.host[0] && h.pid[0], SIM_E_CREATE,
        "%s is empty or damaged and names no holder; if no job runs there, type: rm "
        "%s",
        path, path);
    SIM_CHECK(
        is_dead(&h, host), SIM_E_CREATE,
        "%s: the run is held by pid %s on %s (job %s, since %s); stop that one with "
        "simile stop, or, if it is gone for certain, type: rm %s",
        path, h.pid, h.host, h.job, h.since, path);
    sim_log("taking over the lock of pid %s on %s (job %s), which is gone", h.pid, h.host,
            h.job);
    SIM_TRY(remove_stale(path, text));
done:
    return st;
}

static sim_status take_lock(const char *path, const char *host)
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
            continue;         /* released meanwhile */
        if (st == SIM_E_DATA) /* larger than any lock of ours */
            st = sim_text_copy("", "checkpoint/lock", &text);
        SIM_TRY(st);
        SIM_TRY(challenge(path, text, host));
    }
    st = write_lock(path, host);
done:
    sim_free(text);
    return st;
}

/* Is it "....tmp.HOST.PID" of this host, of a process that is dead? */
static bool is_stale(const char *temporary)
{
    char host[64], start[32];
    const char *of = strstr(temporary, ".tmp."), *pid = strrchr(temporary, '.');

    sim_host_name(host, sizeof host);
    of += strlen(".tmp.");
    if (pid <= of || strlen(host) != (size_t)(pid - of) ||
        strncmp(of, host, (size_t)(pid - of)) != 0)
        return false;
    start_of(strtol(pid + 1, NULL, 10), start);
    return start[0] == '\0';
}

/* Temporaries that a killed process left behind.  Into checkpoints/ writes only who holds the
 * lock; into RUN also simile stop, and who waits for the lock, perhaps on another host. */
static void clean(const char *folder, bool only_stale)
{
    sim_names names = {0};
    char path[4400];

    if (sim_directory_list(folder, &names) != SIM_OK)
        return;
    for (size_t i = 0; i < names.n; i++)
        if (strstr(names.names[i], ".tmp.") &&
            (!only_stale || is_stale(names.names[i]))) {
            (void)snprintf(path, sizeof path, "%s/%s", folder, names.names[i]);
            SIM_IGNORE(sim_file_remove(path));
        }
    sim_names_clear(&names);
}

static sim_status make_folder(const char *path, bool *is_new)
{
    bool there = sim_path_exists(path);
    sim_status st = sim_directory_make(path);
    *is_new = st == SIM_OK && !there;
    return st;
}

static sim_status open_here(const sim_comm *c, const char *path, sim_run *run)
{
    sim_status st = SIM_OK;
    char part[4200];

    SIM_TRY(make_folder(path, &run->is_new));
    SIM_TRY(sim_run_path(run, "run.lock", part, sizeof part));
    SIM_TRY(take_lock(part, c->host));
    run->locked = true;
    for (size_t i = 0; i < N_FOLDERS; i++) { /* who drops a run does so under its lock */
        SIM_TRY(sim_run_path(run, folders[i], part, sizeof part));
        SIM_TRY(make_folder(part, &run->folder_is_new[i]));
    }
    sim_run_stop_clear(run); /* an earlier one's; from here on it is for us */
    clean(path, true);
    SIM_TRY(sim_run_path(run, "checkpoints", part, sizeof part));
    clean(part, false);
done:
    return st;
}

sim_status sim_run_open(const sim_comm *c, const char *path, sim_run *run)
{
    sim_status st = SIM_OK;
    int n = snprintf(run->path, sizeof run->path, "%s", path);

    SIM_CHECK(n > 0 && (size_t)n + 64 < sizeof run->path, SIM_E_CREATE,
              "run: \"%.60s\" is no path of a directory", path);
    if (c->rank == 0)
        st = open_here(c, path, run);
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

/* A folder that this start made, unless something is in it. */
static void remove_empty(const char *path, bool *is_new)
{
    if (*is_new)
        SIM_IGNORE(sim_directory_remove(path));
    *is_new = false;
}

void sim_run_drop(const sim_comm *c, sim_run *run)
{
    char path[4200], story[4096];

    if (c->rank != 0)
        return;
    (void)snprintf(story, sizeof story, "%s", sim_error_message());
    for (size_t i = N_FOLDERS; i-- > 0;)
        if (sim_run_path(run, folders[i], path, sizeof path) == SIM_OK)
            remove_empty(path, &run->folder_is_new[i]);
    sim_run_close(c, run);
    remove_empty(run->path, &run->is_new);
    sim_error_set(story);
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
        held = !is_dead(&h, host);
    }
    sim_error_clear();
    sim_free(text);
    return held;
}

/* ---- the wish to stop ---- */

sim_status sim_run_request_stop(const char *path)
{
    sim_status st = SIM_OK;
    char file[4200];
    const sim_piece piece = {"stop\n", 5};

    SIM_CHECK(sim_path_is_directory(path), SIM_E_INPUT, "%s is no run directory", path);
    (void)snprintf(file, sizeof file, "%s/run.lock", path);
    SIM_CHECK(sim_path_exists(file), SIM_E_INPUT, "%s: no job is running there", path);
    SIM_CHECK(sim_run_is_locked(path), SIM_E_INPUT,
              "%s: no job is running there: the one that held it was killed", path);
    (void)snprintf(file, sizeof file, "%s/stop", path);
    SIM_TRY(sim_file_replace(file, &piece, 1));
done:
    return st;
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
