/*
 * config.h - parses a job, YAML and key=value, into the option structs of option tables.
 *
 * Module: config
 * Depends on no other module but core: the owner of options passes a table and a struct.
 * These are SIM_E_CONFIG with file:line (or "argument 3"): aliases, anchors, tags, a second
 * document, more than 8 levels, more than 1 MiB, duplicates, unknown keys (with the nearest
 * known key), wrong types, numbers out of range, nan, inf, invalid UTF-8.
 *
 *   sim_config_read -> sim_config_fill for each table -> sim_config_finish
 */
#ifndef SIMILE_CONFIG_H
#define SIMILE_CONFIG_H

#include "simile/hash.h"
#include "simile/option.h"
#include "simile/status.h"

typedef struct sim_config sim_config;

/*
 * Reads a job file and the overrides "dotted.key=value" of the command line; numbers[i] is
 * the position of overrides[i] there, for messages. The value of an override is YAML, so
 * it may be a list.
 * Errors: SIM_E_INPUT (no such file), SIM_E_CONFIG.  *out becomes the caller's.
 */
SIM_MUST_USE sim_status sim_config_read(const char *path, size_t n_overrides,
                                        char *const *overrides, const int *numbers,
                                        sim_config **out);
/* Parses a job from text, such as that of a checkpoint; `name` is used in messages. */
SIM_MUST_USE sim_status sim_config_parse(const char *text, size_t n_bytes,
                                         const char *name, sim_config **out);
/* From now on an absent key has the value that its row states as `before`: for the job in a
 * checkpoint, which may have been written before the key existed. Call before any fill. */
void sim_config_read_as_saved(sim_config *c);
void sim_config_destroy(sim_config **c);

/* The scalar value at a dotted key such as "method.name", as text; NULL if absent. Borrowed. */
const char *sim_config_peek(const sim_config *c, const char *key);

/*
 * Replaces the default of `key` in its table by `text`, for defaults that depend on another
 * key. Must precede sim_config_fill of that table. Borrows key and text until then.
 */
void sim_config_set_default(sim_config *c, const char *key, const char *text);

/*
 * Fills `options` (zeroed first) from the keys of the table's section: the value of the job,
 * else the default. At most once per table.
 */
SIM_MUST_USE sim_status sim_config_fill(sim_config *c, const sim_option_table *table,
                                        void *options);

/* Refuses keys that are in no filled table. A sim_config_set_default for such a key is a
 * bug. */
SIM_MUST_USE sim_status sim_config_finish(sim_config *c);

/* Refuses unknown keys of one section. */
SIM_MUST_USE sim_status sim_config_finish_section(sim_config *c, const char *section);

/* Sets an error at a key, with file and line, for checks of several keys. Returns
 * SIM_E_CONFIG. */
sim_status sim_config_error(const sim_config *c, const char *key, const char *fmt, ...)
    SIM_PRINTF(3, 4);

/* Parses the value of one row into the owner's struct, for options of the command line; `name` is
 * used in messages ("--k").  Errors: SIM_E_CONFIG. */
SIM_MUST_USE sim_status sim_config_option(const sim_option *row, const char *name,
                                          const char *text, void *options);
/* Writes the value of one row as it is in a resolved job; of a list of numbers "1,10,20". */
void sim_config_format_option(const sim_option *row, const void *options, char *out,
                              size_t out_bytes);

/*
 * The resolved job: all keys with their values, sorted, as YAML that sim_config_read
 * accepts.  *yaml becomes the caller's.
 */
SIM_MUST_USE sim_status sim_config_resolved(const sim_config *c, char **yaml);

/*
 * The identity: lines "key: value\n" of the SIM_IDENTITY keys, sorted.  *lines becomes the
 * caller's.
 */
SIM_MUST_USE sim_status sim_config_identity(const sim_config *c, char **lines);
/*
 * The values that apply to an identity that lacks some of the keys, because it was written before
 * they existed: a line for each SIM_IDENTITY key, sorted; its value is empty if there is none
 * (required keys and lists). *lines becomes the caller's.
 */
SIM_MUST_USE sim_status sim_config_identity_before(const sim_config *c, char **lines);
/* Lines "key: value\n" of the keys that must be equal on all ranks, sorted.  *lines becomes the
 * caller's. */
SIM_MUST_USE sim_status sim_config_of_all_ranks(const sim_config *c, char **lines);

/* The help text of a table, one line per key: key, type, default, range, unit, help.
 * *text becomes the caller's. */
SIM_MUST_USE sim_status sim_config_help(const sim_option_table *table, char **text);

#endif
