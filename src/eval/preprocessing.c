/*
 * preprocessing.c - the preprocessing of a checkpoint, also of earlier versions.
 */
#include "simile/eval.h"

#include "simile/file.h"
#include "simile/log.h"

#include <string.h>

static bool has_fingerprint(const sim_dataset *d, const sim_checkpoint_head *head)
{
    return strcmp(sim_dataset_about(d)->fingerprint, head->fingerprint) == 0;
}

/* The training set named in the job; *out stays NULL if it is not there or has changed. */
static sim_status open_training_set(const sim_job *job, const sim_checkpoint_head *head,
                                    sim_dataset **out)
{
    sim_status st = SIM_OK;

    if (!sim_path_exists(job->train.train.text[0])) /* these versions had one path */
        goto done;
    SIM_TRY(sim_dataset_open(job->train.train.text[0], out));
    if (!has_fingerprint(*out, head))
        sim_dataset_close(out);
done:
    return st;
}

static const sim_dataset *find_training_set(const sim_dataset *const *given, size_t n,
                                            const sim_checkpoint_head *head)
{
    for (size_t i = 0; i < n; i++)
        if (given[i] && has_fingerprint(given[i], head))
            return given[i];
    return NULL;
}

sim_status sim_preprocessing_open(const sim_checkpoint *k, const sim_job *job,
                                  const sim_dataset *const *given, size_t n_given,
                                  sim_preprocessing *out)
{
    sim_status st = SIM_OK;
    const sim_checkpoint_head *head = sim_checkpoint_head_of(k);
    sim_dataset *opened = NULL;
    const sim_dataset *training = NULL;

    if (head->preprocessing) {
        SIM_TRY(
            sim_preprocessing_parse(head->preprocessing, sim_checkpoint_path(k), out));
        goto done;
    }
    SIM_CHECK(
        *job->train.train_name, SIM_E_DATA,
        "%s does not specify the preprocessing of its images; write it to the metadata "
        "of the file, as \"preprocessing\": {\"height\": 32, \"width\": 32, \"mean\": "
        "[...], \"std\": [...]} (jobs/README.md, \"Weights of other programs\")",
        sim_checkpoint_path(k));
    training = find_training_set(given, n_given, head);
    if (!training)
        SIM_TRY(open_training_set(job, head, &opened));
    training = training ? training : opened;
    SIM_CHECK(training, SIM_E_DATA,
              "%s was written by a version that did not store the mean and std of its "
              "training set, and %s, which its job names, is absent or has changed; give "
              "the training set (fingerprint %s) with --train",
              sim_checkpoint_path(k), job->train.train_name, head->fingerprint);
    *out = sim_preprocessing_of((size_t)job->augment.size, sim_dataset_about(training));
done:
    sim_dataset_close(&opened);
    return st;
}
