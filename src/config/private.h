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
    SHOW_BYTES = 72
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

SIM_MUST_USE sim_status sim_config_add(sim_config *c, const char *key, const char *text,
                                       bool quoted, bool empty_list, const char *where);
entry *sim_config_find(const sim_config *c, const char *key);
/* Removes `key` and the keys below it; true if there were any. */
bool sim_config_drop(sim_config *c, const char *key);
/* The first entry below `key`; NULL if there is none. */
entry *sim_config_find_below(const sim_config *c, const char *key);

/* parse.c: parses YAML into entries below `prefix`.  with_line: messages name "where:line". */
SIM_MUST_USE sim_status sim_config_parse_text(sim_config *c, const char *text, size_t n,
                                              const char *prefix, const char *where,
                                              bool with_line);

/* fill.c: the key "section.name"; fills a row's value and formats it for the resolved job. */
void sim_config_full_key(const char *section, const char *name, char out[KEY_BYTES]);
SIM_MUST_USE sim_status sim_config_fill_row(sim_config *c, const char *prefix,
                                            const sim_option *row, void *options,
                                            char *text, size_t text_bytes);
SIM_MUST_USE sim_status sim_config_add_known(sim_config *c, const char *key,
                                             const char *text, const char *before,
                                             const sim_option *row, bool given);
/* The choice with the smallest edit distance to `text`. */
void sim_config_nearest_choice(const char *choices, const char *text, char out[64]);

/* items.c: a list of operations. */
SIM_MUST_USE sim_status sim_config_fill_items(sim_config *c, const char *key,
                                              const sim_option *row,
                                              sim_option_items *items);

/*
 * text.c: the length of the code point at text[0], 0 if it is not UTF-8; true if a job may
 * contain the code point; a copy for messages, shortened, with control characters replaced.
 */
size_t sim_config_utf8(const char *text, size_t n, uint32_t *code);
bool sim_config_is_plain(uint32_t code);
void sim_config_quote(const char *text, char out[SHOW_BYTES]);

#endif
