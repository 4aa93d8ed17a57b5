/*
 * plan_memory.c - the memory of a job by rank, and the micro_batch with which it fits.
 *
 * In: a job, its data and a number of ranks.  Out: bytes by item; a proposal.
 * Called by cmd_plan.c.
 */
#include "plan_memory.h"

#include <string.h>

static sim_status plan_rank(const plan_input *in, size_t rank, plan_memory *m)
{
    sim_status st = SIM_OK;
    const sim_partition partition = {.size = in->ranks, .rank = rank};
    sim_workspace_size workspace = {0};

    *m = (plan_memory){.rank = rank};
    SIM_TRY(sim_job_memory(in->job, in->about, in->plan, in->ranks, rank, m->rows, &m->n,
                           &m->checkpoint));
    if (in->online)
        SIM_TRY(sim_online_eval_plan(in->online, partition, &m->evaluation,
                                     &m->evaluation_transient, &workspace));
    sim_plan_raise(m->rows, m->n, &workspace);
    m->peak =
        m->checkpoint > m->evaluation_transient ? m->checkpoint : m->evaluation_transient;
    m->peak += m->evaluation + PROGRAM_BYTES;
    for (size_t i = 0; i < m->n; i++)
        m->peak += m->rows[i].bytes;
done:
    return st;
}

/* The number of blocks and of maximal nodes differs between ranks. */
sim_status sim_cli_plan_fullest(const plan_input *in, plan_memory *most)
{
    sim_status st = SIM_OK;
    plan_memory m;

    SIM_TRY(plan_rank(in, 0, most));
    for (size_t r = 1; r < in->ranks; r++) {
        SIM_TRY(plan_rank(in, r, &m));
        if (m.peak > most->peak)
            *most = m;
    }
done:
    return st;
}

/* ---- micro-batches ---- */

/* Fills *most with the memory of the fullest rank, or of `rank` if that needs more than `bytes`:
 * most sizes are then rejected by one plan. */
static sim_status plan_if_fits(const plan_input *in, double bytes, size_t rank,
                               plan_memory *most)
{
    sim_status st = SIM_OK;

    SIM_TRY(plan_rank(in, rank, most));
    if ((double)most->peak <= bytes)
        SIM_TRY(sim_cli_plan_fullest(in, most));
done:
    return st;
}

/* Whether the job passes its checks with its micro_batch. */
static bool accepts(const plan_input *in)
{
    sim_schedule_plan plan;
    bool accepted = sim_job_check(in->job, in->about, in->ranks, &plan) == SIM_OK;
    if (!accepted)
        sim_error_clear();
    return accepted;
}

sim_status sim_cli_plan_micro_batch(const plan_input *in, double bytes,
                                    plan_proposal *out)
{
    sim_status st = SIM_OK;
    sim_job job = *in->job;
    plan_input divided = *in;
    plan_memory most = {.rank = 0};
    size_t share_blocks = (in->plan->n_blocks + in->ranks - 1) / in->ranks;
    int64_t block = job.train.block, share = (int64_t)share_blocks * block;

    *out = (plan_proposal){.micro_batch = 0};
    divided.job = &job;
    if (job.batchnorm.group == 0)
        job.batchnorm.group = block;
    int64_t unit = job.batchnorm.group > block ? job.batchnorm.group : block;
    for (int64_t size = (share - 1) / unit * unit; size > 0; size -= unit) {
        job.train.micro_batch = size;
        if (!accepts(&divided))
            goto done; /* its condition is not one of the size */
        SIM_TRY(plan_if_fits(&divided, bytes, most.rank, &most));
        if ((double)most.peak > bytes)
            continue;
        *out = (plan_proposal){size, job.batchnorm.group, most.peak};
        goto done;
    }
done:
    return st;
}
