/*
 * run_info.c - what `simile runs` reports of a run directory, from the files of the run.
 *
 * A job may be writing the directory, and any file may be missing, damaged or of another program.
 * A file that cannot be read is reported once; its values remain unknown.
 */
#include "run_info.h"

#include "cli.h"

#include "simile/checkpoint.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    CONFIG_BYTES = 1 << 22,
    RESULT_BYTES = 1 << 24,
    METRICS_BYTES = 1 << 26, /* from the end of the file */
    MAX_LINES_BACK = 1000
};

static const char own_line[] = "# Resolved job, written by simile";

static void warn_of_file(run_info *r, const char *path, const char *problem)
{
    sim_log_warn("%s: %s", path, problem);
    sim_error_clear();
    r->is_damaged = true;
}

static void join(const char *directory, const char *name, char out[4400])
{
    (void)snprintf(out, 4400, "%.4096s/%.290s", directory, name);
}

/* ---- the job ---- */

/* The text of a resolved job; NULL if the file does not begin like one. */
static char *load_config(const char *run, const char *name)
{
    char path[4400], *text = NULL;
    size_t n = 0;

    join(run, name, path);
    if (!sim_path_exists(path) ||
        sim_file_load(path, CONFIG_BYTES, &text, &n) != SIM_OK ||
        strncmp(text, own_line, sizeof own_line - 1) != 0)
        SIM_FREE(text);
    sim_error_clear();
    return text;
}

bool sim_run_info_is_run(const char *path)
{
    char checkpoints[4400], *text = NULL;

    join(path, "checkpoints", checkpoints);
    bool is =
        sim_path_is_directory(checkpoints) || (text = load_config(path, "config.yaml"));
    sim_free(text);
    return is;
}

/* The path of data.train; of several the names of the files. */
static void name_data(const sim_option_texts *train, char *out, size_t out_bytes)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t k = 0; k < train->n && used < out_bytes; k++) {
        const char *path = train->text[k], *slash = strrchr(path, '/');
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", k ? ", " : "",
                                 train->n > 1 && slash ? slash + 1 : path);
    }
}

static bool take_job(const char *text, const char *name, run_info *r)
{
    sim_job job;
    sim_evaluate_options evaluate;

    if (sim_cli_job_of_checkpoint(text, name, &job, &evaluate) != SIM_OK)
        return false;
    (void)snprintf(r->method, sizeof r->method, "%s", job.method->name);
    name_data(&job.train.train, r->data, sizeof r->data);
    r->batch = job.train.batch;
    r->total_steps = job.schedule.steps;
    r->n_epochs = job.schedule.steps > 0 ? 0 : job.schedule.epochs;
    return true;
}

/* From the newest checkpoint, without its tensors. */
static bool read_job_of_checkpoint(const char *run, run_info *r)
{
    char name[64], path[4400], *text = NULL;
    sim_h5 *file = NULL;

    if (r->step < 0)
        return false;
    (void)snprintf(name, sizeof name, "checkpoints/step-%09lld.h5", (long long)r->step);
    join(run, name, path);
    bool is_read = sim_h5_open_read(path, &file) == SIM_OK &&
                   sim_h5_read_text(file, "/config", &text) == SIM_OK &&
                   take_job(text, path, r);
    if (!is_read)
        warn_of_file(r, path, sim_error_message());
    sim_h5_close(&file);
    sim_free(text);
    return is_read;
}

/* RUN/config.yaml may be a file of the user, or of a version that did not mark it. */
static void read_job(const char *run, run_info *r)
{
    static const char *const names[] = {"config.yaml", "config.resolved.yaml"};
    char path[4400];
    bool is_read = false;

    for (size_t i = 0; i < sizeof names / sizeof *names && !is_read; i++) {
        char *text = load_config(run, names[i]);
        join(run, names[i], path);
        is_read = text && take_job(text, path, r);
        if (text && !is_read)
            warn_of_file(r, path, sim_error_message());
        sim_free(text);
    }
    if (!is_read)
        (void)read_job_of_checkpoint(run, r);
}

/* ---- evaluations ---- */

/* Reads {"protocol", "step", "top1" or "PROTOCOL_top1"}, and keeps the best; of equal ones, the
 * earliest. */
static void take_evaluation(const sim_json *j, run_info *r)
{
    const char *protocol = "knn"; /* early versions did not record it */
    char key[64];
    double top1 = -1;
    int64_t step = -1;

    (void)sim_json_get_text(j, "protocol", &protocol);
    (void)snprintf(key, sizeof key, "%.48s_top1", protocol);
    if ((!sim_json_get_real(j, key, &top1) && !sim_json_get_real(j, "top1", &top1)) ||
        !(top1 >= 0 && top1 <= 1) || !sim_json_get_int(j, "step", &step) || step < 0)
        return;
    if (top1 < r->top1 || (!(top1 > r->top1) && step >= r->top1_step))
        return;
    r->top1 = top1;
    r->top1_step = step;
    (void)snprintf(r->protocol, sizeof r->protocol, "%.31s", protocol);
}

static void read_result(const char *path, run_info *r)
{
    char *text = NULL;
    sim_json *j = NULL;
    size_t n = 0;

    if (sim_file_load(path, RESULT_BYTES, &text, &n) == SIM_OK &&
        sim_json_parse(text, n, &j) == SIM_OK)
        take_evaluation(j, r);
    else if (sim_path_exists(path)) /* it may have been moved in the meantime */
        warn_of_file(r, path, sim_error_message());
    sim_error_clear();
    sim_json_destroy(&j);
    sim_free(text);
}

static void read_results(const char *run, run_info *r)
{
    char directory[4400], path[4800];
    sim_names names = {0};

    join(run, "results", directory);
    if (!sim_path_exists(directory))
        return;
    if (sim_directory_list(directory, &names) != SIM_OK)
        warn_of_file(r, directory, sim_error_message());
    for (size_t i = 0; i < names.n; i++) {
        const size_t n = strlen(names.names[i]);
        if (n < 6 || strcmp(names.names[i] + n - 5, ".json") != 0 ||
            strcmp(names.names[i], "pretrain.json") == 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%.255s", directory, names.names[i]);
        read_result(path, r);
    }
    sim_names_clear(&names);
}

/* ---- metrics.jsonl ---- */

static bool parse_line(const char *line, size_t n, sim_json **out)
{
    bool is = n > 0 && line[0] == '{' && sim_json_parse(line, n, out) == SIM_OK;
    sim_error_clear();
    return is;
}

/* Evaluations of all complete lines.  Returns the number of lines that are no object. */
static size_t read_evaluations(const char *text, size_t n, run_info *r)
{
    static const char word[] = "top1\":";
    size_t n_bad = 0;

    for (const char *line = text, *end = NULL;
         (end = memchr(line, '\n', n - (size_t)(line - text))) != NULL; line = end + 1) {
        const size_t length = (size_t)(end - line);
        sim_json *j = NULL;
        if (length < 2 || line[0] != '{' || end[-1] != '}')
            n_bad++;
        else if (!memmem(line, length, word, sizeof word - 1))
            continue;
        else if (parse_line(line, length, &j))
            take_evaluation(j, r);
        else
            n_bad++;
        sim_json_destroy(&j);
    }
    return n_bad;
}

/* The last log interval, from the end of the text; NULL: there is none. */
static sim_json *find_last_interval(const char *text, size_t n)
{
    double rate = 0;

    for (int i = 0; n > 0 && i < MAX_LINES_BACK; i++) {
        const size_t end = text[n - 1] == '\n' ? n - 1 : n;
        for (n = end; n > 0 && text[n - 1] != '\n';)
            n--;
        sim_json *j = NULL;
        if (parse_line(text + n, end - n, &j) &&
            sim_json_get_real(j, "images_per_s", &rate))
            return j;
        sim_json_destroy(&j);
    }
    return NULL;
}

sim_json *sim_run_info_last_interval(const char *path)
{
    char metrics[4400], *text = NULL;
    size_t n = 0;
    sim_json *last = NULL;

    join(path, "metrics.jsonl", metrics);
    if (sim_path_exists(metrics) &&
        sim_file_load_end(metrics, METRICS_BYTES, &text, &n) == SIM_OK)
        last = find_last_interval(text, n);
    sim_error_clear();
    sim_free(text);
    return last;
}

/* Step, epoch and rate of the last log interval. */
typedef struct {
    int64_t step; /* -1: no line */
    double epoch, images_per_s;
} last_interval;

static last_interval take_last_interval(const char *text, size_t n)
{
    last_interval last = {-1, -1, -1};
    sim_json *j = find_last_interval(text, n);

    const bool is_whole = j && sim_json_get_int(j, "step", &last.step) &&
                          sim_json_get_real(j, "epoch", &last.epoch) &&
                          sim_json_get_real(j, "images_per_s", &last.images_per_s);
    sim_json_destroy(&j);
    return is_whole ? last : (last_interval){-1, -1, -1};
}

static last_interval read_metrics(const char *run, run_info *r)
{
    last_interval last = {-1, -1, -1};
    char path[4400], problem[96], *text = NULL;
    size_t n = 0;

    join(run, "metrics.jsonl", path);
    if (!sim_path_exists(path))
        return last;
    if (sim_file_load_end(path, METRICS_BYTES, &text, &n) != SIM_OK) {
        warn_of_file(r, path, sim_error_message());
        return last;
    }
    size_t n_bad = read_evaluations(text, n, r);
    if (n == METRICS_BYTES && n_bad > 0)
        n_bad--; /* the first line is truncated */
    (void)snprintf(problem, sizeof problem, "%zu lines are not lines of metrics", n_bad);
    if (n_bad > 0)
        warn_of_file(r, path, problem);
    last = take_last_interval(text, n);
    sim_free(text);
    return last;
}

/* ---- state ---- */

/* A segment that recorded no end, if no job runs: the words of `simile inspect`. */
static const char lost[] = "killed or lost";

static run_state state_of(const char *ended)
{
    if (strcmp(ended, "completed") == 0)
        return RUN_COMPLETED;
    if (strcmp(ended, lost) == 0 || strncmp(ended, "failed", 6) == 0)
        return RUN_CRASHED;
    return *ended ? RUN_STOPPED : RUN_UNKNOWN;
}

static void take_end(const sim_json *j, run_info *r)
{
    const char *ended = "";

    (void)sim_json_get_text(j, "ended", &ended);
    if (strcmp(ended, "started") == 0 || strcmp(ended, "running") == 0)
        ended = lost;
    (void)snprintf(r->ended, sizeof r->ended, "%.159s", ended);
    r->state = state_of(ended);
}

static void read_segments(const char *run, run_info *r)
{
    char *text = NULL;
    sim_json *list = NULL;

    if (sim_history_of_run(run, &text) != SIM_OK)
        warn_of_file(r, run, sim_error_message());
    if (text && sim_json_parse(text, strlen(text), &list) == SIM_OK &&
        sim_json_size(list) > 0) {
        const sim_json *last = sim_json_at(list, sim_json_size(list) - 1);
        (void)sim_json_get_int(last, "images", &r->images);
        (void)sim_json_get_int(last, "batch", &r->batch);
        take_end(last, r);
    }
    sim_error_clear();
    sim_json_destroy(&list);
    sim_free(text);
}

/* Without segments.json. */
static void read_summary(const char *run, run_info *r)
{
    char path[4400], *text = NULL;
    sim_json *j = NULL;
    size_t n = 0;

    join(run, "results/pretrain.json", path);
    if (!sim_path_exists(path))
        return;
    if (sim_file_load(path, RESULT_BYTES, &text, &n) == SIM_OK &&
        sim_json_parse(text, n, &j) == SIM_OK)
        take_end(j, r);
    else
        warn_of_file(r, path, sim_error_message());
    sim_json_destroy(&j);
    sim_free(text);
}

/* A lock file without a holder is damaged: whether a job runs is then unknown. */
static void read_lock(const char *run, run_info *r)
{
    enum { LOCK_BYTES = 4096 };
    char path[4400], *text = NULL;
    size_t n = 0;

    join(run, "run.lock", path);
    if (!sim_path_exists(path))
        return;
    sim_status st = sim_file_load(path, LOCK_BYTES, &text, &n);
    if (st == SIM_OK && strncmp(text, "host ", 5) == 0) {
        if (sim_run_is_locked(run)) {
            r->state = RUN_RUNNING;
            r->ended[0] = '\0';
        }
    } else if (st != SIM_E_INPUT) { /* released in the meantime */
        r->state = RUN_UNKNOWN;
        warn_of_file(r, path, st == SIM_OK ? "names no holder" : sim_error_message());
    }
    sim_error_clear();
    sim_free(text);
}

/* The epoch at r->step: that of the last interval, continued at the current steps per epoch. */
static void set_epoch(run_info *r, const last_interval *last)
{
    const int64_t per_epoch = r->images > 0 && r->batch > 0 ? r->images / r->batch : 0;

    if (r->state == RUN_RUNNING && last->step > r->step)
        r->step = last->step;
    if (last->step >= 0 && r->step == last->step)
        r->epoch = last->epoch;
    else if (per_epoch > 0 && r->step >= 0 && last->step >= 0)
        r->epoch = last->epoch + (double)(r->step - last->step) / (double)per_epoch;
    else if (per_epoch > 0 && r->step >= 0)
        r->epoch = (double)r->step / (double)per_epoch;
}

void sim_run_info_read(const char *path, run_info *out)
{
    run_info r = {.images = -1,
                  .batch = -1,
                  .total_steps = -1,
                  .n_epochs = -1,
                  .epoch = -1,
                  .top1 = -1,
                  .top1_step = -1,
                  .images_per_s = -1};

    r.step = sim_run_last_step(path);
    read_job(path, &r);
    read_segments(path, &r);
    if (r.state == RUN_UNKNOWN)
        read_summary(path, &r);
    read_lock(path, &r);
    const last_interval last = read_metrics(path, &r);
    read_results(path, &r);
    r.images_per_s = last.images_per_s;
    set_epoch(&r, &last);
    *out = r;
}
