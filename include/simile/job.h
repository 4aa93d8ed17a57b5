/*
 * job.h - a whole job: its options, its checks, its schedule and its memory plan.
 *
 * Module: job
 * A job is read from YAML or from the text stored in a checkpoint, checked against a data
 * set and a number of ranks, and then used by train, eval and the subcommands.
 */
#ifndef SIMILE_JOB_H
#define SIMILE_JOB_H

#include "simile/checkpoint.h"
#include "simile/data.h"
#include "simile/encoder.h"
#include "simile/method.h"
#include "simile/optim.h"

#include <stdint.h>

/* Values of guard.collapse. */
enum { SIM_COLLAPSE_WARN, SIM_COLLAPSE_STOP, SIM_COLLAPSE_OFF };

/* Values of checkpoint.keep_best. */
enum {
    SIM_KEEP_OFF,
    SIM_KEEP_KNN,
    SIM_KEEP_LINEAR,
    SIM_KEEP_CLASSIFIER,
    SIM_KEEP_RANKME,
    SIM_KEEP_CHOICES
};

/* Values of data.views_from. */
enum { SIM_VIEWS_FROM_IMAGE, SIM_VIEWS_FROM_GROUP };

/* Keys of no other module: top level, data, checkpoint, log, guard. */
typedef struct {
    char run[SIM_OPTION_TEXT_BYTES];
    /* data.* */
    sim_option_texts train;
    char test[SIM_OPTION_TEXT_BYTES], classes[SIM_OPTION_TEXT_BYTES];
    sim_option_numbers proportions; /* of `train`; none: every image once */
    double fraction;                /* of the images of each class of data.train */
    int64_t fraction_seed;          /* selects them */
    char train_name[SIM_OPTION_TEXT_BYTES]; /* data.train for messages: "a.h5, b.h5" */
    int views_from;                         /* SIM_VIEWS_FROM_... */
    char kernels[SIM_OPTION_TEXT_BYTES];
    int64_t seed, batch, block, micro_batch, threads, loader_threads;
    int gather; /* enum sim_gather */
    int64_t log_every_steps, bad_steps, check_steps;
    double hang_seconds;
    int collapse;
    int keep_best; /* SIM_KEEP_... */
    bool tensorboard, report;
    sim_checkpoint_options checkpoint;
} sim_train_options;
extern const sim_option_table sim_train_table;

/* A whole job, as its option tables filled it. */
typedef struct {
    sim_train_options train;
    sim_encoder_options encoder;
    sim_batchnorm_options batchnorm;
    sim_optimizer_options optimizer;
    sim_schedule_options schedule;
    sim_augment_options augment;
    const sim_method_row *method;
    sim_option_storage method_options; /* the struct of the method's own table */
} sim_job;

/* What follows from a job, a data set and a number of ranks. */
typedef struct {
    size_t n_images; /* of an epoch */
    size_t views;
    size_t n_classes;                            /* of data.train; 0 without labels */
    size_t n_blocks, steps_per_epoch, left_over; /* images dropped each epoch */
    int64_t total_steps;
    double warmup_steps, learning_rate;
    size_t h, w, c; /* of a view */
    sim_small_views small;
    size_t stored_h, stored_w; /* of the images; 0: files of any size */
} sim_schedule_plan;

/* ---- reading ---- */

/* A job file and its overrides "key=value". */
enum { SIM_MAX_OVERRIDES = 256 };
typedef struct {
    const char *path;
    char *overrides[SIM_MAX_OVERRIDES];
    int numbers[SIM_MAX_OVERRIDES]; /* positions on the command line, for messages */
    size_t n_overrides;
} sim_job_source;

/* A section of the job file that a higher module owns, such as `evaluate`. */
typedef struct {
    const sim_option_table *table;
    void *options; /* the table's struct; filled */
} sim_job_section;

/* A job as text; sim_job_texts_clear releases all. */
typedef struct {
    char *resolved; /* YAML: all keys with their values */
    char *identity; /* lines "key: value" of the keys that determine the result */
    /* Lines "key: value": the value that an identity without the key implies; "" if a missing key
     * always differs. */
    char *identity_before;
    char *of_all_ranks; /* lines of the keys that must be equal on all ranks */
} sim_job_texts;
void sim_job_texts_clear(sim_job_texts *t);

/*
 * Reads and fills the job and one further section.
 *   texts  zeroed before, released by the caller also on failure; may be NULL
 * Local. Errors: SIM_E_INPUT (no such file), SIM_E_CONFIG.
 */
SIM_MUST_USE sim_status sim_job_load(const sim_job_source *source,
                                     const sim_job_section *section, sim_job *job,
                                     sim_job_texts *texts);
/* Reads the method section only; the job file may omit everything else. */
SIM_MUST_USE sim_status sim_job_load_method(const sim_job_source *source, sim_job *job);
/* Parses the resolved job of a checkpoint; `name` replaces the path in messages. A key that
 * it lacks has the value that the key's row states as `before`. */
SIM_MUST_USE sim_status sim_job_parse(const char *resolved, const char *name,
                                      const sim_job_section *section, sim_job *job);

/* Opens data.train or the union of its data sets, reduced to data.classes and data.fraction.  The
 * caller closes *out, also after a failure.
 * Errors: as sim_dataset_open_union and sim_dataset_keep_classes; SIM_E_CONFIG for data.proportions
 * that do not suit, and sizes that differ without augment.size. */
SIM_MUST_USE sim_status sim_job_open_train(const sim_job *job, sim_dataset **out);
/* The same without data.fraction. */
SIM_MUST_USE sim_status sim_job_open_whole(const sim_job *job, sim_dataset **out);
/* Opens data.test, reduced to data.classes; *out stays NULL if it is not set.  As above. */
SIM_MUST_USE sim_status sim_job_open_test(const sim_job *job, sim_dataset **out);

/*
 * Collective. Compares all that is read from a data set, but for its path, with the data set of rank
 * 0: fingerprint, shape, normalization, and the images of a subset.
 * Errors: SIM_E_DATA on all ranks, with both texts.
 */
SIM_MUST_USE sim_status sim_job_compare_data(const sim_comm *c, const sim_dataset *d);

/* ---- checks and plans ---- */

/*
 * Checks what needs several keys: batch and block, group, micro-batch, ranks, images.
 * Local. Errors: SIM_E_CONFIG; the message starts with the key ("batch: ...") and names
 * the nearest valid values.
 */
SIM_MUST_USE sim_status sim_job_check(const sim_job *job, const sim_dataset_info *about,
                                      size_t ranks, sim_schedule_plan *plan);

/* Whether the job reads the groups of data.train, for its views or its positives. */
bool sim_job_uses_groups(const sim_job *job);
/* The numbers by which the method compares images: labels or groups of the data set; NULL if it does
 * not. */
const int32_t *sim_job_labels(const sim_job *job, const sim_dataset *d);
/* "300 groups of 1 to 12 images (median 4), 30 of one image"; of images that are used. */
SIM_MUST_USE sim_status sim_job_describe_groups(const sim_dataset *d, char **out);

/* Logs warnings about settings that are valid but suspect. */
void sim_job_advise(const sim_job *job, const sim_dataset *data,
                    const sim_schedule_plan *plan);

/* The environment of a method on one of `partition.size` ranks, for checks and plans: its
 * comm is NULL.  Borrows job. */
sim_method_env sim_job_env(const sim_job *job, const sim_schedule_plan *plan,
                           sim_partition partition);

/*
 * Bytes that pretrain holds on a rank from step to step, by item.
 *   rows, n_rows      the items
 *   checkpoint_bytes  the transient buffer while a checkpoint is written or read
 * Local.
 */
SIM_MUST_USE sim_status sim_job_memory(const sim_job *job, const sim_dataset_info *about,
                                       const sim_schedule_plan *plan, size_t ranks,
                                       size_t rank, sim_plan_row rows[64], size_t *n_rows,
                                       size_t *checkpoint_bytes);

#endif
