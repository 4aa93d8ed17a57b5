/*
 * private.h - a job as a flat list of dotted keys.
 */
#ifndef SIMILE_CONFIG_PRIVATE_H
#define SIMILE_CONFIG_PRIVATE_H

#include "simile/config.h"

enum { KEY_BYTES = 256, MAX_ENTRIES = 4096, MAX_KNOWN = 1024 };

/* A scalar of the job; sequences count their items ("view1.0.op"). */
typedef struct {
    char *key, *text;
    bool quoted;
    bool empty_list; /* "view1: []" */
    bool used;
    char where[192]; /* "job.yaml:12" or "argument 3" */
} entry;

/* A key that a table took, with its value as text. */
typedef struct {
    char *key, *text;
    sim_option_kind kind;
    bool verbatim; /* text is YAML as it stands (lists) */
} known;

struct sim_config {
    char *name;
    entry *entries;
    size_t n_entries;
    known *known;
    size_t n_known;
};

SIM_MUST_USE sim_status config_add(sim_config *c, const char *key, const char *text,
                                   bool quoted, bool empty_list, const char *where);
entry *config_find(const sim_config *c, const char *key);
/* Drops `key` and everything below it; true when there was any. */
bool config_drop(sim_config *c, const char *key);
/* Is there any entry below "key."? */
bool config_has_below(const sim_config *c, const char *key);

/* parse.c: YAML text into entries below `prefix`; where_fmt has a %d for the line, or none */
SIM_MUST_USE sim_status config_parse_text(sim_config *c, const char *text, size_t n,
                                          const char *prefix, const char *where,
                                          bool with_line);

/* take.c */
SIM_MUST_USE sim_status config_know(sim_config *c, const char *key, const char *text,
                                    sim_option_kind kind, bool verbatim);

#endif
