/*
 * write.c - writes a job as text: resolved and identity; help texts of tables.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_key(const void *a, const void *b)
{
    return strcmp(((const known *)a)->key, ((const known *)b)->key);
}

/* A text buffer that grows. */
typedef struct {
    char *text;
    size_t n, capacity;
} writer;

static sim_status put(writer *w, const char *text)
{
    sim_status st = SIM_OK;
    size_t n = strlen(text);
    if (w->n + n + 1 > w->capacity) {
        w->capacity = 2 * (w->n + n + 1) + 256;
        SIM_TRY(sim_grow(&w->text, w->capacity, "config/text"));
    }
    memcpy(w->text + w->n, text, n + 1);
    w->n += n;
done:
    return st;
}

/* Writes the sections of `key` that differ from those of `last`, nested, and the key. */
static sim_status put_key(writer *w, const char *key, const char *last)
{
    sim_status st = SIM_OK;
    char part[KEY_BYTES];
    size_t depth = 0, same = 0;

    while (last[same] && last[same] == key[same])
        same++;
    while (same > 0 && key[same - 1] != '.')
        same--;
    for (size_t at = 0; key[at]; depth++) {
        size_t n = strcspn(key + at, ".");
        (void)snprintf(part, sizeof part, "%*s%.*s:", (int)(2 * depth), "", (int)n,
                       key + at);
        if (at >= same) {
            SIM_TRY(put(w, part));
            SIM_TRY(put(w, key[at + n] ? "\n" : " "));
        }
        at += key[at + n] ? n + 1 : n;
    }
done:
    return st;
}

sim_status sim_config_resolved(const sim_config *c, char **yaml)
{
    sim_status st = SIM_OK;
    writer w = {0};
    const char *last = "";

    if (c->n_known)
        qsort(c->known, c->n_known, sizeof *c->known, by_key);
    for (size_t i = 0; i < c->n_known; i++) {
        if (!c->known[i].given)
            continue;
        SIM_TRY(put_key(&w, c->known[i].key, last));
        SIM_TRY(put(&w, c->known[i].text));
        SIM_TRY(put(&w, "\n"));
        last = c->known[i].key;
    }
    SIM_TRY(put(&w, ""));
    *yaml = w.text;
    w.text = NULL;
done:
    sim_free(w.text);
    return st;
}

static sim_status put_line(writer *w, const char *key, const char *text)
{
    sim_status st = SIM_OK;
    SIM_TRY(put(w, key));
    SIM_TRY(put(w, ": "));
    SIM_TRY(put(w, text));
    SIM_TRY(put(w, "\n"));
done:
    return st;
}

/* The value of a key in a list; NULL if the key is not in it. */
typedef const char *listed_value(const known *k);

static const char *identity_value(const known *k)
{
    return k->kind == SIM_IDENTITY && k->given ? k->text : NULL;
}

/* The value in a job that was written before the key existed. */
static const char *identity_value_before(const known *k)
{
    if (k->kind != SIM_IDENTITY)
        return NULL;
    return k->before ? k->before : "";
}

static const char *value_of_all_ranks(const known *k)
{
    return k->kind != SIM_RANK_KEY && k->given ? k->text : NULL;
}

static sim_status write_list(const sim_config *c, listed_value *value_of, char **lines)
{
    sim_status st = SIM_OK;
    writer w = {0};

    if (c->n_known)
        qsort(c->known, c->n_known, sizeof *c->known, by_key);
    for (size_t i = 0; i < c->n_known; i++) {
        const char *value = value_of(&c->known[i]);
        if (value)
            SIM_TRY(put_line(&w, c->known[i].key, value));
    }
    SIM_TRY(put(&w, ""));
    *lines = w.text;
    w.text = NULL;
done:
    sim_free(w.text);
    return st;
}

sim_status sim_config_identity(const sim_config *c, char **lines)
{
    return write_list(c, identity_value, lines);
}

sim_status sim_config_identity_before(const sim_config *c, char **lines)
{
    return write_list(c, identity_value_before, lines);
}

sim_status sim_config_of_all_ranks(const sim_config *c, char **lines)
{
    return write_list(c, value_of_all_ranks, lines);
}

/* ---- help ---- */

/* The cells of a row of the help text. */
typedef struct {
    char key[KEY_BYTES], fallback[96], range[96];
    const char *type;
} cells;

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
    case SIM_OPTION_NUMBERS:
        return "numbers";
    case SIM_OPTION_TEXT:
        return "text";
    case SIM_OPTION_TEXTS:
        return "texts";
    case SIM_OPTION_ITEMS:
        return "list";
    }
    return "";
}

static cells cells_of(const char *section, const sim_option *row)
{
    cells t = {.type = type_text(row)};
    bool number = row->type == SIM_OPTION_INT || row->type == SIM_OPTION_REAL;
    const char *unit = row->unit ? row->unit : "", *fallback = row->fallback;

    sim_config_full_key(section, row->name, t.key);
    if (row->type == SIM_OPTION_ITEMS)
        fallback = "by preset";
    (void)snprintf(t.fallback, sizeof t.fallback, "[%s]",
                   !fallback   ? "required"
                   : *fallback ? fallback
                               : "none");
    if (number)
        (void)snprintf(t.range, sizeof t.range, "%s%s%.15g to %.15g%s%s",
                       row->choices ? row->choices : "", row->choices ? ", or " : "",
                       row->min, row->max, *unit ? " " : "", unit);
    else
        (void)snprintf(t.range, sizeof t.range, "%s", unit);
    return t;
}

/* Column width for its widest cell; cells longer than `most` do not widen the column. */
static size_t wider(size_t width, const char *cell, size_t most)
{
    size_t n = strlen(cell);
    return n > width && n <= most ? n : width;
}

typedef struct {
    size_t key, type, fallback, range;
} widths;

static widths widths_of(const char *section, const sim_option_table *table)
{
    widths w = {0};
    for (size_t i = 0; i < table->n_rows; i++) {
        const cells t = cells_of(section, &table->rows[i]);
        w.key = wider(w.key, t.key, 40);
        w.type = wider(w.type, t.type, 36);
        w.fallback = wider(w.fallback, t.fallback, 20);
        w.range = wider(w.range, t.range, 28);
    }
    return w;
}

static sim_status put_help_rows(writer *w, const char *section, int indent,
                                const sim_option_table *table)
{
    sim_status st = SIM_OK;
    char *line = NULL;
    const widths by = widths_of(section, table);

    for (size_t i = 0; i < table->n_rows; i++) {
        const cells t = cells_of(section, &table->rows[i]);
        sim_free(line);
        line = NULL;
        SIM_TRY(sim_text_format("config/help", &line, "%*s%-*s  %-*s  %-*s  %-*s  %s\n",
                                indent, "", (int)by.key, t.key, (int)by.type, t.type,
                                (int)by.fallback, t.fallback, (int)by.range, t.range,
                                table->rows[i].help));
        SIM_TRY(put(w, line));
    }
done:
    sim_free(line);
    return st;
}

/* The keys of a list item, one operation after the other. */
static sim_status put_help_items(writer *w, const sim_option *row)
{
    sim_status st = SIM_OK;
    char name[64];

    for (int i = 0; sim_choices_text(row->choices, i, name, sizeof name); i++) {
        SIM_TRY(put(w, "    op: "));
        SIM_TRY(put(w, name));
        SIM_TRY(put(w, "\n"));
        SIM_TRY(put_help_rows(w, "", 6, &row->item_tables[i]));
    }
done:
    return st;
}

sim_status sim_config_help(const sim_option_table *table, char **text)
{
    sim_status st = SIM_OK;
    writer w = {0};
    const sim_option_table *last = NULL;

    SIM_TRY(put_help_rows(&w, table->section, 2, table));
    for (size_t i = 0; i < table->n_rows; i++) {
        const sim_option *row = &table->rows[i];
        if (row->type != SIM_OPTION_ITEMS || row->item_tables == last)
            continue; /* the same operations are printed once */
        last = row->item_tables;
        SIM_TRY(put_help_items(&w, row));
    }
    SIM_TRY(put(&w, ""));
    *text = w.text;
    w.text = NULL;
done:
    sim_free(w.text);
    return st;
}
