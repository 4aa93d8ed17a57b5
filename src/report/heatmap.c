/*
 * heatmap.c - a matrix of colored cells as an SVG element of a page.
 */
#include "plot.h"

#include "simile/text.h"

#include <math.h>

enum {
    WIDTH = 420,
    RIGHT = 14,
    TOP = 32,
    AREA = 300,
    LABEL_CHARACTERS = 14,
    CHARACTERS = 50
};

typedef struct {
    FILE *file;
    const sim_heatmap *map;
    double left, bottom; /* margins */
    double w, h;         /* of a cell */
    double most;         /* largest value */
} drawing;

static void lay_out(drawing *d)
{
    double widest_y = 0, widest_x = 0;

    for (size_t i = 0; i < d->map->n_y; i++)
        widest_y = fmax(widest_y, sim_plot_width_of(d->map->y[i], LABEL_CHARACTERS));
    for (size_t i = 0; i < d->map->n_x; i++)
        widest_x = fmax(widest_x, sim_plot_width_of(d->map->x[i], LABEL_CHARACTERS));
    d->left = widest_y + 30;
    d->bottom = widest_x + 34;
    for (size_t i = 0; i < d->map->n_x * d->map->n_y; i++)
        d->most = fmax(d->most, d->map->values[i]);
    d->w = (WIDTH - RIGHT - d->left) / (double)d->map->n_x;
    d->h = fmin(AREA / (double)d->map->n_y, d->w * 2);
}

/* Every how many labels are drawn, so that they have 14 pixels each. */
static size_t label_period(double size)
{
    return (size_t)ceil(14 / size);
}

static void draw_labels(const drawing *d)
{
    const double foot = TOP + d->h * (double)d->map->n_y;

    for (size_t i = 0; i < d->map->n_y; i += label_period(d->h)) {
        (void)fprintf(d->file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">",
                      d->left - 5, TOP + d->h * ((double)i + 0.5) + 4.5);
        sim_plot_put_short(d->file, d->map->y[i], LABEL_CHARACTERS);
        (void)fputs("</text>\n", d->file);
    }
    for (size_t i = 0; i < d->map->n_x; i += label_period(d->w)) {
        (void)fprintf(
            d->file,
            "<text text-anchor=\"end\" transform=\"translate(%.1f %.1f) rotate(-90)\">",
            d->left + d->w * ((double)i + 0.5) + 4.5, foot + 5);
        sim_plot_put_short(d->file, d->map->x[i], LABEL_CHARACTERS);
        (void)fputs("</text>\n", d->file);
    }
    (void)fprintf(d->file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                  (d->left + WIDTH - RIGHT) / 2, foot + d->bottom - 10);
    sim_plot_put_short(d->file, d->map->x_title, CHARACTERS);
    (void)fprintf(d->file,
                  "</text>\n<text text-anchor=\"middle\" transform=\"translate(14 %.1f) "
                  "rotate(-90)\">",
                  TOP + (foot - TOP) / 2);
    sim_plot_put_short(d->file, d->map->y_title, CHARACTERS);
    (void)fputs("</text>\n", d->file);
}

static void draw_cell(const drawing *d, size_t row, size_t column)
{
    const double value = d->map->values[row * d->map->n_x + column];

    if (!(value > 0))
        return;
    (void)fprintf(
        d->file,
        "<rect class=\"cell\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
        "opacity=\"%.3f\"><title>",
        d->left + d->w * (double)column, TOP + d->h * (double)row, d->w, d->h,
        value / d->most);
    sim_text_put_escaped(d->file, d->map->y[row]);
    (void)fputs(", ", d->file);
    sim_text_put_escaped(d->file, d->map->x[column]);
    (void)fprintf(d->file, ": %.3g %% ", 100 * value);
    sim_text_put_escaped(d->file, d->map->value_title);
    (void)fputs("</title></rect>\n", d->file);
}

sim_status sim_heatmap_svg(const sim_heatmap *map, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    drawing d = {.map = map};

    SIM_TRY(sim_text_open(&text));
    d.file = text.file;
    lay_out(&d);
    (void)fprintf(
        d.file,
        "<svg class=\"sim-plot heatmap\" role=\"img\" viewBox=\"0 0 %d %.0f\">\n"
        "<text class=\"title\" x=\"8\" y=\"17\">",
        WIDTH, TOP + d.h * (double)map->n_y + d.bottom);
    sim_plot_put_short(d.file, map->title, CHARACTERS);
    (void)fprintf(d.file,
                  "</text>\n<rect class=\"frame\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" "
                  "height=\"%.1f\"/>\n",
                  d.left, TOP, d.w * (double)map->n_x, d.h * (double)map->n_y);
    for (size_t r = 0; r < map->n_y; r++)
        for (size_t c = 0; c < map->n_x; c++)
            draw_cell(&d, r, c);
    draw_labels(&d);
    (void)fputs("</svg>\n", d.file);
    SIM_TRY(sim_text_finish(&text, "report/heatmap", out));
done:
    sim_text_close(&text);
    return st;
}
