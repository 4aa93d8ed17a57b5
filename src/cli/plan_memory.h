/*
 * plan_memory.h - the memory of a job by rank, and the micro_batch with which it fits.
 */
#ifndef SIMILE_CLI_PLAN_MEMORY_H
#define SIMILE_CLI_PLAN_MEMORY_H

#include "simile/eval.h"
#include "simile/job.h"

enum { PROGRAM_BYTES = 60000000 }; /* code, libraries, buffers of MPI */

/* A job that passed its checks; all is borrowed. */
typedef struct {
    const sim_job *job;
    const sim_dataset_info *about;
    const sim_online_eval *online; /* NULL: no evaluations during training */
    const sim_schedule_plan *plan;
    size_t ranks;
} plan_input;

/* Memory of a rank. */
typedef struct {
    sim_plan_row rows[64];
    size_t n, evaluation, checkpoint, evaluation_transient;
    size_t peak; /* of the total */
    size_t rank;
} plan_memory;

/* Plans every rank, and returns the one that needs most. */
SIM_MUST_USE sim_status sim_cli_plan_fullest(const plan_input *in, plan_memory *most);

typedef struct {
    int64_t micro_batch; /* 0: none */
    int64_t group;       /* batchnorm.group: the job's, or the block if that is 0 */
    size_t peak;         /* of the rank that then needs most */
} plan_proposal;
/* The largest micro_batch below a rank's share with which every rank needs at most `bytes`. */
SIM_MUST_USE sim_status sim_cli_plan_micro_batch(const plan_input *in, double bytes,
                                                 plan_proposal *out);

#endif
