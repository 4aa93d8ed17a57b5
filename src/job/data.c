/*
 * data.c - the training set of a job, its labels and groups; whether all ranks read the same data.
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

bool sim_job_uses_groups(const sim_job *job)
{
    return job->train.views_from == SIM_VIEWS_FROM_GROUP ||
           sim_method_by_group(job->method, &job->method_options);
}

const int32_t *sim_job_labels(const sim_job *job, const sim_dataset *d)
{
    if (!job->method->needs_labels)
        return NULL;
    return sim_method_by_group(job->method, &job->method_options) ? sim_dataset_groups(d)
                                                                  : sim_dataset_labels(d);
}

sim_status sim_job_describe_groups(const sim_dataset *d, char **out)
{
    sim_status st = SIM_OK;
    sim_group_sizes s;

    SIM_TRY(sim_groups_measure(d, &s));
    SIM_TRY(sim_text_format("job/groups", out,
                            "%zu groups of %zu to %zu images (median %zu), %zu of one "
                            "image",
                            s.n, s.smallest, s.largest, s.median, s.n_single));
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
