/*
 * observe_tensorboard.c - RUN/tensorboard/: event files of TensorBoard, one per segment of the run.
 *
 * A resumed run removes the events after its checkpoint from earlier files, so that every step occurs
 * once.  Events are written by a thread, so that a slow disk delays no step.  No failure ends the run:
 * metrics.jsonl is the complete record.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/report.h"
#include "simile/thread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_PENDING_BYTES = 1 << 24,
    MOST_VALUES = SIM_MAX_RECORD + SIM_MAX_HISTOGRAMS + 1
};
static const double end_wait_s = 10;

/* What the writing thread and the main thread share. */
typedef struct {
    sim_mutex
        mutex; /* of all below but path, fd and file_bytes, which are the thread's */
    sim_signal changed;
    sim_events pending;
    bool is_ending, has_ended;
    bool is_left; /* nothing waits for the thread, which frees this struct */
    char problem[512];
    char path[PATH_MAX];
    int fd;
    uint64_t file_bytes;
} event_writer;

typedef struct {
    event_writer *writer; /* NULL: no events are written */
    sim_thread thread;
    bool warned;
    bool dropped; /* events, because too many are pending */
} tensorboard_state;

/* ---- the writing thread ---- */

static void destroy_writer(event_writer *w)
{
    SIM_IGNORE(sim_file_close(&w->fd, w->path));
    sim_signal_destroy(&w->changed);
    sim_mutex_destroy(&w->mutex);
    sim_free(w->pending.bytes);
    sim_free(w);
}

/* Appends to *e; on failure *e is unchanged. */
static sim_status append_events(sim_events *e, const sim_events *more)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_grow(&e->bytes, e->n_bytes + more->n_bytes, "cli/tensorboard"));
    memcpy(e->bytes + e->n_bytes, more->bytes, more->n_bytes);
    e->n_bytes += more->n_bytes;
done:
    return st;
}

/* Puts events that could not be written before those that are pending.  The mutex is held. */
static void restore(event_writer *w, sim_events *batch)
{
    const sim_events later = w->pending;

    (void)snprintf(w->problem, sizeof w->problem, "%s", sim_error_message());
    if (later.n_bytes > 0)
        SIM_IGNORE(append_events(batch, &later)); /* without memory they are lost */
    sim_free(later.bytes);
    w->pending = *batch;
    *batch = (sim_events){0};
}

/* Writes what is pending, at a fixed offset so that a truncated write is overwritten.  The mutex is held,
 * but not during the write.  false: failed. */
static bool write_pending(event_writer *w)
{
    sim_events batch = w->pending;

    w->pending = (sim_events){0};
    sim_mutex_unlock(&w->mutex);
    const bool written = sim_file_write_at(w->fd, w->path, w->file_bytes, batch.bytes,
                                           batch.n_bytes) == SIM_OK;
    sim_mutex_lock(&w->mutex);
    if (written)
        w->file_bytes += batch.n_bytes;
    else
        restore(w, &batch);
    sim_error_clear();
    sim_free(batch.bytes);
    return written;
}

static void *write_events(void *ctx)
{
    event_writer *w = ctx;
    bool written = true;

    sim_mutex_lock(&w->mutex);
    for (;;) {
        while (!w->is_ending && (w->pending.n_bytes == 0 || !written)) {
            sim_signal_wait(&w->changed, &w->mutex);
            written = true; /* after a failure the next event causes another attempt */
        }
        if (w->pending.n_bytes == 0)
            break;
        written = write_pending(w);
        if (!written && w->is_ending)
            break;
    }
    w->has_ended = true;
    sim_signal_all(&w->changed);
    const bool is_left = w->is_left;
    sim_mutex_unlock(&w->mutex);
    if (is_left)
        destroy_writer(w);
    return NULL;
}

/* ---- files of the run ---- */

static bool is_event_file(const char *name)
{
    return strncmp(name, "events.out.tfevents.", 20) == 0;
}

static sim_status remove_later(const char *path, int64_t step)
{
    sim_status st = SIM_OK;
    uint64_t intact = 0, n_bytes = 0;
    int fd = -1;

    SIM_TRY(sim_file_open_read(path, &fd, &n_bytes));
    SIM_TRY(sim_file_close(&fd, path));
    SIM_TRY(sim_events_measure(path, step, &intact));
    if (intact == n_bytes)
        goto done;
    SIM_TRY(sim_file_open_update(path, &fd));
    SIM_TRY(sim_file_set_length(fd, path, intact));
    SIM_TRY(sim_file_close(&fd, path));
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    return st;
}

/* Removes later events from the files of earlier segments; *newest_s: the time in their names. */
static sim_status trim_earlier(const char *directory, int64_t step, long long *newest_s)
{
    sim_status st = SIM_OK;
    sim_names list = {0};
    char path[PATH_MAX];

    SIM_TRY(sim_directory_list(directory, &list));
    for (size_t i = 0; i < list.n; i++) {
        if (!is_event_file(list.names[i]))
            continue;
        const long long created_s = strtoll(list.names[i] + 20, NULL, 10);
        *newest_s = created_s > *newest_s ? created_s : *newest_s;
        (void)snprintf(path, sizeof path, "%.3800s/%.255s", directory, list.names[i]);
        SIM_TRY(remove_later(path, step));
    }
done:
    sim_names_clear(&list);
    return st;
}

/* Readers take the files of a directory in the order of their names, which begin with the time. */
static sim_status create_file(event_writer *w, const sim_observed_run *run)
{
    sim_status st = SIM_OK;
    char directory[PATH_MAX], host[64];
    long long newest_s = 0, now_s = (long long)sim_clock_wall_s();

    int n = snprintf(directory, sizeof directory, "%s/tensorboard", run->path);
    SIM_CHECK(n > 0 && n < 3800, SIM_E_CONFIG, "%s: the path is too long", run->path);
    SIM_CHECK(!sim_path_is_link(directory), SIM_E_CREATE,
              "%s is a symbolic link, and its files may belong to other runs", directory);
    if (run->is_fresh && sim_path_exists(directory))
        SIM_TRY(sim_run_set_aside(
            directory, "the run has no checkpoint, so it starts from step 0", NULL));
    SIM_TRY(sim_directory_create(directory));
    SIM_TRY(trim_earlier(directory, run->step, &newest_s));
    sim_host_name(host, sizeof host);
    (void)snprintf(w->path, sizeof w->path, "%.3800s/events.out.tfevents.%010lld.%s.%lld",
                   directory, now_s > newest_s ? now_s : newest_s + 1, host,
                   (long long)run->step);
    SIM_TRY(sim_file_open_append(w->path, &w->fd));
    SIM_TRY(sim_file_close(&w->fd, w->path));
    SIM_TRY(sim_file_open_update(w->path, &w->fd));
done:
    return st;
}

/* ---- the observer ---- */

static sim_status start_writer(tensorboard_state *s, const sim_observed_run *run)
{
    sim_status st = SIM_OK;
    event_writer *w = NULL;

    SIM_TRY(sim_new(&w, "cli/tensorboard"));
    w->fd = -1;
    sim_mutex_init(&w->mutex);
    sim_signal_init(&w->changed);
    SIM_TRY(create_file(w, run));
    SIM_TRY(sim_events_begin(&w->pending, sim_clock_wall_s(), run->step));
    SIM_TRY(sim_thread_start(&s->thread, write_events, w));
    s->writer = w;
    w = NULL;
done:
    if (w)
        destroy_writer(w);
    return st;
}

static sim_status tensorboard_begin(void *state, const sim_observed_run *run)
{
    if (start_writer(state, run) != SIM_OK) {
        sim_log_warn("%s; the run continues without event files of TensorBoard "
                     "(log.tensorboard)",
                     sim_error_message());
        sim_error_clear();
    }
    return SIM_OK;
}

/* Tags "train/loss", "knn/knn_top1"; values that are not numbers have no point. */
static size_t list_values(const sim_record *r, char tags[MOST_VALUES][96],
                          sim_event_value values[MOST_VALUES])
{
    const char *group = r->protocol ? r->protocol : "train";
    size_t n = 0;

    for (size_t i = 0; r->kind != SIM_RECORD_PICTURE && i < r->n_scalars; i++) {
        if (r->scalars[i].about.log_only || isnan(r->scalars[i].value))
            continue;
        (void)snprintf(tags[n], sizeof tags[n], "%s/%s", group, r->scalars[i].about.name);
        values[n] = (sim_event_value){.tag = tags[n], .scalar = r->scalars[i].value};
        n++;
    }
    for (size_t i = 0; i < r->n_histograms; i++) {
        (void)snprintf(tags[n], sizeof tags[n], "%s/%s", group, r->histograms[i].name);
        values[n] = (sim_event_value){.tag = tags[n], .histogram = &r->histograms[i]};
        n++;
    }
    if (r->picture) {
        (void)snprintf(tags[n], sizeof tags[n], "%s", r->picture->name);
        values[n] = (sim_event_value){.tag = tags[n], .picture = r->picture};
        n++;
    }
    return n;
}

/* Hands the event to the thread; the first problem of the thread is logged here. */
static sim_status enqueue(tensorboard_state *s, const sim_events *event)
{
    sim_status st = SIM_OK;
    event_writer *w = s->writer;
    char problem[sizeof w->problem];

    sim_mutex_lock(&w->mutex);
    memcpy(problem, w->problem, sizeof problem);
    if (w->pending.n_bytes + event->n_bytes > MOST_PENDING_BYTES)
        s->dropped = true;
    else
        st = append_events(&w->pending, event);
    sim_signal_all(&w->changed);
    sim_mutex_unlock(&w->mutex);
    if (problem[0] && !s->warned) {
        sim_log_warn("%s; events for TensorBoard stay in memory until the next write",
                     problem);
        s->warned = true;
    }
    return st;
}

static sim_status add_record(tensorboard_state *s, const sim_record *r)
{
    sim_status st = SIM_OK;
    char tags[MOST_VALUES][96];
    sim_event_value values[MOST_VALUES];
    sim_events event = {0};

    SIM_TRY(sim_events_add(&event, sim_clock_wall_s(), r->step, values,
                           list_values(r, tags, values)));
    SIM_TRY(enqueue(s, &event));
done:
    sim_free(event.bytes);
    return st;
}

/* An event that cannot be encoded or kept in memory is left out. */
static sim_status tensorboard_publish(void *state, const sim_record *r)
{
    tensorboard_state *s = state;

    if (!s->writer || r->kind == SIM_RECORD_PROGRESS || add_record(s, r) == SIM_OK)
        return SIM_OK;
    if (!s->warned)
        sim_log_warn("%s; events for TensorBoard are left out", sim_error_message());
    s->warned = true;
    sim_error_clear();
    return SIM_OK;
}

/* Waits until the thread has ended, but not for a disk that does not answer. */
static bool wait_for_end(event_writer *w)
{
    const double start_s = sim_clock_s();
    double left_s = end_wait_s;

    while (!w->has_ended && left_s > 0) {
        sim_signal_wait_for(&w->changed, &w->mutex, left_s);
        left_s = start_s + end_wait_s - sim_clock_s();
    }
    return w->has_ended;
}

static void stop_writer(tensorboard_state *s)
{
    event_writer *w = s->writer;
    char problem[sizeof w->problem] = "the disk does not answer";

    if (!w)
        return;
    s->writer = NULL;
    sim_mutex_lock(&w->mutex);
    w->is_ending = true;
    sim_signal_all(&w->changed);
    const bool has_ended = wait_for_end(w);
    const bool is_lost = !has_ended || w->pending.n_bytes > 0 || s->dropped;
    if (w->problem[0])
        memcpy(problem, w->problem, sizeof problem);
    w->is_left = !has_ended;
    sim_mutex_unlock(&w->mutex);
    if (is_lost)
        sim_log_warn("%s; the last events for TensorBoard are lost", problem);
    if (has_ended) {
        sim_thread_join(&s->thread);
        destroy_writer(w);
    } else {
        sim_thread_detach(&s->thread);
    }
}

static sim_status tensorboard_end(void *state)
{
    stop_writer(state);
    return SIM_OK;
}

static void tensorboard_clear(void *state)
{
    stop_writer(state); /* after a failure `end` is not called */
}

const sim_observer sim_observe_tensorboard = {.name = "tensorboard",
                                              .state_bytes = sizeof(tensorboard_state),
                                              .begin = tensorboard_begin,
                                              .publish = tensorboard_publish,
                                              .end = tensorboard_end,
                                              .clear = tensorboard_clear};
