/*
 * memory.c - the bytes a rank will take, before anything is made.
 *
 * The same items as the ledger counts; `simile plan` prints them, and a test holds the two
 * together.
 */
#include "simile/train.h"

#include "simile/thread.h"

static void add(sim_plan_row *rows, size_t *n, const char *item, size_t bytes)
{
    SIM_ASSERT(*n < 64);
    rows[(*n)++] = (sim_plan_row){item, bytes};
}

/* Trainable floats: the plan of the nets names them "weights". */
static size_t weight_bytes(const sim_plan_row *rows, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (rows[i].item[0] == 'w')
            bytes += rows[i].bytes;
    return bytes;
}

sim_status sim_job_memory(const sim_job *job, const sim_dataset_info *about,
                          const sim_schedule_plan *plan, size_t ranks, size_t rank,
                          sim_plan_row rows[64], size_t *n_rows)
{
    sim_status st = SIM_OK;
    const sim_comm as_if = {.rank = (int)rank, .size = (int)ranks};
    const sim_method_env env = {.comm = &as_if,
                                .encoder = &job->encoder,
                                .batchnorm = &job->batchnorm,
                                .h = plan->h,
                                .w = plan->w,
                                .c = plan->c,
                                .batch = (size_t)job->train.batch,
                                .block = (size_t)job->train.block,
                                .seed = (uint32_t)job->train.seed};

    *n_rows = 0;
    SIM_TRY(job->method->plan(&env, job->method_options, ranks, rank, rows, n_rows));
    size_t weights = weight_bytes(rows, *n_rows);
    sim_range mine = sim_tree_part(plan->n_blocks, ranks, rank);
    size_t images = (mine.hi - mine.lo) * (size_t)job->train.block * plan->views;
    size_t view = plan->h * plan->w * plan->c * sizeof(float);
    add(rows, n_rows, "gradients",
        sizeof(float) *
            sim_comm_sum_leaves_room(&as_if, plan->n_blocks, weights / sizeof(float)));
    add(rows, n_rows, "optimizer",
        sim_optimizer_bytes(&job->optimizer, weights / sizeof(float)));
    add(rows, n_rows, "views", 2 * images * view + images * sizeof(sim_view_request));
    add(rows, n_rows, "order", plan->n_images * sizeof(uint32_t));
    add(rows, n_rows, "data set",
        about->n_images * ((about->has_labels ? sizeof(int32_t) : 0) + sizeof(sim_hash) +
                           (about->encoded ? sizeof(uint64_t) : 0)));
done:
    return st;
}
