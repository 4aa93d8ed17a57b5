/*
 * retain.c - which checkpoints stay: the last few, every so many steps, step 0, the newest.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool sim_checkpoint_step_of(const char *name, int64_t *step)
{
    char *end = NULL;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return false;
    *step = strtoll(name + 5, &end, 10);
    return strcmp(end, ".h5") == 0;
}

sim_status sim_checkpoint_retire(const char *folder,
                                 const sim_checkpoint_options *options, int64_t newest)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char path[4400];
    int64_t step = 0, later = 0;

    SIM_TRY(sim_directory_list(folder, &names));
    /* Names sort by step: walk from the newest down. */
    for (size_t i = names.n; i-- > 0;) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names.names[i]);
        if (!sim_checkpoint_step_of(names.names[i], &step) || step > newest ||
            sim_path_is_directory(path))
            continue;
        bool every = options->keep_every > 0 && step % options->keep_every == 0;
        if (later++ < options->keep || step == 0 || every)
            continue;
        SIM_TRY(sim_file_remove(path));
    }
    SIM_TRY(sim_checkpoint_drop_orphans(folder)); /* with each its parts */
done:
    sim_names_clear(&names);
    return st;
}
