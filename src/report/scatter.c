/*
 * scatter.c - points of a plane with their images, as an SVG element of a page.
 *
 * The images are one JPEG file with a cell per point, row by row; the script of the page (page.js) shows the
 * cell of the point at the pointer.
 */
#include "plot.h"

#include "simile/text.h"

#include <math.h>

enum {
    WIDTH = 640,
    HEIGHT = 520,
    MARGIN = 12,
    TOP = 32,
    LEGEND_ROW = 20,
    CHARACTERS = 50
};

typedef struct {
    FILE *file;
    const sim_scatter *s;
    double low[2], scale; /* the same for both axes */
} drawing;

static void find_scale(drawing *d)
{
    double high[2] = {-INFINITY, -INFINITY};
    const double size[2] = {WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN};

    d->low[0] = d->low[1] = INFINITY;
    for (size_t i = 0; i < 2 * d->s->n; i++) {
        d->low[i % 2] = fmin(d->low[i % 2], d->s->at[i]);
        high[i % 2] = fmax(high[i % 2], d->s->at[i]);
    }
    d->scale = INFINITY;
    for (int k = 0; k < 2; k++)
        if (high[k] > d->low[k])
            d->scale = fmin(d->scale, size[k] / (high[k] - d->low[k]));
    if (!isfinite(d->scale))
        d->scale = 1;
    for (int k = 0; k < 2; k++) /* centred */
        d->low[k] -= (size[k] / d->scale - (high[k] - d->low[k])) / 2;
}

/* Colors c0 to c7; further groups have rings. */
static void draw_point(const drawing *d, size_t i)
{
    const sim_scatter *s = d->s;
    const size_t group = s->groups ? (size_t)s->groups[i] : 0;

    (void)fprintf(d->file,
                  "<circle class=\"dot c%zu%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" "
                  "data-i=\"%zu\"><title>",
                  group % SIM_PLOT_COLORS, group < SIM_PLOT_COLORS ? "" : " ring",
                  MARGIN + (s->at[2 * i] - d->low[0]) * d->scale,
                  TOP + HEIGHT - MARGIN - (s->at[2 * i + 1] - d->low[1]) * d->scale, i);
    sim_text_put_escaped(d->file, s->labels[i]);
    (void)fputs("</title></circle>\n", d->file);
}

static void draw_legend(const drawing *d)
{
    enum { ACROSS = 4 };
    for (size_t g = 0; g < d->s->n_groups; g++) {
        const size_t row = g / ACROSS, column = g % ACROSS;
        const double x = MARGIN + (double)column * (WIDTH - 2.0 * MARGIN) / ACROSS,
                     y = TOP + HEIGHT + (double)row * LEGEND_ROW + 12;
        (void)fprintf(
            d->file,
            "<circle class=\"dot c%zu%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/><text "
            "x=\"%.1f\" y=\"%.1f\">",
            g % SIM_PLOT_COLORS, g < SIM_PLOT_COLORS ? "" : " ring", x + 4, y, x + 14,
            y + 4.5);
        sim_plot_put_short(d->file, d->s->group_names[g], 16);
        (void)fputs("</text>\n", d->file);
    }
}

sim_status sim_scatter_svg(const sim_scatter *s, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    drawing d = {.s = s};
    const size_t legend_rows = (s->n_groups + 3) / 4;

    SIM_TRY(sim_text_open(&text));
    d.file = text.file;
    find_scale(&d);
    (void)fprintf(d.file,
                  "<svg class=\"sim-plot scatter\" role=\"img\" viewBox=\"0 0 %d %zu\" "
                  "data-columns=\"%zu\" data-cell=\"%zu\">\n"
                  "<text class=\"title\" x=\"8\" y=\"17\">",
                  WIDTH, TOP + HEIGHT + legend_rows * LEGEND_ROW + 8, s->columns,
                  s->cell);
    sim_plot_put_short(d.file, s->title, CHARACTERS);
    (void)fprintf(
        d.file,
        "</text>\n<rect class=\"frame\" x=\"1\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n",
        TOP, WIDTH - 2, HEIGHT);
    for (size_t i = 0; i < s->n; i++)
        draw_point(&d, i);
    draw_legend(&d);
    (void)fputs("</svg>\n", d.file);
    SIM_TRY(sim_text_finish(&text, "report/scatter", out));
done:
    sim_text_close(&text);
    return st;
}
