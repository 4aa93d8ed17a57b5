/*
 * abandon.c - moves the checkpoints of an abandoned run branch out of the way.
 *
 * A run that resumes from an older checkpoint starts a new branch.  The newer checkpoints of
 * the old branch and the results of their evaluation move to RUN/abandoned-N, so that the newest in checkpoints/ is always of
 * the current branch.  --resume still accepts their paths.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_at_or_after(const char *name, int64_t first)
{
    int64_t step = -1;
    return (sim_checkpoint_step_of(name, &step) ||
            sim_checkpoint_part_step_of(name, &step)) &&
           step >= first;
}

static bool has_main_file(const sim_names *names, int64_t wanted)
{
    int64_t step = -1;
    for (size_t i = 0; i < names->n; i++)
        if (sim_checkpoint_step_of(names->names[i], &step) && step == wanted)
            return true;
    return false;
}

/* True if a directory contains part files whose main file is still among `names`, because
 * an earlier move was interrupted. */
static sim_status is_unfinished(const char *directory, const sim_names *names, bool *out)
{
    sim_status st = SIM_OK;
    sim_names moved = {0};
    int64_t step = -1;

    *out = false;
    SIM_TRY(sim_directory_list(directory, &moved));
    for (size_t i = 0; i < moved.n && !*out; i++)
        *out = sim_checkpoint_part_step_of(moved.names[i], &step) &&
               !has_main_file(&moved, step) && has_main_file(names, step);
done:
    sim_names_clear(&moved);
    return st;
}

/* Creates the first unused abandoned-N, or selects the one of an interrupted move. */
static sim_status make_abandoned(const sim_run *run, const sim_names *names, char *out,
                                 size_t out_bytes)
{
    sim_status st = SIM_OK;
    char name[32];
    bool taken = true, unfinished = false;

    for (int i = 1; taken && !unfinished; i++) {
        (void)snprintf(name, sizeof name, "abandoned-%d", i);
        SIM_TRY(sim_run_path(run, name, out, out_bytes));
        taken = sim_path_exists(out);
        if (taken)
            SIM_TRY(is_unfinished(out, names, &unfinished));
    }
    if (!taken)
        SIM_TRY(sim_directory_create(out));
done:
    return st;
}

/* Moves files from the end of the sorted list.  The part files of a step move before their
 * main file, so no part file in checkpoints/ is ever without it and removed as an orphan. */
static sim_status move_files(const sim_run *run, const sim_names *names, int64_t first,
                             char *directory, size_t directory_bytes)
{
    sim_status st = SIM_OK;
    char from[4400], to[4400], name[300];

    for (size_t i = names->n; i-- > 0;) {
        if (!is_at_or_after(names->names[i], first))
            continue;
        if (!directory[0])
            SIM_TRY(make_abandoned(run, names, directory, directory_bytes));
        (void)snprintf(name, sizeof name, "checkpoints/%.255s", names->names[i]);
        SIM_TRY(sim_run_path(run, name, from, sizeof from));
        (void)snprintf(to, sizeof to, "%s/%.255s", directory, names->names[i]);
        SIM_TRY(sim_file_rename(from, to));
    }
done:
    return st;
}

/* True for PROTOCOL-step-NNNNNNNNN....json of these steps. */
static bool is_result_at_or_after(const char *name, int64_t first)
{
    static const char word[] = "-step-", ending[] = ".json";
    const char *found = strstr(name, word);
    const size_t n = strlen(name), n_ending = sizeof ending - 1;
    char *end = NULL;

    if (!found || n < n_ending || strcmp(name + n - n_ending, ending) != 0)
        return false;
    found += sizeof word - 1;
    return *found >= '0' && *found <= '9' && strtoll(found, &end, 10) >= first;
}

/* The results of the branch are not those of later checkpoints of the same steps. */
static sim_status move_results(const sim_run *run, const sim_names *checkpoints,
                               int64_t first, char *directory, size_t directory_bytes)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char from[4400], to[4400], results[4200];

    SIM_TRY(sim_run_path(run, "results", results, sizeof results));
    SIM_TRY(sim_directory_list(results, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!is_result_at_or_after(names.names[i], first))
            continue;
        if (!directory[0])
            SIM_TRY(make_abandoned(run, checkpoints, directory, directory_bytes));
        (void)snprintf(from, sizeof from, "%s/%.190s", results, names.names[i]);
        (void)snprintf(to, sizeof to, "%s/%.190s", directory, names.names[i]);
        SIM_TRY(sim_file_rename(from, to));
    }
done:
    sim_names_clear(&names);
    return st;
}

/* Removes a hint that may name a moved checkpoint. */
static sim_status remove_hint(const sim_run *run, const char *file)
{
    sim_status st = SIM_OK;
    char path[4200];

    SIM_TRY(sim_run_path(run, file, path, sizeof path));
    if (!sim_checkpoint_hint_is_foreign(path))
        SIM_TRY(sim_file_remove(path));
done:
    return st;
}

/* Removes `latest` and `best`, and syncs both directories. */
static sim_status sync_moves(const sim_run *run, const char *checkpoints,
                             const char *directory)
{
    sim_status st = SIM_OK;

    SIM_TRY(remove_hint(run, "checkpoints/latest"));
    SIM_TRY(remove_hint(run, "checkpoints/best"));
    SIM_TRY(sim_directory_sync(directory));
    SIM_TRY(sim_directory_sync(checkpoints));
done:
    return st;
}

/* Rank 0's part of sim_run_abandon. */
static sim_status abandon_local(const sim_run *run, int64_t first, char *directory,
                                size_t directory_bytes)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char checkpoints[4200];

    SIM_TRY(sim_run_path(run, "checkpoints", checkpoints, sizeof checkpoints));
    SIM_TRY(sim_directory_list(checkpoints, &names));
    SIM_TRY(move_files(run, &names, first, directory, directory_bytes));
    if (move_results(run, &names, first, directory, directory_bytes) != SIM_OK) {
        sim_log_warn("%s; results of the abandoned branch stay in results/",
                     sim_error_message());
        sim_error_clear();
    }
    if (directory[0])
        SIM_TRY(sync_moves(run, checkpoints, directory));
done:
    sim_names_clear(&names);
    return st;
}

sim_status sim_run_abandon(const sim_comm *c, const sim_run *run, int64_t first,
                           char *directory, size_t directory_bytes)
{
    directory[0] = '\0';
    return sim_comm_agree(
        c, c->rank == 0 ? abandon_local(run, first, directory, directory_bytes) : SIM_OK);
}
