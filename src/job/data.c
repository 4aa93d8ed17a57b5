/*
 * data.c - the data sets of a job, labels and groups; whether all ranks read the same data.
 */
#include "simile/job.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

/* ---- training ---- */

static sim_status check_proportions(const sim_train_options *o)
{
    sim_status st = SIM_OK;
    SIM_CHECK(
        o->proportions.n == 0 || o->train.n > 1, SIM_E_CONFIG,
        "data.proportions: data.train is one data set (%s); proportions need a list "
        "of several",
        o->train_name);
    SIM_CHECK(o->proportions.n == 0 || o->proportions.n == o->train.n, SIM_E_CONFIG,
              "data.proportions: %zu number%s for the %zu data sets of data.train (%s); "
              "expected one for each",
              o->proportions.n, o->proportions.n == 1 ? "" : "s", o->train.n,
              o->train_name);
done:
    return st;
}

/* Every data set has images and is drawn from, if proportions are given. */
static sim_status check_drawn(const sim_job *job, const sim_dataset_info *about)
{
    sim_status st = SIM_OK;
    const sim_mixture *m = &about->mixture;

    for (size_t k = 0; m->weighted && k < m->n_sets; k++) {
        const char *path = job->train.train.text[k];
        SIM_CHECK(m->n_images[k] > 0, SIM_E_DATA,
                  "data.proportions: no image of %s is left by data.classes; remove it "
                  "from data.train",
                  path);
        SIM_CHECK(sim_mixture_drawn(m, k) > 0, SIM_E_CONFIG,
                  "data.proportions: %g of %zu images is less than one image of %s per "
                  "epoch; use a larger number for it",
                  m->share[k], about->n_images, path);
    }
done:
    return st;
}

/* "a.h5 (32 x 32)", "b.h5 (photos of any size)". */
static void format_size(const sim_dataset_info *about, const char *path, char *out,
                        size_t out_bytes)
{
    if (about->encoded)
        (void)snprintf(out, out_bytes, "%.200s (photos of any size)", path);
    else
        (void)snprintf(out, out_bytes, "%.200s (%zu x %zu)", path, about->h, about->w);
}

/* Without augment.size, views have the size of the images: names two files where it differs. */
static sim_status refuse_sizes(const sim_job *job)
{
    sim_status st = SIM_OK;
    const sim_option_texts *paths = &job->train.train;
    sim_dataset *file = NULL;
    sim_dataset_info first = {0};
    char one[256] = "", other[256] = "";

    for (size_t k = 0; k < paths->n; k++) {
        sim_dataset_close(&file);
        SIM_TRY(sim_dataset_open(paths->text[k], &file));
        const sim_dataset_info *a = sim_dataset_about(file);
        if (k == 0) {
            first = *a;
            format_size(a, paths->text[k], one, sizeof one);
        } else if (a->encoded != first.encoded || a->h != first.h || a->w != first.w) {
            format_size(a, paths->text[k], other, sizeof other);
            break;
        }
    }
    SIM_FAIL(
        SIM_E_CONFIG,
        "augment.size: 0 means views of the size of the images, but %s and %s differ "
        "in it; set augment.size",
        one, other);
done:
    sim_dataset_close(&file);
    return st;
}

static sim_status open_sets(const sim_job *job, sim_dataset **out)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &job->train;
    const char *paths[SIM_OPTION_MAX_TEXTS];

    SIM_TRY(check_proportions(o));
    if (o->train.n < 2) {
        SIM_TRY(sim_dataset_open(o->train.text[0], out));
        goto done;
    }
    for (size_t k = 0; k < o->train.n; k++)
        paths[k] = o->train.text[k];
    SIM_TRY(sim_dataset_open_union(o->train.n, paths,
                                   o->proportions.n ? o->proportions.values : NULL, out));
    if (sim_dataset_about(*out)->varied && job->augment.size == 0)
        SIM_TRY(refuse_sizes(job));
done:
    return st;
}

sim_status sim_job_open_whole(const sim_job *job, sim_dataset **out)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &job->train;

    SIM_TRY(open_sets(job, out));
    if (*o->classes)
        SIM_TRY(sim_dataset_keep_classes(*out, o->classes));
    SIM_CHECK(!job->method->needs_labels || !sim_dataset_unlabelled(*out), SIM_E_DATA,
              "data.train: method %s needs labels, but those of %s cannot be joined: %s",
              job->method->name, o->train_name, sim_dataset_unlabelled(*out));
    SIM_TRY(check_drawn(job, sim_dataset_about(*out)));
done:
    return st;
}

sim_status sim_job_open_train(const sim_job *job, sim_dataset **out)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &job->train;

    SIM_TRY(sim_job_open_whole(job, out));
    if (o->fraction < 1) {
        SIM_TRY(sim_dataset_keep_fraction(*out, o->fraction, (uint32_t)o->fraction_seed));
        SIM_TRY(check_drawn(job, sim_dataset_about(*out)));
    }
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

/* ---- evaluation ---- */

sim_status sim_job_open_test(const sim_job *job, sim_dataset **out)
{
    sim_status st = SIM_OK;
    const sim_train_options *o = &job->train;

    if (!*o->test)
        goto done;
    SIM_TRY(sim_dataset_open(o->test, out));
    if (*o->classes)
        SIM_TRY(sim_dataset_keep_classes(*out, o->classes));
done:
    return st;
}

/* ---- ranks ---- */

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
