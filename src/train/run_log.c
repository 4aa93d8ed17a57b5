/*
 * run_log.c - RUN/log.txt: one file for all segments of a run.
 *
 * Steps that a killed segment logged after its last checkpoint are recomputed.  Their lines
 * stay in the file, marked "(lost)", so that each step has one line without the mark.
 */
#include "state.h"

#include "simile/file.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <string.h>

/* A line is "2026-11-24T08:45:35Z step 37/60 ...". */
enum { TIMESTAMP = 21 };

/* True for the line of a step after `step`. */
static bool is_later_step(const char *line, size_t n, int64_t step)
{
    char *end = NULL;
    if (n <= TIMESTAMP + 5 || memcmp(line + TIMESTAMP, "step ", 5) != 0)
        return false;
    int64_t at =
        strtoll(line + TIMESTAMP + 5, &end, 10); /* a zero byte follows the text */
    return *end == '/' && at > step;
}

/* Length of the first line of `n` bytes, with its newline.  Not a C string: a power cut may
 * leave zero bytes. */
static size_t line_length(const char *text, size_t n)
{
    const char *end = memchr(text, '\n', n);
    return end ? (size_t)(end + 1 - text) : n;
}

static sim_status copy_marked(sim_replacement *r, const char *text, size_t n_bytes,
                              int64_t step)
{
    sim_status st = SIM_OK;
    for (const char *line = text, *end = text + n_bytes; line < end;) {
        size_t n = line_length(line, (size_t)(end - line));
        size_t stamp = is_later_step(line, n, step) ? TIMESTAMP : 0;
        SIM_TRY(sim_file_replace_add(r, line, stamp));
        if (stamp)
            SIM_TRY(sim_file_replace_add(r, "(lost) ", 7));
        SIM_TRY(sim_file_replace_add(r, line + stamp, n - stamp));
        line += n;
    }
done:
    return st;
}

static bool has_later_step(const char *text, size_t n_bytes, int64_t step)
{
    for (const char *line = text, *end = text + n_bytes; line < end;) {
        size_t n = line_length(line, (size_t)(end - line));
        if (is_later_step(line, n, step))
            return true;
        line += n;
    }
    return false;
}

/* True for "2026-11-24T08:45:35Z ". */
static bool has_timestamp(const char *line, size_t n)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ ";
    for (size_t i = 0; i < TIMESTAMP; i++)
        if (n < TIMESTAMP ||
            (form[i] == 'd' ? line[i] < '0' || line[i] > '9' : line[i] != form[i]))
            return false;
    return true;
}

/* True for "2026-11-24T08:45:35Z simile ...": every start writes one, and so do errors. */
static bool is_start_line(const char *line, size_t n)
{
    static const char word[] = "simile";
    return n >= TIMESTAMP + sizeof word && has_timestamp(line, n) &&
           memcmp(line + TIMESTAMP, word, sizeof word - 1) == 0 &&
           strchr(" :", line[TIMESTAMP + sizeof word - 1]);
}

/* True for an empty file, and for one that has such a line near its start. */
static bool is_log(const char *path)
{
    enum { START = 1 << 16 };
    char *text = NULL;
    uint64_t n_bytes = 0;
    int fd = -1;
    bool is = false;

    if (sim_path_is_file(path) && sim_file_open_read(path, &fd, &n_bytes) == SIM_OK) {
        size_t n = n_bytes < START ? (size_t)n_bytes : START;
        is = n == 0;
        if (n > 0 && sim_alloc(&text, n, "train/log") == SIM_OK &&
            sim_file_read_at(fd, path, 0, text, n) == SIM_OK)
            for (size_t at = 0; at < n && !is; at += line_length(text + at, n - at))
                is = is_start_line(text + at, n - at);
    }
    sim_error_clear();
    SIM_IGNORE(sim_file_close(&fd, path));
    sim_free(text);
    return is;
}

sim_status sim_run_log_open(const sim_train_env *env, sim_run_log *out)
{
    sim_status st = SIM_OK;
    char path[4096];

    if (env->comm->rank != 0)
        goto done;
    SIM_TRY(sim_run_path(&env->run, "log.txt", path, sizeof path));
    if (sim_path_is_taken(path) && !is_log(path))
        SIM_TRY(sim_run_set_aside(path, "not a log of simile", out->renamed));
    bool existed = sim_path_is_taken(path);
    SIM_TRY(sim_log_file(path));
    out->is_new = !existed;
done:
    return st;
}

void sim_run_log_remove(const sim_train_env *env, const sim_run_log *log)
{
    char path[4096];

    if (!log->is_new || sim_run_path(&env->run, "log.txt", path, sizeof path) != SIM_OK)
        return;
    SIM_IGNORE(sim_log_file(NULL));
    SIM_IGNORE(sim_file_remove(path));
    if (log->renamed[0])
        SIM_IGNORE(sim_file_rename(log->renamed, path));
}

sim_status sim_run_log_mark_discarded(const sim_train_env *env, int64_t step)
{
    sim_status st = SIM_OK;
    sim_replacement r = {.fd = -1};
    char path[4096], *text = NULL;
    size_t n = 0;

    if (env->comm->rank != 0)
        goto done;
    SIM_TRY(sim_run_path(&env->run, "log.txt", path, sizeof path));
    st = sim_file_load(path, (size_t)1 << 30, &text, &n);
    if (st == SIM_E_DATA) {
        /* Too large to rewrite: training continues without the marks. */
        sim_log_warn("%s; recomputed steps in it are not marked", sim_error_message());
        sim_error_clear();
        st = SIM_OK;
        goto done;
    }
    SIM_TRY(st);
    if (!has_later_step(text, n, step))
        goto done;
    SIM_TRY(sim_log_file(NULL));
    SIM_TRY(sim_file_replace_begin(path, &r));
    SIM_TRY(copy_marked(&r, text, n, step));
    SIM_TRY(sim_file_replace_end(&r));
    SIM_TRY(sim_log_file(path));
done:
    sim_file_replace_cancel(&r);
    sim_free(text);
    return st;
}
