/*
 * options.c - the keys of a job that belong to no other module.
 */
#include "simile/job.h"

#define ROW(key, type_, field, lo, hi, fallback_, choices_, unit_, help_, kind_)         \
    {                                                                                    \
        .name = key, .type = type_, .offset = offsetof(sim_train_options, field),        \
        .min = lo, .max = hi, .fallback = fallback_, .choices = choices_, .unit = unit_, \
        .help = help_, .kind = kind_                                                     \
    }

static const sim_option job_rows[] = {
    ROW("run", SIM_OPTION_TEXT, run, 0, 0, NULL, NULL, "",
        "run directory; created if missing", SIM_FREE_KEY),
    ROW("seed", SIM_OPTION_INT, seed, 0, 4294967295.0, "0", NULL, "",
        "seed of all random numbers", SIM_IDENTITY),
    ROW("data.train", SIM_OPTION_TEXTS, train, 0, 0, NULL, NULL, "",
        "data set to train on (written by simile prepare), or a list of up to 16, whose "
        "union is used",
        SIM_RANK_KEY),
    ROW("data.test", SIM_OPTION_TEXT, test, 0, 0, "", NULL, "",
        "labelled data set for evaluation only (see evaluate)", SIM_RANK_KEY),
    ROW("data.proportions", SIM_OPTION_NUMBERS, proportions, 1e-6, 1e6, "", NULL, "",
        "how many images of each data set of a list in data.train are drawn per epoch, "
        "relative to each other; none: every image once; part of the fingerprint of the "
        "data",
        SIM_FREE_KEY),
    ROW("data.classes", SIM_OPTION_TEXT, classes, 0, 0, "", NULL, "",
        "file with names of classes, one per line, to which data.train and data.test are "
        "restricted; part of the fingerprint of the data",
        SIM_RANK_KEY),
    ROW("data.fraction", SIM_OPTION_REAL, fraction, 1e-9, 1, "1", NULL, "",
        "train on this part of the images of each class (0.01: 1 %)", SIM_IDENTITY),
    ROW("data.fraction_seed", SIM_OPTION_INT, fraction_seed, 0, 4294967295.0, "0", NULL,
        "", "selects the images of data.fraction", SIM_IDENTITY),
    ROW("data.views_from", SIM_OPTION_ENUM, views_from, 0, 0, "image", "image|group", "",
        "image: all views of a slot show its image; group: those after the first show "
        "other images of its group, drawn in every epoch (needs groups, see simile "
        "prepare)",
        SIM_IDENTITY),
    ROW("batch", SIM_OPTION_INT, batch, 2, 16777216, "256", NULL, "images",
        "global batch size, over all ranks", SIM_IDENTITY),
    ROW("block", SIM_OPTION_INT, block, 1, 65536, "32", NULL, "images",
        "images per block, the unit of work of a rank; sums over blocks use a fixed tree",
        SIM_IDENTITY),
    ROW("micro_batch", SIM_OPTION_INT, micro_batch, 0, 16777216, "0", NULL, "images",
        "images that a rank encodes at a time, to use less memory; 0: all of its share "
        "of "
        "the batch; a multiple of block and of batchnorm.group, which must not be 0",
        SIM_FREE_KEY),
    ROW("gather", SIM_OPTION_ENUM, gather, 0, 0, "auto", SIM_GATHER_CHOICES, "",
        "all: every rank holds the embeddings of the global batch; stream: they pass in "
        "chunks, so that memory falls with the number of ranks, with equal bits; auto: "
        "stream if they are more than 256 MiB",
        SIM_FREE_KEY),
    ROW("kernels", SIM_OPTION_TEXT, kernels, 0, 0, "auto", NULL, "",
        "auto, portable, v3 or v4 (AVX2 and AVX-512), or neon (AArch64): "
        "instruction set of the inner loops",
        SIM_RANK_KEY),
    ROW("threads", SIM_OPTION_INT, threads, 0, 4096, "0", NULL, "",
        "compute threads per rank; 0: OMP_NUM_THREADS, or the available cores",
        SIM_RANK_KEY),
    ROW("loader_threads", SIM_OPTION_INT, loader_threads, 1, 256, "1", NULL, "",
        "threads per rank that read and augment images", SIM_RANK_KEY),
    ROW("report", SIM_OPTION_BOOL, report, 0, 0, "false", NULL, "",
        "write RUN/report.html at the end of a segment, as simile report does",
        SIM_FREE_KEY),
    ROW("log.every_steps", SIM_OPTION_INT, log_every_steps, 1, 1000000, "10", NULL,
        "steps",
        "length of a log interval: one log line and one metrics.jsonl object each",
        SIM_FREE_KEY),
    ROW("log.tensorboard", SIM_OPTION_BOOL, tensorboard, 0, 0, "true", NULL, "",
        "write event files of TensorBoard to the directory tensorboard of the run",
        SIM_FREE_KEY),
    ROW("guard.bad_steps", SIM_OPTION_INT, bad_steps, 0, 1000, "3", NULL, "steps",
        "consecutive steps that may be skipped because of a non-finite loss or gradient",
        SIM_FREE_KEY),
    ROW("guard.collapse", SIM_OPTION_ENUM, collapse, 0, 0, "warn", "warn|stop|off", "",
        "when the embedding standard deviation of a log interval after warm-up is below "
        "0.1/sqrt(d): warn, or stop with exit code 70",
        SIM_FREE_KEY),
    ROW("guard.hang_seconds", SIM_OPTION_REAL, hang_seconds, 0, 1e6, "600", NULL, "s",
        "without progress on any rank for this long, the job names the slowest ranks and "
        "ends with exit code 70; 0: no limit",
        SIM_FREE_KEY),
    ROW("guard.check_steps", SIM_OPTION_INT, check_steps, 0, 1000000, "100", NULL,
        "steps",
        "interval at which ranks compare hashes of weights, statistics and optimizer "
        "state; also before each checkpoint; 0: only before checkpoints",
        SIM_FREE_KEY),
    ROW("checkpoint.every_minutes", SIM_OPTION_REAL, checkpoint.every_minutes, 0, 100000,
        "15", NULL, "minutes", "time between checkpoints; 0: off", SIM_FREE_KEY),
    ROW("checkpoint.every_epochs", SIM_OPTION_INT, checkpoint.every_epochs, 0, 1000000,
        "0", NULL, "epochs", "epochs between checkpoints; 0: off", SIM_FREE_KEY),
    ROW("checkpoint.every_steps", SIM_OPTION_INT, checkpoint.every_steps, 0, 1000000000,
        "0", NULL, "steps", "steps between checkpoints; 0: off", SIM_FREE_KEY),
    ROW("checkpoint.keep", SIM_OPTION_INT, checkpoint.keep, 1, 1000000, "3", NULL,
        "files", "number of newest checkpoints to keep", SIM_FREE_KEY),
    ROW("checkpoint.keep_every", SIM_OPTION_INT, checkpoint.keep_every, 0, 1000000000,
        "0", NULL, "steps",
        "also keep checkpoints whose step is a multiple of this; 0: off", SIM_FREE_KEY),
    ROW("checkpoint.keep_best", SIM_OPTION_ENUM, keep_best, 0, 0, "off",
        "off|knn|linear|classifier|rankme", "",
        "save and keep the checkpoint with the largest value so far of this evaluation "
        "during training (evaluate.*_every_epochs)",
        SIM_FREE_KEY),
    ROW("checkpoint.max_failures", SIM_OPTION_INT, checkpoint.max_failures, 0, 1000000,
        "3", NULL, "checkpoints",
        "consecutive checkpoints that may fail (disk full, read-only, missing); one more "
        "failure stops the run",
        SIM_FREE_KEY),
};

const sim_option_table sim_train_table = {.section = "",
                                          .rows = job_rows,
                                          .n_rows = sizeof job_rows / sizeof job_rows[0],
                                          .struct_bytes = sizeof(sim_train_options)};
