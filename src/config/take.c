/*
 * take.c - values into the owner's struct, as its option table says.
 */
#include "private.h"

#include "simile/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One value on its way into a struct. */
typedef struct {
    sim_config *c;
    const sim_option *row;
    const char *key, *text, *where;
    void *to;
} value;

static sim_status refuse(const value *v, const char *expected)
{
    return sim_story_begin(SIM_E_CONFIG, __FILE__, __LINE__,
                           "%s: %s: \"%.60s\" is not %s", v->where, v->key, v->text,
                           expected);
}

static sim_status take_number(const value *v, double *out)
{
    sim_status st = SIM_OK;
    const sim_option *r = v->row;
    char *end = NULL;
    char range[160];
    const char *first = v->text + (v->text[0] == '-' || v->text[0] == '+');

    double x = strtod(v->text, &end);
    /* strtod also reads "nan", "inf" and hexadecimal: a job does not. */
    bool plain = (first[0] >= '0' && first[0] <= '9') || first[0] == '.';
    if (!plain || *end || first[1] == 'x' || first[1] == 'X' || !isfinite(x))
        return refuse(v, "a number");
    (void)snprintf(range, sizeof range, "%.15g to %.15g%s%s", r->min, r->max,
                   r->unit && *r->unit ? " " : "", r->unit ? r->unit : "");
    SIM_CHECK(x >= r->min && x <= r->max, SIM_E_CONFIG, "%s: %s: %s is out of range, %s",
              v->where, v->key, v->text, range);
    *out = x;
done:
    return st;
}

static sim_status take_int(const value *v)
{
    sim_status st = SIM_OK;
    double x = 0;
    SIM_TRY(take_number(v, &x));
    if (x != floor(x) || fabs(x) > 0x1p53)
        return refuse(v, "a whole number");
    *(int64_t *)v->to = (int64_t)x;
done:
    return st;
}

static sim_status take_bool(const value *v)
{
    if (strcmp(v->text, "true") == 0)
        *(bool *)v->to = true;
    else if (strcmp(v->text, "false") == 0)
        *(bool *)v->to = false;
    else
        return refuse(v, "true or false");
    return SIM_OK;
}

static sim_status take_choice(const value *v)
{
    sim_status st = SIM_OK;
    char best[64] = "", name[64];
    size_t least = (size_t)-1;
    int found = sim_choices_find(v->row->choices, v->text);

    for (int i = 0; sim_choices_text(v->row->choices, i, name, sizeof name); i++) {
        size_t d = sim_edit_distance(v->text, name);
        if (d < least) {
            least = d;
            memcpy(best, name, sizeof best);
        }
    }
    SIM_CHECK(found >= 0, SIM_E_CONFIG,
              "%s: %s: \"%.60s\" is none of %s; did you mean %s?", v->where, v->key,
              v->text, v->row->choices, best);
    *(int *)v->to = found;
done:
    return st;
}

static sim_status take_text(const value *v)
{
    sim_status st = SIM_OK;
    size_t n = strlen(v->text);
    for (size_t i = 0; i < n; i++)
        SIM_CHECK((unsigned char)v->text[i] >= 32 && v->text[i] != 127, SIM_E_CONFIG,
                  "%s: %s holds a control character", v->where, v->key);
    SIM_CHECK(n < SIM_OPTION_TEXT_BYTES, SIM_E_CONFIG, "%s: %s is longer than %d bytes",
              v->where, v->key, SIM_OPTION_TEXT_BYTES - 1);
    memcpy(v->to, v->text, n + 1);
done:
    return st;
}

static sim_status take_value(const value *v)
{
    double x = 0;
    sim_status st = SIM_OK;
    switch (v->row->type) {
    case SIM_OPTION_INT:
        return take_int(v);
    case SIM_OPTION_REAL:
        SIM_TRY(take_number(v, &x));
        *(double *)v->to = x;
        break;
    case SIM_OPTION_BOOL:
        return take_bool(v);
    case SIM_OPTION_ENUM:
        return take_choice(v);
    case SIM_OPTION_TEXT:
        return take_text(v);
    case SIM_OPTION_ITEMS:
        SIM_ASSERT(!"items are taken elsewhere");
    }
done:
    return st;
}

/* The value as YAML: numbers in their shortest form that reads back the same. */
static void format_value(const sim_option *row, const void *from, char *out, size_t n)
{
    char choice[64] = "";
    switch (row->type) {
    case SIM_OPTION_INT:
        (void)snprintf(out, n, "%lld", (long long)*(const int64_t *)from);
        break;
    case SIM_OPTION_REAL:
        for (int digits = 6; digits <= 17; digits++) {
            (void)snprintf(out, n, "%.*g", digits, *(const double *)from);
            if (strtod(out, NULL) == *(const double *)from)
                break;
        }
        break;
    case SIM_OPTION_BOOL:
        (void)snprintf(out, n, "%s", *(const bool *)from ? "true" : "false");
        break;
    case SIM_OPTION_ENUM:
        (void)sim_choices_text(row->choices, *(const int *)from, choice, sizeof choice);
        (void)snprintf(out, n, "%s", choice);
        break;
    case SIM_OPTION_TEXT: {
        /* Single quotes: only the quote itself is doubled. */
        size_t used = 0;
        out[used++] = '\'';
        for (const char *p = from; *p && used + 3 < n; p++) {
            if (*p == '\'')
                out[used++] = '\'';
            out[used++] = *p;
        }
        out[used++] = '\'';
        out[used] = '\0';
        break;
    }
    case SIM_OPTION_ITEMS:
        break;
    }
}

sim_status config_know(sim_config *c, const char *key, const char *text,
                       sim_option_kind kind, bool verbatim)
{
    sim_status st = SIM_OK;
    known k = {.kind = kind, .verbatim = verbatim};

    SIM_CHECK(c->n_known < MAX_KNOWN, SIM_E_BUG, "more than %d keys", MAX_KNOWN);
    SIM_TRY(sim_text_copy(key, "config/known", &k.key));
    SIM_TRY(sim_text_copy(text, "config/known", &k.text));
    c->known[c->n_known++] = k;
    k = (known){0};
done:
    sim_free(k.key);
    sim_free(k.text);
    return st;
}

static void full_key(const char *section, const char *name, char out[KEY_BYTES])
{
    (void)snprintf(out, KEY_BYTES, "%s%s%s", section, *section ? "." : "", name);
}

/* Default, then what the job says; `prefix` stands before the row's name. */
static sim_status take_row(sim_config *c, const char *prefix, const sim_option *row,
                           void *options, char *text, size_t text_bytes)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES];

    full_key(prefix, row->name, key);
    entry *e = config_find(c, key);
    SIM_CHECK(e || !config_has_below(c, key), SIM_E_CONFIG, "%s: %s takes one value",
              c->name, key);
    SIM_CHECK(!e || !e->empty_list, SIM_E_CONFIG, "%s: %s takes one value",
              e ? e->where : "", key);
    SIM_CHECK(e || row->fallback, SIM_E_CONFIG, "%s: %s is missing (%s)", c->name, key,
              row->help);
    value v = {.c = c,
               .row = row,
               .key = key,
               .text = e ? e->text : row->fallback,
               .where = e ? e->where : "default",
               .to = (char *)options + row->offset};
    SIM_TRY(take_value(&v));
    if (e)
        e->used = true;
    format_value(row, v.to, text, text_bytes);
done:
    return st;
}

/* ---- lists of items: augment.view1 ---- */

/* Keys below "list.i" that no row of the item's table has. */
static sim_status check_item_keys(sim_config *c, const char *item,
                                  const sim_option_table *table)
{
    sim_status st = SIM_OK;
    size_t n = strlen(item);

    for (size_t i = 0; i < c->n_entries; i++) {
        const entry *e = &c->entries[i];
        if (e->used || strncmp(e->key, item, n) != 0 || e->key[n] != '.')
            continue;
        const char *best = "op";
        for (size_t r = 0; r < table->n_rows; r++)
            if (sim_edit_distance(e->key + n + 1, table->rows[r].name) <
                sim_edit_distance(e->key + n + 1, best))
                best = table->rows[r].name;
        SIM_FAIL(SIM_E_CONFIG, "%s: %s has no key %s; did you mean %s?", e->where,
                 table->section, e->key + n + 1, best);
    }
done:
    return st;
}

static sim_status take_item(sim_config *c, const char *item, const sim_option *row,
                            sim_option_items *items, char *text, size_t text_bytes)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES + 64], part[SIM_OPTION_TEXT_BYTES + 64];
    size_t at = items->n, used = strlen(text);

    (void)snprintf(key, sizeof key, "%s.op", item);
    entry *e = config_find(c, item); /* a bare word names the operation */
    e = e ? e : config_find(c, key);
    SIM_CHECK(e, SIM_E_CONFIG, "%s: %s needs op, one of %s", c->name, item, row->choices);
    int op = sim_choices_find(row->choices, e->text);
    SIM_CHECK(op >= 0, SIM_E_CONFIG, "%s: %s: \"%.40s\" is none of %s", e->where, e->key,
              e->text, row->choices);
    e->used = true;
    const sim_option_table *table = &row->item_tables[op];
    SIM_ASSERT(table->struct_bytes <= sizeof items->values[0]);
    used += (size_t)snprintf(text + used, text_bytes - used, "%s{op: %s", at ? ", " : "",
                             e->text);
    for (size_t r = 0; r < table->n_rows; r++) {
        SIM_TRY(take_row(c, item, &table->rows[r], items->values[at], part, sizeof part));
        int n = snprintf(text + used, text_bytes - used, ", %s: %s", table->rows[r].name,
                         part);
        used += n > 0 ? (size_t)n : 0;
        SIM_CHECK(used + 2 < text_bytes, SIM_E_CONFIG, "%s: %s is too long", c->name,
                  item);
    }
    (void)snprintf(text + used, text_bytes - used, "}");
    SIM_TRY(check_item_keys(c, item, table));
    items->op[at] = op;
    items->n++;
done:
    return st;
}

static sim_status take_items(sim_config *c, const char *key, const sim_option *row,
                             sim_option_items *items)
{
    sim_status st = SIM_OK;
    char item[KEY_BYTES + 32], text[8192] = "[";
    entry *e = config_find(c, key);

    if (!e && !config_has_below(c, key))
        goto done; /* not given: the preset decides, and the resolved job leaves it out */
    SIM_CHECK(!e || e->empty_list, SIM_E_CONFIG, "%s: %s takes a list of operations",
              e ? e->where : "", key);
    if (e)
        e->used = true;
    items->given = true;
    for (size_t i = 0;; i++) {
        (void)snprintf(item, sizeof item, "%s.%zu", key, i);
        if (!config_find(c, item) && !config_has_below(c, item))
            break;
        SIM_CHECK(i < SIM_OPTION_MAX_ITEMS, SIM_E_CONFIG, "%s: %s has more than %d items",
                  c->name, key, SIM_OPTION_MAX_ITEMS);
        SIM_TRY(take_item(c, item, row, items, text, sizeof text - 2));
    }
    (void)strncat(text, "]", sizeof text - strlen(text) - 1);
    SIM_TRY(config_know(c, key, text, row->kind, true));
done:
    return st;
}

sim_status sim_config_take(sim_config *c, const sim_option_table *table, void *options)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES], text[2 * SIM_OPTION_TEXT_BYTES + 64];

    memset(options, 0, table->struct_bytes);
    for (size_t i = 0; i < table->n_rows; i++) {
        const sim_option *row = &table->rows[i];
        full_key(table->section, row->name, key);
        if (row->type == SIM_OPTION_ITEMS) {
            SIM_TRY(
                take_items(c, key, row,
                           (sim_option_items *)(void *)((char *)options + row->offset)));
            continue;
        }
        SIM_TRY(take_row(c, table->section, row, options, text, sizeof text));
        SIM_TRY(config_know(c, key, text, row->kind, false));
    }
done:
    return st;
}

/* ---- help ---- */

static const char *type_text(const sim_option *row)
{
    switch (row->type) {
    case SIM_OPTION_INT:
        return "integer";
    case SIM_OPTION_REAL:
        return "number";
    case SIM_OPTION_BOOL:
        return "true|false";
    case SIM_OPTION_ENUM:
        return row->choices;
    case SIM_OPTION_TEXT:
        return "text";
    case SIM_OPTION_ITEMS:
        return "list";
    }
    return "";
}

sim_status sim_config_help(const sim_option_table *table, char **text)
{
    sim_status st = SIM_OK;
    char key[KEY_BYTES], *grown = NULL, *longer = NULL;

    SIM_TRY(sim_text_copy("", "config/help", &grown));
    for (size_t i = 0; i < table->n_rows; i++) {
        const sim_option *r = &table->rows[i];
        full_key(table->section, r->name, key);
        const char *fallback =
            r->fallback ? (*r->fallback ? r->fallback : "none") : "required";
        if (r->type == SIM_OPTION_ITEMS)
            fallback = "by preset";
        SIM_TRY(sim_text_format("config/help", &longer, "%s  %-28s %s [%s]%s%s: %s\n",
                                grown, key, type_text(r), fallback,
                                r->unit && *r->unit ? " " : "", r->unit ? r->unit : "",
                                r->help));
        sim_free(grown);
        grown = longer;
        longer = NULL;
    }
    *text = grown;
    grown = NULL;
done:
    sim_free(grown);
    return st;
}
