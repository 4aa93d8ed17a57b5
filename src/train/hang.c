/*
 * hang.c - what a run does about a hang: who is behind goes to stderr and the log, and the
 * job ends at once with 70.
 *
 * Called by the loop, around a run.  The main thread may sit in MPI for good, so nothing
 * here asks it for anything: the watchdog's thread writes by itself and leaves.
 */
#include "state.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/log.h"

#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 8192 };

/* To the terminal and the end of the log, whoever else is in the middle of a line. */
static void write_down(const sim_train_state *t, const char *text)
{
    char path[4200], when[21], line[LINE_BYTES + 32];
    int fd = -1;

    (void)fprintf(stderr, "%s%s\n", sim_log_is_terminal() ? "\n" : "", text);
    sim_clock_iso(sim_clock_wall_s(), when);
    (void)snprintf(line, sizeof line, "%s %s\n", when, text);
    if (sim_run_path(&t->run, "log.txt", path, sizeof path) != SIM_OK ||
        sim_file_open_append(path, &fd) != SIM_OK)
        return;
    SIM_IGNORE(sim_file_append(fd, path, line));
    SIM_IGNORE(sim_file_close(&fd, path));
}

static void tell(void *ctx, sim_hang event, const char *text)
{
    const sim_train_state *t = ctx;
    char line[LINE_BYTES];
    double limit_s = t->job->train.hang_seconds;

    if (event == SIM_HANG_OVER) {
        (void)snprintf(line, sizeof line, "%s", text);
    } else if (event == SIM_HANG_FEARED) {
        (void)snprintf(line, sizeof line,
                       "warning: %s; the job ends after %g s of it (guard.hang_seconds)",
                       text, limit_s);
    } else {
        (void)snprintf(line, sizeof line,
                       "simile: %s; the job ends.  The last checkpoint in "
                       "%s/checkpoints is good: run the same command again, without a "
                       "host named here if it is broken; raise guard.hang_seconds (%g) "
                       "if this was only slow",
                       text, t->run.path, limit_s);
    }
    if (event == SIM_HANG_SURE)
        sim_comm_abort_within(10);
    write_down(t, line);
    if (event == SIM_HANG_SURE)
        sim_comm_abort_from_thread(SIM_E_BUG);
}

/* Records of an earlier run, perhaps of more ranks, that did not end well.  They are in
 * nobody's way: nobody looks at those of other ranks, and ours are written over. */
static void clean(const char *folder)
{
    sim_names names = {0};
    char path[4400];
    sim_status st = sim_directory_list(folder, &names);

    for (size_t i = 0; i < names.n; i++) {
        if (strncmp(names.names[i], "rank-", 5) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, names.names[i]);
        if (sim_file_remove(path) != SIM_OK)
            st = SIM_E_IO;
    }
    if (st != SIM_OK)
        sim_log_warn("%s; it stays", sim_error_message());
    sim_error_clear();
    sim_names_clear(&names);
}

sim_status sim_hang_watch(sim_train_state *t)
{
    sim_status st = SIM_OK;
    char folder[4200];
    const sim_watchdog_options options = {.folder = folder,
                                          .host = t->comm->host,
                                          .rank = t->comm->rank,
                                          .size = t->comm->size,
                                          .hang_s = t->job->train.hang_seconds,
                                          .tell = tell,
                                          .ctx = t};

    sim_heartbeat_phase("starting");
    if (options.hang_s == 0)
        goto done;
    st = sim_run_path(&t->run, "heartbeat", folder, sizeof folder);
    t->beats_are_new = t->comm->rank == 0 && !sim_path_exists(folder);
    if (st == SIM_OK && t->comm->rank == 0)
        st = sim_directory_create(folder);
    if (st == SIM_OK && t->comm->rank == 0)
        clean(folder);
    SIM_TRY(sim_comm_agree(t->comm, st));
    st = sim_watchdog_create(&options, &t->watchdog);
    if (st == SIM_OK)
        st = sim_watchdog_start(t->watchdog);
    SIM_TRY(sim_comm_agree(t->comm, st));
done:
    return st;
}
