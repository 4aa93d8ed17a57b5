/*
 * cmd_inspect.c - `simile inspect FILE_OR_RUN`: describes a data set, checkpoint or run.
 */
#include "cli.h"
#include "segment.h"

#include "simile/data.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/import.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    const char *path;
    bool json;
} arguments;

enum { KEY_JSON = 256 };

static const struct argp_option options[] = {
    {"json", KEY_JSON, NULL, 0, "print one JSON object", 0}, {0}};

static error_t parse_inspect_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path)
            argp_error(state, "expected one file or run directory");
        a->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "the argument FILE_OR_RUN (a data set, checkpoint or run "
                          "directory) is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- data sets ---- */

/* What augmentations treat as black and white, for each channel. */
static void describe_scale(const sim_dataset_info *a, sim_json *j)
{
    sim_json *range = sim_json_array(j, "range");

    for (size_t c = 0; c < a->c; c++) {
        sim_json *of_channel = sim_json_array(range, NULL);
        sim_json_real(of_channel, NULL, a->scale[c].lo);
        sim_json_real(of_channel, NULL, a->scale[c].hi);
    }
}

static void describe_groups(const sim_group_sizes *groups, sim_json *j)
{
    sim_json_int(j, "groups", (int64_t)groups->n);
    if (groups->n == 0)
        return;
    sim_json *sizes = sim_json_object(j, "group_sizes");
    sim_json_int(sizes, "smallest", (int64_t)groups->smallest);
    sim_json_int(sizes, "median", (int64_t)groups->median);
    sim_json_int(sizes, "largest", (int64_t)groups->largest);
    sim_json_int(sizes, "of_one_image", (int64_t)groups->n_single);
}

static void describe_data(const sim_dataset *d, const sim_group_sizes *groups,
                          sim_json *j)
{
    const sim_dataset_info *a = sim_dataset_about(d);
    sim_json_text(j, "format", "simile-dataset");
    sim_json_int(j, "images", (int64_t)a->n_images);
    sim_json_bool(j, "encoded", a->encoded);
    sim_json *shape = sim_json_array(j, "shape");
    sim_json_int(shape, NULL, (int64_t)a->h);
    sim_json_int(shape, NULL, (int64_t)a->w);
    sim_json_int(shape, NULL, (int64_t)a->c);
    sim_json_text(j, "type", sim_type_name(a->type));
    sim_json_bool(j, "labels", a->has_labels);
    sim_json_int(j, "classes", (int64_t)a->n_classes);
    describe_groups(groups, j);
    sim_json *mean = sim_json_array(j, "mean"), *std = sim_json_array(j, "std");
    for (size_t c = 0; c < a->c; c++) {
        sim_json_real(mean, NULL, a->mean[c]);
        sim_json_real(std, NULL, a->std[c]);
    }
    if (a->type != SIM_U8)
        describe_scale(a, j);
    sim_json_text(j, "source", a->source);
    sim_json_text(j, "fingerprint", a->fingerprint);
}

static sim_status inspect_data(const arguments *args)
{
    sim_status st = SIM_OK;
    sim_dataset *d = NULL;
    sim_json *j = NULL;
    sim_group_sizes groups;

    SIM_TRY(sim_dataset_open(args->path, &d));
    SIM_TRY(sim_json_create(&j));
    SIM_TRY(sim_groups_measure(d, &groups));
    describe_data(d, &groups, j);
    SIM_TRY(sim_cli_print_json(NULL, j, !args->json));
done:
    sim_json_destroy(&j);
    sim_dataset_close(&d);
    return st;
}

/* ---- embeddings ---- */

typedef struct {
    const sim_h5 *file;
    sim_json *list;
} arrays;

/* Adds the name and, of numbers, the shape of an array. */
static void add_array(void *ctx, const char *path, const char *problem)
{
    const arrays *a = ctx;
    sim_h5_shape shape;
    sim_json *j = NULL;

    if (*problem)
        return;
    j = sim_json_object(a->list, NULL);
    sim_json_text(j, "name", path);
    if (sim_h5_is_strings(a->file, path) ||
        sim_h5_shape_of(a->file, path, &shape) != SIM_OK)
        return;
    sim_json *dims = sim_json_array(j, "dims");
    for (int i = 0; i < shape.n_dims; i++)
        sim_json_int(dims, NULL, (int64_t)shape.dims[i]);
}

static sim_status inspect_embeddings(const arguments *args)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    sim_json *j = NULL;
    char fingerprint[33], *checkpoint = NULL;

    SIM_TRY(sim_h5_open_read(args->path, &f));
    SIM_TRY(
        sim_h5_read_attribute_text(f, "fingerprint", fingerprint, sizeof fingerprint));
    SIM_TRY(sim_h5_read_text(f, "/checkpoint", &checkpoint));
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "format", "simile-embeddings");
    sim_json_text(j, "checkpoint", checkpoint);
    sim_json_text(j, "fingerprint", fingerprint); /* of the data set */
    sim_h5_list(f, add_array, &(arrays){f, sim_json_array(j, "arrays")});
    SIM_TRY(sim_cli_print_json(NULL, j, !args->json));
done:
    sim_free(checkpoint);
    sim_json_destroy(&j);
    sim_h5_close(&f);
    return st;
}

/* ---- checkpoints and runs ---- */

static sim_status print_segment(size_t i, const run_segment *s)
{
    sim_status st = SIM_OK;
    char line[1024], more[32] = "", steps[64], lost[64] = "", job[96] = "",
                     rate[32] = "-";

    if (s->nodes > 1)
        (void)snprintf(more, sizeof more, " +%lld", (long long)s->nodes - 1);
    (void)snprintf(steps, sizeof steps, "%lld -> %lld", (long long)s->from,
                   (long long)s->to);
    if (s->last > s->to)
        (void)snprintf(lost, sizeof lost, " after step %lld", (long long)s->last);
    if (*s->job)
        (void)snprintf(job, sizeof job, " (job %.60s.%lld)", s->job,
                       (long long)s->restart);
    if (s->images_per_s > 0)
        (void)snprintf(rate, sizeof rate, "%.0f", s->images_per_s);
    (void)snprintf(
        line, sizeof line,
        "  %2zu %-20s %-16.40s%-4s %4lld x %-4lld %6lld %18s %9s  %.160s%s%s\n", i,
        s->start, s->host, more, (long long)s->ranks, (long long)s->threads,
        (long long)s->batch, steps, rate, s->ended, lost, job);
    SIM_TRY(sim_cli_print(NULL, line));
    if (*s->changed) {
        (void)snprintf(line, sizeof line, "     accepted: %.600s\n", s->changed);
        SIM_TRY(sim_cli_print(NULL, line));
    }
done:
    return st;
}

static sim_status print_segments(const sim_json *list)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_cli_print(
        NULL, "segments\n   # started              on                  ranks x "
              "thr.   batch              steps  images/s  ended by\n"));
    for (size_t i = 0; i < sim_json_size(list); i++) {
        const run_segment s = sim_segment_read(sim_json_at(list, i));
        SIM_TRY(print_segment(i + 1, &s));
    }
done:
    return st;
}

/* A segment records its rate when it saves or ends. For the newest one, which may be running
 * or killed before a save, the rate comes from the metrics. */
static void add_rate(sim_json *list, double images_per_s)
{
    size_t n = sim_json_size(list);
    sim_json *newest = n > 0 ? sim_json_at(list, n - 1) : NULL;
    if (!newest)
        return;
    const run_segment s = sim_segment_read(newest);
    if (s.images_per_s <= 0 && s.last > s.from)
        sim_json_real(newest, "images_per_s", images_per_s);
}

/*
 * Adds the array "segments" to `j`: those recorded in the checkpoint, and for a run directory
 * also those that wrote no checkpoint.
 */
static sim_status add_segments(const arguments *args, const sim_checkpoint *k,
                               sim_json *j)
{
    sim_status st = SIM_OK;
    char *of_run = NULL;
    bool is_run = sim_path_is_directory(args->path);
    double images_per_s = 0;
    sim_json *list = sim_json_array(j, "segments");

    if (is_run)
        SIM_TRY(sim_history_of_run(args->path, &of_run));
    int64_t last = is_run ? sim_metrics_last_step(args->path, &images_per_s) : -1;
    SIM_TRY(sim_history_merge(sim_checkpoint_head_of(k)->history, is_run ? of_run : "[]",
                              last, !is_run || sim_run_is_locked(args->path), list));
    add_rate(list, images_per_s);
done:
    sim_free(of_run);
    return st;
}

/* Nothing for a checkpoint that does not store it. */
static sim_status print_preprocessing(const sim_checkpoint *k)
{
    sim_status st = SIM_OK;
    const char *stored = sim_checkpoint_head_of(k)->preprocessing;
    sim_preprocessing p;
    char mean[64] = "", std[64] = "", *text = NULL;

    if (!stored)
        goto done;
    SIM_TRY(sim_preprocessing_parse(stored, sim_checkpoint_path(k), &p));
    for (size_t c = 0; c < p.c; c++) {
        size_t m = strlen(mean), s = strlen(std);
        (void)snprintf(mean + m, sizeof mean - m, " %.4f", p.mean[c]);
        (void)snprintf(std + s, sizeof std - s, " %.4f", p.std[c]);
    }
    SIM_TRY(sim_text_format("cli/text", &text,
                            "input        %zu x %zu x %zu, mean%s, std%s\n", p.h, p.w,
                            p.c, mean, std));
    SIM_TRY(sim_cli_print(NULL, text));
done:
    sim_free(text);
    return st;
}

static sim_status print_text(const sim_checkpoint *k, const sim_json *j)
{
    sim_status st = SIM_OK;
    const sim_checkpoint_head *h = sim_checkpoint_head_of(k);
    const char *hash = "";
    sim_json *tensors = NULL, *segments = NULL;
    char *text = NULL, *path = NULL;

    (void)sim_json_get_text(j, "weights_hash", &hash);
    (void)sim_json_get_object(j, "tensors", &tensors);
    SIM_TRY(
        sim_text_format("cli/text", &path, "checkpoint   %s\n", sim_checkpoint_path(k)));
    SIM_TRY(sim_cli_print_line(path));
    SIM_TRY(sim_text_format("cli/text", &text,
                            "step         %lld (epoch %lld, %lld images into it)\n"
                            "fingerprint  %s\nweights      %s, %zu tensors\n",
                            (long long)h->step, (long long)h->epoch,
                            (long long)h->samples, h->fingerprint, hash,
                            sim_json_size(tensors)));
    SIM_TRY(sim_cli_print(NULL, text));
    SIM_TRY(print_preprocessing(k));
    (void)sim_json_get_object(j, "segments", &segments);
    if (!*h->identity) /* of a safetensors file */
        goto done;
    SIM_TRY(sim_cli_print(NULL, "identity\n"));
    SIM_TRY(sim_cli_print(NULL, h->identity));
    SIM_TRY(print_segments(segments)); /* last, so that they are visible in a terminal */
done:
    sim_free(path);
    sim_free(text);
    return st;
}

static sim_status inspect_checkpoint(const arguments *args)
{
    sim_status st = SIM_OK;
    const sim_comm alone = {.rank = 0, .size = 1};
    sim_checkpoint *k = NULL;
    sim_json *j = NULL;

    SIM_TRY(sim_import_open(&alone, args->path, &k));
    SIM_TRY(sim_json_create(&j));
    SIM_TRY(sim_checkpoint_describe(k, j));
    SIM_TRY(add_segments(args, k, j));
    if (args->json)
        SIM_TRY(sim_cli_print_json(NULL, j, false));
    else
        SIM_TRY(print_text(k, j));
done:
    sim_json_destroy(&j);
    sim_checkpoint_close(&k);
    return st;
}

/* ---- */

/* An HDF5 file that cannot be opened: for lack of a lock, or a checkpoint that is cut. */
static sim_status inspect_broken(const arguments *args)
{
    const sim_status st = inspect_data(args);
    if (st == SIM_E_IO)
        return st;
    sim_error_clear();
    return inspect_checkpoint(args);
}

static sim_status inspect_path(const arguments *args)
{
    const sim_path_kind kind = sim_path_kind_of(args->path);
    sim_status st = kind == SIM_PATH_DATASET       ? inspect_data(args)
                    : kind == SIM_PATH_EMBEDDINGS  ? inspect_embeddings(args)
                    : kind == SIM_PATH_BROKEN_HDF5 ? inspect_broken(args)
                                                   : inspect_checkpoint(args);
    return sim_path_explain(st, args->path, SIM_USE_INSPECT);
}

sim_status sim_command_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_inspect_option,
        .args_doc = "FILE_OR_RUN",
        .doc =
            "Describes a data set, a checkpoint, the newest checkpoint of a run, a file "
            "written by embed, or a network in a safetensors file.  Of a "
            "run it lists the segments: start, host, ranks, steps, speed and the reason "
            "for the end, with the last step if that is beyond the last checkpoint."};
    arguments a = {0};

    sim_cli_parse(&argp, argc, argv, &a);
    sim_status st = inspect_path(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
    return st;
}
