/*
 * npy.c - headers and values of files of numpy.save.
 *
 * The header is a Python dictionary with exactly the keys descr, fortran_order and shape.  It is
 * parsed strictly; nothing in it is evaluated.  Format: numpy.lib.format, versions 1.0 to 3.0.
 */
#include "private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char magic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
enum { MAJOR_AT = sizeof magic, LENGTH_AT = MAJOR_AT + 2, DESCR = 64 };

size_t sim_npy_header_bytes(const uint8_t *bytes, size_t n)
{
    const uint8_t *p = bytes + LENGTH_AT;

    if (n < SIM_NPY_PREFIX || memcmp(bytes, magic, sizeof magic) != 0 ||
        bytes[MAJOR_AT] < 1 || bytes[MAJOR_AT] > 3)
        return 0;
    return bytes[MAJOR_AT] == 1 ? LENGTH_AT + 2 + ((size_t)p[0] | (size_t)p[1] << 8)
                                : LENGTH_AT + 4 +
                                      ((size_t)p[0] | (size_t)p[1] << 8 |
                                       (size_t)p[2] << 16 | (size_t)p[3] << 24);
}

/* ---- the dictionary ---- */

typedef struct {
    const char *at, *end;
} text;

static void skip_spaces(text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n'))
        t->at++;
}

/* Advances behind a character, if it is the next one. */
static bool take(text *t, char c)
{
    skip_spaces(t);
    const bool is = t->at < t->end && *t->at == c;
    t->at += is;
    return is;
}

static bool take_word(text *t, const char *word)
{
    skip_spaces(t);
    const size_t n = strlen(word);
    const bool is = (size_t)(t->end - t->at) >= n && memcmp(t->at, word, n) == 0;
    t->at += is ? n : 0;
    return is;
}

/* A string in quotes, without escapes. */
static bool take_string(text *t, char out[DESCR])
{
    skip_spaces(t);
    const char quote = t->at < t->end ? *t->at : '\0';
    size_t n = 0;

    if (quote != '\'' && quote != '"')
        return false;
    for (t->at++; t->at < t->end && *t->at != quote && n + 1 < DESCR; t->at++)
        out[n++] = *t->at;
    out[n] = '\0';
    return take(t, quote);
}

static bool take_number(text *t, size_t *out)
{
    skip_spaces(t);
    const char *first = t->at;

    *out = 0;
    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++)
        if (__builtin_mul_overflow(*out, (size_t)10, out) ||
            __builtin_add_overflow(*out, (size_t)(*t->at - '0'), out))
            return false;
    return t->at > first;
}

/* "()", "(3,)", "(3, 4)" */
static bool take_shape(text *t, sim_npy *out)
{
    out->n_dims = 0;
    if (!take(t, '('))
        return false;
    while (!take(t, ')')) {
        if (out->n_dims == SIM_MAX_DIMS || !take_number(t, &out->dims[out->n_dims]))
            return false;
        out->n_dims++;
        if (!take(t, ',')) /* only a tuple of several numbers may lack the last comma */
            return out->n_dims > 1 && take(t, ')');
    }
    return true;
}

typedef struct {
    char descr[DESCR];
    bool is_structure; /* descr is a list of fields */
    bool is_fortran;
    bool has_descr, has_order, has_shape;
} entries;

static bool take_value(text *t, const char *key, entries *e, sim_npy *out)
{
    if (strcmp(key, "descr") == 0 && !e->has_descr) {
        e->has_descr = true;
        e->is_structure = take(t, '[');
        return e->is_structure || take_string(t, e->descr);
    }
    if (strcmp(key, "fortran_order") == 0 && !e->has_order) {
        e->has_order = true;
        e->is_fortran = take_word(t, "True");
        return e->is_fortran || take_word(t, "False");
    }
    if (strcmp(key, "shape") == 0 && !e->has_shape) {
        e->has_shape = true;
        return take_shape(t, out);
    }
    return false;
}

/* The entries between braces; the comma after the last one is optional.  What follows a structure, which is
 * refused, is not read. */
static bool take_entries(text *t, entries *e, sim_npy *out)
{
    char key[DESCR];

    if (!take(t, '{'))
        return false;
    while (!take(t, '}')) {
        if (!take_string(t, key) || !take(t, ':') || !take_value(t, key, e, out))
            return false;
        if (e->is_structure)
            return true;
        if (!take(t, ','))
            return take(t, '}');
    }
    return true;
}

static bool take_dictionary(text *t, entries *e, sim_npy *out)
{
    if (!take_entries(t, e, out))
        return false;
    skip_spaces(t);
    return e->is_structure ||
           (t->at == t->end && e->has_descr && e->has_order && e->has_shape);
}

/* ---- the type ---- */

/* "<f4": order of bytes, kind, bytes ('U': characters). */
static bool parse_type(const char *descr, sim_npy *out)
{
    const uint16_t one = 1;
    const bool is_little = *(const unsigned char *)&one == 1;
    char *end = NULL;

    if (!strchr("<>|=", descr[0]) || !descr[0] || descr[2] < '1' || descr[2] > '9')
        return false;
    const unsigned long n = strtoul(descr + 2, &end, 10);
    if (*end || n > UINT16_MAX)
        return false;
    out->kind = descr[1];
    out->item_bytes = n * (out->kind == 'U' ? 4 : 1);
    out->is_swapped = out->item_bytes > 1 && out->kind != 'S' &&
                      ((descr[0] == '<' && !is_little) || (descr[0] == '>' && is_little));
    switch (out->kind) {
    case 'b':
        return n == 1;
    case 'u':
    case 'i':
        return n == 1 || n == 2 || n == 4 || n == 8;
    case 'f':
        return n == 2 || n == 4 || n == 8;
    default:
        return out->kind == 'S' || out->kind == 'U';
    }
}

static sim_status count_values(const char *name, sim_npy *a)
{
    sim_status st = SIM_OK;
    size_t bytes = a->item_bytes;

    a->n_values = 1;
    for (int i = 0; i < a->n_dims; i++) {
        SIM_CHECK(!__builtin_mul_overflow(a->n_values, a->dims[i], &a->n_values),
                  SIM_E_DATA, "%s: the array is too large", name);
        SIM_CHECK(!__builtin_mul_overflow(a->n_values, a->item_bytes, &bytes), SIM_E_DATA,
                  "%s: the array is too large", name);
    }
done:
    return st;
}

sim_status sim_npy_parse(const char *name, const uint8_t *bytes, size_t n, sim_npy *out)
{
    sim_status st = SIM_OK;
    entries e = {0};
    const size_t header = sim_npy_header_bytes(bytes, n);

    *out = (sim_npy){.data_at = header};
    SIM_CHECK(header > 0, SIM_E_DATA, "%s is not a NumPy file of version 1 to 3", name);
    SIM_CHECK(header <= SIM_NPY_MAX_HEADER, SIM_E_DATA,
              "%s: the header has %zu bytes, expected at most %d", name, header,
              SIM_NPY_MAX_HEADER);
    SIM_CHECK(header <= n, SIM_E_DATA, "%s is truncated: its header ends early", name);
    text t = {.at = (const char *)bytes +
                    (bytes[MAJOR_AT] == 1 ? LENGTH_AT + 2 : LENGTH_AT + 4),
              .end = (const char *)bytes + header};
    SIM_CHECK(
        take_dictionary(&t, &e, out), SIM_E_DATA,
        "%s: the header is not a dictionary of descr, fortran_order and shape of up "
        "to %d dimensions",
        name, SIM_MAX_DIMS);
    SIM_CHECK(!e.is_structure, SIM_E_DATA,
              "%s: the values are structures; save one field of them", name);
    SIM_CHECK(strchr(e.descr, 'O') == NULL, SIM_E_DATA,
              "%s: the values are Python objects (pickle), which are not read; convert "
              "them to an array of numbers",
              name);
    SIM_CHECK(parse_type(e.descr, out), SIM_E_DATA,
              "%s: values of type %s are not read, expected bool, integers, or floats of "
              "16, 32 or 64 bits",
              name, e.descr);
    SIM_CHECK(!e.is_fortran || out->n_dims < 2, SIM_E_DATA,
              "%s: the array is in Fortran order; save numpy.ascontiguousarray of it",
              name);
    SIM_TRY(count_values(name, out));
done:
    return st;
}

/* ---- values ---- */

static number_format number_of(const sim_npy *a)
{
    return (number_format){.kind = a->kind == 'f'   ? NUMBER_FLOAT
                                   : a->kind == 'i' ? NUMBER_SIGNED
                                                    : NUMBER_UNSIGNED,
                           .bits = (unsigned)(8 * a->item_bytes)};
}

/* An integer; unsigned ones above INT64_MAX become negative, as by a conversion in C. */
static int64_t integer_of(const sim_npy *a, const uint8_t *value)
{
    uint64_t v = 0;

    if (a->item_bytes < sizeof v)
        return (int64_t)sim_number_at(number_of(a), value, 0);
    memcpy(&v, value, sizeof v);
    return (int64_t)v;
}

void sim_npy_convert(const sim_npy *a, const uint8_t *values, size_t n, sim_type to,
                     void *out)
{
    uint8_t value[sizeof(double)];

    SIM_ASSERT(a->item_bytes <= sizeof value);
    for (size_t i = 0; i < n; i++) {
        memcpy(value, values + i * a->item_bytes, a->item_bytes);
        if (a->is_swapped)
            sim_swap_bytes(value, a->item_bytes, 1);
        if (to == SIM_U8)
            ((uint8_t *)out)[i] = value[0];
        else if (to == SIM_I64 || to == SIM_U64)
            ((int64_t *)out)[i] = integer_of(a, value);
        else
            ((double *)out)[i] = sim_number_at(number_of(a), value, 0);
    }
}
