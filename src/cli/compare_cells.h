/*
 * compare_cells.h - tables of a comparison as texts.
 */
#ifndef SIMILE_CLI_COMPARE_CELLS_H
#define SIMILE_CLI_COMPARE_CELLS_H

#include "compare.h"

#include "simile/report.h"

enum { COMPARE_MAX_COLUMNS = COMPARE_MAX_KEYS + COMPARE_MAX_MEASURES + 8 };

/* A table that owns its cells. */
typedef struct {
    sim_report_column columns[COMPARE_MAX_COLUMNS];
    char **cells; /* [n_rows][n_columns] */
    size_t n_columns, n_rows;
} compare_cells;
/* The same as a table, which borrows it. */
sim_report_table sim_compare_table_of(const compare_cells *t);
void sim_compare_cells_clear(compare_cells *t);

/* One row per configuration; per run, with full precision; per difference; per failed run. */
SIM_MUST_USE sim_status sim_compare_cells_of_configurations(const comparison *c,
                                                            compare_cells *out);
SIM_MUST_USE sim_status sim_compare_cells_of_runs(const comparison *c,
                                                  compare_cells *out);
SIM_MUST_USE sim_status sim_compare_cells_of_differences(const compare_differences *d,
                                                         compare_cells *out);
SIM_MUST_USE sim_status sim_compare_cells_of_failures(const comparison *c,
                                                      compare_cells *out);

/* The plot of a key over its values; NULL: there is nothing to plot.  The caller frees *svg. */
SIM_MUST_USE sim_status sim_compare_plot(const comparison *c, size_t key, char **svg);

#endif
