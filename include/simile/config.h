/*
 * config.h - the job: YAML and key=value into option structs, by walking option tables.
 *
 * Module: config
 * Knows no other room: whoever owns options hands in a table and a struct.  Refuses with
 * SIM_E_CONFIG and file:line (or "argument 3"): aliases, anchors, tags, a second
 * document, depth over 8, more than 1 MiB, duplicates, unknown keys (naming the nearest
 * known one), wrong types, out-of-range numbers, nan, inf, invalid UTF-8.
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
 * Reads a job file and the overrides "dotted.key=value" that came after it on the
 * command line (`numbers[i]` is overrides[i]'s place there, for messages).
 * A value of an override is parsed as YAML too, so lists work.
 * Fails: SIM_E_INPUT (no such file), SIM_E_CONFIG.  *out becomes the caller's.
 */
SIM_MUST_USE sim_status sim_config_read(const char *path, size_t n_overrides,
                                        char *const *overrides, const int *numbers,
                                        sim_config **out);
/* The same from text (checkpoints carry their job); `name` stands for the path. */
SIM_MUST_USE sim_status sim_config_parse(const char *text, size_t n_bytes,
                                         const char *name, sim_config **out);
/* From now on an absent key has the value that its row states as `before`: for the job in a
 * checkpoint, which may have been written before the key existed.  Call before any fill. */
void sim_config_read_as_saved(sim_config *c);
void sim_config_destroy(sim_config **c);

/* The text at a dotted key before any table is taken ("method.name"); NULL if absent. */
const char *sim_config_peek(const sim_config *c, const char *key);

/*
 * From now on the default of `key` is `text`, whatever its table says: another key's choice
 * may bring defaults of its own.  Before the key's table is taken.  Keeps: key, text.
 */
void sim_config_set_default(sim_config *c, const char *key, const char *text);

/*
 * Fills `options` (zeroed first) from the keys below the table's section: defaults, then
 * what the job says.  Each table once.
 */
SIM_MUST_USE sim_status sim_config_fill(sim_config *c, const sim_option_table *table,
                                        void *options);

/* Refuses keys that no table took; defaults for such keys are a bug. */
SIM_MUST_USE sim_status sim_config_finish(sim_config *c);

/* The same, of keys below one section only. */
SIM_MUST_USE sim_status sim_config_finish_section(sim_config *c, const char *section);

/* A configuration error at a key, with its place: for checks that need several keys. */
sim_status sim_config_error(const sim_config *c, const char *key, const char *fmt, ...)
    SIM_PRINTF(3, 4);

/*
 * The resolved job, all keys with their values, sorted, as YAML that sim_config_read
 * accepts.  Caller's.
 */
SIM_MUST_USE sim_status sim_config_resolved(const sim_config *c, char **yaml);

/*
 * Identity: lines "key: value\n" of the IDENTITY keys that were taken, sorted.  Caller's.
 */
SIM_MUST_USE sim_status sim_config_identity(const sim_config *c, char **lines);
/*
 * The identity of a job that was written before its keys existed: for each IDENTITY key
 * that was taken, the value of an identity that lacks the key.  A key for which there is no
 * such value (required keys and lists) has an empty one.  Sorted.  Caller's.
 */
SIM_MUST_USE sim_status sim_config_identity_before(const sim_config *c, char **lines);

/* Text of --help for a table: key, type, default, range, unit, help; one line each. */
SIM_MUST_USE sim_status sim_config_help(const sim_option_table *table, char **text);

#endif
