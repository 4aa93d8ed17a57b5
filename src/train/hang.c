/*
 * hang.c - the guard against hangs: a message on stderr and in the log, then exit code 70.
 *
 * Called by the loop around a run.  The main thread may never return from MPI or from a write, so
 * the watchdog's threads write the message and end the process themselves.  stderr may be a full pipe
 * and the disk of the log may have failed, so both are written with a deadline.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/log.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 8192, MESSAGE_S = 3 /* per output */ };

/* Writes to the end of the log, even if the main thread is writing a line. */
static void append_to_log(const sim_run *run, const char *text)
{
    char path[4200], when[21], line[LINE_BYTES + 32];
    int fd = -1;

    sim_clock_iso(sim_clock_wall_s(), when);
    (void)snprintf(line, sizeof line, "%s %s\n", when, text);
    if (sim_run_is_lost(run) ||
        sim_run_path(run, "log.txt", path, sizeof path) != SIM_OK ||
        sim_file_open_append(path, &fd) != SIM_OK)
        return;
    SIM_IGNORE(sim_file_append(fd, path, line));
    SIM_IGNORE(sim_file_close(&fd, path));
}

/* Without control characters. */
static void format_line(const sim_hang_guard *g, sim_hang event, const char *text,
                        char line[LINE_BYTES])
{
    char raw[LINE_BYTES];

    if (event == SIM_HANG_OVER)
        (void)snprintf(raw, LINE_BYTES, "%s", text);
    else if (event == SIM_HANG_SUSPECTED)
        (void)snprintf(raw, LINE_BYTES,
                       "warning: %s; the job ends after %g s of it (guard.hang_seconds)",
                       text, g->limit_s);
    else
        (void)snprintf(raw, LINE_BYTES,
                       "simile: %s; the job ends.  The last checkpoint in "
                       "%s/checkpoints is good: run the same command again, without a "
                       "host named here if it is broken; raise guard.hang_seconds (%g) "
                       "if this was only slow",
                       text, g->run->path, g->limit_s);
    sim_text_escape(raw, false, line, LINE_BYTES);
}

/* Called by the reporting thread.  The line of a certain hang is written to stderr by end_job. */
static void report_event(void *ctx, sim_hang event, const char *text)
{
    sim_hang_guard *g = ctx;
    char line[LINE_BYTES];

    format_line(g, event, text, line);
    if (event != SIM_HANG_CERTAIN)
        sim_log_urgent(line, MESSAGE_S);
    append_to_log(g->run, line);
    if (event == SIM_HANG_CERTAIN)
        atomic_store(&g->is_logged, true);
}

static void wait_for_log(const sim_hang_guard *g)
{
    enum { POLLS_PER_S = 50 };

    for (int i = 0; i < MESSAGE_S * POLLS_PER_S && !atomic_load(&g->is_logged); i++)
        sim_clock_sleep(1.0 / POLLS_PER_S);
}

/* Called by the counting thread. */
static void end_job(void *ctx, const char *text)
{
    enum { END_S = 20 };
    const sim_hang_guard *g = ctx;
    char line[LINE_BYTES];

    sim_comm_abort_within(END_S);
    format_line(g, SIM_HANG_CERTAIN, text, line);
    sim_log_urgent(line, MESSAGE_S);
    wait_for_log(g);
    sim_comm_abort_from_thread(SIM_E_BUG);
}

/* Removes the heartbeats that an earlier job left.  Those of ranks that this job does not have
 * are never read, and the others are overwritten, so a failure is only a warning. */
static void remove_old_heartbeats(const char *directory)
{
    sim_names names = {0};
    char path[4400];
    sim_status st = sim_directory_list(directory, &names);

    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        if (sim_watchdog_is_record(path) && sim_file_remove(path) != SIM_OK)
            st = SIM_E_IO;
    }
    if (st != SIM_OK)
        sim_log_warn("%s; it is not removed", sim_error_message());
    sim_error_clear();
    sim_names_clear(&names);
}

/* On rank 0: makes RUN/heartbeat without files of earlier jobs. */
static sim_status make_directory(const char *directory, bool *is_new)
{
    sim_status st = SIM_OK;
    const bool existed = sim_path_exists(directory);
    SIM_CHECK(!sim_path_is_link(directory), SIM_E_CREATE,
              "%s is a symbolic link; expected a directory of this run alone", directory);
    SIM_TRY(sim_directory_create(directory));
    *is_new = !existed;
    remove_old_heartbeats(directory);
done:
    return st;
}

sim_status sim_hang_watch(const sim_train_env *env, sim_hang_guard *g)
{
    sim_status st = SIM_OK;
    char directory[4200];
    const sim_watchdog_options options = {.directory = directory,
                                          .host = env->comm->host,
                                          .rank = env->comm->rank,
                                          .size = env->comm->size,
                                          .hang_s = env->job->train.hang_seconds,
                                          .report = report_event,
                                          .end = end_job,
                                          .ctx = g};

    g->run = &env->run;
    g->limit_s = options.hang_s;
    sim_signals_end_at_second_term(env->comm->rank == 0);
    sim_heartbeat_phase("starting");
    if (options.hang_s == 0)
        goto done;
    st = sim_run_path(&env->run, "heartbeat", directory, sizeof directory);
    if (st == SIM_OK && env->comm->rank == 0)
        st = make_directory(directory, &g->directory_is_new);
    SIM_TRY(sim_comm_agree(env->comm, st));
    st = sim_watchdog_create(&options, &g->watchdog);
    if (st == SIM_OK)
        st = sim_watchdog_start(g->watchdog);
    SIM_TRY(sim_comm_agree(env->comm, st));
done:
    return st;
}
