/*
 * lock.c - lock files: who holds them, and whether the holder has ended.
 */
#include "simile/file.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCK_BYTES = 4096 }; /* longer files are not lock files */

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
 * Makes this process the only one that removes the stale lock file `path`: by the kernel's lock
 * on it (released when the process ends), or by the file `guard` where the file system has no
 * locks.  *is_guarded: `guard` exists and is to be removed by the caller.
 */
static sim_status begin_removal(const char *path, const char *guard, const char *host,
                                int *fd, bool *is_guarded)
{
    sim_status st = SIM_OK;
    bool locked = false;

    SIM_TRY(open_for_lock(path, fd));
    SIM_TRY(sim_file_lock(*fd, path, &locked));
    if (locked)
        goto done;
    st = write_lock(guard, host);
    if (st == SIM_E_CREATE)
        st = sim_error_begin(st, __FILE__, __LINE__,
                             "%s exists: another start is taking over %s, or was killed "
                             "while it did; if no job is running there, type: rm %s",
                             guard, path, guard);
    SIM_TRY(st);
    *is_guarded = true;
done:
    return st;
}

/*
 * Removes the lock file of a holder that has ended.  A concurrent start that also found it stale
 * fails in begin_removal, or finds different text at its path; so a new lock is never removed.
 */
static sim_status remove_stale(const char *path, const char *text, const char *host)
{
    sim_status st = SIM_OK;
    char guard[4300], *current = NULL;
    size_t n = 0;
    bool is_guarded = false;
    int fd = -1;

    (void)snprintf(guard, sizeof guard, "%.4200s.takeover", path);
    st = begin_removal(path, guard, host, &fd, &is_guarded);
    if (st == SIM_OK)
        st = sim_file_load(path, LOCK_BYTES, &current, &n);
    if (st == SIM_E_INPUT || (st == SIM_E_CREATE && !sim_path_exists(guard))) {
        sim_error_clear(); /* another start is taking over */
        st = SIM_OK;
        goto done;
    }
    SIM_TRY(st);
    if (strcmp(current, text) == 0)
        SIM_TRY(sim_file_remove(path));
done:
    if (is_guarded)
        SIM_IGNORE(sim_file_remove(guard));
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(current);
    return st;
}

/* Removes the lock if its holder has ended; otherwise fails with the name of the holder. */
static sim_status remove_if_stale(const char *path, const char *text, const char *host,
                                  const char *what, const char *advice)
{
    sim_status st = SIM_OK;
    const holder h = read_holder(text);

    SIM_CHECK(
        h.host[0] && h.pid[0], SIM_E_CREATE,
        "%s is empty or corrupted and names no holder; if no job is running there, type: "
        "rm %s",
        path, path);
    SIM_CHECK(has_ended(&h, host), SIM_E_CREATE,
              "%s: %s is held by pid %s on %s (job %s, since %s); %s%sif it has "
              "certainly ended, type: rm %s",
              path, what, h.pid, h.host, h.job, h.since, advice,
              advice[0] ? ", or, " : "", path);
    sim_log("taking over the lock of pid %s on %s (job %s), which has ended", h.pid,
            h.host, h.job);
    SIM_TRY(remove_stale(path, text, host));
done:
    return st;
}

sim_status sim_lock_acquire(const char *path, const char *host, const char *what,
                            const char *advice)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    size_t n = 0;

    for (int i = 0; i < 3; i++) {
        st = write_lock(path, host);
        if (st != SIM_E_CREATE)
            goto done;
        SIM_FREE(text);
        st = sim_file_load(path, LOCK_BYTES, &text, &n);
        if (st == SIM_E_INPUT && !sim_path_exists(path))
            continue;         /* released in the meantime */
        if (st == SIM_E_DATA) /* too large for a lock file */
            st = sim_text_copy("", "core/lock", &text);
        SIM_TRY(st);
        SIM_TRY(remove_if_stale(path, text, host, what, advice));
    }
    st = write_lock(path, host);
done:
    sim_free(text);
    return st;
}

bool sim_lock_is_held(const char *path)
{
    char host[256] = "", *text = NULL;
    size_t n = 0;
    bool held = false;

    if (sim_file_load(path, LOCK_BYTES, &text, &n) == SIM_OK) {
        const holder h = read_holder(text);
        sim_host_name(host, sizeof host);
        held = !has_ended(&h, host);
    }
    sim_error_clear();
    sim_free(text);
    return held;
}
