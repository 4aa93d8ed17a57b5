/*
 * csv.c - reads a table of comma- or tab-separated values with a header (RFC 4180).
 *
 * A decoded field is never longer than its text, so fields are decoded in place: quotes are removed,
 * doubled ones become one, and a zero byte ends the field.
 */
#include "csv.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <string.h>

enum { CSV_LIMIT = 1 << 30 };

/* ---- one field ---- */

static bool is_at_end(const prep_csv *t)
{
    return t->at == t->n_bytes;
}

static bool is_line_end(const prep_csv *t)
{
    return is_at_end(t) || t->text[t->at] == '\n' || t->text[t->at] == '\r';
}

static bool is_field_end(const prep_csv *t)
{
    return is_line_end(t) || t->text[t->at] == t->separator;
}

static bool is_blank(const prep_csv *t, char c)
{
    return (c == ' ' || c == '\t') && c != t->separator;
}

static void skip_blanks(prep_csv *t)
{
    while (!is_at_end(t) && is_blank(t, t->text[t->at]))
        t->at++;
}

/* Decodes the text behind an opening quote to `to`, up to the closing quote; false if there is
 * none.  *end is the place behind the last character. */
static bool decode_quoted(prep_csv *t, char *to, char **end)
{
    for (; !is_at_end(t); t->at++) {
        const char c = t->text[t->at];
        const bool is_quote = c == '"';
        if (is_quote && t->text[++t->at] != '"') { /* a zero byte follows the text */
            *end = to;
            return true;
        }
        t->next_line +=
            c == '\n' || (c == '\r' && t->text[t->at + 1] != '\n'); /* within the field */
        *to++ = c;
    }
    return false;
}

/* Advances to the end of a field without quotes; *end is behind its last character that is not
 * blank. */
static void find_end(prep_csv *t, char **end)
{
    for (; !is_field_end(t); t->at++)
        if (!is_blank(t, t->text[t->at]))
            *end = t->text + t->at + 1;
}

static sim_status add_field(prep_csv *t, char *field)
{
    sim_status st = SIM_OK;

    if (t->n_fields == t->capacity) {
        t->capacity = 2 * t->capacity + 16;
        SIM_TRY(sim_grow(&t->fields, t->capacity, "prep/csv"));
    }
    t->fields[t->n_fields++] = field;
done:
    return st;
}

static sim_status read_quoted(prep_csv *t, char *field, char **end)
{
    sim_status st = SIM_OK;

    t->at++;
    SIM_CHECK(decode_quoted(t, field, end), SIM_E_DATA,
              "%s, line %zu: the quote of field %zu is not closed before the end of the "
              "file",
              t->path, t->line, t->n_fields + 1);
    char *const closed = t->text + t->at, *behind = closed;
    find_end(t, &behind);
    if (behind != closed)
        t->problem = "text follows a closing quote";
done:
    return st;
}

/* Advances behind a separator, or behind the end of a line. */
static void skip_end(prep_csv *t)
{
    const bool is_line = is_line_end(t);

    if (is_at_end(t))
        return;
    t->next_line += is_line;
    t->at += t->text[t->at] == '\r' && t->text[t->at + 1] == '\n' ? 2 : 1;
}

/* Reads a field and its end, before a zero byte replaces that; *last: it is the last of its row. */
static sim_status read_field(prep_csv *t, bool *last)
{
    sim_status st = SIM_OK;

    skip_blanks(t);
    char *field = t->text + t->at, *end = field;
    if (*field == '"')
        SIM_TRY(read_quoted(t, field, &end));
    else
        find_end(t, &end);
    if (memchr(field, '\0', (size_t)(end - field)))
        t->problem = "a field contains a zero byte";
    *last = is_line_end(t);
    skip_end(t);
    *end = '\0';
    SIM_TRY(add_field(t, field));
done:
    return st;
}

/* ---- rows ---- */

/* Reads a row that may be empty. */
static sim_status read_row(prep_csv *t)
{
    sim_status st = SIM_OK;

    t->n_fields = 0;
    t->problem = NULL;
    t->line = t->next_line;
    for (bool last = false; !last;)
        SIM_TRY(read_field(t, &last));
done:
    return st;
}

sim_status sim_prep_csv_next(prep_csv *t, bool *any)
{
    sim_status st = SIM_OK;

    *any = false;
    while (!*any && !is_at_end(t)) {
        SIM_TRY(read_row(t));
        *any = t->n_fields > 1 || t->fields[0][0];
    }
    if (*any && !t->problem && t->n_columns && t->n_fields != t->n_columns)
        t->problem = t->n_fields < t->n_columns ? "it has fewer fields than the header"
                                                : "it has more fields than the header";
done:
    return st;
}

size_t sim_prep_csv_column(const prep_csv *t, const char *name)
{
    size_t i = 0;
    while (i < t->n_columns && strcmp(t->columns[i], name) != 0)
        i++;
    return i;
}

/* ---- the header ---- */

static char find_separator(const char *text)
{
    static const char known[] = ",\t;";
    size_t count[sizeof known] = {0}, best = 0;

    for (; *text && *text != '\n' && *text != '\r'; text++)
        for (size_t k = 0; known[k]; k++)
            count[k] += *text == known[k];
    for (size_t k = 0; known[k]; k++)
        best = count[k] > count[best] ? k : best;
    return known[best];
}

static sim_status check_header(const prep_csv *t)
{
    sim_status st = SIM_OK;

    SIM_CHECK(!t->problem, SIM_E_DATA, "%s, line %zu: %s", t->path, t->line, t->problem);
    for (size_t i = 0; i < t->n_columns; i++)
        for (size_t k = 0; k < i; k++)
            SIM_CHECK(!t->columns[i][0] || strcmp(t->columns[i], t->columns[k]) != 0,
                      SIM_E_DATA, "%s: two columns are named \"%.100s\"", t->path,
                      t->columns[i]);
done:
    return st;
}

static sim_status read_header(prep_csv *t)
{
    sim_status st = SIM_OK;
    bool any = false;

    SIM_TRY(sim_prep_csv_next(t, &any));
    SIM_CHECK(any, SIM_E_DATA,
              "%s is empty, expected a header with the names of the columns", t->path);
    t->columns = t->fields;
    t->n_columns = t->n_fields;
    t->fields = NULL;
    t->capacity = 0;
    SIM_TRY(check_header(t));
done:
    return st;
}

static sim_status check_encoding(const prep_csv *t)
{
    sim_status st = SIM_OK;
    const uint8_t *first = (const uint8_t *)t->text;
    SIM_CHECK(t->n_bytes < 2 || !((first[0] == 0xff && first[1] == 0xfe) ||
                                  (first[0] == 0xfe && first[1] == 0xff)),
              SIM_E_DATA, "%s is a text in UTF-16, expected UTF-8; save it as UTF-8",
              t->path);
done:
    return st;
}

sim_status sim_prep_csv_open(const char *path, prep_csv *out)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8 */
    sim_status st = SIM_OK;

    out->path = path;
    SIM_TRY(sim_file_load(path, CSV_LIMIT, &out->text, &out->n_bytes));
    SIM_TRY(check_encoding(out));
    out->at = strncmp(out->text, mark, strlen(mark)) == 0 ? strlen(mark) : 0;
    out->next_line = 1;
    out->separator = find_separator(out->text + out->at);
    SIM_TRY(read_header(out));
done:
    return st;
}

void sim_prep_csv_close(prep_csv *t)
{
    sim_free(t->text);
    sim_free(t->fields);
    sim_free(t->columns);
    *t = (prep_csv){0};
}
