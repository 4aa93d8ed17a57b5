/*
 * config_file.c - RUN/config.yaml: the resolved job of the last start.
 *
 * A user may keep a job file of this name in the run directory, so the program replaces only what
 * it wrote itself: a file whose first line has the hash of the rest, or, from versions that wrote
 * no such line, the text that is stored in the checkpoint.  The job file of this start is never
 * replaced.  Otherwise the resolved job is written to RUN/config.resolved.yaml by the same rule.
 */
#include "state.h"

#include "simile/file.h"
#include "simile/hash.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum { MAX_BYTES = 1 << 22, LINE_BYTES = 128 };

static const char *const names[] = {"config.yaml", "config.resolved.yaml"};
enum { N_NAMES = sizeof names / sizeof *names };

static void format_first_line(const char *text, size_t n_bytes, char out[LINE_BYTES])
{
    char hex[33];
    sim_hash_hex(sim_hash_bytes(text, n_bytes), hex);
    (void)snprintf(out, LINE_BYTES, "# Resolved job, written by simile (hash %s)\n", hex);
}

/* Whether the program wrote the text.  saved: hash of the job in the checkpoint that the run
 * resumes from; zero if there is none. */
static bool is_own_text(const char *text, size_t n_bytes, sim_hash saved)
{
    char expected[LINE_BYTES];
    const char *end = memchr(text, '\n', n_bytes);

    if (sim_hash_equal(sim_hash_bytes(text, n_bytes), saved))
        return true;
    if (!end)
        return false;
    size_t head = (size_t)(end + 1 - text);
    format_first_line(text + head, n_bytes - head, expected);
    return strlen(expected) == head && memcmp(text, expected, head) == 0;
}

static bool is_own_file(const char *path, sim_hash saved)
{
    char *text = NULL;
    size_t n = 0;
    bool is = sim_path_is_file(path) &&
              sim_file_load(path, MAX_BYTES, &text, &n) == SIM_OK &&
              is_own_text(text, n, saved);
    sim_error_clear();
    sim_free(text);
    return is;
}

static bool is_job_file(const sim_train_state *t, const char *path)
{
    const char *job = t->env.request->job_path;
    return job && sim_path_is_same(path, job);
}

/* Whether the program may replace or remove the file. */
static bool may_replace(const sim_train_state *t, const char *path)
{
    return !sim_path_is_taken(path) ||
           (!is_job_file(t, path) && is_own_file(path, t->segment.saved_config));
}

static bool has_text(const char *path, const char *line, const char *job)
{
    char *text = NULL;
    size_t n = 0, head = strlen(line);
    bool is = sim_path_is_taken(path) &&
              sim_file_load(path, MAX_BYTES, &text, &n) == SIM_OK && n >= head &&
              memcmp(text, line, head) == 0 && strcmp(text + head, job) == 0;
    sim_error_clear();
    sim_free(text);
    return is;
}

static void report_other_name(const sim_train_state *t, const char *first,
                              const char *written)
{
    const char *why = is_job_file(t, first) ? "is the job file of this start"
                                            : "was not written by simile, or was edited";
    if (written)
        sim_log("%s %s and is kept; the resolved job is %s", first, why, written);
    else
        sim_log_warn(
            "%s %s, and so is %s; both are kept, and the resolved job is only in "
            "the checkpoints",
            first, why, names[1]);
}

sim_status sim_config_file_write(const sim_train_state *t)
{
    sim_status st = SIM_OK;
    const char *job = t->env.request->texts->resolved;
    char line[LINE_BYTES], path[N_NAMES][4096];
    int used = 0;

    if (t->env.comm->rank != 0)
        goto done;
    format_first_line(job, strlen(job), line);
    for (int i = 0; i < N_NAMES; i++)
        SIM_TRY(sim_run_path(&t->env.run, names[i], path[i], sizeof path[i]));
    while (used < N_NAMES && !may_replace(t, path[used]) &&
           !has_text(path[used], line, job))
        used++;
    if (used > 0)
        report_other_name(t, path[0], used < N_NAMES ? path[used] : NULL);
    if (used < N_NAMES && !has_text(path[used], line, job)) {
        const sim_piece pieces[] = {{line, strlen(line)}, {job, strlen(job)}};
        SIM_TRY(sim_file_replace(path[used], pieces, 2));
    }
    if (used == 0 && may_replace(t, path[1])) /* of an earlier start */
        SIM_TRY(sim_file_remove(path[1]));
done:
    return st;
}
