/*
 * memory.c - the memory plan: bytes that pretrain allocates on a rank.
 *
 * `simile plan` prints the items; a test compares them with the memory ledger.
 */
#include "simile/job.h"

#include "simile/thread.h"

#include <string.h>

static void add_row(sim_plan_row *rows, size_t *n, const char *item, size_t bytes)
{
    SIM_ASSERT(*n < 64);
    rows[(*n)++] = (sim_plan_row){item, bytes};
}

/* Bytes of an item of the method's plan. */
static size_t bytes_of(const sim_plan_row *rows, size_t n, const char *item)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].item, item) == 0)
            bytes += rows[i].bytes;
    return bytes;
}

/* Photos differ in size; the plan assumes this size. */
enum { PHOTO_H = 480, PHOTO_W = 640 };

static sim_status loader_bytes(const sim_job *job, const sim_dataset_info *about,
                               size_t requests, size_t *out)
{
    sim_status st = SIM_OK;
    sim_augment *a = NULL;
    size_t h = about->encoded ? PHOTO_H : about->h,
           w = about->encoded ? PHOTO_W : about->w;
    size_t threads = (size_t)job->train.loader_threads;
    const sim_preprocessing p = sim_preprocessing_of((size_t)job->augment.size, about);

    SIM_TRY(sim_augment_create(&job->augment, &p, &a));
    size_t scratch = sim_scratch_capacity(sim_augment_scratch(a, h, w, about->c));
    *out = sim_loader_bytes((int)threads, requests) +
           threads * (scratch + h * w * about->c * sim_type_bytes(about->type));
done:
    sim_augment_destroy(&a);
    return st;
}

sim_status sim_job_memory(const sim_job *job, const sim_dataset_info *about,
                          const sim_schedule_plan *plan, size_t ranks, size_t rank,
                          sim_plan_row rows[64], size_t *n_rows, size_t *checkpoint_bytes)
{
    sim_status st = SIM_OK;
    const sim_partition partition = {.size = ranks, .rank = rank};
    const sim_method_env env = sim_job_env(job, plan, partition);
    size_t loader = 0;

    *n_rows = 0;
    SIM_TRY(job->method->plan(&env, &job->method_options, rows, n_rows));
    size_t weights = bytes_of(rows, *n_rows, "weights");
    /* Gradients of both sizes of views are summed over ranks separately. */
    const size_t sizes = plan->small.n > 0 ? 2 : 1;
    size_t running = bytes_of(rows, *n_rows, "running statistics");
    sim_range local = sim_partition_range(partition, plan->n_blocks);
    const sim_slot_size slot =
        sim_method_slot_size(job->method, &env, &job->method_options);
    const size_t slots = (local.hi - local.lo) * (size_t)job->train.block;
    add_row(rows, n_rows, "gradients",
            sizeof(float) *
                sim_comm_sum_leaves_capacity(partition, plan->n_blocks,
                                             sizes * weights / sizeof(float)));
    add_row(rows, n_rows, "optimizer",
            sim_optimizer_bytes(&job->optimizer, weights / sizeof(float)));
    add_row(rows, n_rows, "snapshot",
            running + bytes_of(rows, *n_rows, "momentum statistics") +
                bytes_of(rows, *n_rows, "momentum weights"));
    add_row(rows, n_rows, "views",
            slots * (2 * slot.floats * sizeof(float) +
                     slot.images * sizeof(sim_view_request)));
    SIM_TRY(loader_bytes(job, about, slots * slot.images, &loader));
    add_row(rows, n_rows, "loader", loader);
    const size_t n_orders = about->mixture.weighted ? 2 : 1;
    add_row(rows, n_rows, "order",
            n_orders * plan->n_images * sizeof(uint32_t) +
                sim_order_keys(about) * sizeof(sim_order_key));
    add_row(rows, n_rows, "data set",
            about->n_images *
                    ((about->has_labels ? sizeof(int32_t) : 0) +
                     (about->has_groups ? sizeof(int32_t) : 0) + sizeof(sim_hash) +
                     (about->n_images < about->n_stored ? sizeof(uint32_t) : 0)) +
                (about->encoded ? about->n_stored * sizeof(uint64_t) : 0));
    if (job->train.views_from == SIM_VIEWS_FROM_GROUP)
        add_row(rows, n_rows, "groups", sim_groups_bytes(about));
    /* A checkpoint is a file in memory: rank 0 writes it, and every rank reads it when a
     * run resumes. */
    *checkpoint_bytes = 2 * weights + running + bytes_of(rows, *n_rows, SIM_FROZEN_STATE);
    if (job->method->saved_bytes)
        *checkpoint_bytes += job->method->saved_bytes(&env, &job->method_options);
done:
    return st;
}
