/*
 * json.c - objects and arrays by jansson.
 *
 * A sim_json is a json_t: nested ones are borrowed from their parent, as jansson has it.
 * A failed allocation marks the thread, and its next dump tells it.
 */
#include "simile/json.h"

#include "simile/memory.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

static _Thread_local bool broken;

static json_t *value_of(const sim_json *j)
{
    union {
        const sim_json *given;
        json_t *value;
    } u = {j}; /* jansson's readers want it without const */
    return u.value;
}

sim_status sim_json_create(sim_json **out)
{
    sim_status st = SIM_OK;
    json_t *j = json_object();
    SIM_CHECK(j, SIM_E_IO, "out of memory for JSON");
    *out = (sim_json *)j;
done:
    return st;
}

void sim_json_destroy(sim_json **j)
{
    if (*j)
        json_decref(value_of(*j));
    *j = NULL;
}

/* Takes over `value`. */
static void put(sim_json *j, const char *key, json_t *value)
{
    int error = key ? json_object_set_new(value_of(j), key, value)
                    : json_array_append_new(value_of(j), value);
    if (error)
        broken = true;
}

/* A text that is not UTF-8, such as an old file's name: '?' for what is not ASCII. */
static json_t *ascii_of(const char *value)
{
    json_t *text = NULL;
    char *copy = NULL;
    if (sim_text_copy(value, "core/json", &copy) != SIM_OK)
        return NULL;
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    text = json_string(copy);
    sim_free(copy);
    return text;
}

void sim_json_text(sim_json *j, const char *key, const char *value)
{
    json_t *text = json_string(value);
    put(j, key, text ? text : ascii_of(value));
}

void sim_json_int(sim_json *j, const char *key, int64_t value)
{
    put(j, key, json_integer(value));
}

void sim_json_real(sim_json *j, const char *key, double value)
{
    put(j, key, isfinite(value) ? json_real(value) : json_null());
}

void sim_json_bool(sim_json *j, const char *key, bool value)
{
    put(j, key, json_boolean(value));
}

sim_json *sim_json_object(sim_json *j, const char *key)
{
    json_t *o = json_object();
    put(j, key, o);
    return (sim_json *)o;
}

sim_json *sim_json_array(sim_json *j, const char *key)
{
    json_t *a = json_array();
    put(j, key, a);
    return (sim_json *)a;
}

void sim_json_put(sim_json *j, const char *key, const sim_json *value)
{
    put(j, key, json_deep_copy(value_of(value)));
}

/* A text that grows; it keeps one zero byte at its end. */
typedef struct {
    char *text;
    size_t n, room;
    bool failed;
} sink;

/* jansson 2.14 goes on when a key could not be written, so the sink remembers. */
static int receive(const char *bytes, size_t n, void *ctx)
{
    sink *s = ctx;
    size_t room = s->room;
    while (room <= s->n + n)
        room *= 2;
    if (room > s->room && sim_grow(&s->text, room, "core/json") != SIM_OK)
        s->failed = true;
    if (s->failed)
        return -1;
    s->room = room;
    memcpy(s->text + s->n, bytes, n);
    s->n += n;
    return 0;
}

sim_status sim_json_dump(const sim_json *j, int indent, char **out)
{
    sim_status st = SIM_OK;
    sink s = {0};
    size_t flags = JSON_INDENT((size_t)indent) | JSON_REAL_PRECISION(17);

    if (indent == 0)
        flags |= JSON_COMPACT;
    SIM_CHECK(!broken, SIM_E_IO, "out of memory for JSON");
    SIM_TRY(sim_grow(&s.text, s.room = 256, "core/json"));
    int error = json_dump_callback(value_of(j), receive, &s, flags);
    SIM_CHECK(error == 0 && !s.failed, SIM_E_IO, "out of memory for JSON");
    *out = s.text;
    s.text = NULL;
done:
    sim_free(s.text);
    broken = false;
    return st;
}

sim_status sim_json_parse(const char *text, size_t n_bytes, sim_json **out)
{
    sim_status st = SIM_OK;
    json_error_t error;
    json_t *j = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    SIM_CHECK(j, SIM_E_DATA, "not JSON: line %d: %s", error.line, error.text);
    *out = (sim_json *)j;
done:
    return st;
}

bool sim_json_get_text(const sim_json *j, const char *key, const char **value)
{
    const json_t *v = json_object_get(value_of(j), key);
    if (!json_is_string(v))
        return false;
    *value = json_string_value(v);
    return true;
}

bool sim_json_get_int(const sim_json *j, const char *key, int64_t *value)
{
    const json_t *v = json_object_get(value_of(j), key);
    if (!json_is_integer(v))
        return false;
    *value = json_integer_value(v);
    return true;
}

bool sim_json_get_real(const sim_json *j, const char *key, double *value)
{
    const json_t *v = json_object_get(value_of(j), key);
    if (!json_is_number(v))
        return false;
    *value = json_number_value(v);
    return true;
}

bool sim_json_get_object(const sim_json *j, const char *key, sim_json **value)
{
    json_t *v = json_object_get(value_of(j), key);
    if (!json_is_object(v) && !json_is_array(v))
        return false;
    *value = (sim_json *)v;
    return true;
}

size_t sim_json_size(const sim_json *j)
{
    return json_array_size(value_of(j));
}

sim_json *sim_json_at(const sim_json *j, size_t i)
{
    return (sim_json *)json_array_get(value_of(j), i);
}

const char *sim_json_text_at(const sim_json *j, size_t i)
{
    const char *text = json_string_value(json_array_get(value_of(j), i));
    return text ? text : "";
}

int64_t sim_json_int_at(const sim_json *j, size_t i)
{
    const json_t *v = json_array_get(value_of(j), i);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}
