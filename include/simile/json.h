/*
 * json.h - JSON objects for results, metrics and headers (by jansson).
 *
 * Module: core
 * Writers build an object key by key; a failed allocation is remembered and told by
 * sim_json_dump.  Numbers that are not finite become null; in a text that is not UTF-8
 * every byte beyond ASCII becomes '?'.
 */
#ifndef SIMILE_JSON_H
#define SIMILE_JSON_H

#include "simile/status.h"

#include <stdint.h>

typedef struct sim_json sim_json; /* an object or an array */

SIM_MUST_USE sim_status sim_json_create(sim_json **out); /* an empty object */
void sim_json_destroy(sim_json **j);

void sim_json_text(sim_json *j, const char *key, const char *value);
void sim_json_int(sim_json *j, const char *key, int64_t value);
void sim_json_real(sim_json *j, const char *key, double value);
void sim_json_bool(sim_json *j, const char *key, bool value);

/* A nested object or array, borrowed from j; in an array `key` is NULL. */
sim_json *sim_json_object(sim_json *j, const char *key);
sim_json *sim_json_array(sim_json *j, const char *key);

/* A copy of an object or array under a key; in an array `key` is NULL. */
void sim_json_put(sim_json *j, const char *key, const sim_json *value);

/* Text on one line (indent 0) or indented; keys in the order written.  Caller's. */
SIM_MUST_USE sim_status sim_json_dump(const sim_json *j, int indent, char **out);

/* Parses one object or array; duplicate keys refused.  Fails: SIM_E_DATA with line and
 * reason. */
SIM_MUST_USE sim_status sim_json_parse(const char *text, size_t n_bytes, sim_json **out);

/* Reading: false when absent or of another type. */
bool sim_json_get_text(const sim_json *j, const char *key, const char **value);
bool sim_json_get_int(const sim_json *j, const char *key, int64_t *value);
bool sim_json_get_real(const sim_json *j, const char *key, double *value);
bool sim_json_get_object(const sim_json *j, const char *key, sim_json **value);

/* Arrays: number of elements, and an element as a borrowed object. */
size_t sim_json_size(const sim_json *j);
sim_json *sim_json_at(const sim_json *j, size_t i);
/* An element that is a text; "" when it is none.  Borrowed. */
const char *sim_json_text_at(const sim_json *j, size_t i);
/* An element that is a number; -1 when absent or of another type. */
int64_t sim_json_int_at(const sim_json *j, size_t i);

#endif
