/*
 * cmd_embed.c - `simile embed RUN --data A.h5 --out E.h5`: features and projections.
 */
#include "cli.h"

#include "simile/eval.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/import.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <string.h>

typedef struct {
    const char *run, *data, *train, *out;
    bool force;
    char target[PATH_MAX]; /* `out` without symbolic links */
} arguments;

enum { KEY_DATA = 256, KEY_TRAIN, KEY_OUT, KEY_FORCE };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "A.h5", 0, "data set to embed", 0},
    {"train", KEY_TRAIN, "T.h5", 0,
     "training set, for a checkpoint written before version 0.2.0 if it is not where its "
     "job names it",
     0},
    {"out", KEY_OUT, "E.h5", 0, "file to write; it replaces an older file of embeddings",
     0},
    {"force", KEY_FORCE, NULL, 0, "replace the file --out whatever it is", 0},
    {0}};

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

/* Number of each image in the data set. */
static sim_status write_ids(sim_h5 *f, size_t n)
{
    sim_status st = SIM_OK;
    int64_t *id = NULL;

    SIM_TRY(sim_alloc(&id, n, "cli/embeddings"));
    for (size_t i = 0; i < n; i++)
        id[i] = (int64_t)i;
    const sim_tensor t = {.type = SIM_I64, .n_dims = 1, .dims = {n}, .data = id};
    SIM_TRY(sim_h5_write(f, "/id", &t));
done:
    sim_free(id);
    return st;
}

static sim_status write_class_names(sim_h5 *f, const sim_dataset *d)
{
    sim_status st = SIM_OK;
    size_t n = sim_dataset_about(d)->n_classes, width = 1;
    void *text = NULL;

    if (n == 0 || !sim_dataset_class_name(d, n - 1))
        goto done;
    for (size_t k = 0; k < n; k++)
        width = strlen(sim_dataset_class_name(d, k)) > width
                    ? strlen(sim_dataset_class_name(d, k))
                    : width;
    SIM_TRY(sim_alloc_bytes(n, width, "cli/embeddings", &text));
    for (size_t k = 0; k < n; k++)
        memcpy((char *)text + k * width, sim_dataset_class_name(d, k),
               strlen(sim_dataset_class_name(d, k)));
    SIM_TRY(sim_h5_write_strings(f, "/classes", n, width, text));
done:
    sim_free(text);
    return st;
}

/* `projections` is NULL if the model has no projector. */
static sim_status write_embeddings(const arguments *a, const sim_dataset *d,
                                   const char *checkpoint, const sim_tensor *features,
                                   const sim_tensor *projections)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    const void *image = NULL;
    size_t n_bytes = 0, n = features->dims[0];
    size_t projected = projections ? projections->dims[1] : 0;
    char *names = NULL;
    size_t width = 0;
    const sim_tensor labels = {.type = SIM_I32,
                               .n_dims = 1,
                               .dims = {n},
                               .data = (void *)(uintptr_t)sim_dataset_labels(d)};

    SIM_TRY(sim_dataset_read_names(d, &width, &names));
    size_t row = (features->dims[1] + projected + 1) * sizeof(float) + sizeof(int64_t);
    SIM_TRY(sim_h5_create_image(n * (row + width), &f));
    SIM_TRY(sim_h5_write_attribute_text(f, "format", "simile-embeddings"));
    SIM_TRY(
        sim_h5_write_attribute_text(f, "fingerprint", sim_dataset_about(d)->fingerprint));
    SIM_TRY(sim_h5_write_text(f, "/checkpoint", checkpoint));
    SIM_TRY(sim_h5_write(f, "/features", features));
    if (projections)
        SIM_TRY(sim_h5_write(f, "/projections", projections));
    if (labels.data)
        SIM_TRY(sim_h5_write(f, "/labels", &labels));
    SIM_TRY(write_class_names(f, d));
    SIM_TRY(write_ids(f, n));
    if (names)
        SIM_TRY(sim_h5_write_strings(f, "/name", n, width, names));
    SIM_TRY(sim_h5_image(f, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(a->target, &piece, 1));
    if (projections)
        sim_log("%s: /features %zu x %zu, /projections %zu x %zu", a->out, n,
                features->dims[1], n, projected);
    else
        sim_log("%s: /features %zu x %zu; the model has no projector", a->out, n,
                features->dims[1]);
done:
    sim_h5_close(&f);
    sim_free(names);
    return st;
}

static sim_status check_output(arguments *a, const char *checkpoint)
{
    sim_status st = SIM_OK;
    SIM_TRY(sim_path_follow(a->out, a->target));
    SIM_TRY(sim_path_check_output(a->target, a->data));
    SIM_TRY(sim_path_check_output(a->target, checkpoint));
    bool may_replace = a->force || sim_path_kind_of(a->target) == SIM_PATH_EMBEDDINGS;
    SIM_TRY(sim_path_check_replace(a->target, may_replace, "a file of embeddings"));
done:
    return st;
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
    if (c->rank == 0)
        st = write_embeddings(a, d, sim_checkpoint_path(k), &features,
                              e.projector ? &projections : NULL);
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

sim_status sim_command_embed(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_embed_option,
        .args_doc = "MODEL --data A.h5 --out E.h5",
        .doc =
            "Writes an HDF5 file with /features (outputs of the backbone) and "
            "/projections "
            "(outputs of the projector, if the method has one) of every image of a data "
            "set, its number /id, and its /name and /labels if the data set has them.  "
            "MODEL is a run, a checkpoint, or a safetensors file of a ResNet (an "
            "export, or torchvision's names).  With "
            "cpc, features and projections are the mean over the patches of an image."};
    arguments a = {0};

    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, run_embed, &a);
}
