/*
 * check.c - checks that need several keys, the data set or the number of ranks.
 *
 * Called by pretrain on all ranks, and by plan.  An error message starts with the key and
 * names the nearest valid values.
 */
#include "simile/job.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

_Static_assert((int)SIM_MAX_SMALL_VIEWS <= (int)SIM_MAX_PART_VIEWS,
               "small views fit a part");

/* Nearest multiples of `unit` around `value`, for a message. */
static void format_nearest_multiples(int64_t value, int64_t unit, char *out,
                                     size_t out_bytes)
{
    int64_t below = value / unit * unit;
    if (below > 0)
        (void)snprintf(out, out_bytes, "%lld or %lld", (long long)below,
                       (long long)(below + unit));
    else
        (void)snprintf(out, out_bytes, "%lld", (long long)unit);
}

static sim_status check_batch(const sim_train_options *t, const sim_dataset_info *about)
{
    sim_status st = SIM_OK;
    char near[64], part[64] = "";

    if (t->fraction < 1)
        (void)snprintf(part, sizeof part, " by data.fraction: %g", t->fraction);
    else if (about->mixture.weighted)
        (void)snprintf(part, sizeof part, " per epoch by data.proportions");
    format_nearest_multiples(t->batch, t->block, near, sizeof near);
    SIM_CHECK(t->batch % t->block == 0, SIM_E_CONFIG,
              "batch: %lld is not a multiple of block %lld; nearest: %s",
              (long long)t->batch, (long long)t->block, near);
    const size_t n = sim_dataset_epoch_images(about), half = n / 2,
                 block = (size_t)t->block;
    SIM_CHECK(half > 0, SIM_E_DATA, "%s has one image, expected two or more",
              t->train_name);
    SIM_CHECK(block <= n, SIM_E_CONFIG,
              "batch: %lld images in blocks of %zu, but %s has only %zu%s; block=%zu "
              "batch=%zu fits",
              (long long)t->batch, block, t->train_name, n, part, half, 2 * half);
    SIM_CHECK((size_t)t->batch <= n, SIM_E_CONFIG,
              "batch: %lld images, but %s has only %zu%s; largest with block %zu: %zu",
              (long long)t->batch, t->train_name, n, part, block, n / block * block);
done:
    return st;
}

static sim_status check_group(const sim_job *job)
{
    sim_status st = SIM_OK;
    int64_t group = job->batchnorm.group, block = job->train.block;
    char near[64];

    if (group == 0)
        goto done;
    if (group > block) {
        format_nearest_multiples(group, block, near, sizeof near);
        SIM_CHECK(group % block == 0, SIM_E_CONFIG,
                  "batchnorm.group: %lld is not a multiple of block %lld; nearest: %s",
                  (long long)group, (long long)block, near);
    } else {
        int64_t below = group;
        while (block % below != 0)
            below--;
        SIM_CHECK(
            block % group == 0, SIM_E_CONFIG,
            "batchnorm.group: %lld does not divide block %lld; nearest: %lld or %lld",
            (long long)group, (long long)block, (long long)below, (long long)block);
    }
    SIM_CHECK(job->train.batch % group == 0, SIM_E_CONFIG,
              "batchnorm.group: %lld does not divide batch %lld", (long long)group,
              (long long)job->train.batch);
done:
    return st;
}

static sim_status check_ranks(const sim_train_options *t, size_t ranks)
{
    sim_status st = SIM_OK;
    size_t n_blocks = (size_t)(t->batch / t->block);
    int64_t fits = t->batch / (int64_t)ranks;

    while (fits > 1 && t->batch % fits != 0) /* largest block that leaves one per rank */
        fits--;
    SIM_CHECK(
        ranks <= n_blocks, SIM_E_CONFIG,
        "batch: %lld images are %zu blocks of %lld, too few for %zu ranks; start at "
        "most %zu ranks (one rank per socket, threads for its cores), or set "
        "block=%lld",
        (long long)t->batch, n_blocks, (long long)t->block, ranks, n_blocks,
        (long long)(fits > 0 ? fits : 1));
done:
    return st;
}

/* Whether the blocks of every rank are whole groups of `per_group` blocks. */
static bool groups_within_ranks(size_t n_blocks, size_t ranks, size_t per_group)
{
    for (size_t r = 1; r < ranks; r++)
        if (sim_tree_part(n_blocks, ranks, r).lo % per_group != 0)
            return false;
    return true;
}

/* Ranks exchange batch norm sums of groups that they share, but they do not pass the same
 * micro-batches at the same time. */
static sim_status check_group_within_ranks(const sim_job *job, size_t ranks)
{
    sim_status st = SIM_OK;
    const sim_train_options *t = &job->train;
    size_t n_blocks = (size_t)(t->batch / t->block), fewer = ranks;
    size_t per_group = (size_t)((job->batchnorm.group + t->block - 1) / t->block);

    while (!groups_within_ranks(n_blocks, fewer, per_group)) /* one rank has all groups */
        fewer--;
    SIM_CHECK(
        fewer == ranks, SIM_E_CONFIG,
        "micro_batch: %zu ranks share groups of batchnorm.group %lld images, which a "
        "micro-batch cannot divide; start %zu rank%s, or set micro_batch=0",
        ranks, (long long)job->batchnorm.group, fewer, fewer == 1 ? "" : "s");
done:
    return st;
}

static sim_status check_micro_batch(const sim_job *job, size_t ranks)
{
    sim_status st = SIM_OK;
    const sim_train_options *t = &job->train;
    int64_t micro = t->micro_batch, group = job->batchnorm.group;
    const bool by_group = group > t->block;
    const int64_t unit = by_group ? group : t->block;
    const sim_method_env sizes = {.partition = {.size = ranks},
                                  .batch = (size_t)t->batch,
                                  .block = (size_t)t->block,
                                  .micro_batch = (size_t)micro};
    char near[64];

    if (micro == 0)
        goto done;
    SIM_CHECK(
        group > 0, SIM_E_CONFIG,
        "micro_batch: %lld images pass at a time, but batchnorm.group 0 takes the "
        "statistics of the global batch; set batchnorm.group=%lld, which changes the "
        "result, or micro_batch=0",
        (long long)micro, (long long)t->block);
    format_nearest_multiples(micro, unit, near, sizeof near);
    SIM_CHECK(micro % unit == 0, SIM_E_CONFIG,
              "micro_batch: %lld is not a multiple of %s %lld; nearest: %s",
              (long long)micro, by_group ? "batchnorm.group" : "block", (long long)unit,
              near);
    if (sim_method_micro_blocks(&sizes) > 0)
        SIM_TRY(check_group_within_ranks(job, ranks));
done:
    return st;
}

static sim_status fill_view_shape(const sim_job *job, const sim_dataset_info *about,
                                  sim_schedule_plan *plan)
{
    sim_status st = SIM_OK;
    sim_augment *a = NULL;
    const sim_preprocessing p = sim_preprocessing_of((size_t)job->augment.size, about);

    SIM_TRY(sim_augment_create(&job->augment, &p, &a));
    sim_augment_shape(a, 0, &plan->h, &plan->w, &plan->c);
    plan->small.n = (size_t)job->augment.small_views;
    sim_augment_shape(a, SIM_SMALL_VIEW, &plan->small.h, &plan->small.w, &plan->c);
done:
    sim_augment_destroy(&a);
    return st;
}

static sim_status fill_schedule(const sim_job *job, sim_schedule_plan *plan)
{
    sim_status st = SIM_OK;
    const sim_schedule_options *s = &job->schedule;
    double per_epoch = (double)plan->steps_per_epoch;

    SIM_TRY(sim_schedule_check(s, plan->learning_rate));
    plan->total_steps = s->steps ? s->steps : s->epochs * (int64_t)plan->steps_per_epoch;
    plan->warmup_steps =
        s->warmup_steps ? (double)s->warmup_steps : s->warmup_epochs * per_epoch;
    SIM_CHECK(plan->warmup_steps <= (double)plan->total_steps, SIM_E_CONFIG,
              "schedule.warmup_%s: %g steps of warm-up, but the run has only %lld steps",
              s->warmup_steps ? "steps" : "epochs", plan->warmup_steps,
              (long long)plan->total_steps);
done:
    return st;
}

sim_method_env sim_job_env(const sim_job *job, const sim_schedule_plan *plan,
                           sim_partition partition)
{
    return (sim_method_env){.partition = partition,
                            .encoder = &job->encoder,
                            .batchnorm = &job->batchnorm,
                            .h = plan->h,
                            .w = plan->w,
                            .c = plan->c,
                            .small = plan->small,
                            .n_classes = plan->n_classes,
                            .batch = (size_t)job->train.batch,
                            .block = (size_t)job->train.block,
                            .micro_batch = (size_t)job->train.micro_batch,
                            .seed = (uint32_t)job->train.seed,
                            .gather = sim_method_gather(job->method, &job->method_options,
                                                        (sim_gather)job->train.gather)};
}

static sim_status check_method(const sim_job *job, const sim_schedule_plan *plan,
                               size_t ranks)
{
    const sim_partition first = {.size = ranks, .rank = 0};
    const sim_method_env env = sim_job_env(job, plan, first);
    return sim_method_check(job->method, &env, &job->method_options);
}

static sim_status check_labels_and_groups(const sim_job *job,
                                          const sim_dataset_info *about)
{
    sim_status st = SIM_OK;
    const sim_train_options *t = &job->train;
    const bool by_group = sim_method_by_group(job->method, &job->method_options);
    const bool views = t->views_from == SIM_VIEWS_FROM_GROUP;

    SIM_CHECK(!job->method->needs_labels || by_group || about->has_labels, SIM_E_DATA,
              "%s has no labels, but method %s needs them", t->train_name,
              job->method->name);
    SIM_CHECK(!sim_job_uses_groups(job) || about->has_groups, SIM_E_DATA,
              "%s: group, but %s has no groups; prepare it from a list of files with a "
              "column group (simile prepare SOURCE --list FILE.csv), or with "
              "--groups-key",
              views ? "data.views_from" : "method.positives_by", t->train_name);
    SIM_CHECK(!views || sim_method_views(job->method, &job->method_options) > 1,
              SIM_E_CONFIG,
              "data.views_from: group draws the second view of a slot, but method %s has "
              "one view; expected data.views_from: image",
              job->method->name);
done:
    return st;
}

sim_status sim_job_check(const sim_job *job, const sim_dataset_info *about, size_t ranks,
                         sim_schedule_plan *plan)
{
    sim_status st = SIM_OK;
    const sim_train_options *t = &job->train;

    memset(plan, 0, sizeof *plan);
    SIM_TRY(check_batch(t, about));
    SIM_TRY(check_group(job));
    SIM_TRY(check_ranks(t, ranks));
    SIM_TRY(check_micro_batch(job, ranks));
    SIM_TRY(check_labels_and_groups(job, about));
    SIM_CHECK(!job->encoder.freeze || job->method->classifies, SIM_E_CONFIG,
              "encoder.freeze: method %s trains the encoder; expected method.name: "
              "supervised",
              job->method->name);
    plan->n_images = sim_dataset_epoch_images(about);
    plan->n_classes = about->has_labels ? about->n_classes : 0;
    plan->stored_h = about->h;
    plan->stored_w = about->w;
    plan->views = sim_method_views(job->method, &job->method_options);
    plan->n_blocks = (size_t)(t->batch / t->block);
    plan->steps_per_epoch = plan->n_images / (size_t)t->batch;
    plan->left_over = plan->n_images % (size_t)t->batch;
    plan->learning_rate = sim_learning_rate(&job->optimizer, (size_t)t->batch);
    SIM_TRY(fill_view_shape(job, about, plan));
    SIM_TRY(sim_method_check_gather(job->method, &job->method_options, "gather",
                                    (sim_gather)t->gather));
    SIM_TRY(check_method(job, plan, ranks));
    SIM_TRY(fill_schedule(job, plan));
done:
    return st;
}
