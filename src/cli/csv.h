/*
 * csv.h - files of comma-separated values (RFC 4180, with LF).
 */
#ifndef SIMILE_CLI_CSV_H
#define SIMILE_CLI_CSV_H

#include "simile/file.h"

/* A file that is being written; it replaces an older one when it is complete. */
typedef struct {
    sim_replacement file;
    char *buffer; /* text that is not yet written; owned */
    size_t used;
} csv_writer;

SIM_MUST_USE sim_status sim_csv_begin(const char *path, csv_writer *w);
SIM_MUST_USE sim_status sim_csv_bytes(csv_writer *w, const char *text, size_t n);
/* At most 31 bytes. */
SIM_MUST_USE sim_status sim_csv_format(csv_writer *w, const char *fmt, ...)
    SIM_PRINTF(2, 3);
/* A comma and a text of n bytes, in quotes if it has a comma, quote or line break. */
SIM_MUST_USE sim_status sim_csv_field(csv_writer *w, const char *text, size_t n);
SIM_MUST_USE sim_status sim_csv_end(csv_writer *w);
/* In any case; removes a file that is not complete. */
void sim_csv_cancel(csv_writer *w);

#endif
