/*
 * cmd_bench.c - `simile bench step|scaling|kernel|loss|loader|checkpoint`: measures the speed of
 * this machine; prints JSON.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *what, *arch, *stem, *width, *dir, *data, *augment;
    size_t size, batch, micro_batch, global_batch, queue, dim;
    double latency_us, bandwidth_gbits;
    bool momentum_copy;
    sim_gather gather;
    sim_range rows; /* {0, 0}: all */
    int threads, steps;
    bool json;
} arguments;

enum {
    KEY_ARCH = 256,
    KEY_STEM,
    KEY_WIDTH,
    KEY_SIZE,
    KEY_BATCH,
    KEY_MICRO,
    KEY_GLOBAL,
    KEY_LATENCY,
    KEY_BANDWIDTH,
    KEY_THREADS,
    KEY_STEPS,
    KEY_QUEUE,
    KEY_DIM,
    KEY_COPY,
    KEY_DIR,
    KEY_DATA,
    KEY_AUGMENT,
    KEY_GATHER,
    KEY_ROWS,
    KEY_JSON
};

static const struct argp_option options[] = {
    {"arch", KEY_ARCH, "NAME", 0, "resnet18 (default), resnet34, resnet50", 0},
    {"stem", KEY_STEM, "NAME", 0, "cifar (default) or imagenet", 0},
    {"width", KEY_WIDTH, "W", 0, "multiplies the channels (default 1.0)", 0},
    {"size", KEY_SIZE, "PIXELS", 0,
     "side of a view in pixels (default 32; loader: as stored, photos 224)", 0},
    {"batch", KEY_BATCH, "B", 0,
     "global batch; scaling: images per rank; loss: pairs; loader: images per step and "
     "rank (default 64)",
     0},
    {"micro-batch", KEY_MICRO, "N", 0,
     "step: images of a rank that pass at a time, a multiple of the block; batch norm "
     "then takes statistics of a block (default: all at once, statistics of the batch)",
     0},
    {"global-batch", KEY_GLOBAL, "B", 0,
     "scaling: batch of the prediction of strong scaling (default 4096)", 0},
    {"latency-us", KEY_LATENCY, "US", 0,
     "scaling: latency between nodes (default: measured between ranks, or 2)", 0},
    {"bandwidth-gbits", KEY_BANDWIDTH, "GBITS", 0,
     "scaling: Gb/s of a node in each direction (default: measured between ranks, or "
     "100)",
     0},
    {"threads", KEY_THREADS, "T", 0, "threads per rank (default: as pretrain)", 0},
    {"steps", KEY_STEPS, "N", 0,
     "timed steps after one warm-up step; saves and loads (default 5)", 0},
    {"data", KEY_DATA, "FILE.h5", 0, "loader: the data set (default: generated images)",
     0},
    {"augment", KEY_AUGMENT, "PRESET", 0,
     "loader: the augmentations (default simclr-cifar)", 0},
    {"queue", KEY_QUEUE, "K", 0, "checkpoint: slots of the queue (default 0)", 0},
    {"dim", KEY_DIM, "D", 0,
     "checkpoint: floats per slot; loss: per embedding (default 128)", 0},
    {"gather", KEY_GATHER, "MODE", 0,
     "loss: auto (default), all or stream, as the key gather of a job", 0},
    {"rows", KEY_ROWS, "A:B", 0,
     "loss: only the pairs A to B-1 as anchors, against all embeddings", 0},
    {"momentum-copy", KEY_COPY, NULL, 0, "checkpoint: include a momentum encoder", 0},
    {"dir", KEY_DIR, "DIRECTORY", 0,
     "checkpoint, loader: where temporary files are written (default .)", 0},
    {"json", KEY_JSON, NULL, 0, "print JSON (always on)", 0},
    {0}};

/* A job with default values and the encoder of the command line. */
static sim_status make_job(const arguments *a, sim_job *job)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    sim_evaluate_options unused;
    size_t block = a->batch % 32 == 0 ? 32 : a->batch;

    SIM_TRY(sim_text_format(
        "cli/bench", &text,
        "{run: bench, data: {train: none}, method: {name: simclr}, batch: "
        "%zu, block: %zu, encoder: {arch: %s, stem: %s, width: %s}, "
        "augment: {preset: %s, size: %zu}}",
        a->batch, block, a->arch, a->stem, a->width, a->augment, a->size));
    SIM_TRY(sim_cli_job_of_checkpoint(text, "bench", job, &unused));
done:
    sim_free(text);
    return st;
}

/* Selects the kernels as well.  The caller frees *job. */
static sim_status create_job(const arguments *a, sim_job **job)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_new(job, "cli/job"));
    SIM_TRY(make_job(a, *job));
    SIM_TRY(sim_kernels_pick("auto"));
done:
    return st;
}

/* Smaller blocks if there would be fewer than ranks. */
static sim_status fit_to_ranks(const sim_comm *c, const arguments *a, size_t side,
                               sim_job *job)
{
    const int64_t most = job->train.batch / c->size;
    if (job->train.block > most && job->train.batch % c->size == 0)
        job->train.block = most;
    job->train.micro_batch = (int64_t)a->micro_batch;
    job->batchnorm.group = a->micro_batch ? job->train.block : 0;

    const sim_dataset_info generated = {
        .n_images = a->batch, .h = side, .w = side, .c = 3, .type = SIM_U8};
    sim_schedule_plan unused;
    return sim_job_check(job, &generated, (size_t)c->size, &unused);
}

/*
 * The backward pass has two products for each of the forward pass.  Convolutions are counted as
 * direct, so Winograd's count as more than they compute.
 */
static sim_status print_multiply_adds(const sim_comm *c, const sim_step_speed *speed,
                                      sim_json *j)
{
    sim_status st = SIM_OK;
    const double per_step =
        3 * speed->multiply_adds * (double)(speed->images * speed->views);
    double peak = 0;

    SIM_TRY(sim_bench_environment(c, j, &peak));
    sim_json_real(j, "multiply_adds_per_view", speed->multiply_adds);
    sim_json_real(j, "multiply_adds_per_s", per_step / speed->best_s);
    sim_json_real(j, "share_of_peak", per_step / speed->best_s / (peak * c->size));
done:
    return st;
}

static sim_status bench_step(const sim_comm *c, const arguments *a)
{
    sim_status st = SIM_OK;
    sim_job *job = NULL;
    sim_json *j = NULL;
    sim_step_speed speed = {0};
    const size_t side = a->size ? a->size : 32;

    SIM_TRY(sim_comm_agree(c, create_job(a, &job)));
    SIM_TRY(sim_comm_agree(c, fit_to_ranks(c, a, side, job)));
    sim_threads_set(a->threads);
    SIM_TRY(sim_train_measure(c, job, side, side, 3, NULL, a->steps, &speed));
    int64_t peak = (int64_t)sim_memory_process_peak();
    sim_comm_max_i64(c, &peak, 1);
    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "bench", "step");
    sim_json_real(j, "images_per_s", (double)speed.images / speed.best_s);
    sim_json_real(j, "images_per_s_median", (double)speed.images / speed.median_s);
    sim_json_real(j, "images_per_s_spread",
                  (double)speed.images / speed.best_s -
                      (double)speed.images / speed.worst_s);
    sim_json_real(j, "step_s", speed.best_s);
    sim_json_real(j, "peak_mb", (double)peak / 1e6);
    sim_json_int(j, "ranks", c->size);
    sim_json_int(j, "threads", sim_threads());
    sim_json_text(j, "kernels", sim_kernels_name());
    sim_json_text(j, "arch", a->arch);
    sim_json_text(j, "width", a->width);
    sim_json_int(j, "batch", (int64_t)a->batch);
    sim_json_int(j, "block", job->train.block);
    sim_json_int(j, "micro_batch", (int64_t)a->micro_batch);
    SIM_TRY(print_multiply_adds(c, &speed, j));
    SIM_TRY(sim_cli_print_json(c, j, false));
done:
    sim_json_destroy(&j);
    sim_free(job);
    return st;
}

static sim_status bench_scaling(const sim_comm *c, const arguments *a)
{
    sim_status st = SIM_OK;
    sim_job *job = NULL;
    const sim_bench_scaling_spec spec = {.arch = a->arch,
                                         .stem = a->stem,
                                         .width = a->width,
                                         .size = a->size ? a->size : 32,
                                         .batch = a->batch,
                                         .global_batch = a->global_batch,
                                         .steps = a->steps,
                                         .latency_us = a->latency_us,
                                         .bandwidth_gbits = a->bandwidth_gbits};

    SIM_TRY(sim_comm_agree(c, create_job(a, &job)));
    sim_threads_set(a->threads);
    SIM_TRY(sim_bench_scaling(c, job, &spec));
done:
    sim_free(job);
    return st;
}

static sim_status bench_kernel(const sim_comm *c, const arguments *a)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_comm_agree(c, sim_kernels_pick("auto")));
    sim_threads_set(a->threads);
    SIM_TRY(sim_bench_kernel(c));
done:
    return st;
}

static sim_status bench_checkpoint(const sim_comm *c, const arguments *a)
{
    sim_status st = SIM_OK;
    sim_job *job = NULL;
    const sim_bench_state state = {.arch = a->arch,
                                   .width = a->width,
                                   .dir = a->dir,
                                   .queue = a->queue,
                                   .dim = a->dim,
                                   .momentum_copy = a->momentum_copy,
                                   .repeats = a->steps};

    SIM_TRY(sim_comm_agree(c, create_job(a, &job)));
    SIM_TRY(sim_bench_checkpoint(c, job, &state));
done:
    sim_free(job);
    return st;
}

static sim_status bench_loader(const sim_comm *c, const arguments *a)
{
    sim_status st = SIM_OK;
    sim_job *job = NULL;
    const sim_bench_loading spec = {.data = a->data,
                                    .dir = a->dir,
                                    .batch = a->batch,
                                    .threads = a->threads ? a->threads : 1,
                                    .steps = a->steps};

    SIM_TRY(sim_comm_agree(c, create_job(a, &job)));
    SIM_TRY(sim_bench_loader(c, job, &spec));
done:
    sim_free(job);
    return st;
}

static sim_status bench_loss(const sim_comm *c, const arguments *a)
{
    sim_status st = SIM_OK;

    const sim_bench_loss_spec spec = {.batch = a->batch,
                                      .dim = a->dim,
                                      .steps = a->steps,
                                      .gather = a->gather,
                                      .rows = a->rows};

    SIM_TRY(sim_comm_agree(c, sim_kernels_pick("auto")));
    sim_threads_set(a->threads);
    SIM_TRY(sim_bench_loss(c, &spec));
done:
    return st;
}

/* ---- the command ---- */

#define BENCH_NAMES "step, scaling, kernel, loss, loader or checkpoint"

typedef struct {
    const char *name;
    sim_status (*run)(const sim_comm *c, const arguments *a);
} bench_row;

static const bench_row *find_bench(const char *name)
{
    static const bench_row rows[] = {
        {"step", bench_step},     {"scaling", bench_scaling},
        {"kernel", bench_kernel}, {"loss", bench_loss},
        {"loader", bench_loader}, {"checkpoint", bench_checkpoint}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static size_t parse_count(const struct argp_state *state, const char *arg, long max)
{
    char *end = NULL;
    long n = strtol(arg, &end, 10);
    if (end == arg || *end || n < 1 || n > max)
        argp_error(state, "\"%s\" is not a number from 1 to %ld", arg, max);
    return (size_t)n;
}

static size_t parse_bench_count(const struct argp_state *state, const char *arg)
{
    return parse_count(state, arg, 1 << 20);
}

/* "A:B" with A < B. */
static sim_range parse_rows(const struct argp_state *state, const char *arg)
{
    char *colon = NULL, *end = NULL;
    const long lo = strtol(arg, &colon, 10);
    const long hi = *colon == ':' ? strtol(colon + 1, &end, 10) : 0;

    if (colon == arg || !end || *end || lo < 0 || hi <= lo)
        argp_error(state, "--rows: \"%s\" is not A:B with 0 <= A < B", arg);
    return (sim_range){(size_t)lo, (size_t)hi};
}

static double parse_positive(const struct argp_state *state, const char *option,
                             const char *arg)
{
    char *end = NULL;
    const double x = strtod(arg, &end);
    if (end == arg || *end || !(x > 0 && x <= 1e9))
        argp_error(state, "%s: \"%s\" is not a number above 0, up to 1e9", option, arg);
    return x;
}

static error_t parse_bench_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_ARCH:
        a->arch = arg;
        return 0;
    case KEY_STEM:
        a->stem = arg;
        return 0;
    case KEY_WIDTH:
        a->width = arg;
        return 0;
    case KEY_SIZE:
        a->size = parse_bench_count(state, arg);
        return 0;
    case KEY_BATCH:
        a->batch = parse_bench_count(state, arg);
        return 0;
    case KEY_MICRO:
        a->micro_batch = parse_bench_count(state, arg);
        return 0;
    case KEY_GLOBAL:
        a->global_batch = parse_bench_count(state, arg);
        return 0;
    case KEY_LATENCY:
        a->latency_us = parse_positive(state, "--latency-us", arg);
        return 0;
    case KEY_BANDWIDTH:
        a->bandwidth_gbits = parse_positive(state, "--bandwidth-gbits", arg);
        return 0;
    case KEY_THREADS:
        a->threads = (int)parse_bench_count(state, arg);
        return 0;
    case KEY_STEPS:
        a->steps = (int)parse_bench_count(state, arg);
        return 0;
    case KEY_QUEUE:
        a->queue = parse_count(state, arg, UINT32_MAX);
        return 0;
    case KEY_DIM:
        a->dim = parse_bench_count(state, arg);
        return 0;
    case KEY_GATHER:
        a->gather = sim_cli_gather(state, arg);
        return 0;
    case KEY_ROWS:
        a->rows = parse_rows(state, arg);
        return 0;
    case KEY_COPY:
        a->momentum_copy = true;
        return 0;
    case KEY_DIR:
        a->dir = arg;
        return 0;
    case KEY_DATA:
        a->data = arg;
        return 0;
    case KEY_AUGMENT:
        a->augment = arg;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->what)
            argp_error(state, "expected one benchmark: " BENCH_NAMES);
        a->what = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->what || !find_bench(a->what))
            argp_error(state, "the argument must be " BENCH_NAMES);
        if (a->rows.hi > a->batch)
            argp_error(state, "--rows: %zu:%zu is beyond the %zu pairs of --batch",
                       a->rows.lo, a->rows.hi, a->batch);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static sim_status run_bench(const sim_comm *c, void *ctx)
{
    const arguments *a = ctx;
    return find_bench(a->what)->run(c, a);
}

/* ---- shared by the files of benchmarks ---- */

static const char temporary_name[] = "simile-bench";

/* Whether a killed bench left the path.  What a process of the same id left is stale, too. */
static bool is_left(const char *path, const char *own)
{
    static const char mark[] = ".tmp.";
    const char *name = strrchr(path, '/') + 1, *end = name + sizeof temporary_name - 1;

    if (strncmp(name, temporary_name, sizeof temporary_name - 1) != 0 ||
        strncmp(end, mark, sizeof mark - 1) != 0 || sim_path_is_link(path))
        return false;
    return strcmp(path, own) == 0 || sim_temporary_is_stale(path);
}

static void remove_left(const char *dir, const char *own)
{
    char path[4400];
    sim_names names = {0};

    SIM_IGNORE(sim_directory_list(dir, &names));
    for (size_t i = 0; i < names.n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names.names[i]);
        if (!is_left(path, own))
            continue;
        if (sim_path_is_file(path))
            SIM_IGNORE(sim_file_remove(path));
        else
            sim_bench_remove_run(path);
    }
    sim_names_clear(&names);
    sim_error_clear(); /* the writes into the directory report what is wrong with it */
}

sim_status sim_bench_temporary_path(const sim_comm *c, const char *dir, char *out,
                                    size_t out_bytes)
{
    sim_status st = SIM_OK;
    char path[4096];

    (void)snprintf(path, sizeof path, "%.3900s/%s", dir, temporary_name);
    SIM_TRY(sim_comm_agree(c, sim_temporary_path(path, out, out_bytes)));
    if (c->rank == 0)
        remove_left(dir, out);
    sim_comm_broadcast(c, 0, out, out_bytes);
done:
    return st;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sim_bench_sort(double *seconds, size_t n)
{
    qsort(seconds, n, sizeof *seconds, compare_doubles);
}

sim_status sim_command_bench(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_bench_option,
        .args_doc = "step|scaling|kernel|loss|loader|checkpoint",
        .doc =
            "Times a training step on generated views (encoder, loss, gradient sum, "
            "update), its scaling over ranks, the convolutions, NT-Xent with gradients, "
            "the loader (reading, "
            "decoding, augmenting), or "
            "saving and loading a checkpoint.  Prints one JSON object for all ranks.\v"
            "step: SimCLR.  multiply_adds_per_s counts convolutions as direct, the "
            "backward pass as two forward passes, and no loss; share_of_peak divides it "
            "by "
            "environment.multiply_add_gflops / 2 of every rank.  Where Winograd is used, "
            "less is computed than counted.\n\n"
            "kernel: effective GF/s of 3 x 3 convolutions, and values per second of exp "
            "on "
            "one thread.\n\n"
            "scaling: steps on the first 1, 2, 4, ... ranks, weak (--batch images per "
            "rank) "
            "and strong (--batch images in total), each beside its prediction; and "
            "predictions for 1 to 1,024 nodes like the rank measured, weak and strong "
            "(--global-batch).  The assumptions are printed; formulas: src/DESIGN.md.\n\n"
            "loss: seconds of NT-Xent of random embeddings, and of its matrix products "
            "alone (products_s: 6 N^2 d operations for N = 2 B rows at the measured rate "
            "of a product).  buffers_mb is the memory that is allocated on the rank with "
            "most, peak_mb its peak resident memory.  With --rows both times are those "
            "of "
            "the given rows; loss_s_extrapolated is loss_s in proportion to all rows.\n\n"
            "loader: two views of each image, of all ranks together; best, median and "
            "spread (best - worst) over the steps, which load the same views.  "
            "cpu_us_per_view is the CPU time, which other programs on the machine "
            "disturb less.  Images are read from the page cache.\n\n"
            "checkpoint: seconds (best, median) and MB/s of the file, the time of a "
            "save in percent of the default interval of 15 minutes, and the peak memory "
            "in addition to the state, on rank 0 and the maximum over ranks.  Loads "
            "read from the page cache.\n\n"
            "Examples:\n  simile bench step --width 0.25 --batch 128 --threads 2\n"
            "  mpirun -np 2 simile bench scaling --bandwidth-gbits 100 --latency-us 2\n"
            "  simile bench loss --batch 8192 --threads 2\n"
            "  simile bench loss --batch 1048576 --rows 0:1024 --steps 1 --threads 2\n"
            "  simile bench loader --data photos.h5 --augment simclr --size 224\n"
            "  simile bench checkpoint --arch resnet50 --momentum-copy --queue 65536"};
    arguments a = {.arch = "resnet18",
                   .stem = "cifar",
                   .width = "1.0",
                   .augment = "simclr-cifar",
                   .batch = 64,
                   .global_batch = 4096,
                   .dim = 128,
                   .dir = ".",
                   .steps = 5};

    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, run_bench, &a);
}
