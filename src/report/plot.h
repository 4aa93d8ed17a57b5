/*
 * plot.h - axes, texts and colors of plots and charts.
 */
#ifndef SIMILE_REPORT_PLOT_H
#define SIMILE_REPORT_PLOT_H

#include "simile/report.h"

#include <stdio.h>

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
/* An axis for values from low to high; low > high: there is none. */
sim_plot_y sim_plot_axis(double low, double high, int intervals);

enum {
    SIM_PLOT_COLORS = 8
}; /* classes c0, c1, ...; then they repeat with dashed lines */
/* A style sheet for elements of class sim-plot. */
extern const char sim_plot_style[];
/* Estimated width of a text in pixels; of at most `most` characters. */
double sim_plot_width_of(const char *text, size_t most);
/* Writes at most `most` <= 50 characters, the last of which is then an ellipsis. */
void sim_plot_put_short(FILE *f, const char *text, size_t most);

#endif
