/*
 * file_names.c - names of tensors in files for other programs.
 *
 * Called by src/export, which writes them, and by src/import, which reads them.
 */
#include "simile/model.h"

#include "simile/memory.h"

#include <string.h>

sim_status sim_model_file_name(const char *group, const char *name, char **out)
{
    if (strcmp(group, sim_model_group(SIM_BACKBONE)) == 0)
        return sim_text_copy(name, "model/names", out);
    return sim_text_format("model/names", out, "%s.%s", group, name);
}

int sim_model_parse_file_name(const char *file_name, const char **name)
{
    const char *group = sim_model_group(SIM_PROJECTOR);
    const size_t n = strlen(group);
    const bool is_head = strncmp(file_name, group, n) == 0 && file_name[n] == '.';

    *name = is_head ? file_name + n + 1 : file_name;
    return is_head ? SIM_PROJECTOR : SIM_BACKBONE;
}
