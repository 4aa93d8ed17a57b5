/*
 * cmd_inspect.c - `simile inspect FILE_OR_RUN`: what is in a data set, checkpoint or run.
 */
#include "cli.h"

#include "simile/data.h"
#include "simile/file.h"
#include "simile/h5.h"
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

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path)
            argp_error(state, "one file or run at a time");
        a->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a data set, checkpoint or run is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- data sets ---- */

static void describe_data(const sim_dataset *d, sim_json *j)
{
    const sim_dataset_info *a = sim_dataset_about(d);
    sim_json_text(j, "format", "simile-dataset");
    sim_json_int(j, "images", (int64_t)a->n_images);
    sim_json_bool(j, "encoded", a->encoded);
    sim_json *shape = sim_json_array(j, "shape");
    sim_json_int(shape, NULL, (int64_t)a->h);
    sim_json_int(shape, NULL, (int64_t)a->w);
    sim_json_int(shape, NULL, (int64_t)a->c);
    sim_json_bool(j, "labels", a->has_labels);
    sim_json_int(j, "classes", (int64_t)a->n_classes);
    sim_json *mean = sim_json_array(j, "mean"), *std = sim_json_array(j, "std");
    for (size_t c = 0; c < a->c; c++) {
        sim_json_real(mean, NULL, a->mean[c]);
        sim_json_real(std, NULL, a->std[c]);
    }
    sim_json_text(j, "source", a->source);
    sim_json_text(j, "fingerprint", a->fingerprint);
}

static sim_status inspect_data(const arguments *args)
{
    sim_status st = SIM_OK;
    sim_dataset *d = NULL;
    sim_json *j = NULL;

    SIM_TRY(sim_dataset_open(args->path, &d));
    SIM_TRY(sim_json_create(&j));
    describe_data(d, j);
    SIM_TRY(sim_cli_print_json(NULL, j, !args->json));
done:
    sim_json_destroy(&j);
    sim_dataset_close(&d);
    return st;
}

/* ---- checkpoints and runs ---- */

/* A line for each segment of the run's history. */
static sim_status print_history(const char *history)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    char line[256];

    SIM_TRY(sim_json_parse(history, strlen(history), &j));
    SIM_TRY(sim_cli_print(
        NULL, "segments\n  start                 ranks threads   from step     "
              "to step  images/s  ended by\n"));
    for (size_t i = 0; i < sim_json_size(j); i++) {
        const sim_json *s = sim_json_at(j, i);
        const char *start = "?", *ended = "?";
        int64_t ranks = 0, threads = 0, from = 0, to = 0;
        double speed = 0;
        (void)sim_json_get_text(s, "start", &start);
        (void)sim_json_get_text(s, "ended", &ended);
        (void)sim_json_get_int(s, "ranks", &ranks);
        (void)sim_json_get_int(s, "threads", &threads);
        (void)sim_json_get_int(s, "from_step", &from);
        (void)sim_json_get_int(s, "to_step", &to);
        (void)sim_json_get_real(s, "images_per_s", &speed);
        (void)snprintf(line, sizeof line,
                       "  %-20s %6lld %7lld %11lld %11lld %9.0f  %.60s\n", start,
                       (long long)ranks, (long long)threads, (long long)from,
                       (long long)to, speed, ended);
        SIM_TRY(sim_cli_print(NULL, line));
    }
done:
    sim_json_destroy(&j);
    return st;
}

static sim_status print_text(const sim_checkpoint *k, const sim_json *j)
{
    sim_status st = SIM_OK;
    const sim_checkpoint_head *h = sim_checkpoint_head_of(k);
    const char *hash = "";
    sim_json *tensors = NULL;
    char *text = NULL;

    (void)sim_json_get_text(j, "weights_hash", &hash);
    (void)sim_json_get_object(j, "tensors", &tensors);
    SIM_TRY(sim_text_format(
        "cli/text", &text,
        "checkpoint   %s\nstep         %lld (epoch %lld, %lld images of "
        "it)\nfingerprint  %s\nweights      %s, %zu tensors\n",
        sim_checkpoint_path(k), (long long)h->step, (long long)h->epoch,
        (long long)h->samples, h->fingerprint, hash, sim_json_size(tensors)));
    SIM_TRY(sim_cli_print(NULL, text));
    SIM_TRY(print_history(h->history));
    SIM_TRY(sim_cli_print(NULL, "identity\n"));
    SIM_TRY(sim_cli_print(NULL, h->identity));
done:
    sim_free(text);
    return st;
}

static sim_status inspect_checkpoint(const arguments *args)
{
    sim_status st = SIM_OK;
    const sim_comm alone = {.rank = 0, .size = 1};
    sim_checkpoint *k = NULL;
    sim_json *j = NULL;

    SIM_TRY(sim_checkpoint_open(&alone, args->path, &k));
    SIM_TRY(sim_json_create(&j));
    SIM_TRY(sim_checkpoint_describe(k, j));
    if (args->json)
        SIM_TRY(sim_cli_print_json(NULL, j, false));
    else
        SIM_TRY(print_text(k, j));
done:
    sim_json_destroy(&j);
    sim_checkpoint_close(&k);
    return st;
}

/* A data set says so in its attribute; everything else is a checkpoint, or refused as one. */
static bool is_data_set(const char *path)
{
    sim_h5 *f = NULL;
    char format[64] = "";
    if (sim_path_is_directory(path) || sim_h5_open_read(path, &f) != SIM_OK)
        return false;
    bool is = sim_h5_has_attribute(f, "format") &&
              sim_h5_read_attribute_text(f, "format", format, sizeof format) == SIM_OK &&
              strcmp(format, "simile-dataset") == 0;
    sim_h5_close(&f);
    return is;
}

sim_status sim_command_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "FILE_OR_RUN",
        .doc =
            "Tells what is in a data set, a checkpoint, or the newest checkpoint of a "
            "run, "
            "with the run's segments: when, on how many ranks, how far, why each ended."};
    arguments a = {0};

    sim_cli_parse(&argp, argc, argv, &a);
    sim_status st = is_data_set(a.path) ? inspect_data(&a) : inspect_checkpoint(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
    return st;
}
