/*
 * data.c - the training set of a job.
 */
#include "simile/job.h"

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
