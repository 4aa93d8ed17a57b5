/*
 * watchdog.c - detects a hang and finds the ranks that are behind.
 *
 * A job hangs if no rank makes progress for hang_s.  A rank that computes, reads or writes
 * slowly makes progress, and the others wait for it.  Behind are the ranks whose thread no
 * longer writes its heartbeat (a stopped process, a lost node); if there are none, those that
 * completed the fewest exchanges.  Time is counted in ticks of bounded length, so that a job
 * that was suspended as a whole is not taken for one that hangs.
 *
 * The reporting thread may itself be blocked by the disk that the main thread waits for.  The
 * counting thread shares only counters with it, and a mutex that is held for assignments only.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Contents of a heartbeat file.  The sequence number is first and last, so that a record that
 * was read while it was written is recognized. */
typedef struct {
    uint64_t sequence, beats, exchanges;
    int64_t step, pid;
    char phase[32], host[64];
    uint64_t sequence_end;
} record;

typedef struct {
    record last;
    double silent_s; /* without a new record */
    double idle_s;   /* without progress */
} peer;

enum { NAMED = 8, TEXT_BYTES = 2048 };

/* State of the counting thread. */
typedef struct {
    uint64_t beats, checks; /* of the main and of the reporting thread at the last tick */
    double idle_s;          /* since the main thread made progress */
    double blocked_s;       /* since the reporting thread completed a check */
    char text[TEXT_BYTES];
} progress_counter;

struct sim_watchdog {
    sim_watchdog_options options;
    char directory[4096], own_path[4200];
    double tick_s;    /* period of both threads */
    double idle_s;    /* since this rank made progress */
    double watched_s; /* since the peers are read */
    uint64_t beats;   /* at the last tick */
    bool is_suspected;
    record record;
    peer *peers; /* [size] */
    sim_mutex lock;
    sim_signal wake;
    bool stop_reporting, stop_counting;
    bool is_reporting, is_counting; /* the thread was started */
    sim_thread reporting, counting;
    progress_counter counter;
    /* From the reporting thread to the counting one. */
    atomic_uint_fast64_t checks; /* completed */
    atomic_bool is_certain;      /* `final` is set */
    char final[TEXT_BYTES];
};

/* ---- records ---- */

static void record_path(const sim_watchdog *w, int rank, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s/rank-%d", w->directory, rank);
}

static sim_heartbeat own_heartbeat(const sim_watchdog *w)
{
    return w->options.beats ? w->options.beats(w->options.ctx) : sim_heartbeat_now();
}

static void update_record(sim_watchdog *w)
{
    record *r = &w->record;
    const sim_heartbeat now = own_heartbeat(w);

    r->sequence_end = ++r->sequence;
    r->beats = now.beats;
    r->exchanges = now.exchanges;
    r->step = now.step;
    (void)snprintf(r->phase, sizeof r->phase, "%s", now.phase);
}

/* Opens and closes the file each time: on NFS, other hosts see the contents of closed files. */
static sim_status publish_heartbeat(sim_watchdog *w)
{
    sim_status st = SIM_OK;
    int fd = -1;
    const record *r = &w->record;

    SIM_TRY(sim_file_open_update(w->own_path, &fd));
    SIM_TRY(sim_file_write_at(fd, w->own_path, 0, r, sizeof *r));
    SIM_TRY(sim_file_close(&fd, w->own_path));
done:
    SIM_IGNORE(sim_file_close(&fd, w->own_path));
    return st;
}

/* Reads the record of a rank; false if there is no complete one. */
static bool read_record(const sim_watchdog *w, int rank, record *out)
{
    char path[4200];
    int fd = -1;
    uint64_t n_bytes = 0;

    record_path(w, rank, path, sizeof path);
    if (sim_file_open_read(path, &fd, &n_bytes) != SIM_OK)
        return false;
    bool whole = n_bytes == sizeof *out &&
                 sim_file_read_at(fd, path, 0, out, sizeof *out) == SIM_OK &&
                 out->sequence == out->sequence_end;
    SIM_IGNORE(sim_file_close(&fd, path));
    out->phase[sizeof out->phase - 1] = out->host[sizeof out->host - 1] = '\0';
    return whole;
}

/* True if the file has the record of a process of another job, which was started in the place of this
 * run. */
static bool is_replaced(const sim_watchdog *w)
{
    record now;
    return read_record(w, w->options.rank, &now) &&
           (now.pid != w->record.pid || strcmp(now.host, w->record.host) != 0);
}

static void watch_peer(sim_watchdog *w, int rank, double elapsed_s)
{
    peer *p = &w->peers[rank];
    record now;

    p->silent_s += elapsed_s;
    p->idle_s += elapsed_s;
    if (rank == w->options.rank)
        now = w->record;
    else if (!read_record(w, rank, &now))
        return;
    if (now.sequence != p->last.sequence)
        p->silent_s = 0;
    if (now.beats != p->last.beats)
        p->idle_s = 0;
    p->last = now;
}

/* ---- who is behind ---- */

static bool is_silent(const sim_watchdog *w, int rank)
{
    return w->peers[rank].silent_s > w->watched_s / 2;
}

/* The lowest rank that still writes its heartbeat reports for all. */
static bool is_reporter(const sim_watchdog *w)
{
    int r = 0;
    while (r < w->options.rank && is_silent(w, r))
        r++;
    return r == w->options.rank;
}

/* Marks all silent ranks; if there are none, those with the fewest exchanges, unless that is
 * all of them.  Returns their number. */
static int find_behind(const sim_watchdog *w, bool *behind)
{
    int size = w->options.size, n = 0;
    uint64_t least = UINT64_MAX, most = 0;

    for (int r = 0; r < size; r++) {
        uint64_t done = w->peers[r].last.exchanges;
        least = done < least ? done : least;
        most = done > most ? done : most;
        n += behind[r] = is_silent(w, r);
    }
    if (n > 0 || least == most)
        return n;
    for (int r = 0; r < size; r++)
        n += behind[r] = w->peers[r].last.exchanges == least;
    return n;
}

/* State of a process of this host; "" if it is running or unknown. */
static const char *describe_process(const sim_watchdog *w, const record *r)
{
    sim_process p;

    if (strcmp(r->host, w->record.host) != 0)
        return "";
    if (!sim_process_query((long)r->pid, &p))
        return ", its process is gone";
    if (p.state == 'Z' || p.state == 'X')
        return ", its process is dead";
    return p.state == 'T' || p.state == 't' ? ", its process is stopped" : "";
}

/* ---- the text ---- */

typedef struct {
    char text[TEXT_BYTES];
    size_t used;
} note;

__attribute__((format(printf, 2, 3))) static void add(note *to, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(to->text + to->used, sizeof to->text - to->used, fmt, args);
    va_end(args);
    to->used += n > 0 ? (size_t)n : 0;
    if (to->used >= sizeof to->text)
        to->used = sizeof to->text - 1;
}

static void add_position(note *to, const record *r)
{
    add(to, "step %lld, %s", (long long)r->step, r->phase);
}

static void add_behind(note *to, const sim_watchdog *w, int rank)
{
    const peer *p = &w->peers[rank];

    add(to, "rank %d on %s (pid %lld) is behind: ", rank, p->last.host,
        (long long)p->last.pid);
    if (is_silent(w, rank))
        add(to, "no heartbeat for %.0f s%s, last in ", p->silent_s,
            describe_process(w, &p->last));
    add_position(to, &p->last);
    add(to, "; ");
}

static void add_others(note *to, const sim_watchdog *w, const bool *behind, int n)
{
    int r = 0;
    while (behind[r])
        r++;
    if (n == w->options.size)
        add(to, "%s in ", n == 1 ? "this one rank is" : "all ranks wait for each other");
    else if (n == 1)
        add(to, "rank %d waits in ", r);
    else
        add(to, "the other %d ranks wait in ", n);
    add_position(to, &w->peers[r].last);
}

static void describe_delay(const sim_watchdog *w, note *to)
{
    bool *behind = NULL;
    int size = w->options.size, named = 0;

    *to = (note){.used = 0};
    add(to, "no rank made progress for %.0f s: ", w->idle_s);
    if (sim_alloc(&behind, (size_t)size, "train/watchdog") != SIM_OK)
        return;
    int n = find_behind(w, behind);
    for (int r = 0; r < size && named < NAMED; r++)
        if (behind[r]) {
            add_behind(to, w, r);
            named++;
        }
    if (n > named)
        add(to, "so are %d more; ", n - named);
    if (n < size)
        add_others(to, w, behind, size - n);
    sim_free(behind);
}

/* ---- the reporting thread ---- */

static void report_ranks(const sim_watchdog *w, sim_hang event)
{
    note n;
    describe_delay(w, &n);
    w->options.report(w->options.ctx, event, n.text);
}

/* Seconds since any rank made progress, as far as this rank has watched. */
static double all_ranks_idle_s(const sim_watchdog *w)
{
    double least = w->idle_s;
    for (int r = 0; r < w->options.size; r++)
        if (w->peers[r].idle_s < least)
            least = w->peers[r].idle_s;
    return least;
}

static void watch_all(sim_watchdog *w, double elapsed_s)
{
    if (w->watched_s == 0)
        memset(w->peers, 0, sizeof *w->peers * (size_t)w->options.size);
    w->watched_s += elapsed_s;
    for (int r = 0; r < w->options.size; r++)
        watch_peer(w, r, elapsed_s);
}

/* The reporting rank ends the job; if it cannot, the others do so after a grace period. */
static bool is_certain(const sim_watchdog *w)
{
    return all_ranks_idle_s(w) >= w->options.hang_s / 2 &&
           w->idle_s >= w->options.hang_s + (is_reporter(w) ? 0 : SIM_HANG_GRACE_S);
}

static void note_progress(sim_watchdog *w, uint64_t beats)
{
    w->beats = beats;
    if (w->is_suspected)
        w->options.report(w->options.ctx, SIM_HANG_OVER, "the ranks continue");
    w->is_suspected = false;
    w->idle_s = w->watched_s = 0;
}

/* Passes the hang to the counting thread, which ends the job even if the report blocks. */
static void report_certain(sim_watchdog *w)
{
    note n;

    describe_delay(w, &n);
    memcpy(w->final, n.text, sizeof w->final);
    atomic_store(&w->is_certain, true);
    sim_mutex_lock(&w->lock);
    sim_signal_all(&w->wake);
    sim_mutex_unlock(&w->lock);
    w->options.report(w->options.ctx, SIM_HANG_CERTAIN, n.text);
}

/* A longer time passed only because the process was stopped in between. */
static double bound_elapsed(const sim_watchdog *w, double elapsed_s)
{
    return elapsed_s < 2 * w->tick_s ? elapsed_s : 2 * w->tick_s;
}

static bool check_ranks(sim_watchdog *w, double elapsed_s)
{
    double hang_s = w->options.hang_s;

    update_record(w);
    if (!is_replaced(w))
        SIM_IGNORE(publish_heartbeat(w)); /* after a failure, others see a silent rank */
    if (w->record.beats != w->beats) {
        note_progress(w, w->record.beats);
        return true;
    }
    w->idle_s += elapsed_s;
    if (w->idle_s < hang_s / 4)
        return true;
    watch_all(w, elapsed_s);
    if (is_certain(w)) {
        report_certain(w);
        return false;
    }
    if (!w->is_suspected && is_reporter(w) && w->idle_s >= hang_s / 2 &&
        all_ranks_idle_s(w) >= hang_s / 8) {
        w->is_suspected = true;
        report_ranks(w, SIM_HANG_SUSPECTED);
    }
    return true;
}

bool sim_watchdog_tick(sim_watchdog *w, double elapsed_s)
{
    const bool more = check_ranks(w, bound_elapsed(w, elapsed_s));

    atomic_fetch_add(&w->checks, 1);
    return more;
}

/* Waits for a period, or until woken.  Returns false if *stop is set. */
static bool wait_for_tick(sim_watchdog *w, const bool *stop)
{
    sim_mutex_lock(&w->lock);
    if (!*stop)
        sim_signal_wait_for(&w->wake, &w->lock, w->tick_s);
    const bool more = !*stop;
    sim_mutex_unlock(&w->lock);
    return more;
}

/* Seconds since *last_s, which becomes now. */
static double elapsed_since(double *last_s)
{
    const double now_s = sim_clock_s(), elapsed_s = now_s - *last_s;
    *last_s = now_s;
    return elapsed_s;
}

static void *run_reporting(void *ctx)
{
    sim_watchdog *w = ctx;
    double last_s = sim_clock_s();

    sim_heartbeat_mute();
    while (wait_for_tick(w, &w->stop_reporting))
        if (!sim_watchdog_tick(w, elapsed_since(&last_s)))
            break;
    return NULL;
}

/* ---- the counting thread ---- */

/* Adds the time to *silent_s, or sets it to 0 if the count has changed. */
static void count_silence(uint64_t now, uint64_t *last, double *silent_s,
                          double elapsed_s)
{
    *silent_s = now == *last ? *silent_s + elapsed_s : 0;
    *last = now;
}

/* Nothing else is known, as long as the heartbeats of the ranks cannot be written and read. */
static const char *describe_block(sim_watchdog *w, const sim_heartbeat *own)
{
    progress_counter *c = &w->counter;

    (void)snprintf(
        c->text, sizeof c->text,
        "no progress for %.0f s: rank %d on %s is in step %lld, %s, and %.1000s has not "
        "responded for %.0f s: its disk or file system hangs",
        c->idle_s, w->options.rank, w->options.host, (long long)own->step, own->phase,
        w->directory, c->blocked_s);
    return c->text;
}

bool sim_watchdog_count(sim_watchdog *w, double elapsed_s, const char **text)
{
    progress_counter *c = &w->counter;
    const sim_heartbeat own = own_heartbeat(w);
    const double limit_s =
        w->options.hang_s + (w->options.rank == 0 ? 0 : SIM_HANG_GRACE_S);

    if (atomic_load(&w->is_certain)) {
        *text = w->final;
        return false;
    }
    elapsed_s = bound_elapsed(w, elapsed_s);
    count_silence(own.beats, &c->beats, &c->idle_s, elapsed_s);
    count_silence(atomic_load(&w->checks), &c->checks, &c->blocked_s, elapsed_s);
    if (c->idle_s < limit_s || c->blocked_s < w->options.hang_s / 2)
        return true;
    *text = describe_block(w, &own);
    return false;
}

static void *run_counting(void *ctx)
{
    sim_watchdog *w = ctx;
    double last_s = sim_clock_s();
    const char *text = NULL;

    sim_heartbeat_mute();
    sim_signals_hold(false); /* also if all other threads are blocked in the kernel */
    while (wait_for_tick(w, &w->stop_counting))
        if (!sim_watchdog_count(w, elapsed_since(&last_s), &text)) {
            w->options.end(w->options.ctx, text);
            break;
        }
    return NULL;
}

/* ---- start and stop ---- */

/* Short enough to detect silent ranks, long enough for a thousand ranks on one disk. */
static double tick_period(double hang_s)
{
    const double most_s = 10;
    return hang_s / 40 < most_s ? hang_s / 40 : most_s;
}

bool sim_watchdog_is_record(const char *path)
{
    static const char prefix[] = "/rank-";
    const char *name = strrchr(path, '/'), *number = name ? name + sizeof prefix - 1 : "";
    uint64_t n = 0;
    int fd = -1;

    if (!name || strncmp(name, prefix, sizeof prefix - 1) != 0 || !*number ||
        number[strspn(number, "0123456789")] || !sim_path_is_file(path))
        return false;
    bool is =
        sim_file_open_read(path, &fd, &n) == SIM_OK && (n == 0 || n == sizeof(record));
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return is;
}

static sim_status write_first_record(sim_watchdog *w)
{
    sim_status st = SIM_OK;
    char old[PATH_MAX];
    int fd = -1;

    record_path(w, w->options.rank, w->own_path, sizeof w->own_path);
    if (sim_path_is_taken(w->own_path) && !sim_watchdog_is_record(w->own_path)) {
        SIM_TRY(sim_file_set_aside(w->own_path, old));
        sim_log_each("warning: %s: not a heartbeat of simile; it is kept as %s",
                     w->own_path, old);
    }
    SIM_TRY(sim_file_open_append(w->own_path, &fd)); /* creates it */
    SIM_TRY(sim_file_close(&fd, w->own_path));
    update_record(w);
    SIM_TRY(publish_heartbeat(w));
done:
    return st;
}

sim_status sim_watchdog_create(const sim_watchdog_options *options, sim_watchdog **out)
{
    sim_status st = SIM_OK;
    sim_watchdog *w = NULL;

    SIM_TRY(sim_new(&w, "train/watchdog"));
    w->options = *options;
    (void)snprintf(w->directory, sizeof w->directory, "%s", options->directory);
    (void)snprintf(w->record.host, sizeof w->record.host, "%s", options->host);
    w->record.pid = sim_process_id();
    w->tick_s = tick_period(options->hang_s);
    SIM_TRY(sim_alloc(&w->peers, (size_t)options->size, "train/watchdog"));
    SIM_TRY(write_first_record(w));
    sim_mutex_init(&w->lock);
    sim_signal_init(&w->wake);
    *out = w;
    w = NULL;
done:
    if (w)
        sim_free(w->peers);
    sim_free(w);
    return st;
}

sim_status sim_watchdog_start(sim_watchdog *w)
{
    sim_status st = SIM_OK;

    sim_signals_hold(true); /* inherited by the threads; the counting one receives them */
    SIM_TRY(sim_thread_start(&w->reporting, run_reporting, w));
    w->is_reporting = true;
    SIM_TRY(sim_thread_start(&w->counting, run_counting, w));
    w->is_counting = true;
done:
    if (st != SIM_OK)
        sim_signals_hold(false);
    return st;
}

/* Sets *stop and waits for the end of the thread, if it was started. */
static void stop_thread(sim_watchdog *w, bool *stop, bool was_started, sim_thread *thread)
{
    sim_mutex_lock(&w->lock);
    *stop = true;
    sim_signal_all(&w->wake);
    sim_mutex_unlock(&w->lock);
    if (was_started)
        sim_thread_join(thread);
}

/* Keeps the error message of a run that failed. */
static void remove_record(const sim_watchdog *w)
{
    char message[4096];

    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (!is_replaced(w))
        SIM_IGNORE(sim_file_remove(w->own_path));
    sim_error_set(message);
}

void sim_watchdog_stop(sim_watchdog **out)
{
    sim_watchdog *w = *out;
    if (!w)
        return;
    /* The counting thread is last, because the disk may fail until then. */
    stop_thread(w, &w->stop_reporting, w->is_reporting, &w->reporting);
    remove_record(w);
    stop_thread(w, &w->stop_counting, w->is_counting, &w->counting);
    if (w->is_counting)
        sim_signals_hold(false);
    sim_signal_destroy(&w->wake);
    sim_mutex_destroy(&w->lock);
    sim_free(w->peers);
    sim_free(w);
    *out = NULL;
}
