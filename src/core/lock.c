/*
 * lock.c - lock files: who holds them, and whether the holder has ended.
 *
 * Several machines, and several clusters with a Slurm each, may share the file system.  A process id is
 * compared only on the machine and in the PID namespace of the holder, a job id only with the Slurm of
 * its cluster.  Every other holder may be alive.
 */
#include "simile/file.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOCK_BYTES = 4096 }; /* longer files are not lock files */

/* What the messages refer to if the state of the holder is unknown. */
static const char manual[] = "\"Locks\" in jobs/README.md";

/* ---- the holder ---- */

/* Values of a lock file; "" if it has no such line.  Those of early versions lack some. */
typedef struct {
    char host[256], pid[32], start[32], space[64], boot[64], machine[64];
    char job[64], restart[32], cluster[64], since[32], token[SIM_LOCK_TOKEN_BYTES];
} holder;

/* Start time of a process; "" if there is none with this pid, or it is a zombie. */
static void process_start(long pid, char out[32])
{
    sim_process p;
    bool lives = sim_process_query(pid, &p) && p.state != 'Z' && p.state != 'X';
    (void)snprintf(out, 32, "%s", lives ? p.start_ticks : "");
}

/* The cluster whose Slurm answers the commands of this process; "" if unknown. */
static void ask_cluster(char out[64])
{
    enum { WAIT_MS = 15000 };
    const char *const argv[] = {"scontrol", "show", "config", NULL};
    char answer[32768];
    int code = 0;

    out[0] = '\0';
    if (sim_process_output(argv, WAIT_MS, answer, sizeof answer, &code) != SIM_OK) {
        sim_error_clear(); /* no Slurm, or no reply */
        return;
    }
    const char *line = code == 0 ? strstr(answer, "\nClusterName") : NULL;
    if (line)
        (void)sscanf(line, " ClusterName = %63s", out);
}

/* The cluster of the job of this process; "-" if unknown. */
static void own_cluster(const char *job, char out[64])
{
    const char *name = getenv("SLURM_CLUSTER_NAME");

    (void)snprintf(out, 64, "%s", job && name ? name : "");
    if (job && !out[0])
        ask_cluster(out);
    if (!out[0])
        (void)snprintf(out, 64, "-");
}

static sim_status make_token(char out[SIM_LOCK_TOKEN_BYTES])
{
    sim_status st = SIM_OK;
    unsigned char bytes[(SIM_LOCK_TOKEN_BYTES - 1) / 2];

    SIM_CHECK(getentropy(bytes, sizeof bytes) == 0, SIM_E_IO,
              "the system provides no random numbers");
    for (size_t i = 0; i < sizeof bytes; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
done:
    return st;
}

static sim_status describe_self(const char *host, holder *h)
{
    sim_status st = SIM_OK;
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");

    *h = (holder){.host = ""};
    (void)snprintf(h->host, sizeof h->host, "%s", host);
    (void)snprintf(h->pid, sizeof h->pid, "%ld", sim_process_id());
    process_start(sim_process_id(), h->start);
    sim_process_namespace(h->space, sizeof h->space);
    sim_process_machine(h->boot, h->machine);
    (void)snprintf(h->job, sizeof h->job, "%s", job ? job : "-");
    (void)snprintf(h->restart, sizeof h->restart, "%s", restart ? restart : "0");
    own_cluster(job, h->cluster);
    sim_clock_iso(sim_clock_wall_s(), h->since);
    SIM_TRY(make_token(h->token));
done:
    return st;
}

static sim_status write_lock(const char *path, const holder *h)
{
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "host %s\npid %s\nstart %s\nspace %s\nboot %s\nmachine %s\njob %s\n"
                   "restart %s\ncluster %s\nsince %s\ntoken %s\n",
                   h->host, h->pid, h->start, h->space, h->boot, h->machine, h->job,
                   h->restart, h->cluster, h->since, h->token);
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

static holder read_holder(const char *text)
{
    holder h;
    read_field(text, "host", h.host, sizeof h.host);
    read_field(text, "pid", h.pid, sizeof h.pid);
    read_field(text, "start", h.start, sizeof h.start);
    read_field(text, "space", h.space, sizeof h.space);
    read_field(text, "boot", h.boot, sizeof h.boot);
    read_field(text, "machine", h.machine, sizeof h.machine);
    read_field(text, "job", h.job, sizeof h.job);
    read_field(text, "restart", h.restart, sizeof h.restart);
    read_field(text, "cluster", h.cluster, sizeof h.cluster);
    read_field(text, "since", h.since, sizeof h.since);
    read_field(text, "token", h.token, sizeof h.token);
    return h;
}

/* ---- has it ended? ---- */

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

/* True if the Slurm of the job's cluster reports that no process of the job is left.  Another Slurm
 * may not know the job, or have another one with its number. */
static bool job_has_ended(const holder *h)
{
    enum { WAIT_MS = 15000 };
    const char *const argv[] = {"squeue", "--noheader", "--format=%T",
                                "--jobs", h->job,       NULL};
    char answer[8192], asked[64];
    int code = 0;

    if (!h->job[0] || h->job[strspn(h->job, "0123456789")] != '\0')
        return false;
    ask_cluster(asked);
    if (!asked[0] || strcmp(asked, h->cluster) != 0)
        return false;
    if (sim_process_output(argv, WAIT_MS, answer, sizeof answer, &code) != SIM_OK) {
        sim_error_clear(); /* no reply: unknown */
        return false;
    }
    if (code != 0)
        return strstr(answer, "Invalid job id") != NULL;
    return strlen(answer) + 1 < sizeof answer && all_pending(answer);
}

/* True if the holder's pid is one of this machine, since its start, and of this process's PID
 * namespace: containers with one host name may have different ones, and two clusters may have hosts of
 * one name.  Locks of early versions have no `boot` line, or no `space` line. */
static bool shares_pids(const holder *h, const holder *self)
{
    return (h->boot[0] ? strcmp(h->boot, self->boot) == 0
                       : strcmp(h->host, self->host) == 0) &&
           (!h->space[0] || strcmp(h->space, self->space) == 0);
}

/* True if the machine of the holder is this one, but was restarted. */
static bool was_restarted(const holder *h, const holder *self)
{
    return h->boot[0] && self->boot[0] && strcmp(h->boot, self->boot) != 0 &&
           h->machine[0] && strcmp(h->machine, self->machine) == 0 &&
           strcmp(h->host, self->host) == 0 && strcmp(h->space, self->space) == 0;
}

/* True if this process belongs to a later start of the holder's job. */
static bool was_requeued(const holder *h, const holder *self)
{
    return strcmp(self->job, "-") != 0 && strcmp(self->job, h->job) == 0 &&
           (!h->cluster[0] || strcmp(self->cluster, h->cluster) == 0) &&
           strtol(self->restart, NULL, 10) > strtol(h->restart, NULL, 10);
}

typedef enum { HOLDER_ENDED, HOLDER_RUNS, HOLDER_UNKNOWN } holder_state;

static holder_state state_of(const holder *h, const holder *self)
{
    const long pid = strtol(h->pid, NULL, 10);
    char start[32];

    if (shares_pids(h, self)) {
        process_start(pid, start);
        if (start[0]
                ? strcmp(start, h->start) == 0
                : sim_process_exists(pid) && !sim_process_query(pid, &(sim_process){0}))
            return HOLDER_RUNS; /* or a process of another user that /proc hides */
        return HOLDER_ENDED;
    }
    return was_restarted(h, self) || was_requeued(h, self) || job_has_ended(h)
               ? HOLDER_ENDED
               : HOLDER_UNKNOWN;
}

/* ---- taking over ---- */

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
static sim_status begin_removal(const char *path, const char *guard, const holder *self,
                                int *fd, bool *is_guarded)
{
    sim_status st = SIM_OK;
    bool locked = false;

    SIM_TRY(open_for_lock(path, fd));
    SIM_TRY(sim_file_lock(*fd, path, &locked));
    if (locked)
        goto done;
    st = write_lock(guard, self);
    if (st == SIM_E_CREATE)
        st = sim_error_begin(st, __FILE__, __LINE__,
                             "%s exists: another start is taking over %s, or was killed "
                             "while it did; see %s",
                             guard, path, manual);
    SIM_TRY(st);
    *is_guarded = true;
done:
    return st;
}

/*
 * Removes the lock file of a holder that has ended.  A concurrent start that also found it stale
 * fails in begin_removal, or finds different text at its path; so a new lock is never removed.
 */
static sim_status remove_stale(const char *path, const char *text, const holder *self)
{
    sim_status st = SIM_OK;
    char guard[4300], *current = NULL;
    size_t n = 0;
    bool is_guarded = false;
    int fd = -1;

    (void)snprintf(guard, sizeof guard, "%.4200s.takeover", path);
    st = begin_removal(path, guard, self, &fd, &is_guarded);
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

/* The holder, for messages. */
static void format_holder(const holder *h, char out[640])
{
    const bool has_cluster = h->cluster[0] && strcmp(h->cluster, "-") != 0;

    (void)snprintf(out, 640, "pid %s on %s (job %s%s%s, since %s)", h->pid, h->host,
                   h->job, has_cluster ? " of cluster " : "",
                   has_cluster ? h->cluster : "", h->since);
}

/* Removes the lock if its holder has ended; otherwise fails with the name of the holder. */
static sim_status remove_if_stale(const char *path, const char *text, const holder *self,
                                  const char *what, const char *advice)
{
    sim_status st = SIM_OK;
    const holder h = read_holder(text);
    char name[640];

    SIM_CHECK(h.host[0] && h.pid[0], SIM_E_CREATE,
              "%s is empty or corrupted and names no holder; see %s", path, manual);
    format_holder(&h, name);
    const holder_state found = state_of(&h, self);
    SIM_CHECK(found != HOLDER_RUNS, SIM_E_CREATE,
              "%s: %s is held by %s, which is running; %s", path, what, name,
              advice[0] ? advice : "wait for its end");
    SIM_CHECK(found == HOLDER_ENDED, SIM_E_CREATE,
              "%s: %s is held by %s; %s%sit is unknown here whether it is running: if it "
              "was killed, see %s",
              path, what, name, advice, advice[0] ? "; " : "", manual);
    sim_log("taking over the lock of pid %s on %s (job %s), which has ended", h.pid,
            h.host, h.job);
    SIM_TRY(remove_stale(path, text, self));
done:
    return st;
}

sim_status sim_lock_acquire(const char *path, const char *host, const char *what,
                            const char *advice, char token[SIM_LOCK_TOKEN_BYTES])
{
    sim_status st = SIM_OK;
    char *text = NULL;
    size_t n = 0;
    holder self;

    SIM_TRY(describe_self(host, &self));
    memcpy(token, self.token, SIM_LOCK_TOKEN_BYTES);
    for (int i = 0; i < 3; i++) {
        st = write_lock(path, &self);
        if (st != SIM_E_CREATE)
            goto done;
        SIM_FREE(text);
        st = sim_file_load(path, LOCK_BYTES, &text, &n);
        if (st == SIM_E_INPUT && !sim_path_exists(path))
            continue;         /* released in the meantime */
        if (st == SIM_E_DATA) /* too large for a lock file */
            st = sim_text_copy("", "core/lock", &text);
        SIM_TRY(st);
        SIM_TRY(remove_if_stale(path, text, &self, what, advice));
    }
    st = write_lock(path, &self);
done:
    sim_free(text);
    return st;
}

/* ---- locks that are held ---- */

bool sim_lock_is_held(const char *path)
{
    char host[256] = "", *text = NULL;
    size_t n = 0;
    holder self;
    bool held = false;

    if (sim_file_load(path, LOCK_BYTES, &text, &n) == SIM_OK) {
        const holder h = read_holder(text);
        sim_host_name(host, sizeof host);
        held =
            describe_self(host, &self) != SIM_OK || state_of(&h, &self) != HOLDER_ENDED;
    }
    sim_error_clear();
    sim_free(text);
    return held;
}

/* True if the directory of the file exists. */
static bool has_directory(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');

    (void)snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) : 1,
                   slash ? path : ".");
    return slash == path || sim_path_is_directory(directory);
}

/* Reads a lock into `text`, without an allocation: a training step makes none.  The text is "" if the
 * lock cannot be read, which does not mean that it is lost: the disk may fail, or the directory may have
 * been moved away, so that nothing can be written there either. */
static sim_status load_held(const char *path, char text[LOCK_BYTES + 1])
{
    sim_status st = SIM_OK;
    uint64_t n = 0;
    int fd = -1;

    text[0] = '\0';
    st = sim_file_open_read(path, &fd, &n);
    const bool is_lost =
        st == SIM_E_INPUT || (st == SIM_OK && (n == 0 || n > LOCK_BYTES));
    if (st == SIM_OK && !is_lost &&
        sim_file_read_at(fd, path, 0, text, (size_t)n) == SIM_OK)
        text[n] = '\0';
    else
        text[0] = '\0';
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    st = SIM_OK;
    SIM_CHECK(
        !is_lost || !has_directory(path), SIM_E_CREATE,
        "%s was deleted, or its directory was replaced, while this process held it; "
        "this process writes nothing more there",
        path);
done:
    return st;
}

sim_status sim_lock_check(const char *path, const char *token)
{
    sim_status st = SIM_OK;
    char text[LOCK_BYTES + 1], name[640];

    SIM_TRY(load_held(path, text));
    if (!text[0])
        goto done;
    const holder h = read_holder(text);
    format_holder(&h, name);
    SIM_CHECK(strcmp(h.token, token) == 0, SIM_E_CREATE,
              "%s was replaced while this process held it, and is now held by %s; this "
              "process writes nothing more there",
              path, name);
done:
    return st;
}

void sim_lock_release(const char *path, const char *token)
{
    char message[4096];

    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (sim_lock_check(path, token) == SIM_OK)
        SIM_IGNORE(sim_file_remove(path));
    sim_error_set(message);
}
