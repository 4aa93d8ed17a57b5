/*
 * cmd_prepare.c - `simile prepare SOURCE --out F.h5`: converts images into a data set.
 */
#include "cli.h"

#include "prep.h"

#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char **patterns; /* [n_patterns] of the command line */
    size_t n_patterns;
    const char *out;
    prep_options options;
    int threads;
    bool json;
} arguments;

enum {
    KEY_OUT = 256,
    KEY_FORMAT,
    KEY_SPLIT,
    KEY_LIMIT,
    KEY_HOLDOUT,
    KEY_SEED,
    KEY_RANGE,
    KEY_LABELS,
    KEY_CLASSES,
    KEY_SIZE,
    KEY_CROP,
    KEY_BAD,
    KEY_IMAGES,
    KEY_LABELS_KEY,
    KEY_GROUPS_KEY,
    KEY_LIST,
    KEY_PATH,
    KEY_TYPE,
    KEY_CHANNELS,
    KEY_LAYOUT,
    KEY_PAGES,
    KEY_THREADS,
    KEY_JSON,
    KEY_FORCE
};

static const struct argp_option options[] = {
    {"out", KEY_OUT, "FILE.h5", 0, "data set to write (required)", 0},
    {"format", KEY_FORMAT, "NAME", 0,
     "idx, stl10, hdf5, hdf5_photos, numpy, cifar, tar, list or folder (default: "
     "detected)",
     0},
    {"list", KEY_LIST, "FILE.csv", 0,
     "CSV or TSV file with a header: column path, relative to the directory SOURCE, and "
     "label, split and group if there are; only these images are converted",
     0},
    {"split", KEY_SPLIT, "train|val|test|unlabeled", 0,
     "split of the source (default train, or all of a source without splits)", 0},
    {"holdout", KEY_HOLDOUT, "FRACTION", 0,
     "hold out a fraction of each class, or, with groups, whole groups: --split test "
     "writes it, --split train (default) the rest",
     0},
    {"seed", KEY_SEED, "N", 0, "seed of --holdout (default 0)", 0},
    {"type", KEY_TYPE, "uint8|uint16|float32", 0,
     "type of the stored samples (default: as in the source; photos with other than 8 "
     "bits need --size for that)",
     0},
    {"range", KEY_RANGE, "LO:HI", 0,
     "with --type uint8: values that become 0 and 255 (default: determined from all "
     "images); otherwise values that augmentations treat as black and white (default: "
     "the extremes of each channel)",
     0},
    {"channels", KEY_CHANNELS, "LIST", 0,
     "channels to keep, such as 0-2 or 3,2,1 (default: all)", 0},
    {"layout", KEY_LAYOUT, "hwc|chw", 0,
     "order of the dimensions of an image in an array, where it is ambiguous", 0},
    {"pages", KEY_PAGES, "first|channels", 0,
     "TIFF files of several pages: the first page is the image (default), or each page "
     "of "
     "one sample is a channel",
     0},
    {"limit", KEY_LIMIT, "N", 0,
     "keep N images, balanced over the classes; the selection is reproducible", 0},
    {"classes", KEY_CLASSES, "FILE", 0,
     "keep the classes whose names the file lists, one per line, in its order", 0},
    {"labels", KEY_LABELS, "fine|coarse", 0, "labels of CIFAR-100 (default fine)", 0},
    {"size", KEY_SIZE, "PIXELS", 0, "photos: resize the shorter side (antialiased)", 0},
    {"crop", KEY_CROP, "centre|none", 0,
     "photos with --size: crop a square and store pixels (default), or keep the aspect "
     "ratio and store JPEG",
     0},
    {"on-bad", KEY_BAD, "skip|fail", 0,
     "report, count and skip bad images (default), or stop", 0},
    {"images-key", KEY_IMAGES, "NAME", 0,
     "HDF5, NumPy: array of the images (default: images, x, image, data, ...); lists: "
     "column "
     "of the paths (default: path)",
     0},
    {"labels-key", KEY_LABELS_KEY, "NAME", 0,
     "HDF5, NumPy: array of the labels (default: labels, ans, y, ..., or no labels), of "
     ".npy: the file of it; lists: "
     "column (default: label); archives: key in the .json file of an image (default: "
     "label, cls or class); none: no labels",
     0},
    {"groups-key", KEY_GROUPS_KEY, "NAME", 0,
     "the group of each image, such as a patient or a place, for positives from other "
     "images of the group: HDF5, NumPy: array of numbers or texts; lists: column "
     "(default: "
     "group); archives: key in the .json file of an image (default: group)",
     0},
    {"path", KEY_PATH, "GROUP", 0, "HDF5: group whose members are the classes", 0},
    {"threads", KEY_THREADS, "T", 0,
     "threads (default: OMP_NUM_THREADS, or the available cores); the result has the "
     "same "
     "bytes for any number",
     0},
    {"json", KEY_JSON, NULL, 0, "print the result as JSON", 0},
    {"force", KEY_FORCE, NULL, 0,
     "replace the file --out whatever it is; without it, a data set with other images "
     "or labels is kept as FILE.old-N, and a file of another kind is an error",
     0},
    {0}};

/* Whether arg is `yes`; an error if it is neither `yes` nor `no`. */
static bool parse_choice(const struct argp_state *state, const char *name,
                         const char *arg, const char *yes, const char *no)
{
    if (strcmp(arg, yes) != 0 && strcmp(arg, no) != 0)
        argp_error(state, "%s: %s is unknown, expected %s or %s", name, arg, yes, no);
    return strcmp(arg, yes) == 0;
}

static prep_split parse_split(const struct argp_state *state, const char *arg)
{
    prep_split split = sim_prep_split_of(arg);
    if (split == PREP_DEFAULT_SPLIT)
        argp_error(state,
                   "--split: %s is unknown, expected train, val, test or unlabeled", arg);
    return split;
}

static double parse_fraction(const struct argp_state *state, const char *arg)
{
    char *end = NULL;
    double x = strtod(arg, &end);
    if (end == arg || *end || !(x > 0 && x < 1))
        argp_error(state, "--holdout: %s is not a number between 0 and 1", arg);
    return x;
}

static void parse_range(const struct argp_state *state, const char *arg, prep_options *o)
{
    char *middle = NULL, *end = NULL;
    o->range_lo = strtod(arg, &middle);
    o->range_hi = *middle == ':' ? strtod(middle + 1, &end) : 0;
    if (middle == arg || *middle != ':' || end == middle + 1 || *end ||
        !(o->range_lo < o->range_hi) || !isfinite(o->range_lo) || !isfinite(o->range_hi))
        argp_error(state, "--range: %s is not LO:HI, two numbers with LO < HI", arg);
}

static size_t parse_number(const struct argp_state *state, const char *name,
                           const char *arg, long min, long max)
{
    char *end = NULL;
    long n = strtol(arg, &end, 10);
    if (end == arg || *end || n < min || n > max)
        argp_error(state, "%s: %s is not a number from %ld to %ld", name, arg, min, max);
    return (size_t)n;
}

static void parse_type(const struct argp_state *state, const char *arg, prep_options *o)
{
    if (!sim_sample_type_find(arg, &o->type))
        argp_error(state, "--type: %s is unknown, expected uint8, uint16 or float32",
                   arg);
    o->has_type = true;
}

static prep_layout parse_layout(const struct argp_state *state, const char *arg)
{
    return parse_choice(state, "--layout", arg, "hwc", "chw") ? PREP_HWC : PREP_CHW;
}

/* Numbers and ranges of numbers, separated by commas. */
static void parse_channels(const struct argp_state *state, const char *arg,
                           prep_options *o)
{
    const char *at = arg;
    int first = 0, last = 0, used = 0;

    o->n_channels = 0;
    for (bool more = true; more; at += more) {
        used = 0;
        if (sscanf(at, "%2d%n", &first, &used) != 1 || first < 0)
            break;
        at += used;
        last = first;
        if (*at == '-' && (sscanf(at, "-%2d%n", &last, &used) != 1 || last < first))
            break;
        at += *at == '-' ? used : 0;
        for (int c = first; c <= last && o->n_channels < SIM_MAX_CHANNELS; c++)
            o->channels[o->n_channels++] = (uint8_t)c;
        more = *at == ',';
        if (*at == '\0')
            return;
    }
    argp_error(state, "--channels: %s is not a list of channels, such as 0-2 or 3,2,1",
               arg);
}

/* With --holdout, --split selects the part. */
static void apply_holdout(prep_options *o)
{
    if (o->holdout <= 0)
        return;
    o->held_out = o->split == PREP_TEST || o->split == PREP_VAL;
    if (o->split != PREP_UNLABELED)
        o->split = PREP_DEFAULT_SPLIT;
}

static error_t parse_prepare_option(int key, char *arg, struct argp_state *state)
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
        a->options.split = parse_split(state, arg);
        return 0;
    case KEY_LIMIT:
        a->options.limit = parse_number(state, "--limit", arg, 1, 1L << 30);
        return 0;
    case KEY_HOLDOUT:
        a->options.holdout = parse_fraction(state, arg);
        return 0;
    case KEY_SEED:
        a->options.seed = (uint32_t)parse_number(state, "--seed", arg, 0, UINT32_MAX);
        return 0;
    case KEY_RANGE:
        parse_range(state, arg, &a->options);
        return 0;
    case KEY_LABELS:
        a->options.coarse = parse_choice(state, "--labels", arg, "coarse", "fine");
        return 0;
    case KEY_CLASSES:
        a->options.classes = arg;
        return 0;
    case KEY_SIZE:
        a->options.size = parse_number(state, "--size", arg, 1, 4096);
        return 0;
    case KEY_CROP:
        a->options.keep_shape = parse_choice(state, "--crop", arg, "none", "centre");
        return 0;
    case KEY_BAD:
        a->options.fail_on_bad = parse_choice(state, "--on-bad", arg, "fail", "skip");
        return 0;
    case KEY_IMAGES:
        a->options.images_key = arg;
        return 0;
    case KEY_LABELS_KEY:
        a->options.labels_key = arg;
        return 0;
    case KEY_GROUPS_KEY:
        a->options.groups_key = arg;
        return 0;
    case KEY_LIST:
        a->options.list = arg;
        return 0;
    case KEY_PATH:
        a->options.path = arg;
        return 0;
    case KEY_TYPE:
        parse_type(state, arg, &a->options);
        return 0;
    case KEY_CHANNELS:
        parse_channels(state, arg, &a->options);
        return 0;
    case KEY_LAYOUT:
        a->options.layout = parse_layout(state, arg);
        return 0;
    case KEY_PAGES:
        a->options.pages = parse_choice(state, "--pages", arg, "channels", "first")
                               ? SIM_PAGES_CHANNELS
                               : SIM_PAGES_FIRST;
        return 0;
    case KEY_THREADS:
        a->threads = (int)parse_number(state, "--threads", arg, 1, 4096);
        return 0;
    case KEY_FORCE:
        a->options.force = true;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        a->patterns[a->n_patterns++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->n_patterns == 0 || !a->out)
            argp_error(state, "a source and --out are required");
        apply_holdout(&a->options);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static sim_status print_conversion(const arguments *a, const prep_result *r)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    char classes[96] = "no labels", groups[48] = "", excluded[48] = "", bad[48] = "",
         warned[64] = "";
    if (r->n_classes)
        (void)snprintf(classes, sizeof classes, "%zu classes of %zu to %zu images",
                       r->n_classes, r->least, r->most);
    if (r->n_groups)
        (void)snprintf(groups, sizeof groups, ", %zu group%s", r->n_groups,
                       r->n_groups == 1 ? "" : "s");
    if (r->n_excluded)
        (void)snprintf(excluded, sizeof excluded, "; %zu excluded", r->n_excluded);
    if (r->n_bad)
        (void)snprintf(bad, sizeof bad, "; %zu bad files skipped", r->n_bad);
    if (r->n_warned)
        (void)snprintf(warned, sizeof warned, "; %zu kept with a warning", r->n_warned);
    sim_log("%s: %zu images, %s%s, from %s%s%s%s; fingerprint %s", a->out, r->n_images,
            classes, groups, r->format, excluded, bad, warned, r->fingerprint);
    if (!a->json)
        goto done;
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "out", a->out);
    sim_json_text(j, "format", r->format);
    sim_json_int(j, "images", (int64_t)r->n_images);
    sim_json_int(j, "classes", (int64_t)r->n_classes);
    if (r->n_classes) {
        sim_json_int(j, "least_per_class", (int64_t)r->least);
        sim_json_int(j, "most_per_class", (int64_t)r->most);
    }
    if (r->n_groups)
        sim_json_int(j, "groups", (int64_t)r->n_groups);
    sim_json_int(j, "excluded", (int64_t)r->n_excluded);
    sim_json_int(j, "bad", (int64_t)r->n_bad);
    sim_json_int(j, "warned", (int64_t)r->n_warned);
    sim_json_text(j, "fingerprint", r->fingerprint);
    SIM_TRY(sim_cli_print_json(NULL, j, false));
done:
    sim_json_destroy(&j);
    return st;
}

static sim_status convert_sources(const arguments *a)
{
    sim_status st = SIM_OK;
    prep_sources sources = {0};
    prep_result result;

    st = sim_prep_sources_expand(a->patterns, a->n_patterns, &sources);
    SIM_TRY(a->options.agree ? a->options.agree(a->options.agree_ctx, st) : st);
    st = sim_prep_convert(&sources, a->out, &a->options, &result);
    if (sources.n == 1 && !a->options.list && !sim_prep_is_list(sources.paths[0]))
        st = sim_path_explain(st, sources.paths[0], SIM_USE_SOURCE);
    SIM_TRY(st);
    if (a->options.part == 0)
        SIM_TRY(print_conversion(a, &result));
done:
    sim_prep_sources_clear(&sources);
    return st;
}

/* Whether a launcher started this process; a single process does not need MPI. */
static bool is_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK") ||
           (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID"));
}

static sim_status agree_all_ranks(void *ctx, sim_status local)
{
    return sim_comm_agree(ctx, local);
}

static sim_status compare_all_ranks(void *ctx, const char *what, const char *text)
{
    return sim_comm_compare(ctx, SIM_E_DATA, what, text,
                            "all ranks must read the same files");
}

static sim_status with_ranks(const sim_comm *c, void *ctx)
{
    arguments *a = ctx;
    a->options.part = (size_t)c->rank;
    a->options.n_parts = (size_t)c->size;
    a->options.agree = agree_all_ranks;
    a->options.compare = compare_all_ranks;
    a->options.agree_ctx = (void *)(uintptr_t)c;
    return convert_sources(a);
}

sim_status sim_command_prepare(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_prepare_option,
        .args_doc = "SOURCE ... --out FILE.h5",
        .doc =
            "Converts images into a data set.  Sources are directories, tar and zip "
            "archives of image files (JPEG, PNG, TIFF, WebP, GIF, BMP, NumPy), CSV lists "
            "of "
            "them, HDF5 and NumPy files, idx files (MNIST), and the binary versions of "
            "CIFAR-10, CIFAR-100 and STL-10.  Several directories, archives, HDF5 or "
            "NumPy "
            "files of "
            "one format become one data set, in the order of their names; 'train-*.tar' "
            "and "
            "'train-{000..009}.tar' are expanded.\v"
            "The class of a photo is the name of the directory below the source, or "
            "below the "
            "split.  Images that are excluded are counted in warnings.  An interrupted "
            "conversion is resumed by the same command.  Under mpirun or srun, the ranks "
            "share the images (each with --threads threads), and the first rank joins "
            "the "
            "parts.  The result has the same bytes as that of one process; while parts "
            "are "
            "joined, the disk holds the data twice.  HDF5 files should come from a "
            "trusted "
            "source: the HDF5 library is not hardened against malicious files.\n\n"
            "Examples:\n"
            "  simile prepare cifar-10-binary.tar.gz --out train.h5\n"
            "  simile prepare imagenet/ --size 160 --out train.h5\n"
            "  simile prepare imagenet/ --split val --size 160 --out test.h5\n"
            "  simile prepare ILSVRC2012_img_train.tar --size 160 --out train.h5\n"
            "  simile prepare photos/ --size 160 --holdout 0.1 --out train.h5\n"
            "  simile prepare photos/ --size 160 --holdout 0.1 --split test --out "
            "test.h5\n"
            "  simile prepare stl10_binary.tar.gz --split unlabeled --out train.h5\n"
            "  simile prepare 'train-{000..146}.tar' --size 160 --out train.h5\n"
            "  simile prepare imagenet/ --classes jobs/imagenet100.txt --size 160 --out "
            "train.h5\n"
            "  simile prepare Galaxy10.h5 --out train.h5\n"
            "  simile prepare photos/ --list train.csv --size 160 --out train.h5\n"
            "  simile prepare scans.csv --labels-key diagnosis --groups-key patient "
            "--out "
            "train.h5\n"
            "  simile prepare cells.h5 --images-key raw/rgb --labels-key raw/type --out "
            "train.h5"};
    sim_status st = SIM_OK;
    arguments a = {.options = {.created_by = sim_cli_build()}};

    SIM_TRY(sim_alloc(&a.patterns, (size_t)argc, "cli/prepare"));
    sim_cli_parse(&argp, argc, argv, &a);
    sim_threads_set(a.threads);
    if (is_launched()) {
        st = sim_cli_with_ranks(argc, argv, with_ranks, &a);
        goto done;
    }
    st = convert_sources(&a);
    if (st != SIM_OK)
        sim_log_failure(st);
done:
    sim_free((void *)a.patterns);
    return st;
}
