/*
 * run_columns.h - the columns of a table of runs.
 */
#ifndef SIMILE_CLI_RUN_COLUMNS_H
#define SIMILE_CLI_RUN_COLUMNS_H

#include "run_info.h"

enum { RUN_COLUMNS = 7, RUN_CELL_BYTES = 4400 };

typedef struct {
    const char *key, *title;
    bool right;                                                 /* alignment */
    void (*print)(const run_info *r, char out[RUN_CELL_BYTES]); /* nothing if unknown */
    int (*compare)(const run_info *a, const run_info *b);
} run_column;

extern const run_column sim_run_columns[RUN_COLUMNS];
extern const char *const sim_run_state_names[]; /* by run_state */

#endif
