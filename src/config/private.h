/*
 * private.h - a job as a flat list of dotted keys.
 */
#ifndef SIMILE_CONFIG_PRIVATE_H
#define SIMILE_CONFIG_PRIVATE_H

#include "simile/config.h"

#include <stdint.h>

enum {
    KEY_BYTES = 256,
    TEXT_LIMIT = 1 << 20, /* bytes of a job */
    MAX_ENTRIES = 1024,   /* searched linearly */
    MAX_KNOWN = 1024,
    MAX_DEFAULTS = 16,
    SHOW_BYTES = 72,
    /* of a formatted value: texts in quotes, all of whose characters may be doubled */
    VALUE_BYTES = SIM_OPTION_MAX_TEXTS * (2 * SIM_OPTION_TEXT_BYTES + 4) + 8
};

/* A scalar of the job; an item of a list has its index in the key ("view1.0.op"). */
typedef struct {
    char *key, *text;
    bool quoted;
    bool empty_list; /* "view1: []" */
    bool used;
    bool is_override;
    char where[192]; /* "job.yaml:12" or "argument 3" */
} entry;

/* A key of a filled table, with its value as text. */
typedef struct {
    char *key, *text;
    char *before; /* value of a job that was written before the key existed; or NULL */
    sim_option_kind kind;
    bool is_list, given; /* a list that is not given has no text */
} known;

/* A default that replaces that of a table. */
typedef struct {
    const char *key, *text; /* borrowed */
    bool used;
} default_override;

struct sim_config {
    char *name;
    entry *entries;
    size_t n_entries;
    known *known;
    size_t n_known;
    bool is_saved; /* a job of a checkpoint: an absent key has the value `before` */
    default_override defaults[MAX_DEFAULTS];
    size_t n_defaults;
};

/* ---- entries.c: the values of a job and the keys of filled tables ---- */

/* Adds a value; key, text and `where` are copied. */
SIM_MUST_USE sim_status sim_config_add(sim_config *c, const char *key, const char *text,
                                       bool quoted, bool empty_list, const char *where);
/* The entry of `key`, and the first entry below `key`; NULL if there is none. */
entry *sim_config_find(const sim_config *c, const char *key);
entry *sim_config_find_below(const sim_config *c, const char *key);
/* Whether `key` is below `above`, as "a.b" is below "a". */
bool sim_config_is_below(const char *key, const char *above);
/* Removes `key` and the keys below it; true if there were any. */
bool sim_config_drop(sim_config *c, const char *key);
/* The key "section.name". */
void sim_config_full_key(const char *section, const char *name, char out[KEY_BYTES]);
/* Adds a key of a filled table with its value as text; `before` may be NULL. */
SIM_MUST_USE sim_status sim_config_add_known(sim_config *c, const char *key,
                                             const char *text, const char *before,
                                             const sim_option *row, bool given);

/* ---- parse.c ---- */

/* Parses YAML into entries below `prefix`. with_line: messages contain "where:line". */
SIM_MUST_USE sim_status sim_config_parse_text(sim_config *c, const char *text, size_t n,
                                              const char *prefix, const char *where,
                                              bool with_line);

/* ---- value.c: the value of one key ---- */

/* Fills a row from the job or its default and formats the value for the resolved job; `prefix`
 * precedes the row's name in the key. */
SIM_MUST_USE sim_status sim_config_fill_row(sim_config *c, const char *prefix,
                                            const sim_option *row, void *options,
                                            char *text, size_t text_bytes);
/* Formats the value that applies to a job saved before the key existed; *text is unchanged if
 * there is none, otherwise `buffer`. */
SIM_MUST_USE sim_status sim_config_format_before(sim_config *c, const char *key,
                                                 const sim_option *row, char *buffer,
                                                 size_t buffer_bytes, const char **text);
/* "; did you mean A?", or "" if no choice is near. */
void sim_config_suggest(const char *choices, const char *text, char out[96]);

/* ---- items.c: a list of operations ---- */

SIM_MUST_USE sim_status sim_config_fill_items(sim_config *c, const char *key,
                                              const sim_option *row,
                                              sim_option_items *items);

/* ---- text.c ---- */

/* Length of the code point at text[0]; 0 if it is not UTF-8. */
size_t sim_config_utf8(const char *text, size_t n, uint32_t *code);
/* Whether a job may contain the code point. */
bool sim_config_is_plain(uint32_t code);
/* Copies a text for a message: truncated, control characters replaced by '?'. */
void sim_config_quote(const char *text, char out[SHOW_BYTES]);

#endif
