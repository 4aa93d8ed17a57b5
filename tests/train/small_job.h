/*
 * small_job.h - a job of ten short steps for the tests of train, with its data in a temporary
 * directory.
 */
#ifndef SIMILE_TRAIN_SMALL_JOB_H
#define SIMILE_TRAIN_SMALL_JOB_H

#include "simile/train.h"

#include <unistd.h>

enum { IMAGES = 100, SIDE = 16, BATCH = 32, BLOCK = 8, STEPS = 10 };

static const sim_comm *comm;
static char directory[64];
static sim_job job;

static void set_default(const sim_option *o, char *to)
{
    if (!o->fallback || o->type == SIM_OPTION_ITEMS)
        return;
    if (o->type == SIM_OPTION_INT)
        *(int64_t *)(void *)(to + o->offset) = strtoll(o->fallback, NULL, 10);
    else if (o->type == SIM_OPTION_REAL)
        *(double *)(void *)(to + o->offset) = strtod(o->fallback, NULL);
    else if (o->type == SIM_OPTION_BOOL)
        *(bool *)(to + o->offset) = strcmp(o->fallback, "true") == 0;
    else if (o->type == SIM_OPTION_ENUM)
        *(int *)(void *)(to + o->offset) = sim_choices_find(o->choices, o->fallback);
    else
        (void)snprintf(to + o->offset, SIM_OPTION_TEXT_BYTES, "%s", o->fallback);
}

static void set_defaults(const sim_option_table *table, void *to)
{
    for (size_t i = 0; i < table->n_rows; i++)
        set_default(&table->rows[i], to);
}

/* Sets `job` to the run `run` of the method. */
static void make_job(const sim_method_row *method, const char *run)
{
    job = (sim_job){.method = method};
    set_defaults(&sim_train_table, &job.train);
    set_defaults(method->table, &job.method_options);
    set_defaults(&sim_encoder_table, &job.encoder);
    set_defaults(&sim_batchnorm_table, &job.batchnorm);
    set_defaults(&sim_optimizer_table, &job.optimizer);
    set_defaults(&sim_schedule_table, &job.schedule);
    set_defaults(&sim_augment_table, &job.augment);
    (void)snprintf(job.train.run, sizeof job.train.run, "%s/%s", directory, run);
    job.train.train.n = 1;
    (void)snprintf(job.train.train.text[0], sizeof job.train.train.text[0], "%s/train.h5",
                   directory);
    job.train.batch = BATCH;
    job.train.block = BLOCK;
    job.train.threads = 1;
    job.train.checkpoint.every_minutes = 0;
    job.encoder.width = 0.125;
    job.batchnorm.group = BLOCK; /* a NaN stays in its block until the loss */
    job.schedule.steps = STEPS;
    job.augment.preset = sim_choices_find("simclr-cifar|simclr|digits|none", "digits");
}

static void write_data(void)
{
    char path[128], fingerprint[33];
    sim_dataset_writer *w = NULL;
    const sim_dataset_spec spec = {.h = SIDE,
                                   .w = SIDE,
                                   .c = 1,
                                   .type = SIM_U8,
                                   .source = "test",
                                   .created_by = "test"};
    uint8_t pixels[SIDE * SIDE];
    uint32_t word = 5;

    (void)snprintf(path, sizeof path, "%s/train.h5", directory);
    ASSERT_OK(sim_dataset_create(path, &spec, &w));
    for (int i = 0; i < IMAGES; i++) {
        for (size_t p = 0; p < sizeof pixels; p++) {
            word = word * 1664525u + 1013904223u;
            pixels[p] = (uint8_t)(word >> 24);
        }
        ASSERT_OK(sim_dataset_append(w, pixels, sizeof pixels, -1, NULL));
    }
    ASSERT_OK(sim_dataset_finish(&w, NULL, 0, NULL, fingerprint));
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/simile-loop-XXXXXX");
    if (comm->rank == 0) {
        if (!mkdtemp(directory))
            return -1;
        write_data();
    }
    sim_comm_broadcast(comm, 0, directory, sizeof directory);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    sim_comm_barrier(comm);
    if (comm->rank != 0)
        return 0;
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

#endif
