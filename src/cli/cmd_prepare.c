/*
 * cmd_prepare.c - `simile prepare SOURCE --out F.h5`: images into a data set.
 */
#include "cli.h"

#include "prep.h"

#include "simile/log.h"
#include "simile/thread.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *source, *out;
    prep_options options;
    int threads;
    bool json;
} arguments;

enum {
    KEY_OUT = 256,
    KEY_FORMAT,
    KEY_SPLIT,
    KEY_LIMIT,
    KEY_LABELS,
    KEY_SIZE,
    KEY_CROP,
    KEY_BAD,
    KEY_IMAGES,
    KEY_LABELS_KEY,
    KEY_PATH,
    KEY_THREADS,
    KEY_JSON
};

static const struct argp_option options[] = {
    {"out", KEY_OUT, "FILE.h5", 0, "the data set to write", 0},
    {"format", KEY_FORMAT, "NAME", 0,
     "idx, stl10, hdf5, cifar, tar or folder; found by looking when absent", 0},
    {"split", KEY_SPLIT, "train|test|unlabeled", 0,
     "which part of the source (default train)", 0},
    {"limit", KEY_LIMIT, "N", 0,
     "keep N images, balanced over the classes, the same ones every time", 0},
    {"labels", KEY_LABELS, "fine|coarse", 0,
     "CIFAR-100's classes or groups (default fine)", 0},
    {"size", KEY_SIZE, "PIXELS", 0, "photos: resize the shorter side (antialiased)", 0},
    {"crop", KEY_CROP, "centre|none", 0,
     "photos with --size: cut a square (default), or keep each photo's own shape, "
     "encoded",
     0},
    {"on-bad", KEY_BAD, "skip|fail", 0,
     "name, count and skip bad files (default), or stop", 0},
    {"images-key", KEY_IMAGES, "NAME", 0,
     "HDF5: the data set of images (default: images, x, ...; as the file has it)", 0},
    {"labels-key", KEY_LABELS_KEY, "NAME", 0,
     "HDF5: the data set of labels (default: labels, ans, y, ...; none is fine)", 0},
    {"path", KEY_PATH, "GROUP", 0,
     "HDF5: a group in which every group or data set is a class", 0},
    {"threads", KEY_THREADS, "T", 0,
     "threads (default: OMP_NUM_THREADS, else the cores allowed); the bytes are the same "
     "for any number",
     0},
    {"json", KEY_JSON, NULL, 0, "print the result as JSON", 0},
    {0}};

/* One of two words. */
static bool choice(const struct argp_state *state, const char *name, const char *arg,
                   const char *yes, const char *no)
{
    if (strcmp(arg, yes) != 0 && strcmp(arg, no) != 0)
        argp_error(state, "%s takes %s or %s, not \"%s\"", name, yes, no, arg);
    return strcmp(arg, yes) == 0;
}

static const char *split(const struct argp_state *state, const char *arg)
{
    if (strcmp(arg, "unlabeled") == 0)
        return "unlabeled";
    return choice(state, "--split", arg, "train", "test") ? "train" : "test";
}

static size_t number(const struct argp_state *state, const char *name, const char *arg,
                     long most)
{
    char *end = NULL;
    long n = strtol(arg, &end, 10);
    if (end == arg || *end || n < 1 || n > most)
        argp_error(state, "%s takes a number from 1 to %ld, not \"%s\"", name, most, arg);
    return (size_t)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_FORMAT:
        a->options.format = arg;
        return 0;
    case KEY_SPLIT:
        a->options.split = split(state, arg);
        return 0;
    case KEY_LIMIT:
        a->options.limit = number(state, "--limit", arg, 1L << 30);
        return 0;
    case KEY_LABELS:
        a->options.coarse = choice(state, "--labels", arg, "coarse", "fine");
        return 0;
    case KEY_SIZE:
        a->options.size = number(state, "--size", arg, 4096);
        return 0;
    case KEY_CROP:
        a->options.keep_shape = choice(state, "--crop", arg, "none", "centre");
        return 0;
    case KEY_BAD:
        a->options.fail_on_bad = choice(state, "--on-bad", arg, "fail", "skip");
        return 0;
    case KEY_IMAGES:
        a->options.images_key = arg;
        return 0;
    case KEY_LABELS_KEY:
        a->options.labels_key = arg;
        return 0;
    case KEY_PATH:
        a->options.path = arg;
        return 0;
    case KEY_THREADS:
        a->threads = (int)number(state, "--threads", arg, 4096);
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->source)
            argp_error(state, "one source at a time");
        a->source = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->source || !a->out)
            argp_error(state, "a source and --out are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static sim_status report(const arguments *a, const prep_result *r)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    sim_log("%s: %zu images, %zu classes from %s; %zu bad files skipped, %zu kept with a "
            "warning; fingerprint %s",
            a->out, r->n_images, r->n_classes, r->format, r->n_bad, r->n_warned,
            r->fingerprint);
    if (!a->json)
        goto done;
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "out", a->out);
    sim_json_text(j, "format", r->format);
    sim_json_int(j, "images", (int64_t)r->n_images);
    sim_json_int(j, "classes", (int64_t)r->n_classes);
    sim_json_int(j, "bad", (int64_t)r->n_bad);
    sim_json_int(j, "warned", (int64_t)r->n_warned);
    sim_json_text(j, "fingerprint", r->fingerprint);
    SIM_TRY(sim_cli_print_json(NULL, j, false));
done:
    sim_json_destroy(&j);
    return st;
}

static sim_status convert(const arguments *a)
{
    sim_status st = SIM_OK;
    prep_result result;

    SIM_TRY(sim_prep_convert(a->source, a->out, &a->options, &result));
    if (a->options.part == 0)
        SIM_TRY(report(a, &result));
done:
    return st;
}

/* Did a launcher start us?  Alone, MPI is not needed. */
static bool is_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK") ||
           (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID"));
}

static sim_status meet(void *ctx, sim_status mine)
{
    return sim_comm_agree(ctx, mine);
}

static sim_status with_ranks(const sim_comm *c, void *ctx)
{
    arguments *a = ctx;
    a->options.part = (size_t)c->rank;
    a->options.n_parts = (size_t)c->size;
    a->options.meet = meet;
    a->options.meet_ctx = (void *)(uintptr_t)c;
    return convert(a);
}

sim_status sim_command_prepare(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "SOURCE --out FILE.h5",
        .doc =
            "Converts images into a data set: folders or tar archives of JPEG and PNG "
            "photos, HDF5 files of others, MNIST-like idx files, CIFAR-10, CIFAR-100 "
            "and STL-10 (binary).\v"
            "A photo's folder is its class.  A conversion that was killed goes on where "
            "it was when the same command is given again.  Under mpirun or srun the "
            "ranks share the images (each with its --threads), and the first one joins "
            "them; the bytes are those of one process, and while they are joined the "
            "disk holds them twice.  HDF5 files should be of known origin: the HDF5 "
            "library is not proof against files that were made to harm it.\n\n"
            "Examples:\n"
            "  simile prepare cifar-10-binary.tar.gz --out train.h5\n"
            "  simile prepare imagenet/ --size 160 --out train.h5\n"
            "  simile prepare imagenet/ --split test --size 160 --out test.h5\n"
            "  simile prepare ILSVRC2012_img_train.tar --size 160 --out train.h5\n"
            "  simile prepare stl10_binary.tar.gz --split unlabeled --out train.h5\n"
            "  simile prepare Galaxy10.h5 --out train.h5\n"
            "  simile prepare cells.h5 --images-key raw/rgb --labels-key raw/type --out "
            "train.h5"};
    arguments a = {.options = {.split = "train", .created_by = sim_cli_build()}};

    sim_cli_parse(&argp, argc, argv, &a);
    sim_threads_set(a.threads);
    if (is_launched())
        return sim_cli_with_ranks(argc, argv, with_ranks, &a);
    sim_status st = convert(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
    return st;
}
