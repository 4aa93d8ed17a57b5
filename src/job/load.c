/*
 * load.c - a job file and its overrides, or the text in a checkpoint, into option structs.
 */
#include "expand.h"

#include "simile/job.h"

#include "simile/config.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    int name;
} method_name;

static sim_option name_rows[] = {
    {.name = "name",
     .type = SIM_OPTION_ENUM,
     .offset = offsetof(method_name, name),
     .help = "what is compared with what",
     .unit = "",
     .kind = SIM_IDENTITY},
};

static const sim_option_table name_table = {.section = "method",
                                            .rows = name_rows,
                                            .n_rows = 1,
                                            .struct_bytes = sizeof(method_name)};

static sim_status fill_method(sim_config *c, sim_job *job)
{
    sim_status st = SIM_OK;
    method_name chosen = {0};

    name_rows[0].choices = sim_methods_names();
    SIM_TRY(sim_config_fill(c, &name_table, &chosen));
    job->method = sim_methods_at((size_t)chosen.name);
    SIM_TRY(sim_config_fill(c, job->method->table, &job->method_options));
    for (size_t i = 0; i < job->method->n_defaults; i++)
        sim_config_set_default(c, job->method->defaults[i].key,
                               job->method->defaults[i].value);
done:
    return st;
}

/* data.train for messages; a long list is truncated. */
static void name_train(sim_train_options *t)
{
    size_t used = 0;

    for (size_t k = 0; k < t->train.n && used < sizeof t->train_name; k++)
        used += (size_t)snprintf(t->train_name + used, sizeof t->train_name - used,
                                 "%s%s", k ? ", " : "", t->train.text[k]);
}

static sim_status expand_paths(sim_train_options *t)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_job_expand_path("run", t->run));
    for (size_t k = 0; k < t->train.n; k++)
        SIM_TRY(sim_job_expand_path("data.train", t->train.text[k]));
    name_train(t);
    SIM_TRY(sim_job_expand_path("data.classes", t->classes));
    SIM_TRY(sim_job_expand_path("data.test", t->test));
done:
    return st;
}

static sim_status fill_job(sim_config *c, sim_job *job, const sim_job_section *section)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_config_fill(c, &sim_train_table, &job->train));
    SIM_TRY(fill_method(c, job));
    SIM_TRY(sim_config_fill(c, &sim_encoder_table, &job->encoder));
    SIM_TRY(sim_config_fill(c, &sim_batchnorm_table, &job->batchnorm));
    SIM_TRY(sim_config_fill(c, &sim_optimizer_table, &job->optimizer));
    SIM_TRY(sim_config_fill(c, &sim_schedule_table, &job->schedule));
    SIM_TRY(sim_config_fill(c, &sim_augment_table, &job->augment));
    SIM_TRY(sim_config_fill(c, section->table, section->options));
    SIM_TRY(sim_config_finish(c));
    SIM_TRY(expand_paths(&job->train));
done:
    return st;
}

static sim_status format_texts(const sim_config *c, sim_job_texts *out)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_config_resolved(c, &out->resolved));
    SIM_TRY(sim_config_identity(c, &out->identity));
    SIM_TRY(sim_config_identity_before(c, &out->identity_before));
    SIM_TRY(sim_config_of_all_ranks(c, &out->of_all_ranks));
done:
    return st;
}

void sim_job_texts_clear(sim_job_texts *t)
{
    SIM_FREE(t->resolved);
    SIM_FREE(t->identity);
    SIM_FREE(t->identity_before);
    SIM_FREE(t->of_all_ranks);
}

static sim_status read_source(const sim_job_source *source, sim_config **c)
{
    return sim_config_read(source->path, source->n_overrides, source->overrides,
                           source->numbers, c);
}

sim_status sim_job_load(const sim_job_source *source, const sim_job_section *section,
                        sim_job *job, sim_job_texts *texts)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;

    memset(job, 0, sizeof *job);
    SIM_TRY(read_source(source, &c));
    SIM_TRY(fill_job(c, job, section));
    if (texts)
        SIM_TRY(format_texts(c, texts));
done:
    sim_config_destroy(&c);
    return st;
}

sim_status sim_job_load_method(const sim_job_source *source, sim_job *job)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;

    memset(job, 0, sizeof *job);
    SIM_TRY(read_source(source, &c));
    SIM_TRY(fill_method(c, job));
    SIM_TRY(sim_config_finish_section(c, "method"));
done:
    sim_config_destroy(&c);
    return st;
}

sim_status sim_job_parse(const char *resolved, const char *name,
                         const sim_job_section *section, sim_job *job)
{
    sim_status st = SIM_OK;
    sim_config *c = NULL;

    memset(job, 0, sizeof *job);
    SIM_TRY(sim_config_parse(resolved, strlen(resolved), name, &c));
    sim_config_read_as_saved(c);
    SIM_TRY(fill_job(c, job, section));
done:
    sim_config_destroy(&c);
    return st;
}
