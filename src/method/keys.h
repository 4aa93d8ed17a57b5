/*
 * keys.h - macros for the option tables of methods: one row per line.
 *
 * `owner` is the struct that the table fills.  Every key of a method belongs to the identity
 * of a run.
 */
#ifndef SIMILE_METHOD_KEYS_H
#define SIMILE_METHOD_KEYS_H

#include "simile/option.h"

#define KEY_REAL(owner, key, field, lo, hi, fallback_, help_)                            \
    {                                                                                    \
        .name = key, .type = SIM_OPTION_REAL, .offset = offsetof(owner, field),          \
        .min = lo, .max = hi, .fallback = fallback_, .unit = "", .help = help_,          \
        .kind = SIM_IDENTITY                                                             \
    }
#define KEY_INT(owner, key, field, lo, hi, fallback_, unit_, help_)                      \
    {                                                                                    \
        .name = key, .type = SIM_OPTION_INT, .offset = offsetof(owner, field),           \
        .min = lo, .max = hi, .fallback = fallback_, .unit = unit_, .help = help_,       \
        .kind = SIM_IDENTITY                                                             \
    }
/* A number, or a word for 0, which is the default. */
#define KEY_INT_OR_WORD(owner, key, field, hi, word_, unit_, help_)                      \
    {                                                                                    \
        .name = key, .type = SIM_OPTION_INT, .offset = offsetof(owner, field),           \
        .max = hi, .choices = word_, .fallback = word_, .unit = unit_, .help = help_,    \
        .kind = SIM_IDENTITY                                                             \
    }
#define KEY_CHOICE(owner, key, field, fallback_, choices_, help_)                        \
    {                                                                                    \
        .name = key, .type = SIM_OPTION_ENUM, .offset = offsetof(owner, field),          \
        .fallback = fallback_, .choices = choices_, .unit = "", .help = help_,           \
        .kind = SIM_IDENTITY                                                             \
    }
#define KEY_BOOL(owner, key, field, fallback_, help_)                                    \
    {                                                                                    \
        .name = key, .type = SIM_OPTION_BOOL, .offset = offsetof(owner, field),          \
        .fallback = fallback_, .unit = "", .help = help_, .kind = SIM_IDENTITY           \
    }

#define KEY_TABLE(owner, rows_)                                                          \
    {                                                                                    \
        .section = "method", .rows = rows_, .n_rows = sizeof rows_ / sizeof rows_[0],    \
        .struct_bytes = SIM_OPTION_BYTES(owner, sim_option_storage)                      \
    }

/* ---- keys of several methods ---- */

typedef enum { DENOMINATOR_FULL, DENOMINATOR_DECOUPLED } denominator;

/* The options of every softmax method begin with a field `softmax` of this type. */
typedef struct {
    double temperature;
    bool learn;
    int denominator; /* enum denominator */
} softmax_options;

#define KEYS_TEMPERATURE(owner, max_, fallback_)                                         \
    KEY_REAL(owner, "temperature", softmax.temperature, 0.005, max_, fallback_,          \
             "softmax temperature"),                                                     \
        KEY_BOOL(owner, "learn_temperature", softmax.learn, "false",                     \
                 "train log temperature; it is clipped to the range of temperature")
#define KEY_DENOMINATOR(owner, fallback_)                                                \
    KEY_CHOICE(owner, "denominator", softmax.denominator, fallback_, "full|decoupled",   \
               "full: positives are part of the denominator; decoupled: they are not "   \
               "(DCL)")

typedef enum { MOMENTUM_CONSTANT, MOMENTUM_COSINE } momentum_schedule;
typedef enum { BN_BUFFERS_OWN, BN_BUFFERS_EMA } bn_buffers;

/* Options of methods with a momentum encoder: a field `momentum` of this type. */
typedef struct {
    double m, final; /* final: at the end of a cosine schedule */
    int schedule;    /* enum momentum_schedule */
    int bn_buffers;  /* enum bn_buffers */
} momentum_options;

#define KEYS_MOMENTUM(owner, m_, schedule_)                                              \
    KEY_REAL(owner, "momentum", momentum.m, 0, 1, m_,                                    \
             "m of the momentum encoder: w <- m w + (1 - m) w_online"),                  \
        KEY_CHOICE(owner, "momentum_schedule", momentum.schedule, schedule_,             \
                   "constant|cosine",                                                    \
                   "cosine: m changes to momentum_final over the run"),                  \
        KEY_REAL(owner, "momentum_final", momentum.final, 0, 1, "1",                     \
                 "m at the end of the run, with momentum_schedule: cosine"),             \
        KEY_CHOICE(owner, "bn_buffers", momentum.bn_buffers, "own", "own|ema",           \
                   "running statistics of the momentum encoder: of its own forward "     \
                   "passes, or a moving average of the online encoder's")

#endif
