/*
 * advise.c - warnings about settings that are valid but suspect.
 *
 * Called by plan, and by train on rank 0 before the first step.
 */
#include "simile/job.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An SGD step is learning rate times gradient.  For a scalar that is trained as a logarithm,
 * or whose gradient sums over all pairs of the batch, such a step can diverge. */
static void advise_scalars(const sim_job *job, const sim_schedule_plan *plan)
{
    const sim_method_row *m = job->method;
    double gradient =
        m->scalar_gradient_bound
            ? m->scalar_gradient_bound(&job->method_options, (size_t)job->train.batch)
            : 0;
    if (!sim_optimizer_adaptive(&job->optimizer) && plan->learning_rate * gradient > 0.5)
        sim_log_warn(
            "optimizer.name: the trained scalars of method %s have gradients of order %g "
            "and may diverge at the peak learning rate %g; use optimizer.name=adamw, "
            "whose "
            "step does not scale with the gradient",
            m->name, gradient, plan->learning_rate);
}

static void advise_sizes(const sim_job *job, const sim_schedule_plan *plan)
{
    enum { LARGE = 96, SMALL = 64 };

    if (job->encoder.stem == SIM_STEM_IMAGENET && (plan->h <= SMALL || plan->w <= SMALL))
        sim_log_warn("encoder.stem: imagenet loses accuracy on images of %zu x %zu; use "
                     "encoder.stem=cifar for %d pixels or less",
                     plan->h, plan->w, SMALL);
    if (job->encoder.stem == SIM_STEM_CIFAR && plan->h >= LARGE && plan->w >= LARGE)
        sim_log_warn(
            "encoder.stem: cifar keeps images of %zu x %zu at full resolution, which "
            "takes about 8 to 16 times the time and memory of "
            "encoder.stem=imagenet",
            plan->h, plan->w);
    if (plan->stored_h > 0 && (plan->h > plan->stored_h || plan->w > plan->stored_w))
        sim_log_warn("augment.size: views of %zu x %zu are larger than the images of the "
                     "data set (%zu x %zu), which costs time without adding detail",
                     plan->h, plan->w, plan->stored_h, plan->stored_w);
}

static void advise_small_views(const sim_augment_options *a)
{
    if (a->small_views == 0 && (a->small.given || a->small_size > 0))
        sim_log_warn("augment.%s has no effect while augment.small_views is 0",
                     a->small.given ? "small" : "small_size");
}

/* Equal views have nothing to be invariant to. */
static void advise_views(const sim_job *job)
{
    const sim_augment_options *a = &job->augment;
    if (a->view1.given && a->view1.n == 0 && a->view2.given && a->view2.n == 0)
        sim_log_warn(
            "augment.view1, augment.view2: both are empty, so that the views of an "
            "image are equal and nothing useful is learned; use augment.preset");
}

/* ---- photos of any size ---- */

enum { SAMPLES = 9 };

static int by_size(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* The median of the shorter sides of photos that are evenly spaced in the data set. */
static sim_status measure_photos(const sim_dataset *data, size_t *median)
{
    sim_status st = SIM_OK;
    size_t sides[SAMPLES], n = sim_dataset_about(data)->n_images;
    sim_image image = {0};

    for (size_t i = 0; i < SAMPLES; i++) {
        SIM_TRY(sim_dataset_read(data, i * (n - 1) / (SAMPLES - 1), &image));
        sides[i] = image.h < image.w ? image.h : image.w;
    }
    qsort(sides, SAMPLES, sizeof sides[0], by_size);
    *median = sides[SAMPLES / 2];
done:
    sim_free(image.pixels);
    return st;
}

static void advise_photos(const sim_dataset *data, const sim_schedule_plan *plan)
{
    const size_t side = plan->h < plan->w ? plan->h : plan->w;
    size_t median = 0;

    if (measure_photos(data, &median) != SIM_OK) {
        sim_error_clear(); /* reported when the image is used */
        return;
    }
    if (median < side)
        sim_log_warn(
            "augment.size: views of %zu x %zu are larger than most photos of %s "
            "(the median of the shorter sides of %d of them is %zu pixels), which "
            "costs time without adding detail; use augment.size=%zu",
            plan->h, plan->w, sim_dataset_path(data), SAMPLES, median, median);
}

/* ---- labels ---- */

/*
 * The probability that a batch of `batch` of n images, which contains a given image, has none of
 * `others` other ones: prod_k (n - batch - k) / (n - 1 - k), k < others (hypergeometric).
 */
static double absent_from_batch(size_t n, size_t batch, size_t others)
{
    double p = 1;
    for (size_t k = 0; k < others && p > 0; k++)
        p *= n - batch > k ? (double)(n - batch - k) / (double)(n - 1 - k) : 0;
    return p;
}

/* What the labels are to a method that contrasts classes. */
typedef struct {
    size_t n_classes, largest,
        label; /* with images; images of the largest class; its label */
    double no_positive, no_negative; /* fraction of anchors without another image of their
                                         class, and of another class, in an average batch */
} label_use;

static sim_status measure_labels(const sim_job *job, const sim_dataset *data,
                                 label_use *out)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(data);
    const int32_t *labels = sim_job_labels(job, data);
    const bool by_group = sim_method_by_group(job->method, &job->method_options);
    const size_t n_classes = by_group ? about->n_groups : about->n_classes;
    const size_t n = about->n_images, batch = (size_t)job->train.batch;
    size_t *count = NULL;

    SIM_TRY(sim_alloc(&count, n_classes, "job/labels"));
    for (size_t i = 0; i < n; i++)
        count[labels[i]]++;
    for (size_t c = 0; c < n_classes; c++) {
        const double share = (double)count[c] / (double)n;
        if (count[c] == 0)
            continue;
        out->n_classes++;
        out->no_positive += share * absent_from_batch(n, batch, count[c] - 1);
        out->no_negative += share * absent_from_batch(n, batch, n - count[c]);
        if (count[c] > out->largest) {
            out->largest = count[c];
            out->label = c;
        }
    }
done:
    sim_free(count);
    return st;
}

static void format_class(const sim_dataset *data, size_t label, char *out,
                         size_t out_bytes)
{
    const char *name = sim_dataset_class_name(data, label);
    if (name)
        (void)snprintf(out, out_bytes, "\"%.100s\"", name);
    else
        (void)snprintf(out, out_bytes, "%zu", label);
}

/* Without negatives, or without positives other than views of the image, a method that contrasts
 * classes learns nothing, or does not use the labels. */
static void advise_labels(const sim_job *job, const sim_dataset *data)
{
    const double few = 0.1, most = 0.5;
    const char *path = sim_dataset_path(data), *method = job->method->name;
    const size_t batch = (size_t)job->train.batch, n = sim_dataset_about(data)->n_images;
    char class[128];
    label_use u = {0};

    if (measure_labels(job, data, &u) != SIM_OK) {
        sim_error_clear(); /* no memory for a warning */
        return;
    }
    format_class(data, u.label, class, sizeof class);
    if (u.n_classes == 1)
        sim_log_warn("method.name: %s contrasts classes, but all %zu images of %s are of "
                     "one class, %s: every pair is a positive one, and nothing useful is "
                     "learned; prepare the data from a directory with one subdirectory "
                     "per class, or use a method without labels (method.name=simclr)",
                     method, n, path, class);
    else if (u.n_classes == n)
        sim_log_warn("method.name: every image of %s is the only one of its class, so "
                     "%s has no positives but the views of an image, as simclr; the "
                     "labels may be numbers of images instead of classes",
                     path, method);
    else if (u.no_negative > few)
        sim_log_warn("method.name: %zu of %zu images of %s are of class %s, so that in a "
                     "batch of %zu about %.0f %% of the anchors have no negative for %s",
                     u.largest, n, path, class, batch, 100 * u.no_negative, method);
    else if (u.no_positive > most)
        sim_log_warn(
            "method.name: %s has %zu classes in %zu images, so that in a batch of "
            "%zu about %.0f %% of the anchors have no other image of their class, "
            "and %s is mostly simclr; use a larger batch",
            path, u.n_classes, n, batch, 100 * u.no_positive, method);
}

/* Groups are often small, and their images seldom meet in a batch. */
static void advise_groups(const sim_job *job, const sim_dataset *data)
{
    const double most = 0.5;
    label_use u = {0};

    if (measure_labels(job, data, &u) != SIM_OK) {
        sim_error_clear(); /* no memory for a warning */
        return;
    }
    if (u.n_classes == 1)
        sim_log_warn("method.positives_by: all images of %s are of one group: every pair "
                     "is a positive one, and nothing useful is learned",
                     sim_dataset_path(data));
    else if (u.no_positive > most && job->train.views_from == SIM_VIEWS_FROM_IMAGE)
        sim_log_warn("method.positives_by: %s has %zu groups in %zu images, so that in a "
                     "batch of %lld about %.0f %% of the anchors have no other image of "
                     "their group; data.views_from=group draws a second view from the "
                     "group for every anchor",
                     sim_dataset_path(data), u.n_classes,
                     sim_dataset_about(data)->n_images, (long long)job->train.batch,
                     100 * u.no_positive);
}

/* ---- */

/* Without another image in a group, views of its image are all that there is. */
static void advise_views_of_groups(const sim_job *job, const sim_dataset *data)
{
    const double most = 0.5;
    const size_t n = sim_dataset_about(data)->n_images;
    sim_group_sizes s;

    if (job->train.views_from != SIM_VIEWS_FROM_GROUP)
        return;
    if (sim_groups_measure(data, &s) != SIM_OK) {
        sim_error_clear(); /* no memory for a warning */
        return;
    }
    if ((double)s.n_single > most * (double)n)
        sim_log_warn("data.views_from: %zu of %zu images of %s are the only ones of "
                     "their group; both of their views show the image itself%s",
                     s.n_single, n, sim_dataset_path(data),
                     job->train.fraction < 1 ? " (data.fraction separates groups)" : "");
}

void sim_job_advise(const sim_job *job, const sim_dataset *data,
                    const sim_schedule_plan *plan)
{
    const sim_partition any = {.size = 1, .rank = 0};
    const sim_method_env env = sim_job_env(job, plan, any);

    advise_sizes(job, plan);
    advise_small_views(&job->augment);
    if (sim_dataset_about(data)->encoded)
        advise_photos(data, plan);
    advise_scalars(job, plan);
    if (plan->views > 1)
        advise_views(job);
    advise_views_of_groups(job, data);
    if (sim_method_by_group(job->method, &job->method_options))
        advise_groups(job, data);
    else if (job->method->needs_labels)
        advise_labels(job, data);
    if (job->method->advise)
        job->method->advise(&env, &job->method_options, plan->n_images);
}
