/*
 * cmd_embed.c - `simile embed RUN --data A.h5 --out E.h5`: features and projections.
 */
#include "embed.h"

#include "simile/eval.h"
#include "simile/file.h"
#include "simile/import.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

static const embed_format *const formats[] = {
#define SIM_EMBED_FORMAT(name) &sim_embed_##name,
#include "embed_formats.def"
#undef SIM_EMBED_FORMAT
};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

typedef struct {
    const char *run, *data, *train, *out;
    const embed_format *format; /* NULL until it is known */
    bool force;
    char target[PATH_MAX]; /* `out` without symbolic links */
} arguments;

enum { KEY_DATA = 256, KEY_TRAIN, KEY_OUT, KEY_FORMAT, KEY_PROJECTOR, KEY_FORCE };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "A.h5", 0, "data set to embed", 0},
    {"train", KEY_TRAIN, "T.h5", 0,
     "training set, for a checkpoint written before version 0.2.0 if it is not where its "
     "job names it",
     0},
    {"out", KEY_OUT, "E.h5", 0, "file to write; it replaces an older file of embeddings",
     0},
    {"format", KEY_FORMAT, "FORMAT", 0,
     "file format (default: by the ending of --out, else hdf5)", 0},
    {"projector", KEY_PROJECTOR, "DIR", 0, "the same as --format projector --out DIR", 0},
    {"force", KEY_FORCE, NULL, 0, "replace the file --out whatever it is", 0},
    {0}};

const char *sim_embed_class(const embed_content *e, size_t i)
{
    return e->labels ? sim_dataset_class_name(e->data, (size_t)e->labels[i]) : NULL;
}

static const embed_format *find_format(const char *name, const struct argp_state *state)
{
    char names[256] = "";

    for (int i = 0; i < N_FORMATS; i++) {
        const size_t used = strlen(names);
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
        (void)snprintf(names + used, sizeof names - used, " %s", formats[i]->name);
    }
    argp_error(state, "--format: %s is unknown, expected one of%s", name, names);
    return NULL;
}

static const embed_format *format_of_path(const char *path)
{
    for (int i = 0; i < N_FORMATS; i++) {
        const char *ending = formats[i]->ending;
        if (ending && sim_text_ends_with(path, ending))
            return formats[i];
    }
    return formats[0];
}

static error_t parse_embed_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_DATA:
        a->data = arg;
        return 0;
    case KEY_TRAIN:
        a->train = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_FORMAT:
        a->format = find_format(arg, state);
        return 0;
    case KEY_PROJECTOR:
        a->format = &sim_embed_projector;
        a->out = arg;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->run)
            argp_error(state, "expected one run, checkpoint or safetensors file");
        a->run = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->run || !a->data || !a->out)
            argp_error(state,
                       "a run, checkpoint or safetensors file, --data and --out are "
                       "required");
        if (!a->format)
            a->format = format_of_path(a->out);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Gathers the rows of all ranks on rank 0. */
static sim_status gather_rows(const sim_comm *c, size_t n, size_t dim, const float *local,
                              float **all)
{
    sim_status st = SIM_OK;
    enum { UNIT = 32 };

    if (c->rank == 0)
        st = sim_alloc(all, n * dim, "cli/embeddings");
    SIM_TRY(sim_comm_agree(c, st));
    sim_comm_collect_rows(c, 0, (n + UNIT - 1) / UNIT, UNIT, n, dim * sizeof(float),
                          local, *all);
done:
    return st;
}

/* Logs what was written. */
static void log_embeddings(const arguments *a, const embed_content *e)
{
    const size_t n = e->features->dims[0], dim = e->features->dims[1];

    if (e->projections)
        sim_log("%s (%s): features %zu x %zu, projections %zu x %zu", a->out,
                a->format->name, n, dim, n, e->projections->dims[1]);
    else
        sim_log("%s (%s): features %zu x %zu; the model has no projector", a->out,
                a->format->name, n, dim);
}

static sim_status write_embeddings(const arguments *a, embed_content *e)
{
    sim_status st = SIM_OK;
    char *names = NULL;

    SIM_TRY(sim_dataset_read_names(e->data, &e->name_width, &names));
    e->names = names;
    e->labels = sim_dataset_labels(e->data);
    SIM_TRY(a->format->write(e, a->target));
    log_embeddings(a, e);
done:
    sim_free(names);
    return st;
}

static sim_status check_output(arguments *a, const char *checkpoint)
{
    const char *const inputs[] = {a->run, checkpoint, a->data, a->train};
    const sim_output out = {.path = a->out,
                            .option = "--out",
                            .force = a->force,
                            .inputs = inputs,
                            .n_inputs = 4};

    return a->format->check(out, a->target);
}

static sim_status find_preprocessing(const arguments *a, const sim_checkpoint *k,
                                     const sim_job *job, const sim_dataset *d,
                                     sim_preprocessing *out)
{
    sim_status st = SIM_OK;
    sim_dataset *train = NULL;

    if (a->train)
        SIM_TRY(sim_dataset_open(a->train, &train));
    SIM_TRY(sim_preprocessing_open(k, job, (const sim_dataset *[]){train, d}, 2, out));
    SIM_TRY(sim_preprocessing_check(out, d));
done:
    sim_dataset_close(&train);
    return st;
}

static sim_status run_embed(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    arguments *a = ctx;
    sim_checkpoint *k = NULL;
    sim_job *job = NULL;
    sim_dataset *d = NULL;
    sim_preprocessing p;
    sim_evaluate_options unused;
    sim_embedder e = {0};
    float *local[2] = {NULL, NULL}, *all[2] = {NULL, NULL};

    SIM_TRY(sim_import_open(c, a->run, &k));
    if (c->rank == 0)
        st = check_output(a, sim_checkpoint_path(k));
    if (st == SIM_OK)
        st = sim_new(&job, "cli/job");
    if (st == SIM_OK)
        st = sim_cli_job_of_checkpoint(sim_checkpoint_head_of(k)->config,
                                       sim_checkpoint_path(k), job, &unused);
    if (st == SIM_OK)
        st = sim_kernels_pick(job->train.kernels);
    if (st == SIM_OK)
        st = sim_dataset_open(a->data, &d);
    if (st == SIM_OK)
        st = find_preprocessing(a, k, job, d, &p);
    if (st == SIM_OK)
        st = sim_embedder_open(k, job, &p, SIM_EMBED_PROJECTOR, &e);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(sim_cli_compare_kernels(c));
    SIM_TRY(sim_job_compare_data(c, d));
    SIM_TRY(sim_cli_compare_preprocessing(c, &p));
    SIM_TRY(sim_embed(c, &e, d, 1, &local[0], e.projector ? &local[1] : NULL));
    size_t n = sim_dataset_about(d)->n_images;
    size_t dims[2] = {sim_net_dim(e.backbone),
                      e.projector ? sim_net_dim(e.projector) : 0};
    for (int i = 0; i < (e.projector ? 2 : 1); i++)
        SIM_TRY(gather_rows(c, n, dims[i], local[i], &all[i]));
    const sim_tensor features = {
        .type = SIM_F32, .n_dims = 2, .dims = {n, dims[0]}, .data = all[0]};
    const sim_tensor projections = {
        .type = SIM_F32, .n_dims = 2, .dims = {n, dims[1]}, .data = all[1]};
    embed_content content = {.data = d,
                             .checkpoint = sim_checkpoint_path(k),
                             .features = &features,
                             .projections = e.projector ? &projections : NULL};
    if (c->rank == 0)
        st = write_embeddings(a, &content);
    SIM_TRY(sim_comm_agree(c, st));
done:
    for (int i = 0; i < 2; i++) {
        sim_free(local[i]);
        sim_free(all[i]);
    }
    sim_embedder_close(&e);
    sim_dataset_close(&d);
    sim_checkpoint_close(&k);
    sim_free(job);
    return st;
}

/* The text of --help; the caller frees it. */
static sim_status format_help(char **out)
{
    sim_status st = SIM_OK;
    char list[1024] = "";

    for (int i = 0; i < N_FORMATS; i++) {
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "  %-10s %s\n", formats[i]->name,
                       formats[i]->summary);
    }
    SIM_TRY(sim_text_format(
        "cli/text", out,
        "Writes the features (outputs of the backbone) and the projections (outputs of "
        "the "
        "projector, if the model has one) of every image of a data set, its number, and "
        "its name and label if the data set has them.  MODEL is a run, a checkpoint, or "
        "a "
        "safetensors file of a ResNet (an export, or torchvision's names).  With cpc, "
        "features and projections are the mean over the patches of an image.  FORMAT is "
        "one of\n\n%s\v"
        "Examples:\n"
        "  simile embed runs/first --data test.h5 --out features.h5\n"
        "  mpirun -np 2 simile embed resnet50.safetensors --data test.h5 --out f.npy",
        list));
done:
    return st;
}

sim_status sim_command_embed(int argc, char **argv)
{
    sim_status st = SIM_OK;
    arguments a = {0};
    char *help = NULL;

    SIM_TRY(format_help(&help));
    const struct argp argp = {.options = options,
                              .parser = parse_embed_option,
                              .args_doc = "MODEL --data A.h5 --out E.h5",
                              .doc = help};
    sim_cli_parse(&argp, argc, argv, &a);
    st = sim_cli_with_ranks(argc, argv, run_embed, &a);
done:
    sim_free(help);
    return st;
}
