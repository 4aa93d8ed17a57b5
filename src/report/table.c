/*
 * table.c - a table as aligned text and as CSV.
 */
#include "simile/report.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <string.h>

static const char *cell_of(const sim_report_table *t, size_t row, size_t column)
{
    return t->cells[row * t->n_columns + column];
}

/* ---- aligned text ---- */

enum { CELL_BYTES = 8192 }; /* longer cells are truncated */

static size_t width_of_column(const sim_report_table *t, size_t column)
{
    char text[CELL_BYTES];
    size_t width = sim_text_width(t->columns[column].title);

    for (size_t r = 0; r < t->n_rows; r++) {
        sim_text_escape(cell_of(t, r, column), false, text, sizeof text);
        const size_t w = sim_text_width(text);
        width = w > width ? w : width;
    }
    return width;
}

static void put_cell(FILE *f, const sim_report_table *t, const size_t *widths,
                     size_t column, const char *cell)
{
    char text[CELL_BYTES];

    sim_text_escape(cell, false, text, sizeof text);
    const bool right = t->columns[column].right, is_last = column + 1 == t->n_columns;
    const int pad = (int)(widths[column] - sim_text_width(text));

    (void)fprintf(f, "%*s", right ? pad : 0, "");
    (void)fputs(text, f);
    if (!is_last)
        (void)fprintf(f, "%*s", 2 + (right ? 0 : pad), "");
}

sim_status sim_table_text(const sim_report_table *t, char **out)
{
    sim_status st = SIM_OK;
    size_t *widths = NULL;
    sim_text text = {0};

    SIM_TRY(sim_alloc(&widths, t->n_columns, "report/table"));
    SIM_TRY(sim_text_open(&text));
    for (size_t c = 0; c < t->n_columns; c++) {
        widths[c] = width_of_column(t, c);
        put_cell(text.file, t, widths, c, t->columns[c].title);
    }
    (void)fputc('\n', text.file);
    for (size_t r = 0; r < t->n_rows; r++) {
        for (size_t c = 0; c < t->n_columns; c++)
            put_cell(text.file, t, widths, c, cell_of(t, r, c));
        (void)fputc('\n', text.file);
    }
    SIM_TRY(sim_text_finish(&text, "report/table", out));
done:
    sim_text_close(&text);
    sim_free(widths);
    return st;
}

/* ---- CSV ---- */

static void put_field(FILE *f, const char *text, bool is_first)
{
    const bool is_quoted = strpbrk(text, ",\"\r\n") != NULL;

    if (!is_first)
        (void)fputc(',', f);
    if (is_quoted)
        (void)fputc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            (void)fputc('"', f);
        (void)fputc(*text, f);
    }
    if (is_quoted)
        (void)fputc('"', f);
}

sim_status sim_table_csv(const sim_report_table *t, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    for (size_t c = 0; c < t->n_columns; c++)
        put_field(text.file, t->columns[c].title, c == 0);
    (void)fputc('\n', text.file);
    for (size_t r = 0; r < t->n_rows; r++) {
        for (size_t c = 0; c < t->n_columns; c++)
            put_field(text.file, cell_of(t, r, c), c == 0);
        (void)fputc('\n', text.file);
    }
    SIM_TRY(sim_text_finish(&text, "report/table", out));
done:
    sim_text_close(&text);
    return st;
}
