/*
 * watchdog.c - who is behind when nothing moves.
 *
 * A rank hangs when no rank at all got anything done for hang_s: one that computes, reads
 * or writes slowly beats all the same, and everybody waits for it.  Behind is a rank whose
 * thread keeps no record any more (a stopped process, a lost node); else whoever has been
 * through the fewest exchanges.  Time is counted in ticks, each of bounded length, so that
 * a job which was suspended as a whole does not count as one that hung.
 */
#include "watchdog.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* As it stands in the file.  Told twice: a record torn while it is written shows. */
typedef struct {
    uint64_t told, beats, place;
    int64_t step, pid;
    char phase[32], host[64];
    uint64_t told_again;
} record;

typedef struct {
    record last;
    double silent_s, quiet_s; /* without a new record; without a new beat */
} peer;

struct sim_watchdog {
    sim_watchdog_options options;
    char folder[4096], mine[4200];
    double tick_s, seen_s;    /* length of a tick; when the last one was */
    double idle_s, watched_s; /* since this rank did something; since peers are watched */
    uint64_t beats;           /* at the last tick */
    bool feared;
    record record;
    peer *peers; /* [size] */
    sim_mutex lock;
    sim_signal wake;
    bool stop, started;
    sim_thread thread;
};

enum { NAMED = 8, TEXT_BYTES = 2048 };

/* ---- records ---- */

static void path_of(const sim_watchdog *w, int rank, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s/rank-%d", w->folder, rank);
}

/* Opened and closed each time: NFS shows others what a closed file holds. */
static sim_status publish(sim_watchdog *w)
{
    sim_status st = SIM_OK;
    int fd = -1;
    record *r = &w->record;
    const sim_heartbeat now =
        w->options.beats ? w->options.beats(w->options.ctx) : sim_heartbeat_now();

    r->told_again = ++r->told;
    r->beats = now.beats;
    r->place = now.exchanges;
    r->step = now.step;
    (void)snprintf(r->phase, sizeof r->phase, "%s", now.phase);
    SIM_TRY(sim_file_open_update(w->mine, &fd));
    SIM_TRY(sim_file_write_at(fd, w->mine, 0, r, sizeof *r));
    SIM_TRY(sim_file_close(&fd, w->mine));
done:
    SIM_IGNORE(sim_file_close(&fd, w->mine));
    return st;
}

/* A rank's record; false when there is none that is whole. */
static bool read_record(const sim_watchdog *w, int rank, record *out)
{
    char path[4200];
    int fd = -1;
    uint64_t n_bytes = 0;

    path_of(w, rank, path, sizeof path);
    if (sim_file_open_read(path, &fd, &n_bytes) != SIM_OK)
        return false;
    bool whole = n_bytes == sizeof *out &&
                 sim_file_read_at(fd, path, 0, out, sizeof *out) == SIM_OK &&
                 out->told == out->told_again;
    SIM_IGNORE(sim_file_close(&fd, path));
    out->phase[sizeof out->phase - 1] = out->host[sizeof out->host - 1] = '\0';
    return whole;
}

static void watch_peer(sim_watchdog *w, int rank, double elapsed_s)
{
    peer *p = &w->peers[rank];
    record now;

    p->silent_s += elapsed_s;
    p->quiet_s += elapsed_s;
    if (rank == w->options.rank)
        now = w->record;
    else if (!read_record(w, rank, &now))
        return;
    if (now.told != p->last.told)
        p->silent_s = 0;
    if (now.beats != p->last.beats)
        p->quiet_s = 0;
    p->last = now;
}

/* ---- who is behind ---- */

static bool is_silent(const sim_watchdog *w, int rank)
{
    return w->peers[rank].silent_s > w->watched_s / 2;
}

/* The lowest rank that still keeps its record speaks for all. */
static bool speaks(const sim_watchdog *w)
{
    int r = 0;
    while (r < w->options.rank && is_silent(w, r))
        r++;
    return r == w->options.rank;
}

/* All silent ranks; when there is none, those with the fewest exchanges, unless it is all
 * of them.  Their number. */
static int find_behind(const sim_watchdog *w, bool *behind)
{
    int size = w->options.size, n = 0;
    uint64_t least = UINT64_MAX, most = 0;

    for (int r = 0; r < size; r++) {
        uint64_t place = w->peers[r].last.place;
        least = place < least ? place : least;
        most = place > most ? place : most;
        n += behind[r] = is_silent(w, r);
    }
    if (n > 0 || least == most)
        return n;
    for (int r = 0; r < size; r++)
        n += behind[r] = w->peers[r].last.place == least;
    return n;
}

/* What the system says of a process of this host; "" when nothing is odd. */
static const char *state_of(const sim_watchdog *w, const record *r)
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

static void add_place(note *to, const record *r)
{
    add(to, "step %lld, %s", (long long)r->step, r->phase);
}

static void add_behind(note *to, const sim_watchdog *w, int rank)
{
    const peer *p = &w->peers[rank];

    add(to, "rank %d on %s (pid %lld) is behind: ", rank, p->last.host,
        (long long)p->last.pid);
    if (is_silent(w, rank))
        add(to, "not heard from for %.0f s%s, last seen in ", p->silent_s,
            state_of(w, &p->last));
    add_place(to, &p->last);
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
    add_place(to, &w->peers[r].last);
}

static void describe(const sim_watchdog *w, note *to)
{
    bool *behind = NULL;
    int size = w->options.size, named = 0;

    *to = (note){.used = 0};
    add(to, "no rank got anything done for %.0f s: ", w->idle_s);
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

/* ---- the thread ---- */

static void tell(const sim_watchdog *w, sim_hang event)
{
    note n;
    describe(w, &n);
    w->options.tell(w->options.ctx, event, n.text);
}

/* Seconds since any rank did something, as far as this one has watched. */
static double all_quiet_s(const sim_watchdog *w)
{
    double least = w->idle_s;
    for (int r = 0; r < w->options.size; r++)
        if (w->peers[r].quiet_s < least)
            least = w->peers[r].quiet_s;
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

/* Is it certain?  The one that speaks should end the job; if it cannot, so do the others. */
static bool is_over(const sim_watchdog *w)
{
    const double grace_s = 10;
    return all_quiet_s(w) >= w->options.hang_s / 2 &&
           w->idle_s >= w->options.hang_s + (speaks(w) ? 0 : grace_s);
}

static void moved(sim_watchdog *w, uint64_t beats)
{
    w->beats = beats;
    if (w->feared)
        w->options.tell(w->options.ctx, SIM_HANG_OVER, "the ranks go on");
    w->feared = false;
    w->idle_s = w->watched_s = 0;
}

bool sim_watchdog_look(sim_watchdog *w, double elapsed_s)
{
    double hang_s = w->options.hang_s;

    if (elapsed_s > 2 * w->tick_s) /* stopped in between, as the main thread was */
        elapsed_s = 2 * w->tick_s;
    SIM_IGNORE(publish(w)); /* others see a silent rank then; this one still watches */
    if (w->record.beats != w->beats) {
        moved(w, w->record.beats);
        return true;
    }
    w->idle_s += elapsed_s;
    if (w->idle_s < hang_s / 4)
        return true;
    watch_all(w, elapsed_s);
    if (is_over(w)) {
        tell(w, SIM_HANG_SURE);
        return false;
    }
    if (!w->feared && speaks(w) && w->idle_s >= hang_s / 2 &&
        all_quiet_s(w) >= hang_s / 8) {
        w->feared = true;
        tell(w, SIM_HANG_FEARED);
    }
    return true;
}

static bool look_by_clock(sim_watchdog *w)
{
    double now_s = sim_clock_s(), elapsed_s = now_s - w->seen_s;
    w->seen_s = now_s;
    return sim_watchdog_look(w, elapsed_s);
}

static void *watch(void *ctx)
{
    sim_watchdog *w = ctx;
    bool more = true;

    sim_heartbeat_mute();
    sim_mutex_lock(&w->lock);
    while (!w->stop && more) {
        sim_signal_wait_for(&w->wake, &w->lock, w->tick_s);
        if (w->stop)
            break;
        sim_mutex_unlock(&w->lock);
        more = look_by_clock(w);
        sim_mutex_lock(&w->lock);
    }
    sim_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- start and stop ---- */

/* Often enough to see who is alive, seldom enough for a thousand ranks on one disk. */
static double tick_of(double hang_s)
{
    const double most_s = 10;
    return hang_s / 40 < most_s ? hang_s / 40 : most_s;
}

static sim_status first_record(sim_watchdog *w)
{
    sim_status st = SIM_OK;
    int fd = -1;

    path_of(w, w->options.rank, w->mine, sizeof w->mine);
    SIM_TRY(sim_file_open_append(w->mine, &fd)); /* makes it */
    SIM_TRY(sim_file_close(&fd, w->mine));
    SIM_TRY(publish(w));
done:
    return st;
}

sim_status sim_watchdog_create(const sim_watchdog_options *options, sim_watchdog **out)
{
    sim_status st = SIM_OK;
    sim_watchdog *w = NULL;

    SIM_TRY(sim_new(&w, "train/watchdog"));
    w->options = *options;
    (void)snprintf(w->folder, sizeof w->folder, "%s", options->folder);
    (void)snprintf(w->record.host, sizeof w->record.host, "%s", options->host);
    w->record.pid = sim_process_id();
    w->tick_s = tick_of(options->hang_s);
    SIM_TRY(sim_alloc(&w->peers, (size_t)options->size, "train/watchdog"));
    SIM_TRY(first_record(w));
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
    w->seen_s = sim_clock_s();
    SIM_TRY(sim_thread_start(&w->thread, watch, w));
    w->started = true;
done:
    return st;
}

void sim_watchdog_stop(sim_watchdog **out)
{
    sim_watchdog *w = *out;
    if (!w)
        return;
    sim_mutex_lock(&w->lock);
    w->stop = true;
    sim_signal_all(&w->wake);
    sim_mutex_unlock(&w->lock);
    if (w->started)
        sim_thread_join(&w->thread);
    sim_signal_destroy(&w->wake);
    sim_mutex_destroy(&w->lock);
    SIM_IGNORE(sim_file_remove(w->mine));
    sim_free(w->peers);
    sim_free(w);
    *out = NULL;
}
