/*
 * text.h - a text that grows while it is written.
 *
 * Module: core
 * sim_text_open -> fprintf to `file` -> sim_text_finish; sim_text_close in any case.
 */
#ifndef SIMILE_TEXT_H
#define SIMILE_TEXT_H

#include "simile/status.h"

#include <stdio.h>

/* Zeroed before sim_text_open. */
typedef struct {
    FILE *file;
    char *bytes; /* valid after a flush */
    size_t n_bytes;
} sim_text;

/* Errors: SIM_E_IO if memory is exhausted. */
SIM_MUST_USE sim_status sim_text_open(sim_text *t);
/* Copies what was written; *out becomes the caller's.  Errors: SIM_E_IO if memory was exhausted
 * here or by an earlier write. */
SIM_MUST_USE sim_status sim_text_finish(sim_text *t, const char *tag, char **out);
void sim_text_close(sim_text *t); /* accepts a text that is not open */

/*
 * Writes `text` as the content or attribute of an XML or HTML element: & < > " ' are escaped;
 * control characters and bytes that are not UTF-8 become '?'.
 */
void sim_text_put_escaped(FILE *file, const char *text);

/*
 * Texts of files and of the command line (names, keys, classes, attributes) may contain control
 * sequences of terminals.  These functions make a text safe to print: control characters, characters
 * that change the direction of writing, and bytes that are not UTF-8 become \n, \t, \xHH or \uHHHH.
 *   keep_lines  line breaks and tabs stay
 */
void sim_text_put_printable(FILE *file, const char *text, bool keep_lines);
/* The same into `out`; truncated after a whole character. */
void sim_text_escape(const char *text, bool keep_lines, char *out, size_t out_bytes);

bool sim_text_ends_with(const char *text, const char *ending);

/* Characters of a UTF-8 text. */
size_t sim_text_width(const char *text);

#endif
