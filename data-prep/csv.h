/*
 * csv.h - reads a table of comma- or tab-separated values with a header (RFC 4180).
 */
#ifndef SIMILE_PREP_CSV_H
#define SIMILE_PREP_CSV_H

#include "simile/status.h"

#include <stddef.h>

typedef struct {
    const char *path; /* borrowed, for messages */
    char *text;       /* the file; fields are decoded in place */
    size_t n_bytes, at;
    size_t line,
        next_line;  /* of the current row, and of the one behind it; the first is 1 */
    char separator; /* the most frequent of comma, tab and semicolon in line 1 */
    char **fields;  /* [n_fields] of the current row, into `text` */
    size_t n_fields, capacity;
    char **columns; /* [n_columns]: the header, into `text` */
    size_t n_columns;
    const char *problem; /* why the current row is not valid; NULL if it is */
} prep_csv;

/*
 * Opens a table and reads its header; *out is zeroed before.
 *
 * Lines end with LF, CRLF or CR, and empty ones are skipped.  A mark of UTF-8 at the start is skipped.
 * Spaces around a field that is not in quotes are dropped.
 * Errors: SIM_E_INPUT, SIM_E_DATA (empty, UTF-16, a bad header).
 */
SIM_MUST_USE sim_status sim_prep_csv_open(const char *path, prep_csv *out);
/*
 * Reads the next row; *any is false at the end.  `problem` is set if the row has text behind a closing
 * quote, a zero byte, or another number of fields than the header.
 * Errors: SIM_E_DATA if a quote is not closed, which would hide the rest of the file.
 */
SIM_MUST_USE sim_status sim_prep_csv_next(prep_csv *t, bool *any);
/* The number of a column; n_columns if there is none. */
size_t sim_prep_csv_column(const prep_csv *t, const char *name);
void sim_prep_csv_close(prep_csv *t);

#endif
