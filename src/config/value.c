/*
 * value.c - parses and formats the value of one key according to its row.
 */
#include "private.h"

#include "simile/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value of the job, its row, and its destination. */
typedef struct {
    const sim_option *row;
    const char *key, *text, *where;
    bool quoted;
    void *to;
} value;

static sim_status refuse_value(const value *v, const char *expected)
{
    char shown[SHOW_BYTES];
    sim_config_quote(v->text, shown);
    return sim_error_begin(SIM_E_CONFIG, __FILE__, __LINE__, "%s: %s: \"%s\" is not %s",
                           v->where, v->key, shown, expected);
}

/* strtod also accepts "nan", "inf", hexadecimal and leading blanks, which are refused. */
static bool looks_decimal(const char *text)
{
    text += *text == '-' || *text == '+';
    return *text && strspn(text, "0123456789.eE+-") == strlen(text);
}

static sim_status check_range(const value *v, double x)
{
    sim_status st = SIM_OK;
    const sim_option *r = v->row;
    const char *unit = r->unit ? r->unit : "";

    SIM_CHECK(x >= r->min && x <= r->max, SIM_E_CONFIG,
              "%s: %s: %s is out of range (%.15g to %.15g%s%s)", v->where, v->key,
              v->text, r->min, r->max, *unit ? " " : "", unit);
done:
    return st;
}

static sim_status parse_number(const value *v, double *out)
{
    sim_status st = SIM_OK;
    char *end = NULL;

    if (v->quoted)
        return refuse_value(v, "a number; remove the quotes");
    if (!looks_decimal(v->text))
        return refuse_value(v, "a number");
    errno = 0;
    double x = strtod(v->text, &end);
    if (end == v->text || *end || !isfinite(x))
        return refuse_value(v, "a number");
    if (errno == ERANGE)
        return refuse_value(v, "a number in the range of a double");
    if (x == 0 && signbit(x))
        return refuse_value(v, "accepted; write 0");
    SIM_TRY(check_range(v, x));
    *out = x;
done:
    return st;
}

/* Seconds in the unit of a row that holds a time; 0: another row. */
static double seconds_per_unit(const sim_option *row)
{
    const char *unit = row->unit ? row->unit : "";
    return strcmp(unit, "s") == 0 ? 1 : strcmp(unit, "minutes") == 0 ? 60 : 0;
}

/* A number; a time may also have a unit of its own, as 90s or 2h. */
static sim_status parse_real(const value *v, double *out)
{
    sim_status st = SIM_OK;
    const double unit = seconds_per_unit(v->row);
    double seconds = 0;

    if (unit == 0 || v->quoted || looks_decimal(v->text)) {
        SIM_TRY(parse_number(v, out));
        goto done;
    }
    if (!sim_clock_duration(v->text, &seconds))
        return refuse_value(v, unit == 1 ? "a number of seconds, or a time such as 15min"
                                         : "a number of minutes, or a time such as 90s");
    SIM_TRY(check_range(v, seconds / unit));
    *out = seconds / unit;
done:
    return st;
}

static sim_status refuse_word(const value *v)
{
    char expected[96];
    (void)snprintf(expected, sizeof expected, "a number or %s", v->row->choices);
    return refuse_value(v, expected);
}

/*
 * Only integers that strtod reads exactly: beyond 2^53, or with more digits of a fraction
 * than a double distinguishes, its result may differ from the text.
 */
static sim_status parse_int(const value *v)
{
    enum { EXACT_DIGITS = 15 };
    sim_status st = SIM_OK;
    double x = 0;
    size_t mantissa = strcspn(v->text, "eE");

    if (v->row->choices && strcmp(v->text, v->row->choices) == 0) {
        *(int64_t *)v->to = 0;
        goto done;
    }
    if (v->row->choices && !looks_decimal(v->text))
        return refuse_word(v);
    SIM_TRY(parse_number(v, &x));
    bool plain = v->text[strcspn(v->text, ".eE")] == '\0';
    if (fabs(x) >= 0x1p53 || x != (double)(int64_t)x ||
        (!plain && mantissa > EXACT_DIGITS))
        return refuse_value(v, "a whole number");
    *(int64_t *)v->to = (int64_t)x;
done:
    return st;
}

static sim_status parse_bool(const value *v)
{
    if (v->quoted)
        return refuse_value(v, "true or false; remove the quotes");
    if (strcmp(v->text, "true") == 0)
        *(bool *)v->to = true;
    else if (strcmp(v->text, "false") == 0)
        *(bool *)v->to = false;
    else
        return refuse_value(v, "true or false");
    return SIM_OK;
}

void sim_config_suggest(const char *choices, const char *text, char out[96])
{
    char name[64];
    int i = sim_choices_suggest(choices, text);

    out[0] = '\0';
    if (sim_choices_text(choices, i, name, sizeof name))
        (void)snprintf(out, 96, "; did you mean %s?", name);
}

static sim_status parse_choice(const value *v)
{
    sim_status st = SIM_OK;
    char suggestion[96], shown[SHOW_BYTES];
    int found = sim_choices_find(v->row->choices, v->text);

    sim_config_suggest(v->row->choices, v->text, suggestion);
    sim_config_quote(v->text, shown);
    SIM_CHECK(found >= 0, SIM_E_CONFIG, "%s: %s: \"%s\" is not one of %s%s", v->where,
              v->key, shown, v->row->choices, suggestion);
    *(int *)v->to = found;
done:
    return st;
}

static sim_status parse_text(const value *v)
{
    sim_status st = SIM_OK;
    size_t n = strlen(v->text), length = 0;
    uint32_t code = 0;

    for (size_t i = 0; i < n; i += length) {
        length = sim_config_utf8(v->text + i, n - i, &code);
        SIM_CHECK(length > 0, SIM_E_CONFIG, "%s: %s is not UTF-8", v->where, v->key);
        SIM_CHECK(sim_config_is_plain(code), SIM_E_CONFIG,
                  "%s: %s contains a control character, U+%04X", v->where, v->key,
                  (unsigned)code);
    }
    SIM_CHECK(n < SIM_OPTION_TEXT_BYTES, SIM_E_CONFIG, "%s: %s is longer than %d bytes",
              v->where, v->key, SIM_OPTION_TEXT_BYTES - 1);
    memcpy(v->to, v->text, n + 1);
done:
    return st;
}

/* One text of a list. */
static sim_status append_text(const value *v, const char *text, size_t n)
{
    sim_status st = SIM_OK;
    sim_option_texts *out = v->to;
    char word[SIM_OPTION_TEXT_BYTES + 1];
    value one = *v;

    (void)snprintf(word, sizeof word, "%.*s", (int)n, text);
    one.text = word;
    SIM_CHECK(out->n < SIM_OPTION_MAX_TEXTS, SIM_E_CONFIG,
              "%s: %s has more than %d values", v->where, v->key, SIM_OPTION_MAX_TEXTS);
    SIM_CHECK(*word, SIM_E_CONFIG, "%s: %s contains an empty text", v->where, v->key);
    one.to = out->text[out->n];
    SIM_TRY(parse_text(&one));
    out->n++;
done:
    return st;
}

/* Texts separated by commas; in quotes, a single one.  No text is an empty list. */
static sim_status parse_texts(const value *v)
{
    sim_status st = SIM_OK;
    const char *at = v->text;

    ((sim_option_texts *)v->to)->n = 0;
    if (!*at)
        goto done;
    for (;; at++) {
        const size_t n = v->quoted ? strlen(at) : strcspn(at, ",");
        SIM_TRY(append_text(v, at, n));
        at += n;
        if (!*at)
            break;
        at += strspn(at + 1, " ");
    }
done:
    return st;
}

/* Numbers separated by commas. No text is an empty list, if the default is one. */
static sim_status parse_numbers(const value *v)
{
    sim_status st = SIM_OK;
    sim_option_numbers *out = v->to;
    char word[64];
    const char *at = v->text;

    out->n = 0;
    if (!*at && v->row->fallback && !*v->row->fallback)
        goto done;
    for (;; at++) {
        const size_t n = strcspn(at, ",");
        if (n >= sizeof word || out->n == SIM_OPTION_MAX_NUMBERS)
            return refuse_value(v, "a list of at most 16 numbers");
        (void)snprintf(word, sizeof word, "%.*s", (int)n, at);
        value one = *v;
        one.text = word;
        SIM_TRY(parse_number(&one, &out->values[out->n]));
        if (v->row->choices && out->values[out->n] != floor(out->values[out->n]))
            return refuse_value(v, "a list of whole numbers");
        out->n++;
        at += n;
        if (!*at)
            break;
    }
done:
    return st;
}

static sim_status parse_value(const value *v)
{
    double x = 0;
    sim_status st = SIM_OK;
    switch (v->row->type) {
    case SIM_OPTION_INT:
        return parse_int(v);
    case SIM_OPTION_REAL:
        SIM_TRY(parse_real(v, &x));
        *(double *)v->to = x;
        break;
    case SIM_OPTION_BOOL:
        return parse_bool(v);
    case SIM_OPTION_ENUM:
        return parse_choice(v);
    case SIM_OPTION_TEXT:
        return parse_text(v);
    case SIM_OPTION_TEXTS:
        return parse_texts(v);
    case SIM_OPTION_NUMBERS:
        return parse_numbers(v);
    case SIM_OPTION_ITEMS:
        SIM_ASSERT(v->row->type != SIM_OPTION_ITEMS); /* see sim_config_fill_items */
    }
done:
    return st;
}

/* The shortest text that parses to the same number. */
static void format_real(double x, char *out, size_t n)
{
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(out, n, "%.*g", digits, x);
        if (strtod(out, NULL) == x)
            break;
    }
}

static void format_numbers(const sim_option_numbers *from, char *out, size_t n)
{
    size_t used = 0;

    *out = '\0';
    for (size_t i = 0; i < from->n && used + 32 < n; i++) {
        if (i > 0)
            out[used++] = ',';
        format_real(from->values[i], out + used, n - used);
        used += strlen(out + used);
    }
}

/* In single quotes; a quote in the text is doubled.  Returns the length. */
static size_t format_text(const char *text, char *out, size_t n)
{
    size_t used = 0;

    out[used++] = '\'';
    for (const char *p = text; *p && used + 3 < n; p++) {
        if (*p == '\'')
            out[used++] = '\'';
        out[used++] = *p;
    }
    out[used++] = '\'';
    out[used] = '\0';
    return used;
}

/* A single text as that of a TEXT key; others as a YAML sequence. */
static void format_texts(const sim_option_texts *from, char *out, size_t n)
{
    size_t used = 0;

    if (from->n < 2) {
        (void)format_text(from->n ? from->text[0] : "", out, n);
        return;
    }
    for (size_t i = 0; i < from->n && used + 8 < n; i++) {
        used += (size_t)snprintf(out + used, n - used, "%s", i ? ", " : "[");
        used += format_text(from->text[i], out + used, n - used - 2);
    }
    (void)snprintf(out + used, n - used, "]");
}

/* Formats a value as YAML; numbers in the shortest form that parses to the same value. */
static void format_value(const sim_option *row, const void *from, char *out, size_t n)
{
    char choice[64] = "";
    switch (row->type) {
    case SIM_OPTION_INT:
        if (row->choices && *(const int64_t *)from == 0)
            (void)snprintf(out, n, "%s", row->choices);
        else
            (void)snprintf(out, n, "%lld", (long long)*(const int64_t *)from);
        break;
    case SIM_OPTION_REAL:
        format_real(*(const double *)from, out, n);
        break;
    case SIM_OPTION_NUMBERS:
        format_numbers(from, out, n);
        break;
    case SIM_OPTION_BOOL:
        (void)snprintf(out, n, "%s", *(const bool *)from ? "true" : "false");
        break;
    case SIM_OPTION_ENUM:
        (void)sim_choices_text(row->choices, *(const int *)from, choice, sizeof choice);
        (void)snprintf(out, n, "%s", choice);
        break;
    case SIM_OPTION_TEXT:
        (void)format_text(from, out, n);
        break;
    case SIM_OPTION_TEXTS:
        format_texts(from, out, n);
        break;
    case SIM_OPTION_ITEMS:
        break;
    }
}

/* As format_value, but a list of numbers is a YAML sequence. */
static void format_in_job(const sim_option *row, const void *from, char *out, size_t n)
{
    size_t used = 0;

    if (row->type != SIM_OPTION_NUMBERS) {
        format_value(row, from, out, n);
        return;
    }
    out[used++] = '[';
    format_value(row, from, out + used, n - used);
    used += strlen(out + used);
    (void)snprintf(out + used, n - used, "]");
}

/* Refuses a list or mapping for a row with a single value. */
static sim_status check_single(const sim_config *c, const char *key, const entry *e)
{
    sim_status st = SIM_OK;
    const entry *below = e ? NULL : sim_config_find_below(c, key);
    SIM_CHECK(!below, SIM_E_CONFIG, "%s: %s is a single value, not a list or section",
              below ? below->where : "", key);
    SIM_CHECK(!e || !e->empty_list, SIM_E_CONFIG,
              "%s: %s is a single value, not a list or section", e ? e->where : "", key);
done:
    return st;
}

enum { LIST_BYTES = 512 }; /* of SIM_OPTION_MAX_NUMBERS numbers */

/* Joins the items of a YAML sequence of numbers by commas, as on a command line. *first: entry of the
 * first item. */
static sim_status join_list(sim_config *c, const char *key, char text[LIST_BYTES],
                            entry **first)
{
    sim_status st = SIM_OK;
    char item[KEY_BYTES + 24];
    size_t used = 0;
    const entry *below = sim_config_find_below(c, key);

    for (size_t i = 0;; i++) {
        (void)snprintf(item, sizeof item, "%s.%zu", key, i);
        entry *e = sim_config_find(c, item);
        if (!e)
            break;
        SIM_CHECK(!e->quoted && !e->empty_list, SIM_E_CONFIG,
                  "%s: %s must be a number, without quotes", e->where, item);
        used += (size_t)snprintf(text + used, LIST_BYTES - used, "%s%s", i ? "," : "",
                                 e->text);
        SIM_CHECK(used < LIST_BYTES, SIM_E_CONFIG,
                  "%s: %s must be a list of at most %d numbers", e->where, key,
                  SIM_OPTION_MAX_NUMBERS);
        e->used = true;
        *first = i == 0 ? e : *first;
    }
    SIM_CHECK(used > 0, SIM_E_CONFIG, "%s: %s must be a list of numbers", below->where,
              key);
done:
    return st;
}

/* Fills a TEXTS row from the items of a YAML sequence. */
static sim_status parse_text_list(sim_config *c, const value *v)
{
    sim_status st = SIM_OK;
    char item[KEY_BYTES + 24];

    ((sim_option_texts *)v->to)->n = 0;
    for (size_t i = 0;; i++) {
        (void)snprintf(item, sizeof item, "%s.%zu", v->key, i);
        entry *e = sim_config_find(c, item);
        if (!e)
            break;
        value one = *v;
        one.where = e->where;
        SIM_CHECK(!e->empty_list, SIM_E_CONFIG, "%s: %s must be a text", e->where, item);
        SIM_TRY(append_text(&one, e->text, strlen(e->text)));
        e->used = true;
    }
    SIM_CHECK(((sim_option_texts *)v->to)->n > 0, SIM_E_CONFIG,
              "%s: %s must be a text or a list of texts", v->where, v->key);
done:
    return st;
}

/* The default of sim_config_set_default, else that of the row. */
static const char *default_of(sim_config *c, const char *key, const sim_option *row)
{
    for (size_t i = 0; i < c->n_defaults; i++)
        if (strcmp(c->defaults[i].key, key) == 0) {
            c->defaults[i].used = true;
            return c->defaults[i].text;
        }
    return row->fallback;
}

/* The default of a job that was written before the key existed. */
static const char *default_before(sim_config *c, const char *key, const sim_option *row)
{
    return row->before ? row->before : default_of(c, key, row);
}

sim_status sim_config_format_before(sim_config *c, const char *key, const sim_option *row,
                                    char *buffer, size_t buffer_bytes, const char **text)
{
    sim_status st = SIM_OK;
    double storage[sizeof(sim_option_texts) / sizeof(double)]; /* aligned for any type */
    value v = {.row = row, .key = key, .where = "value before the key", .to = storage};

    v.text = default_before(c, key, row);
    if (!v.text)
        goto done;
    SIM_TRY(parse_value(&v));
    format_in_job(row, storage, buffer, buffer_bytes);
    *text = buffer;
done:
    return st;
}

/* Fills a row from the job or its default; `prefix` precedes the row's name in the key. */
sim_status sim_config_fill_row(sim_config *c, const char *prefix, const sim_option *row,
                               void *options, char *text, size_t text_bytes)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES], list[LIST_BYTES] = "";

    sim_config_full_key(prefix, row->name, key);
    entry *e = sim_config_find(c, key);
    const entry *below = e ? NULL : sim_config_find_below(c, key);
    if (row->type == SIM_OPTION_TEXTS && below) {
        const value v = {.row = row,
                         .key = key,
                         .where = below->where,
                         .to = (char *)options + row->offset};
        SIM_TRY(parse_text_list(c, &v));
        format_in_job(row, v.to, text, text_bytes);
        goto done;
    }
    if (row->type != SIM_OPTION_NUMBERS)
        SIM_TRY(check_single(c, key, e));
    else if (below)
        SIM_TRY(join_list(c, key, list, &e));
    const char *fallback = default_of(c, key, row);
    if (c->is_saved && row->before)
        fallback = row->before;
    SIM_CHECK(e || fallback, SIM_E_CONFIG, "%s: %s is required (%s)", c->name, key,
              row->help);
    value v = {.row = row,
               .key = key,
               .text = *list ? list
                       : e   ? e->text
                             : fallback,
               .where = e ? e->where : "default",
               .quoted = e && e->quoted,
               .to = (char *)options + row->offset};
    SIM_TRY(parse_value(&v));
    if (e)
        e->used = true;
    format_in_job(row, v.to, text, text_bytes);
done:
    return st;
}

sim_status sim_config_option(const sim_option *row, const char *name, const char *text,
                             void *options)
{
    return parse_value(&(value){.row = row,
                                .key = name,
                                .text = text,
                                .where = "command line",
                                .to = (char *)options + row->offset});
}

void sim_config_format_option(const sim_option *row, const void *options, char *out,
                              size_t out_bytes)
{
    format_value(row, (const char *)options + row->offset, out, out_bytes);
}
