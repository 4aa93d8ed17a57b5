/*
 * keys.h - a method's option table, and its rows in one line each.
 *
 * `owner` is the struct that the table fills; every key of a method is part of its identity.
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

#endif
