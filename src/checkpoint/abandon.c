/*
 * abandon.c - what was saved of a course that a run leaves.
 *
 * A run that goes back to an older checkpoint would find the newer ones of its old course
 * when it is started again.  The newest must be of the course that the run is on, so they
 * move to RUN/abandoned-N, where --resume can still name them.
 */
#include "private.h"

#include "simile/file.h"

#include <stdio.h>

static bool is_from(const char *name, int64_t first)
{
    int64_t step = -1;
    return (sim_checkpoint_step_of(name, &step) ||
            sim_checkpoint_part_step_of(name, &step)) &&
           step >= first;
}

static bool has_file_of(const sim_names *names, int64_t wanted)
{
    int64_t step = -1;
    for (size_t i = 0; i < names->n; i++)
        if (sim_checkpoint_step_of(names->names[i], &step) && step == wanted)
            return true;
    return false;
}

/* Does a folder hold parts whose file is still among `names`, since the move was cut short? */
static sim_status is_unfinished(const char *folder, const sim_names *names, bool *out)
{
    sim_status st = SIM_OK;
    sim_names there = {0};
    int64_t step = -1;

    *out = false;
    SIM_TRY(sim_directory_list(folder, &there));
    for (size_t i = 0; i < there.n && !*out; i++)
        *out = sim_checkpoint_part_step_of(there.names[i], &step) &&
               !has_file_of(&there, step) && has_file_of(names, step);
done:
    sim_names_clear(&there);
    return st;
}

/* The first abandoned-N that is free, or the last one where a move is to be finished. */
static sim_status make_folder(const sim_run *run, const sim_names *names, char *out,
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
        SIM_TRY(sim_directory_make(out));
done:
    return st;
}

/* From the end of the list: of the newest step first its parts, then the file that names
 * them, so that no part stands alone in between and is taken for an orphan. */
static sim_status move(const sim_run *run, const sim_names *names, int64_t first,
                       char *folder, size_t folder_bytes)
{
    sim_status st = SIM_OK;
    char from[4400], to[4400], name[300];

    for (size_t i = names->n; i-- > 0;) {
        if (!is_from(names->names[i], first))
            continue;
        if (!folder[0])
            SIM_TRY(make_folder(run, names, folder, folder_bytes));
        (void)snprintf(name, sizeof name, "checkpoints/%.255s", names->names[i]);
        SIM_TRY(sim_run_path(run, name, from, sizeof from));
        (void)snprintf(to, sizeof to, "%s/%.255s", folder, names->names[i]);
        SIM_TRY(sim_file_rename(from, to));
    }
done:
    return st;
}

/* The hint, and both ends of the moves. */
static sim_status settle(const sim_run *run, const char *checkpoints, const char *folder)
{
    sim_status st = SIM_OK;
    char latest[4200];

    SIM_TRY(sim_run_path(run, "checkpoints/latest", latest, sizeof latest));
    SIM_TRY(sim_file_remove(latest));
    SIM_TRY(sim_directory_sync(folder));
    SIM_TRY(sim_directory_sync(checkpoints));
done:
    return st;
}

static sim_status set_aside_here(const sim_run *run, int64_t first, char *folder,
                                 size_t folder_bytes)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char checkpoints[4200];

    SIM_TRY(sim_run_path(run, "checkpoints", checkpoints, sizeof checkpoints));
    SIM_TRY(sim_directory_list(checkpoints, &names));
    SIM_TRY(move(run, &names, first, folder, folder_bytes));
    if (folder[0])
        SIM_TRY(settle(run, checkpoints, folder));
done:
    sim_names_clear(&names);
    return st;
}

sim_status sim_run_abandon(const sim_comm *c, const sim_run *run, int64_t first,
                           char *folder, size_t folder_bytes)
{
    folder[0] = '\0';
    return sim_comm_agree(
        c, c->rank == 0 ? set_aside_here(run, first, folder, folder_bytes) : SIM_OK);
}
