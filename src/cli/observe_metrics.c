/*
 * observe_metrics.c - RUN/metrics.jsonl: one JSON object an interval, the canonical log.
 * kNN results stand between them, each an object of its own.
 *
 * A resumed run drops the lines beyond its checkpoint and goes on, so that no step is
 * there twice or missing.
 */
#include "cli.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    char path[4096];
    int fd;
} state;

/* Keeps the lines of steps up to `step`; a torn last line goes too. */
static sim_status keep_earlier(const char *path, int64_t step)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    sim_json *j = NULL;
    size_t n_bytes = 0, keep = 0;
    int64_t at = 0;

    if (!sim_path_exists(path))
        goto done;
    SIM_TRY(sim_file_load(path, (size_t)1 << 30, &text, &n_bytes));
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        sim_json_destroy(&j);
        if (sim_json_parse(line, (size_t)(end - line), &j) != SIM_OK ||
            !sim_json_get_int(j, "step", &at) || at > step)
            break;
        keep = (size_t)(end + 1 - text);
    }
    sim_story_clear();
    const sim_piece piece = {text, keep};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_json_destroy(&j);
    sim_free(text);
    return st;
}

/* The step of a line, whole or torn; -1 where there is none. */
static int64_t step_of(const char *line, size_t n)
{
    sim_json *j = NULL;
    int64_t step = -1;
    if (sim_json_parse(line, n, &j) == SIM_OK)
        (void)sim_json_get_int(j, "step", &step);
    sim_story_clear();
    sim_json_destroy(&j);
    return step;
}

int64_t sim_observe_metrics_last(const char *run_path)
{
    char path[4200], *text = NULL;
    size_t n = 0;
    int64_t last = -1;

    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", run_path);
    if (!sim_path_exists(path) ||
        sim_file_load(path, (size_t)1 << 30, &text, &n) != SIM_OK)
        goto done;
    while (n > 0 && last < 0) { /* line by line from the end */
        size_t end = text[n - 1] == '\n' ? n - 1 : n;
        for (n = end; n > 0 && text[n - 1] != '\n';)
            n--;
        last = step_of(text + n, end - n);
    }
done:
    sim_story_clear();
    sim_free(text);
    return last;
}

static sim_status on_begin(void *ctx, const sim_train_state *t, int64_t step)
{
    sim_status st = SIM_OK;
    state *s = ctx;

    s->fd = -1;
    if (sim_train_comm(t)->rank != 0)
        goto done;
    SIM_TRY(sim_run_path(sim_train_run_of(t), "metrics.jsonl", s->path, sizeof s->path));
    SIM_TRY(keep_earlier(s->path, step));
    SIM_TRY(sim_file_open_append(s->path, &s->fd));
done:
    return st;
}

static void fill(sim_json *j, const sim_step_metrics *m)
{
    sim_json_int(j, "step", m->step);
    sim_json_real(j, "epoch", m->epochs);
    sim_json_real(j, "loss", m->loss);
    sim_json_real(j, "lr", m->lr);
    sim_json_real(j, "accuracy", m->accuracy);
    sim_json_real(j, "positive", m->positive);
    sim_json_real(j, "negative", m->negative);
    sim_json_real(j, "spread", m->spread);
    sim_json_real(j, "gradient_norm", m->gradient_norm);
    sim_json_int(j, "skipped", m->skipped);
    sim_json_real(j, "images_per_s", m->images_per_s);
    sim_json_real(j, "elapsed_s", m->elapsed_s);
}

static sim_status append(const state *s, const sim_json *j)
{
    sim_status st = SIM_OK;
    char *text = NULL, *line = NULL;

    SIM_TRY(sim_json_dump(j, 0, &text));
    SIM_TRY(sim_text_format("cli/metrics", &line, "%s\n", text));
    SIM_TRY(sim_file_append(s->fd, s->path, line));
done:
    sim_free(text);
    sim_free(line);
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
    fill(j, m);
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

static sim_status on_end(void *ctx, const sim_train_state *t, const char *why)
{
    state *s = ctx;
    (void)t;
    (void)why;
    return sim_file_close(&s->fd, s->path);
}

sim_observer sim_observe_metrics(void *memory)
{
    return (sim_observer){
        .ctx = memory, .on_begin = on_begin, .on_step = on_step, .on_end = on_end};
}

size_t sim_observe_metrics_bytes(void)
{
    return sizeof(state);
}
