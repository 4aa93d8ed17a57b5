/*
 * data.c - the training set of a job; whether all ranks read the same data.
 */
#include "simile/job.h"

#include "simile/memory.h"

sim_status sim_job_open_train(const sim_job *job, sim_dataset **out)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &job->train;

    SIM_TRY(sim_dataset_open(o->train, out));
    if (o->fraction < 1)
        SIM_TRY(sim_dataset_keep_fraction(*out, o->fraction, (uint32_t)o->fraction_seed));
done:
    return st;
}

sim_status sim_job_compare_data(const sim_comm *c, const sim_dataset *d)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_comm_agree(c, sim_dataset_describe(d, &text)));
    SIM_TRY(sim_comm_compare(c, SIM_E_DATA, sim_dataset_path(d), text,
                             "all ranks must read the same data set"));
done:
    sim_free(text);
    return st;
}
