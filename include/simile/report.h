/*
 * report.h - image grids, tables, plots, pages and event files of TensorBoard.
 *
 * Module: report
 * All functions are local.  Texts that they return become the caller's; they fail with SIM_E_IO
 * if memory is exhausted.
 */
#ifndef SIMILE_REPORT_H
#define SIMILE_REPORT_H

#include "simile/observe.h"

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
/* Whether grids can be drawn: SIM_E_INSTALL in a build without libpng. */
SIM_MUST_USE sim_status sim_grid_check(void);
SIM_MUST_USE sim_status sim_grid_write(const char *path, const sim_grid *grid);
/* The same in memory; *png becomes the caller's, also w x h pixels.  Errors: SIM_E_IO. */
SIM_MUST_USE sim_status sim_grid_encode(const sim_grid *grid, uint8_t **png,
                                        size_t *n_bytes, size_t *w, size_t *h);

/* ---- tables ---- */

/* A table of texts, borrowed. */
typedef struct {
    const char *title;
    bool right; /* alignment */
} sim_report_column;
typedef struct {
    size_t n_columns, n_rows;
    const sim_report_column *columns;
    const char *const *cells; /* [n_rows][n_columns] */
} sim_report_table;

/* Aligned columns, one line per row; control characters become '?'. */
SIM_MUST_USE sim_status sim_table_text(const sim_report_table *table, char **out);
/* RFC 4180, with LF: fields with commas, quotes or line ends are quoted. */
SIM_MUST_USE sim_status sim_table_csv(const sim_report_table *table, char **out);

/* ---- plots ---- */

/* Mean and standard deviation. */
typedef struct {
    double y, deviation; /* y NaN: no point; deviation 0: no error bar */
} sim_plot_point;

typedef struct {
    const char *title;            /* what y is, with its unit */
    const sim_plot_point *points; /* [n_series][n_x] */
} sim_plot_panel;

/*
 * Panels one below the other, with the same x and the same series.  If all values of x are
 * different numbers, the axis is numeric, and logarithmic where that spaces the values more evenly;
 * otherwise, and if some of more than two would lie on each other, the values are categories in the order
 * given.
 */
typedef struct {
    const char *x_title;
    size_t n_x, n_series, n_panels;
    const char *const *x;      /* [n_x] values as texts */
    const char *const *series; /* [n_series] names; not drawn if there is one */
    const sim_plot_panel *panels;
} sim_plot;

/* An SVG document without references to other files, for light and dark backgrounds.  Every point
 * is an element of class "point". */
SIM_MUST_USE sim_status sim_plot_svg(const sim_plot *plot, char **out);

/* ---- charts ---- */

typedef struct {
    double x, y; /* y not finite: a gap */
} sim_chart_point;

typedef struct {
    const char *name;
    const sim_chart_point *points; /* [n], x ascending */
    size_t n;
} sim_chart_series;

/* A vertical line. */
typedef struct {
    double x;
    const char *label; /* shown when the pointer is on it */
} sim_chart_mark;

/* Curves over a number. */
typedef struct {
    const char *title; /* what y is, with its unit */
    const char *x_title;
    const sim_chart_series *series;
    size_t n_series;
    const sim_chart_mark *marks;
    size_t n_marks;
} sim_chart;

/* An SVG element for the part SIM_PAGE_CHARTS of a page.  Of many points, those that are extreme within a
 * pixel are drawn; the script of the page shows the values of drawn points. */
SIM_MUST_USE sim_status sim_chart_svg(const sim_chart *chart, char **out);

/* A matrix of colored cells. */
typedef struct {
    const char *title, *x_title, *y_title;
    size_t n_x, n_y;
    const double *values;            /* [n_y][n_x] 0 to 1 */
    const char *const *x, *const *y; /* labels */
    const char *value_title;         /* of the values in per cent, in tooltips */
} sim_heatmap;
/* The same conditions.  Rows are drawn from the top. */
SIM_MUST_USE sim_status sim_heatmap_svg(const sim_heatmap *map, char **out);

/* Points of a plane, each with an image. */
typedef struct {
    const char *title;
    size_t n;
    const double *at;      /* [n][2] */
    const int32_t *groups; /* [n] which have colors; NULL: one color */
    size_t n_groups;
    const char *const *group_names; /* [n_groups] */
    const char *const *labels;      /* [n] shown at the pointer */
    size_t columns, cell; /* of the picture of the images: cells of cell x cell pixels */
} sim_scatter;
/* The same conditions, for the part SIM_PAGE_SCATTER. */
SIM_MUST_USE sim_status sim_scatter_svg(const sim_scatter *s, char **out);

/* ---- pages ---- */

typedef enum {
    SIM_PAGE_TEXT, /* a paragraph */
    SIM_PAGE_TABLE,
    SIM_PAGE_SVG,    /* an SVG document */
    SIM_PAGE_CHARTS, /* SVG elements, side by side where there is space */
    SIM_PAGE_PICTURE,
    SIM_PAGE_SCATTER, /* scatter plots of the same images, and these as a JPEG file */
    SIM_PAGE_CODE     /* lines of code, which are collapsed */
} sim_page_kind;
typedef struct {
    sim_page_kind kind;
    const char *heading; /* or NULL */
    const char *text;    /* also describes a picture */
    const sim_report_table *table;
    const sim_picture *picture;
    const uint8_t *jpeg; /* [n_jpeg] */
    size_t n_jpeg;
} sim_page_part;

/*
 * An HTML page of these parts, without references to other files, for light and dark backgrounds and for
 * narrow screens.  It has a script, which shows values and images, if it has charts or scatter plots.
 *   refresh_s  the browser reloads the page after this time; 0: it does not
 */
SIM_MUST_USE sim_status sim_page_html(const char *title, const sim_page_part *parts,
                                      size_t n_parts, int refresh_s, char **out);

/* ---- event files of TensorBoard ---- */

/* Encoded events; `bytes` is released with sim_free. */
typedef struct {
    uint8_t *bytes;
    size_t n_bytes;
} sim_events;

/* A histogram, a picture, or otherwise a scalar; borrowed. */
typedef struct {
    const char *tag; /* TensorBoard groups tags by the part before a slash */
    double scalar;
    const sim_histogram *histogram;
    const sim_picture *picture;
} sim_event_value;

/* Appends what a file begins with when a run starts at `step`: the version, and a mark by which readers
 * discard later steps of earlier files. */
SIM_MUST_USE sim_status sim_events_begin(sim_events *e, double wall_s, int64_t step);
/* Appends an event with these values. */
SIM_MUST_USE sim_status sim_events_add(sim_events *e, double wall_s, int64_t step,
                                       const sim_event_value *values, size_t n);
/* Length of the intact events of steps up to last_step at the beginning of a file. */
SIM_MUST_USE sim_status sim_events_measure(const char *path, int64_t last_step,
                                           uint64_t *intact_bytes);

#endif
