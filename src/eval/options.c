/*
 * options.c - the keys of `evaluate`.
 */
#include "simile/eval.h"

#define ROW(key, type_, field, lo, hi, fallback_, unit_, help_)                          \
    {                                                                                    \
        .name = key, .type = type_, .offset = offsetof(sim_evaluate_options, field),     \
        .min = lo, .max = hi, .fallback = fallback_, .unit = unit_, .help = help_,       \
        .kind = SIM_FREE_KEY                                                             \
    }

static const sim_option rows[] = {
    ROW("knn_every_epochs", SIM_OPTION_INT, knn_every_epochs, 0, 1000000, "0", "epochs",
        "kNN of data.test against data.train during training, both with labels; 0: off"),
    ROW("k", SIM_OPTION_INT, knn.k, 1, 1000000, "200", "images",
        "neighbours that vote, clipped to the bank"),
    ROW("temperature", SIM_OPTION_REAL, knn.temperature, 0.001, 100, "0.1", "",
        "the vote of a neighbour has the weight exp(similarity / temperature)"),
    ROW("knn_images", SIM_OPTION_INT, knn_images, 0, 1 << 30, "0", "images",
        "images of data.train that are the bank of kNN during training, evenly spaced; "
        "0: all"),
    ROW("linear_every_epochs", SIM_OPTION_INT, linear_every_epochs, 0, 1000000, "0",
        "epochs",
        "linear classifier on the features of data.train, tested on data.test, during "
        "training, both with labels; 0: off"),
    ROW("linear_l2", SIM_OPTION_REAL, linear.l2, 0, 1e9, "0", "",
        "weight of the penalty l2/2 |W|^2 of the linear classifier; 0: the best of a "
        "grid on a fifth of the training images"),
    ROW("quality_every_epochs", SIM_OPTION_INT, quality_every_epochs, 0, 1000000, "0",
        "epochs",
        "measures without labels (effective rank, uniformity, alignment) of data.test, "
        "or of data.train if it is not set, during training; 0: off"),
    ROW("quality_images", SIM_OPTION_INT, quality_images, 2, 100000, "10000", "images",
        "images of these measures, evenly spaced; all pairs of them are compared"),
    ROW("neighbours_every_epochs", SIM_OPTION_INT, neighbours_every_epochs, 0, 1000000,
        "0", "epochs",
        "a picture of the nearest neighbours of 12 images, among 500 of data.test, or of "
        "data.train if it is not set, in the event files of TensorBoard; 0: off"),
    ROW("classifier_every_epochs", SIM_OPTION_INT, classifier_every_epochs, 0, 1000000,
        "1", "epochs",
        "accuracy of the classifier of method supervised on data.test, if that is set, "
        "during training; 0: off"),
};

const sim_option_table sim_evaluate_table = {.section = "evaluate",
                                             .rows = rows,
                                             .n_rows = sizeof rows / sizeof rows[0],
                                             .struct_bytes =
                                                 sizeof(sim_evaluate_options)};
