/*
 * report.h - pictures for people.
 *
 * Module: report
 */
#ifndef SIMILE_REPORT_H
#define SIMILE_REPORT_H

#include "simile/status.h"

#include <stdint.h>

/*
 * A PNG of a grid of small images: `rows` x `columns` cells of h x w x c (c 1 or 3),
 * enlarged by whole `zoom`, with `gap` white pixels between.
 *   cells [rows * columns] pointers to uint8 [h][w][c]; NULL leaves a cell white
 * Fails: SIM_E_IO etc.
 */
typedef struct {
    size_t rows, columns, h, w, c, zoom, gap;
    const uint8_t *const *cells;
} sim_grid;
SIM_MUST_USE sim_status sim_grid_write(const char *path, const sim_grid *grid);

#endif
