/*
 * options.c - the keys of `encoder` and `batchnorm`.
 */
#include "simile/encoder.h"

#define SIM_NET(name) "|" #name
static const char arch_names[] =
#include "nets.def"
    ;
#undef SIM_NET

#define ROW(owner, key, type_, field, lo, hi, fallback_, choices_, unit_, help_)         \
    {                                                                                    \
        .name = key, .type = type_, .offset = offsetof(owner, field), .min = lo,         \
        .max = hi, .fallback = fallback_, .choices = choices_, .unit = unit_,            \
        .help = help_, .kind = SIM_IDENTITY                                              \
    }

static const sim_option encoder_rows[] = {
    ROW(sim_encoder_options, "arch", SIM_OPTION_ENUM, arch, 0, 0, "resnet18",
        arch_names + 1, "", "network"),
    ROW(sim_encoder_options, "stem", SIM_OPTION_ENUM, stem, 0, 0, "cifar",
        "cifar|imagenet", "",
        "3x3 for small images, or 7x7 with stride 2 and a max pool"),
    ROW(sim_encoder_options, "width", SIM_OPTION_REAL, width, 0.05, 8, "1.0", NULL, "",
        "multiplies the channels 64, 128, 256, 512"),
    ROW(sim_encoder_options, "activation", SIM_OPTION_ENUM, activation, 0, 0, "relu",
        "relu|silu", "", "activation of encoder and heads"),
    ROW(sim_encoder_options, "zero_init_last_bn", SIM_OPTION_BOOL, zero_init_last_bn, 0,
        0, "false", NULL, "",
        "initialise gamma of the last batch norm of each block to zero"),
    ROW(sim_encoder_options, "freeze", SIM_OPTION_BOOL, freeze, 0, 0, "false", NULL, "",
        "keep the weights and batch-norm statistics of the encoder, so that only the "
        "classifier is trained (method.name: supervised, with --init)"),
    ROW(sim_encoder_options, "projector.layers", SIM_OPTION_INT, projector_layers, 1, 3,
        "2", NULL, "layers", "linear layers of the projection head"),
    ROW(sim_encoder_options, "projector.hidden", SIM_OPTION_INT, projector_hidden, 0,
        65536, "0", NULL, "",
        "hidden width of the projection head; 0: that of the encoder"),
    ROW(sim_encoder_options, "projector.dim", SIM_OPTION_INT, projector_dim, 2, 65536,
        "128", NULL, "", "embedding dimension"),
    ROW(sim_encoder_options, "projector.bn", SIM_OPTION_BOOL, projector_bn, 0, 0, "false",
        NULL, "", "batch norm after hidden layers of the projection head"),
    ROW(sim_encoder_options, "projector.last_bn", SIM_OPTION_BOOL, projector_last_bn, 0,
        0, "false", NULL, "", "batch norm after the last layer of the projection head"),
};

const sim_option_table sim_encoder_table = {.section = "encoder",
                                            .rows = encoder_rows,
                                            .n_rows = sizeof encoder_rows /
                                                      sizeof encoder_rows[0],
                                            .struct_bytes = sizeof(sim_encoder_options)};

static const sim_option batchnorm_rows[] = {
    ROW(sim_batchnorm_options, "group", SIM_OPTION_INT, group, 0, 16777216, "0", NULL,
        "images", "images per group of statistics; 0: the global batch"),
    ROW(sim_batchnorm_options, "views", SIM_OPTION_ENUM, views, 0, 0, "separate",
        "separate|joint", "", "statistics per view, or over all views jointly"),
};

const sim_option_table sim_batchnorm_table = {
    .section = "batchnorm",
    .rows = batchnorm_rows,
    .n_rows = sizeof batchnorm_rows / sizeof batchnorm_rows[0],
    .struct_bytes = sizeof(sim_batchnorm_options)};
