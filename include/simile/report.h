/*
 * report.h - image grids.
 *
 * Module: report
 */
#ifndef SIMILE_REPORT_H
#define SIMILE_REPORT_H

#include "simile/status.h"

#include <stdint.h>

/*
 * Writes a PNG file with a grid of `rows` x `columns` images of h x w x c (c 1 or 3), each
 * enlarged by the integer `zoom`, with `gap` white pixels between them.
 *
 *   cells  [rows * columns] pointers to uint8 [h][w][c]; NULL leaves a cell white
 *
 * Local. Errors: SIM_E_IO if the file cannot be written.
 */
typedef struct {
    size_t rows, columns, h, w, c, zoom, gap;
    const uint8_t *const *cells;
} sim_grid;
SIM_MUST_USE sim_status sim_grid_write(const char *path, const sim_grid *grid);

#endif
