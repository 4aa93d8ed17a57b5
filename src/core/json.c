/*
 * json.c - objects and arrays by jansson.
 *
 * A sim_json is a json_t; nested values are borrowed from their parent. An allocation failure in
 * a setter marks the thread, and its next dump returns the error.
 */
#include "simile/json.h"

#include "simile/memory.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

static _Thread_local bool failed_in_setter;

static json_t *value_of(const sim_json *j)
{
    union {
        const sim_json *in;
        json_t *value;
    } u = {j}; /* removes const, which jansson's getters do not accept */
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

/* Sets or appends `value` and owns it, also after a failure. */
static void set_value(sim_json *j, const char *key, json_t *value)
{
    int error = key ? json_object_set_new(value_of(j), key, value)
                    : json_array_append_new(value_of(j), value);
    if (error)
        failed_in_setter = true;
}

/* Replaces bytes outside ASCII by '?', for texts that are not valid UTF-8. */
static json_t *ascii_string(const char *value)
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
    set_value(j, key, text ? text : ascii_string(value));
}

void sim_json_int(sim_json *j, const char *key, int64_t value)
{
    set_value(j, key, json_integer(value));
}

void sim_json_real(sim_json *j, const char *key, double value)
{
    set_value(j, key, isfinite(value) ? json_real(value) : json_null());
}

void sim_json_bool(sim_json *j, const char *key, bool value)
{
    set_value(j, key, json_boolean(value));
}

sim_json *sim_json_object(sim_json *j, const char *key)
{
    json_t *o = json_object();
    set_value(j, key, o);
    return (sim_json *)o;
}

sim_json *sim_json_array(sim_json *j, const char *key)
{
    json_t *a = json_array();
    set_value(j, key, a);
    return (sim_json *)a;
}

void sim_json_put(sim_json *j, const char *key, const sim_json *value)
{
    set_value(j, key, json_deep_copy(value_of(value)));
}

/* A growing text that always ends with a zero byte. */
typedef struct {
    char *text;
    size_t n, capacity;
    bool failed;
} text_buffer;

/* jansson 2.14 ignores the result for keys, so the failure is stored. */
static int append_bytes(const char *bytes, size_t n, void *ctx)
{
    text_buffer *s = ctx;
    size_t capacity = s->capacity;
    while (capacity <= s->n + n)
        capacity *= 2;
    if (capacity > s->capacity && sim_grow(&s->text, capacity, "core/json") != SIM_OK)
        s->failed = true;
    if (s->failed)
        return -1;
    s->capacity = capacity;
    memcpy(s->text + s->n, bytes, n);
    s->n += n;
    return 0;
}

/* jansson escapes the control characters below 0x20 only.  These two kinds occur in strings alone:
 * 0x7f, and 0x80 to 0x9f as "\xc2\x80" to "\xc2\x9f". */
static sim_status escape_controls(text_buffer *s)
{
    sim_status st = SIM_OK;
    text_buffer escaped = {0};
    char code[8];

    if (!strpbrk(s->text, "\x7f\xc2"))
        goto done;
    SIM_TRY(sim_grow(&escaped.text, escaped.capacity = s->capacity, "core/json"));
    for (const unsigned char *p = (const unsigned char *)s->text; *p;) {
        const bool is_c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        const bool is_escaped = is_c1 || *p == 0x7f;
        (void)snprintf(code, sizeof code, "\\u%04x", is_c1 ? p[1] : 0x7fU);
        if (append_bytes(is_escaped ? code : (const char *)p, is_escaped ? 6 : 1,
                         &escaped) != 0)
            SIM_FAIL(SIM_E_IO, "out of memory for JSON");
        p += is_c1 ? 2 : 1;
    }
    sim_free(s->text);
    *s = escaped;
    escaped.text = NULL;
done:
    sim_free(escaped.text);
    return st;
}

sim_status sim_json_dump(const sim_json *j, int indent, char **out)
{
    sim_status st = SIM_OK;
    text_buffer s = {0};
    size_t flags = JSON_INDENT((size_t)indent) | JSON_REAL_PRECISION(17);

    if (indent == 0)
        flags |= JSON_COMPACT;
    SIM_CHECK(!failed_in_setter, SIM_E_IO, "out of memory for JSON");
    SIM_TRY(sim_grow(&s.text, s.capacity = 256, "core/json"));
    int error = json_dump_callback(value_of(j), append_bytes, &s, flags);
    SIM_CHECK(error == 0 && !s.failed, SIM_E_IO, "out of memory for JSON");
    SIM_TRY(escape_controls(&s));
    *out = s.text;
    s.text = NULL;
done:
    sim_free(s.text);
    failed_in_setter = false;
    return st;
}

sim_status sim_json_parse(const char *text, size_t n_bytes, sim_json **out)
{
    sim_status st = SIM_OK;
    json_error_t error;
    json_t *j = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    SIM_CHECK(j, SIM_E_DATA, "invalid JSON: line %d: %s", error.line, error.text);
    *out = (sim_json *)j;
done:
    return st;
}

bool sim_json_has(const sim_json *j, const char *key)
{
    return json_object_get(value_of(j), key) != NULL;
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

bool sim_json_get_bool(const sim_json *j, const char *key, bool *value)
{
    const json_t *v = json_object_get(value_of(j), key);
    if (!json_is_boolean(v))
        return false;
    *value = json_is_true(v);
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

sim_status sim_json_each(const sim_json *j,
                         sim_status (*member)(void *ctx, const char *key,
                                              const sim_json *value),
                         void *ctx)
{
    sim_status st = SIM_OK;
    json_t *o = value_of(j);

    for (void *at = json_object_iter(o); at; at = json_object_iter_next(o, at)) {
        const json_t *v = json_object_iter_value(at);
        bool nested = json_is_object(v) || json_is_array(v);
        SIM_TRY(
            member(ctx, json_object_iter_key(at), nested ? (const sim_json *)v : NULL));
    }
done:
    return st;
}

bool sim_json_is_array(const sim_json *j)
{
    return json_is_array(value_of(j));
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

double sim_json_real_at(const sim_json *j, size_t i)
{
    const json_t *value = json_array_get(value_of(j), i);
    return json_is_number(value) ? json_number_value(value) : NAN;
}
