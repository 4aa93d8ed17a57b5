/*
 * cmd_export.c - `simile export RUN --out DIR`: the encoder for use in PyTorch or ONNX Runtime.
 */
#include "cli.h"

#include "simile/export.h"
#include "simile/file.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *checkpoint, *format, *train, *out;
    bool projector, momentum, fold_batchnorm, force;
    size_t batch;
} arguments;

enum {
    KEY_FORMAT = 256,
    KEY_OUT,
    KEY_PROJECTOR,
    KEY_MOMENTUM,
    KEY_BATCH,
    KEY_FOLD,
    KEY_TRAIN,
    KEY_FORCE
};

static const struct argp_option options[] = {
    {"out", KEY_OUT, "DIR", 0,
     "directory to write; files of an earlier export are replaced", 0},
    {"format", KEY_FORMAT, "FORMAT", 0,
     "file format of the weights (default: safetensors)", 0},
    {"projector", KEY_PROJECTOR, NULL, 0, "export the projector in addition", 0},
    {"momentum", KEY_MOMENTUM, NULL, 0,
     "export the momentum encoder of MoCo instead of the trained one", 0},
    {"batch", KEY_BATCH, "N|free", 0,
     "onnx: images per call, a fixed number or free (default)", 0},
    {"fold-batchnorm", KEY_FOLD, NULL, 0,
     "onnx: make batch norms part of the convolutions before them", 0},
    {"train", KEY_TRAIN, "T.h5", 0,
     "training set, for a checkpoint written before version 0.2.0 if it is not where its "
     "job names it",
     0},
    {"force", KEY_FORCE, NULL, 0, "replace files in DIR whatever they are", 0},
    {0}};

/* Writes " safetensors hdf5" to `out` and returns it. */
static const char *format_names(char *out, size_t out_bytes)
{
    out[0] = '\0';
    for (size_t i = 0, n = 0; i < sim_export_formats_count(); i++, n = strlen(out))
        (void)snprintf(out + n, out_bytes - n, " %s", sim_export_formats_at(i)->name);
    return out;
}

/* A number of images; free: 0. */
static size_t parse_batch(const char *arg, struct argp_state *state)
{
    enum { LARGEST = 1 << 20 };
    char *end = NULL;

    if (strcmp(arg, "free") == 0)
        return 0;
    const long long n = strtoll(arg, &end, 10);
    if (end == arg || *end || n < 1 || n > LARGEST)
        argp_error(state, "--batch requires a number from 1 to %d, or free, not \"%s\"",
                   LARGEST, arg);
    return (size_t)n;
}

static void check_export_options(const arguments *a, struct argp_state *state)
{
    char names[256];
    const sim_export_format *format = sim_export_formats_find(a->format);

    if (!a->checkpoint || !a->out)
        argp_error(state, "a run or checkpoint and --out are required");
    if (!format)
        argp_error(state, "--format: %s is unknown, expected one of%s", a->format,
                   format_names(names, sizeof names));
    else if (!format->is_graph && (a->batch || a->fold_batchnorm))
        argp_error(state, "--batch and --fold-batchnorm require --format onnx, not %s",
                   a->format);
}

static error_t parse_export_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;

    switch (key) {
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_FORMAT:
        a->format = arg;
        return 0;
    case KEY_PROJECTOR:
        a->projector = true;
        return 0;
    case KEY_MOMENTUM:
        a->momentum = true;
        return 0;
    case KEY_BATCH:
        a->batch = parse_batch(arg, state);
        return 0;
    case KEY_FOLD:
        a->fold_batchnorm = true;
        return 0;
    case KEY_TRAIN:
        a->train = arg;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->checkpoint)
            argp_error(state, "expected one run or checkpoint");
        a->checkpoint = arg;
        return 0;
    case ARGP_KEY_END:
        check_export_options(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The text of --help; the caller frees it. */
static sim_status format_help(char **out)
{
    sim_status st = SIM_OK;
    char formats[1024] = "";

    for (size_t i = 0; i < sim_export_formats_count(); i++) {
        const sim_export_format *f = sim_export_formats_at(i);
        const size_t used = strlen(formats);
        (void)snprintf(formats + used, sizeof formats - used, "  %-12s %s\n", f->name,
                       f->summary);
    }
    SIM_TRY(sim_text_format(
        "cli/text", out,
        "Writes an encoder under torchvision's names for use in PyTorch or ONNX Runtime. "
        " "
        "DIR receives "
        "the "
        "weights, a sample of images with their features, encoder.json (architecture, "
        "preprocessing, origin), and load_encoder.py.  FORMAT is one of\n\n%s\v"
        "In Python:\n"
        "  from load_encoder import load_encoder\n"
        "  encoder, transform = load_encoder(\"DIR\")\n"
        "`python3 DIR/load_encoder.py DIR` compares the features of the sample with "
        "those "
        "that PyTorch computes.  With cpc, features are the mean over the patches of an "
        "image.\n\n"
        "Examples:\n"
        "  simile export runs/first --out encoder\n"
        "  simile export runs/first --format onnx --fold-batchnorm --out encoder\n"
        "  simile export runs/moco --momentum --projector --format hdf5 --out encoder",
        formats));
done:
    return st;
}

static sim_status find_preprocessing(const arguments *a, const sim_checkpoint *k,
                                     const sim_job *job, sim_preprocessing *out)
{
    sim_status st = SIM_OK;
    sim_dataset *train = NULL;

    if (a->train)
        SIM_TRY(sim_dataset_open(a->train, &train));
    SIM_TRY(sim_preprocessing_open(k, job, (const sim_dataset *[]){train}, 1, out));
done:
    sim_dataset_close(&train);
    return st;
}

static void log_export(const arguments *a, const sim_checkpoint *k, const sim_job *job,
                       const sim_export_format *format)
{
    sim_log(
        "%s: %s%s of %s at step %lld (%s); check it with: python3 %s/load_encoder.py %s",
        a->out, a->momentum ? "momentum encoder" : "encoder",
        a->projector ? " and projector" : "", job->method->name,
        (long long)sim_checkpoint_head_of(k)->step, format->files[0], a->out, a->out);
}

static sim_status check_outputs(const arguments *a, const sim_checkpoint *k)
{
    const char *const inputs[] = {a->checkpoint, sim_checkpoint_path(k), a->train};
    const sim_output out = {
        .option = "--out", .force = a->force, .inputs = inputs, .n_inputs = 3};

    return sim_export_check(sim_export_formats_find(a->format), a->out, out);
}

static sim_status export_checkpoint(const arguments *a, const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    const sim_export_options o = {.format = sim_export_formats_find(a->format),
                                  .projector = a->projector,
                                  .momentum = a->momentum,
                                  .batch = a->batch,
                                  .fold_batchnorm = a->fold_batchnorm,
                                  .created_by = sim_cli_build()};
    sim_job *job = NULL;
    sim_preprocessing p;
    sim_evaluate_options unused;
    sim_export *e = NULL;

    SIM_TRY(check_outputs(a, k));
    SIM_TRY(sim_new(&job, "cli/job"));
    SIM_TRY(sim_cli_job_of_checkpoint(sim_checkpoint_head_of(k)->config,
                                      sim_checkpoint_path(k), job, &unused));
    SIM_TRY(sim_kernels_pick(job->train.kernels));
    SIM_TRY(find_preprocessing(a, k, job, &p));
    SIM_TRY(sim_export_create(k, job, &p, &o, &e));
    SIM_TRY(sim_export_write(e, a->out));
    log_export(a, k, job, o.format);
done:
    sim_export_destroy(&e);
    sim_free(job);
    return st;
}

static sim_status run_export(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    const arguments *a = ctx;
    sim_checkpoint *k = NULL;

    SIM_TRY(sim_checkpoint_open(c, a->checkpoint, &k));
    if (c->rank == 0)
        st = export_checkpoint(a, k);
    SIM_TRY(sim_comm_agree(c, st));
done:
    sim_checkpoint_close(&k);
    return st;
}

sim_status sim_command_export(int argc, char **argv)
{
    sim_status st = SIM_OK;
    arguments a = {.format = "safetensors"};
    char *help = NULL;

    SIM_TRY(format_help(&help));
    const struct argp argp = {.options = options,
                              .parser = parse_export_option,
                              .args_doc = "RUN_OR_CHECKPOINT --out DIR",
                              .doc = help};
    sim_cli_parse(&argp, argc, argv, &a);
    st = sim_cli_with_ranks(argc, argv, run_export, &a);
done:
    sim_free(help);
    return st;
}
