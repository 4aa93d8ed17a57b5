/*
 * plot.h - axes of a plot.
 */
#ifndef SIMILE_REPORT_PLOT_H
#define SIMILE_REPORT_PLOT_H

#include "simile/report.h"

/* Where the values of x are. */
typedef struct {
    bool is_numeric;
    double *at; /* [n_x] 0 (left) to 1 (right); owned */
} sim_plot_x;
SIM_MUST_USE sim_status sim_plot_x_create(const sim_plot *p, sim_plot_x *out);
void sim_plot_x_destroy(sim_plot_x *x);

/* The range of y, and its labels. */
typedef struct {
    double low, high, step; /* low and high are multiples of step */
    int decimals;
} sim_plot_y;
sim_plot_y sim_plot_y_of(const sim_plot *p, const sim_plot_panel *panel);

#endif
