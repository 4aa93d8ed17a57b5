/*
 * observe_metrics.c - RUN/metrics.jsonl: one JSON object per interval.
 * kNN results are objects of their own.
 *
 * A resumed run drops the lines after its checkpoint and appends, so that every step occurs
 * once.  Lines that cannot be written stay in memory until the next write.
 */
#include "cli.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum { READ_BYTES = 1 << 20 }; /* at once; more than any line of ours */

typedef struct {
    char path[4096];
    int fd;
    uint64_t at;   /* end of the whole lines of the file */
    char *waiting; /* lines that are not in it yet */
    size_t n_waiting;
    bool warned; /* that lines are waiting */
} state;

/* The step of a line, whole or torn, and its images per second where it tells them; -1 where
 * there is none. */
static int64_t read_line(const char *line, size_t n, double *images_per_s)
{
    sim_json *j = NULL;
    int64_t step = -1;
    if (sim_json_parse(line, n, &j) == SIM_OK) {
        (void)sim_json_get_int(j, "step", &step);
        (void)sim_json_get_real(j, "images_per_s", images_per_s);
    }
    sim_error_clear();
    sim_json_destroy(&j);
    return step;
}

static int64_t step_of(const char *line, size_t n)
{
    double unused = 0;
    return read_line(line, n, &unused);
}

/* Bytes of whole lines at the start of the text that are of steps up to `step`. */
static size_t earlier(const char *text, size_t n_bytes, int64_t step)
{
    const char *line = text, *end = NULL;
    while ((end = memchr(line, '\n', n_bytes - (size_t)(line - text))) != NULL) {
        int64_t at = step_of(line, (size_t)(end - line));
        if (at < 0 || at > step)
            break;
        line = end + 1;
    }
    return (size_t)(line - text);
}

/* Copies the lines of steps up to `step`, however many; a torn last line is none. */
static sim_status copy_earlier(const char *path, int64_t step, sim_replacement *r,
                               uint64_t *keep_bytes)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    uint64_t n_bytes = 0, at = 0;
    size_t n = 0, keep = 1;
    int fd = -1;

    SIM_TRY(sim_alloc(&text, READ_BYTES, "cli/metrics"));
    if (sim_path_exists(path))
        SIM_TRY(sim_file_open_read(path, &fd, &n_bytes));
    for (; at < n_bytes && keep > 0; at += keep) {
        n = n_bytes - at < READ_BYTES ? (size_t)(n_bytes - at) : READ_BYTES;
        SIM_TRY(sim_file_read_at(fd, path, at, text, n));
        keep = earlier(text, n, step);
        SIM_TRY(sim_file_replace_add(r, text, keep));
    }
    *keep_bytes = at;
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(text);
    return st;
}

/* Keeps the lines of steps up to `step`. */
static sim_status keep_earlier(const char *path, int64_t step, uint64_t *keep_bytes)
{
    sim_status st = SIM_OK;
    sim_replacement r = {.made = false};

    SIM_TRY(sim_file_replace_begin(path, &r));
    SIM_TRY(copy_earlier(path, step, &r, keep_bytes));
    SIM_TRY(sim_file_replace_end(&r));
done:
    sim_file_replace_cancel(&r);
    return st;
}

/* The last bytes of a file, up to READ_BYTES. */
static sim_status load_end(const char *path, char **out, size_t *n)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    uint64_t n_bytes = 0;
    int fd = -1;

    SIM_TRY(sim_file_open_read(path, &fd, &n_bytes));
    *n = n_bytes < READ_BYTES ? (size_t)n_bytes : READ_BYTES;
    SIM_TRY(sim_alloc(&text, *n + 1, "cli/metrics"));
    SIM_TRY(sim_file_read_at(fd, path, n_bytes - *n, text, *n));
    *out = text;
    text = NULL;
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(text);
    return st;
}

int64_t sim_observe_metrics_last(const char *run_path, double *images_per_s)
{
    char path[4200], *text = NULL;
    size_t n = 0;
    int64_t last = -1;

    *images_per_s = 0;
    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", run_path);
    if (!sim_path_exists(path) || load_end(path, &text, &n) != SIM_OK)
        goto done;
    while (n > 0 && (last < 0 || *images_per_s == 0)) { /* line by line from the end */
        size_t end = text[n - 1] == '\n' ? n - 1 : n;
        for (n = end; n > 0 && text[n - 1] != '\n';)
            n--;
        int64_t step = read_line(text + n, end - n, images_per_s);
        last = last < 0 ? step : last; /* a line of kNN tells no rate */
    }
done:
    sim_error_clear();
    sim_free(text);
    return last;
}

/* Copies the lines of the abandoned branch to the directory of its checkpoints. */
static sim_status copy_to_abandoned(const char *path, const char *folder)
{
    sim_status st = SIM_OK;
    char copy[4300];
    sim_replacement r = {.made = false};
    uint64_t n_bytes = 0;

    if (!folder[0])
        goto done;
    (void)snprintf(copy, sizeof copy, "%s/metrics.jsonl", folder);
    SIM_TRY(sim_file_replace_begin(copy, &r));
    SIM_TRY(copy_earlier(path, INT64_MAX, &r, &n_bytes));
    SIM_TRY(sim_file_replace_end(&r));
done:
    sim_file_replace_cancel(&r);
    return st;
}

static sim_status on_begin(void *ctx, const sim_train_state *t, int64_t step)
{
    sim_status st = SIM_OK;
    state *s = ctx;

    s->fd = -1;
    if (sim_train_comm(t)->rank != 0)
        goto done;
    SIM_TRY(sim_run_path(sim_train_run_of(t), "metrics.jsonl", s->path, sizeof s->path));
    SIM_TRY(copy_to_abandoned(s->path, sim_train_abandoned(t)));
    SIM_TRY(keep_earlier(s->path, step, &s->at));
    SIM_TRY(sim_file_open_update(s->path, &s->fd));
done:
    return st;
}

static void fill(sim_json *j, const sim_step_metrics *m, const sim_method *method)
{
    sim_method_number numbers[SIM_MAX_SCALARS];
    size_t n = sim_method_numbers(method, numbers);

    sim_json_int(j, "step", m->step);
    sim_json_real(j, "epoch", m->epochs);
    sim_json_real(j, "loss", m->loss);
    sim_json_real(j, "lr", m->lr);
    sim_json_real(j, "accuracy", m->accuracy);
    sim_json_real(j, "positive", m->positive);
    sim_json_real(j, "negative", m->negative);
    sim_json_real(j, "embedding_std", m->embedding_std);
    sim_json_real(j, "gradient_norm", m->gradient_norm);
    sim_json_int(j, "skipped", m->skipped);
    sim_json_int(j, "anchors_without_positive", m->anchors_without_positive);
    for (size_t i = 0; i < n; i++)
        sim_json_real(j, numbers[i].name, numbers[i].value);
    sim_json_real(j, "images_per_s", m->images_per_s);
    sim_json_real(j, "elapsed_s", m->elapsed_s);
}

/* At its place in the file, so that a line that was cut is written over. */
static sim_status write_waiting(state *s)
{
    sim_status st = SIM_OK;
    if (s->n_waiting == 0)
        goto done;
    SIM_TRY(sim_file_write_at(s->fd, s->path, s->at, s->waiting, s->n_waiting));
    s->at += s->n_waiting;
    s->n_waiting = 0;
    s->warned = false;
    SIM_FREE(s->waiting);
done:
    return st;
}

/* Waiting lines must not end a run whose checkpoints may still go well. */
static sim_status append(state *s, const sim_json *j)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_json_dump(j, 0, &text));
    const size_t n = strlen(text);
    SIM_TRY(sim_grow(&s->waiting, s->n_waiting + n + 1, "cli/metrics"));
    memcpy(s->waiting + s->n_waiting, text, n);
    s->waiting[s->n_waiting + n] = '\n';
    s->n_waiting += n + 1;
    if (write_waiting(s) != SIM_OK) {
        if (!s->warned)
            sim_log_warn("%s; its lines stay in memory until the next write",
                         sim_error_message());
        s->warned = true;
        sim_error_clear();
    }
done:
    sim_free(text);
    return st;
}

static sim_status on_step(void *ctx, const sim_train_state *t, const sim_step_metrics *m,
                          bool interval)
{
    sim_status st = SIM_OK;
    state *s = ctx;
    sim_json *j = NULL;

    if (!interval || sim_train_comm(t)->rank != 0)
        goto done;
    SIM_TRY(sim_json_create(&j));
    fill(j, m, sim_train_method(t));
    SIM_TRY(append(s, j));
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_observe_metrics_knn(void *ctx, const sim_train_state *t, int64_t epoch,
                                   const sim_knn_result *r)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    if (sim_train_comm(t)->rank != 0)
        goto done;
    SIM_TRY(sim_json_create(&j));
    sim_json_int(j, "step", sim_train_step(t));
    sim_json_int(j, "epoch", epoch);
    sim_json_real(j, "knn_top1", r->top1);
    sim_json_real(j, "knn_top5", r->top5);
    sim_json_int(j, "knn_k", r->k);
    SIM_TRY(append(ctx, j));
done:
    sim_json_destroy(&j);
    return st;
}

/* At the end of the run, lines that still cannot be written only cause a warning. */
static void flush_lines(state *s)
{
    char message[4096];

    if (!s->path[0]) /* not rank 0, or never begun, or done */
        return;
    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (write_waiting(s) != SIM_OK)
        sim_log_warn("%s; its last lines are lost", sim_error_message());
    if (sim_file_close(&s->fd, s->path) != SIM_OK)
        sim_log_warn("%s; its last lines may be lost", sim_error_message());
    sim_error_set(message); /* of a failure that ends the run */
    s->path[0] = '\0';
}

static sim_status on_end(void *ctx, const sim_train_state *t, const char *why)
{
    (void)t;
    (void)why;
    flush_lines(ctx);
    return SIM_OK;
}

sim_observer sim_observe_metrics(void *memory)
{
    return (sim_observer){
        .ctx = memory, .on_begin = on_begin, .on_step = on_step, .on_end = on_end};
}

void sim_observe_metrics_clear(void *memory)
{
    state *s = memory;
    if (!s)
        return;
    flush_lines(s); /* on_end is not called after a failure */
    SIM_FREE(s->waiting);
}

size_t sim_observe_metrics_bytes(void)
{
    return sizeof(state);
}
