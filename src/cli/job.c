/*
 * job.c - the job on the command line: JOB.yaml, then key=value arguments.
 *
 * Passes the section `evaluate`, whose options module eval defines, to module job.
 */
#include "cli.h"

#include "simile/h5.h"

#include <string.h>

sim_gather sim_cli_gather(const struct argp_state *state, const char *arg)
{
    const int mode = sim_choices_find(SIM_GATHER_CHOICES, arg);
    if (mode < 0)
        argp_error(state, "--gather: \"%s\" is not auto, all or stream", arg);
    return (sim_gather)mode;
}

bool sim_cli_job_argument(sim_job_source *source, char *arg,
                          const struct argp_state *state)
{
    if (!source->path) {
        source->path = arg;
        return true;
    }
    if (!strchr(arg, '='))
        return false;
    if (source->n_overrides == SIM_MAX_OVERRIDES)
        return false;
    source->numbers[source->n_overrides] = state->next; /* counted from `simile` */
    source->overrides[source->n_overrides++] = arg;
    return true;
}

sim_status sim_cli_job_load(const sim_job_source *source, sim_job *job,
                            sim_evaluate_options *evaluate, sim_job_texts *texts)
{
    const sim_job_section section = {&sim_evaluate_table, evaluate};
    return sim_path_explain(sim_job_load(source, &section, job, texts), source->path,
                            SIM_USE_JOB);
}

sim_status sim_cli_job_of_checkpoint(const char *config, const char *name, sim_job *job,
                                     sim_evaluate_options *evaluate)
{
    const sim_job_section section = {&sim_evaluate_table, evaluate};
    return sim_job_parse(config, name, &section, job);
}
