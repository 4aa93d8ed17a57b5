/*
 * options.c - the keys of a job that belong to no other room.
 */
#include "simile/train.h"

#define ROW(key, type_, field, lo, hi, fallback_, choices_, unit_, help_, kind_)         \
    {                                                                                    \
        .name = key, .type = type_, .offset = offsetof(sim_train_options, field),        \
        .min = lo, .max = hi, .fallback = fallback_, .choices = choices_, .unit = unit_, \
        .help = help_, .kind = kind_                                                     \
    }

static const sim_option rows[] = {
    ROW("run", SIM_OPTION_TEXT, run, 0, 0, NULL, NULL, "",
        "directory of the run; made when it is absent", SIM_FREE_KEY),
    ROW("seed", SIM_OPTION_INT, seed, 0, 4294967295.0, "0", NULL, "",
        "of every random number", SIM_IDENTITY),
    ROW("data.train", SIM_OPTION_TEXT, train, 0, 0, NULL, NULL, "",
        "data set to train on (made by simile prepare)", SIM_FREE_KEY),
    ROW("data.test", SIM_OPTION_TEXT, test, 0, 0, "", NULL, "",
        "labelled data set to evaluate on (see evaluate); no image of it is trained on",
        SIM_FREE_KEY),
    ROW("batch", SIM_OPTION_INT, batch, 2, 16777216, "256", NULL, "images",
        "global batch, over all ranks", SIM_IDENTITY),
    ROW("block", SIM_OPTION_INT, block, 1, 65536, "32", NULL, "images",
        "unit of work that a rank owns; sums run over blocks in a fixed tree",
        SIM_IDENTITY),
    ROW("kernels", SIM_OPTION_TEXT, kernels, 0, 0, "auto", NULL, "",
        "auto, portable, v3 or v4: instruction set of the inner loops", SIM_FREE_KEY),
    ROW("threads", SIM_OPTION_INT, threads, 0, 4096, "0", NULL, "",
        "computing threads of a rank; 0: as OMP_NUM_THREADS or the cores allow",
        SIM_FREE_KEY),
    ROW("loader_threads", SIM_OPTION_INT, loader_threads, 1, 256, "1", NULL, "",
        "threads of a rank that read and augment", SIM_FREE_KEY),
    ROW("log.every_steps", SIM_OPTION_INT, log_every_steps, 1, 1000000, "10", NULL,
        "steps", "length of an interval: one log line, one metrics object", SIM_FREE_KEY),
    ROW("guard.bad_steps", SIM_OPTION_INT, bad_steps, 0, 1000, "3", NULL, "steps",
        "steps in a row that may be skipped for a loss or gradient that is not finite",
        SIM_FREE_KEY),
    ROW("guard.collapse", SIM_OPTION_ENUM, collapse, 0, 0, "warn", "warn|stop|off", "",
        "when the spread of z falls below a tenth of 1/sqrt(d) for a log interval, "
        "warm-up "
        "being over: say so, or end with 70",
        SIM_FREE_KEY),
    ROW("guard.hang_seconds", SIM_OPTION_REAL, hang_seconds, 0, 1e6, "600", NULL, "s",
        "time without any progress on any rank after which the job names who is behind "
        "and "
        "ends with 70; 0: wait for ever",
        SIM_FREE_KEY),
    ROW("guard.check_steps", SIM_OPTION_INT, check_steps, 0, 1000000, "100", NULL,
        "steps",
        "how often all ranks compare hashes of weights, statistics and optimizer state; "
        "before each checkpoint they always do; 0: only then",
        SIM_FREE_KEY),
    ROW("checkpoint.every_minutes", SIM_OPTION_REAL, checkpoint.every_minutes, 0, 100000,
        "15", NULL, "minutes", "0: not by time", SIM_FREE_KEY),
    ROW("checkpoint.every_epochs", SIM_OPTION_INT, checkpoint.every_epochs, 0, 1000000,
        "0", NULL, "epochs", "0: not by epochs", SIM_FREE_KEY),
    ROW("checkpoint.every_steps", SIM_OPTION_INT, checkpoint.every_steps, 0, 1000000000,
        "0", NULL, "steps", "0: not by steps", SIM_FREE_KEY),
    ROW("checkpoint.keep", SIM_OPTION_INT, checkpoint.keep, 1, 1000000, "3", NULL,
        "files", "newest checkpoints to keep", SIM_FREE_KEY),
    ROW("checkpoint.keep_every", SIM_OPTION_INT, checkpoint.keep_every, 0, 1000000000,
        "0", NULL, "steps", "also keep every checkpoint of such a step; 0: none",
        SIM_FREE_KEY),
    ROW("checkpoint.max_failures", SIM_OPTION_INT, checkpoint.max_failures, 0, 1000000,
        "3", NULL, "checkpoints",
        "due ones in a row that may fail (disk full, read only, gone) while training "
        "goes "
        "on; one more stops the run",
        SIM_FREE_KEY),
};

const sim_option_table sim_train_table = {.section = "",
                                          .rows = rows,
                                          .n_rows = sizeof rows / sizeof rows[0],
                                          .struct_bytes = sizeof(sim_train_options)};
