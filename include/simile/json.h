/*
 * json.h - JSON objects for results, metrics and file headers (by jansson).
 *
 * Module: core
 * Setters do not fail: an allocation failure marks the calling thread, and its next
 * sim_json_dump returns the error. Numbers that are not finite become null. In a text that is
 * not valid UTF-8, every byte outside ASCII becomes '?'.
 */
#ifndef SIMILE_JSON_H
#define SIMILE_JSON_H

#include "simile/status.h"

#include <stdint.h>

typedef struct sim_json sim_json; /* an object or an array */

SIM_MUST_USE sim_status sim_json_create(sim_json **out); /* an empty object */
void sim_json_destroy(sim_json **j);

/* Set a key of an object; in an array `key` is NULL and the value is appended. */
void sim_json_text(sim_json *j, const char *key, const char *value);
void sim_json_int(sim_json *j, const char *key, int64_t value);
void sim_json_real(sim_json *j, const char *key, double value);
void sim_json_bool(sim_json *j, const char *key, bool value);

/* Add an empty object or array and return it, borrowed from j. */
sim_json *sim_json_object(sim_json *j, const char *key);
sim_json *sim_json_array(sim_json *j, const char *key);

/* Adds a deep copy of an object or array. */
void sim_json_put(sim_json *j, const char *key, const sim_json *value);

/*
 * Serializes on one line (indent 0) or indented; keys in insertion order. *out becomes the
 * caller's.
 * Errors: SIM_E_IO if memory was exhausted here or in a setter.
 */
SIM_MUST_USE sim_status sim_json_dump(const sim_json *j, int indent, char **out);

/*
 * Parses one object or array.
 * Errors: SIM_E_DATA with line and reason; duplicate keys are an error.
 */
SIM_MUST_USE sim_status sim_json_parse(const char *text, size_t n_bytes, sim_json **out);

bool sim_json_has(const sim_json *j, const char *key); /* an object with this key */
/* Read a key of an object; false, and *value unchanged, if it is absent or of another type.
 * Texts and objects are borrowed from j. */
bool sim_json_get_text(const sim_json *j, const char *key, const char **value);
bool sim_json_get_int(const sim_json *j, const char *key, int64_t *value);
bool sim_json_get_real(const sim_json *j, const char *key, double *value);
bool sim_json_get_bool(const sim_json *j, const char *key, bool *value);
bool sim_json_get_object(const sim_json *j, const char *key, sim_json **value);

/*
 * Calls `member` for every key of an object, in the order of the text; `value` is NULL unless it is an
 * object or array. Ends early with the status of `member` if it fails.
 */
SIM_MUST_USE sim_status sim_json_each(const sim_json *j,
                                      sim_status (*member)(void *ctx, const char *key,
                                                           const sim_json *value),
                                      void *ctx);

/* Number of elements of an array, and element i as an object or array, borrowed from j. */
bool sim_json_is_array(const sim_json *j);
size_t sim_json_size(const sim_json *j);
sim_json *sim_json_at(const sim_json *j, size_t i);
/* Element i of an array as a text, borrowed from j; "" if absent or of another type. */
const char *sim_json_text_at(const sim_json *j, size_t i);
/* Element i of an array as an integer; -1 if absent or of another type. */
int64_t sim_json_int_at(const sim_json *j, size_t i);
/* Element i of an array as a number; NaN if absent or of another type. */
double sim_json_real_at(const sim_json *j, size_t i);

#endif
