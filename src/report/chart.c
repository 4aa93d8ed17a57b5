/*
 * chart.c - curves over a number, such as the step of a run, as an SVG element of a page.
 *
 * Lengths are CSS pixels of a drawing of WIDTH; a page scales it.  The points that are drawn are also
 * attributes of their curve, for the script of the page (page.js).
 */
#include "plot.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>

enum {
    WIDTH = 420,
    LEFT = 60,
    RIGHT = 14,
    TOP = 32, /* of the area of the curves */
    PANEL = 170,
    BOTTOM = 42,
    LEGEND_ROW = 20,
    INTERVALS = 4,
    COLUMNS =
        2 * (WIDTH - LEFT - RIGHT), /* of which each has up to 4 points of a curve */
    MARKERS = 60,                   /* curves of at most so many points have markers */
    MOST_MARKS = 200,
    CHARACTERS = 50
};

typedef struct {
    FILE *file;
    const sim_chart *chart;
    sim_plot_y x, y;
} drawing;

static double x_of(const drawing *d, double value)
{
    return LEFT + (value - d->x.low) / (d->x.high - d->x.low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const drawing *d, double value)
{
    return TOP + PANEL * (1 - (value - d->y.low) / (d->y.high - d->y.low));
}

/* ---- ranges ---- */

static void find_ranges(drawing *d)
{
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;

    for (size_t s = 0; s < d->chart->n_series; s++)
        for (size_t i = 0; i < d->chart->series[s].n; i++) {
            const sim_chart_point *p = &d->chart->series[s].points[i];
            x_low = fmin(x_low, p->x);
            x_high = fmax(x_high, p->x);
            if (!isfinite(p->y))
                continue;
            y_low = fmin(y_low, p->y);
            y_high = fmax(y_high, p->y);
        }
    d->x = sim_plot_axis(x_low, x_high, INTERVALS);
    d->y = sim_plot_axis(y_low, y_high, INTERVALS);
    if (x_low < x_high) { /* from the first to the last point */
        d->x.low = x_low;
        d->x.high = x_high;
    }
}

/* ---- axes ---- */

static void draw_y_axis(const drawing *d)
{
    const int n = (int)lround((d->y.high - d->y.low) / d->y.step);

    for (int i = 0; i <= n; i++) {
        const double value = d->y.low + i * d->y.step, at = y_of(d, value);
        (void)fprintf(d->file,
                      "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                      "text-anchor=\"end\">",
                      LEFT, at, WIDTH - RIGHT, LEFT - 6, at + 4.5);
        if (fabs(d->y.high) >= 1e6 || fabs(d->y.low) >= 1e6 || d->y.decimals > 5)
            (void)fprintf(d->file, "%.2g</text>\n", value);
        else
            (void)fprintf(d->file, "%.*f</text>\n", d->y.decimals, value);
    }
    (void)fprintf(d->file, "<path class=\"axis\" d=\"M%d %dH%d\"/>\n", LEFT, TOP + PANEL,
                  WIDTH - RIGHT);
}

/* Labels are moved to the left where they would end beyond the drawing. */
static void draw_x_axis(const drawing *d)
{
    char label[64];
    const int64_t first = (int64_t)ceil(d->x.low / d->x.step),
                  last = (int64_t)floor(d->x.high / d->x.step + 1e-6);

    for (int64_t i = first; i <= last; i++) {
        const double value = (double)i * d->x.step;
        (void)snprintf(label, sizeof label, "%.*f", d->x.decimals, value);
        const double most = WIDTH - 2 - sim_plot_width_of(label, CHARACTERS) / 2;
        (void)fprintf(d->file,
                      "<path class=\"axis\" d=\"M%.1f %dv5\"/><text x=\"%.1f\" y=\"%d\" "
                      "text-anchor=\"middle\">%s</text>\n",
                      x_of(d, value), TOP + PANEL, fmin(x_of(d, value), most),
                      TOP + PANEL + 18, label);
    }
    (void)fprintf(d->file, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                  LEFT + (WIDTH - LEFT - RIGHT) / 2, TOP + PANEL + 35);
    sim_plot_put_short(d->file, d->chart->x_title, CHARACTERS);
    (void)fputs("</text>\n", d->file);
}

/* Of many marks, those that would cover each other are left out. */
static void draw_marks(const drawing *d)
{
    double last = -INFINITY;

    for (size_t i = 0, n = 0; i < d->chart->n_marks && n < MOST_MARKS; i++) {
        const sim_chart_mark *m = &d->chart->marks[i];
        if (m->x < d->x.low || m->x > d->x.high || x_of(d, m->x) < last + 2)
            continue;
        last = x_of(d, m->x);
        n++;
        (void)fprintf(d->file, "<path class=\"mark\" d=\"M%.1f %dV%d\"><title>", last,
                      TOP, TOP + PANEL);
        sim_text_put_escaped(d->file, m->label);
        (void)fputs("</title></path>\n", d->file);
    }
}

/* ---- curves ---- */

typedef struct {
    sim_chart_point *points;
    size_t n;
} drawn_points;

/* Adds the point i of a series unless it was the last one added. */
static void add_point(drawn_points *out, const sim_chart_series *s, size_t i,
                      size_t *last)
{
    if (*last != i)
        out->points[out->n++] = s->points[i];
    *last = i;
}

/* The first, lowest, highest and last of the points from lo to hi, in their order. */
static void add_extremes(drawn_points *out, const sim_chart_series *s, size_t lo,
                         size_t hi)
{
    size_t low = lo, high = lo, last = SIZE_MAX;

    for (size_t i = lo; i < hi; i++) {
        low = s->points[i].y < s->points[low].y || !isfinite(s->points[low].y) ? i : low;
        high =
            s->points[i].y > s->points[high].y || !isfinite(s->points[high].y) ? i : high;
    }
    add_point(out, s, lo, &last);
    add_point(out, s, low < high ? low : high, &last);
    add_point(out, s, low < high ? high : low, &last);
    add_point(out, s, hi - 1, &last);
}

static size_t column_of(const drawing *d, double x)
{
    return (size_t)((x - d->x.low) / (d->x.high - d->x.low) * (COLUMNS - 1));
}

static sim_status select_points(const drawing *d, const sim_chart_series *s,
                                drawn_points *out)
{
    sim_status st = SIM_OK;
    const bool all = s->n <= COLUMNS;

    SIM_TRY(sim_alloc(&out->points, all ? s->n : 4 * COLUMNS, "report/chart"));
    for (size_t i = 0; all && i < s->n; i++)
        out->points[out->n++] = s->points[i];
    for (size_t lo = 0, hi = 0; !all && lo < s->n; lo = hi) {
        while (hi < s->n &&
               column_of(d, s->points[hi].x) == column_of(d, s->points[lo].x))
            hi++;
        add_extremes(out, s, lo, hi);
    }
done:
    return st;
}

static void put_numbers(const drawing *d, const char *attribute, const drawn_points *p,
                        bool of_y)
{
    (void)fprintf(d->file, " data-%s=\"", attribute);
    for (size_t i = 0; i < p->n; i++) {
        const double value = of_y ? p->points[i].y : p->points[i].x;
        (void)fputs(i ? "," : "", d->file);
        if (isfinite(value))
            (void)fprintf(d->file, "%.10g", value);
    }
    (void)fputc('"', d->file);
}

static void draw_path(const drawing *d, size_t series, const drawn_points *p)
{
    bool is_gap = true;

    (void)fprintf(d->file, "<path class=\"line\"%s d=\"M0 0",
                  series < SIM_PLOT_COLORS ? "" : " stroke-dasharray=\"6 4\"");
    for (size_t i = 0; i < p->n; i++) {
        const bool is_number = isfinite(p->points[i].y);
        if (is_number)
            (void)fprintf(d->file, "%s%.1f %.1f", is_gap ? "M" : "L",
                          x_of(d, p->points[i].x), y_of(d, p->points[i].y));
        is_gap = !is_number;
    }
    (void)fputs("\"/>\n", d->file);
}

static void draw_markers(const drawing *d, const drawn_points *p)
{
    for (size_t i = 0; p->n <= MARKERS && i < p->n; i++)
        if (isfinite(p->points[i].y))
            (void)fprintf(d->file,
                          "<circle class=\"point\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>",
                          x_of(d, p->points[i].x), y_of(d, p->points[i].y));
}

static sim_status draw_curve(const drawing *d, size_t series)
{
    sim_status st = SIM_OK;
    const sim_chart_series *s = &d->chart->series[series];
    drawn_points p = {0};

    SIM_TRY(select_points(d, s, &p));
    (void)fprintf(d->file, "<g class=\"curve c%zu\" data-name=\"",
                  series % SIM_PLOT_COLORS);
    sim_text_put_escaped(d->file, s->name);
    (void)fputc('"', d->file);
    put_numbers(d, "x", &p, false);
    put_numbers(d, "y", &p, true);
    (void)fputs(">\n", d->file);
    draw_path(d, series, &p);
    draw_markers(d, &p);
    (void)fputs("</g>\n", d->file);
done:
    sim_free(p.points);
    return st;
}

static void draw_legend(const drawing *d)
{
    for (size_t s = 0; s < d->chart->n_series; s++) {
        const int y = TOP + PANEL + BOTTOM + (int)s * LEGEND_ROW + 10;
        (void)fprintf(
            d->file,
            "<path class=\"line c%zu\"%s d=\"M8 %dh28\"/><text x=\"44\" y=\"%d\">",
            s % SIM_PLOT_COLORS, s < SIM_PLOT_COLORS ? "" : " stroke-dasharray=\"6 4\"",
            y, y + 5);
        sim_plot_put_short(d->file, d->chart->series[s].name, CHARACTERS);
        (void)fputs("</text>\n", d->file);
    }
}

sim_status sim_chart_svg(const sim_chart *chart, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    drawing d = {.chart = chart};
    const int legend = chart->n_series > 1 ? (int)chart->n_series * LEGEND_ROW + 6 : 0;

    SIM_TRY(sim_text_open(&text));
    d.file = text.file;
    find_ranges(&d);
    /* The script computes x from the pointer by these. */
    (void)fprintf(d.file,
                  "<svg class=\"sim-plot chart\" role=\"img\" viewBox=\"0 0 %d %d\" "
                  "data-left=\"%d\" data-right=\"%d\" data-top=\"%d\" data-bottom=\"%d\" "
                  "data-low=\"%.10g\" data-high=\"%.10g\" data-x-title=\"",
                  WIDTH, TOP + PANEL + BOTTOM + legend, LEFT, WIDTH - RIGHT, TOP,
                  TOP + PANEL, d.x.low, d.x.high);
    sim_text_put_escaped(d.file, chart->x_title);
    (void)fputs("\">\n<text class=\"title\" x=\"8\" y=\"17\">", d.file);
    sim_plot_put_short(d.file, chart->title, CHARACTERS);
    (void)fputs("</text>\n", d.file);
    draw_y_axis(&d);
    draw_x_axis(&d);
    draw_marks(&d);
    for (size_t s = 0; s < chart->n_series; s++)
        SIM_TRY(draw_curve(&d, s));
    if (legend)
        draw_legend(&d);
    (void)fputs("</svg>\n", d.file);
    SIM_TRY(sim_text_finish(&text, "report/chart", out));
done:
    sim_text_close(&text);
    return st;
}
