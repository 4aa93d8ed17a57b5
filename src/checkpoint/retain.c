/*
 * retain.c - deletes old checkpoints.  Kept are the last `keep`, every `keep_every` steps,
 * step 0, the best one, the last one from before a collapse, and the newest.  Files that are not
 * checkpoints are never deleted.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sim_checkpoint_parse_step(const char *name, int64_t *step)
{
    enum { DIGITS = 9, MAX_DIGITS = 18 };
    const char *digits = name + strlen("step-");
    char *end = NULL;

    if (strncmp(name, "step-", strlen("step-")) != 0)
        return NULL;
    const size_t n = strspn(digits, "0123456789");
    if (n < DIGITS || n > MAX_DIGITS || (n > DIGITS && digits[0] == '0'))
        return NULL;
    *step = strtoll(digits, &end, 10);
    return end;
}

bool sim_checkpoint_step_of(const char *name, int64_t *step)
{
    const char *end = sim_checkpoint_parse_step(name, step);
    return end && strcmp(end, ".h5") == 0;
}

bool sim_checkpoint_is_foreign(const char *path)
{
    const sim_path_kind kind = sim_path_kind_of(path);
    return kind != SIM_PATH_CHECKPOINT && kind != SIM_PATH_UNKNOWN;
}

sim_status sim_checkpoint_retire(const char *directory,
                                 const sim_checkpoint_options *options, int64_t newest)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char path[4400];
    int64_t step = 0, n_newer = 0;
    bool has_healthy = false;

    SIM_TRY(sim_directory_list(directory, &names));
    /* Names are sorted by step; loop from the newest. */
    for (size_t i = names.n; i-- > 0;) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        if (!sim_checkpoint_step_of(names.names[i], &step) || step > newest ||
            sim_path_is_directory(path))
            continue;
        const bool every = options->keep_every > 0 && step % options->keep_every == 0;
        const bool healthy = !has_healthy && step <= options->healthy_step;
        has_healthy = has_healthy || healthy;
        if (n_newer++ < options->keep || step == 0 || every || healthy ||
            step == options->best_step)
            continue;
        if (!sim_checkpoint_is_foreign(path))
            SIM_TRY(sim_file_remove(path));
    }
    SIM_TRY(sim_checkpoint_drop_orphans(directory)); /* their part files */
done:
    sim_names_clear(&names);
    return st;
}
