/*
 * plot.c - lines with error bars as SVG.
 *
 * Lengths are CSS pixels of a drawing of WIDTH; a page scales it.  Widths of texts are estimated.
 */
#include "plot.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 420,
    RIGHT = 16,
    PANEL = 190, /* height of the area of the lines */
    TITLE = 30,  /* above it */
    X_TITLE = 26,
    LEGEND_ROW = 21,
    SIZE = 13, /* of the font */
    COLORS = SIM_PLOT_COLORS,
    LABEL_CHARACTERS = 24,
    LEGEND_CHARACTERS = 50
};
static const double character = 7.3; /* mean width at SIZE, rounded up */

/* Okabe and Ito's palette for color blindness, adjusted for contrast on each background. */
const char sim_plot_style[] =
    "<style>\n"
    ".sim-plot .back{fill:#ffffff}\n"
    ".sim-plot text{font:13px system-ui,sans-serif;fill:#1c1c1e}\n"
    ".sim-plot .title{font-weight:600}\n"
    ".sim-plot .grid{stroke:#e2e2e6;stroke-width:1}\n"
    ".sim-plot .axis{stroke:#77777c;stroke-width:1}\n"
    ".sim-plot .line{fill:none;stroke-width:2}\n"
    ".sim-plot .bar{stroke-width:1.5}\n"
    ".sim-plot .c0{stroke:#0072b2;color:#0072b2}.sim-plot "
    ".c1{stroke:#c44e00;color:#c44e00}\n"
    ".sim-plot .c2{stroke:#00805c;color:#00805c}.sim-plot "
    ".c3{stroke:#a8457f;color:#a8457f}\n"
    ".sim-plot .c4{stroke:#9a6b00;color:#9a6b00}.sim-plot "
    ".c5{stroke:#2b8ec4;color:#2b8ec4}\n"
    ".sim-plot .c6{stroke:#6a51a3;color:#6a51a3}.sim-plot "
    ".c7{stroke:#4d4d52;color:#4d4d52}\n"
    ".sim-plot .point,.sim-plot .key{fill:currentColor;stroke:none}\n"
    "@media (prefers-color-scheme:dark){\n"
    ".sim-plot .back{fill:#17181a}.sim-plot text{fill:#e8e8ea}.sim-plot "
    ".grid{stroke:#34353a}.sim-plot "
    ".axis{stroke:#8b8b91}\n"
    ".sim-plot .c0{stroke:#56a8e0;color:#56a8e0}.sim-plot "
    ".c1{stroke:#f08a4b;color:#f08a4b}\n"
    ".sim-plot .c2{stroke:#35c08f;color:#35c08f}.sim-plot "
    ".c3{stroke:#e08fc0;color:#e08fc0}\n"
    ".sim-plot .c4{stroke:#e0b13c;color:#e0b13c}.sim-plot "
    ".c5{stroke:#8fd0f5;color:#8fd0f5}\n"
    ".sim-plot .c6{stroke:#b3a1e6;color:#b3a1e6}.sim-plot "
    ".c7{stroke:#c4c4c9;color:#c4c4c9}\n"
    "}\n</style>\n";

typedef struct {
    FILE *file;
    const sim_plot *plot;
    sim_plot_x x;
    bool is_rotated;     /* labels of x */
    double left, labels; /* margin on the left; height of the labels of x */
} drawing;

/* ---- layout ---- */

void sim_plot_put_short(FILE *f, const char *text, size_t most)
{
    char part[4 * LEGEND_CHARACTERS + 8];
    size_t n = 0, used = 0;

    if (sim_text_width(text) <= most) {
        sim_text_put_escaped(f, text);
        return;
    }
    for (; text[used] && used < sizeof part - 8; used++) {
        n += ((unsigned char)text[used] & 0xc0) != 0x80;
        if (n == most)
            break;
    }
    (void)snprintf(part, sizeof part, "%.*s\u2026", (int)used, text);
    sim_text_put_escaped(f, part);
}

double sim_plot_width_of(const char *text, size_t most)
{
    const size_t n = sim_text_width(text);
    return character * (double)(n < most ? n : most);
}

static double slot_of(const drawing *d)
{
    return (WIDTH - d->left - RIGHT) / (double)d->plot->n_x;
}

/* Labels of categories that do not fit side by side are rotated. */
static void lay_out(drawing *d)
{
    static const double sine = 0.82, cosine = 0.57; /* of 55 degrees */
    double widest = 0;

    d->left = 56;
    d->labels = 22;
    for (size_t i = 0; i < d->plot->n_x; i++)
        widest = fmax(widest, sim_plot_width_of(d->plot->x[i], LABEL_CHARACTERS));
    d->is_rotated = !d->x.is_numeric && widest > slot_of(d) - 6;
    if (d->is_rotated) {
        d->left = fmax(d->left, widest * cosine - slot_of(d) / 2 + 8);
        d->labels = widest * sine + 18;
    }
}

static double area_width(const drawing *d)
{
    return WIDTH - RIGHT - d->left;
}

static double panel_height(const drawing *d)
{
    return TITLE + PANEL + d->labels + X_TITLE;
}

/* Numbers keep a distance from the ends of the axis. */
static double x_of(const drawing *d, size_t i)
{
    const double inset = d->x.is_numeric ? 22 : 0;
    return d->left + inset + d->x.at[i] * (area_width(d) - 2 * inset);
}

/* Series are shifted by a few pixels, so that markers and error bars do not cover each other. */
static double shift_of(const drawing *d, size_t series)
{
    const size_t n = d->plot->n_series;
    const double most = fmin(d->x.is_numeric ? 24 : 60, slot_of(d) * 0.6);
    const double gap = n > 1 ? fmin(11, most / (double)(n - 1)) : 0;
    return ((double)series - (double)(n - 1) / 2) * gap;
}

/* ---- axes ---- */

static void draw_y_axis(const drawing *d, const sim_plot_y *y, double top)
{
    const int n = (int)lround((y->high - y->low) / y->step);

    for (int i = 0; i <= n; i++) {
        const double at = top + PANEL * (1 - (double)i / n);
        (void)fprintf(d->file,
                      "<line class=\"grid\" x1=\"%.1f\" x2=\"%d\" y1=\"%.1f\" "
                      "y2=\"%.1f\"/>\n<text x=\"%.1f\" y=\"%.1f\" "
                      "text-anchor=\"end\">%.*f</text>\n",
                      d->left, WIDTH - RIGHT, at, at, d->left - 7, at + 4.5, y->decimals,
                      y->low + i * y->step);
    }
    (void)fprintf(
        d->file, "<line class=\"axis\" x1=\"%.1f\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
        d->left, WIDTH - RIGHT, top + PANEL, top + PANEL);
}

static void draw_x_label(const drawing *d, size_t i, double y)
{
    const double x = x_of(d, i);

    if (d->is_rotated)
        (void)fprintf(d->file,
                      "<text text-anchor=\"end\" transform=\"translate(%.1f %.1f) "
                      "rotate(-55)\">",
                      x + 5, y - 2);
    else
        (void)fprintf(d->file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x,
                      y + 3);
    sim_plot_put_short(d->file, d->plot->x[i], LABEL_CHARACTERS);
    (void)fputs("</text>\n", d->file);
}

/* Whether a label would overlap one that is already drawn. */
static bool overlaps(const drawing *d, size_t i, const bool *is_drawn)
{
    for (size_t k = 0; k < i; k++) {
        const double widths = (sim_plot_width_of(d->plot->x[i], LABEL_CHARACTERS) +
                               sim_plot_width_of(d->plot->x[k], LABEL_CHARACTERS)) /
                              2;
        if (is_drawn[k] && fabs(x_of(d, i) - x_of(d, k)) < widths + 6)
            return true;
    }
    return false;
}

static sim_status draw_x_axis(const drawing *d, double top)
{
    sim_status st = SIM_OK;
    bool *is_drawn = NULL;

    SIM_TRY(sim_alloc(&is_drawn, d->plot->n_x, "report/plot"));
    for (size_t i = 0; i < d->plot->n_x; i++) {
        (void)fprintf(d->file,
                      "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
                      "y2=\"%.1f\"/>\n",
                      x_of(d, i), x_of(d, i), top + PANEL, top + PANEL + 5);
        is_drawn[i] = d->is_rotated || !overlaps(d, i, is_drawn);
        if (is_drawn[i])
            draw_x_label(d, i, top + PANEL + 16);
    }
    (void)fprintf(d->file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                  d->left + area_width(d) / 2, top + PANEL + d->labels + 15);
    sim_plot_put_short(d->file, d->plot->x_title, LEGEND_CHARACTERS);
    (void)fputs("</text>\n", d->file);
done:
    sim_free(is_drawn);
    return st;
}

/* ---- series ---- */

/* Circle, square, diamond, triangle. */
static void draw_marker(const drawing *d, size_t series, const char *class, double x,
                        double y)
{
    static const char *const shapes[] = {
        "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", "m-4 -4h8v8h-8z",
        "m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z", "m0 -5.5l5.2 9.2h-10.4z"};
    (void)fprintf(d->file, "<path class=\"%s c%zu\" d=\"M%.1f %.1f%s\"/>\n", class,
                  series % COLORS, x, y,
                  shapes[series % (sizeof shapes / sizeof *shapes)]);
}

static const char *dash_of(size_t series)
{
    return series < COLORS ? "" : " stroke-dasharray=\"6 4\"";
}

typedef struct {
    const sim_plot_panel *panel;
    sim_plot_y y;
    double top;
} panel_frame;

static double y_of(const panel_frame *f, double value)
{
    return f->top + PANEL * (1 - (value - f->y.low) / (f->y.high - f->y.low));
}

/* Order of the values of x from left to right. */
static size_t next_to_the_right(const drawing *d, double after)
{
    size_t best = d->plot->n_x;

    for (size_t i = 0; i < d->plot->n_x; i++)
        if (d->x.at[i] > after && (best == d->plot->n_x || d->x.at[i] < d->x.at[best]))
            best = i;
    return best;
}

static void draw_line(const drawing *d, const panel_frame *f, size_t series)
{
    const sim_plot_point *points = f->panel->points + series * d->plot->n_x;
    const double shift = shift_of(d, series);
    bool is_first = true;

    (void)fprintf(d->file, "<path class=\"line c%zu\"%s d=\"", series % COLORS,
                  dash_of(series));
    for (size_t i = next_to_the_right(d, -1); i < d->plot->n_x;
         i = next_to_the_right(d, d->x.at[i])) {
        if (!isfinite(points[i].y))
            continue;
        (void)fprintf(d->file, "%s%.1f %.1f", is_first ? "M" : "L", x_of(d, i) + shift,
                      y_of(f, points[i].y));
        is_first = false;
    }
    (void)fprintf(d->file, "%s\"/>\n", is_first ? "M0 0" : "");
}

static void draw_bar(const drawing *d, size_t series, double x, double low, double high)
{
    (void)fprintf(d->file,
                  "<path class=\"bar c%zu\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f "
                  "%.1fh8\"/>\n",
                  series % COLORS, x, low, high, x - 4, low, x - 4, high);
}

static void draw_points(const drawing *d, const panel_frame *f, size_t series)
{
    const sim_plot_point *points = f->panel->points + series * d->plot->n_x;

    for (size_t i = 0; i < d->plot->n_x; i++) {
        const sim_plot_point *p = &points[i];
        const double x = x_of(d, i) + shift_of(d, series);
        if (!isfinite(p->y))
            continue;
        if (p->deviation > 0)
            draw_bar(d, series, x, y_of(f, p->y - p->deviation),
                     y_of(f, p->y + p->deviation));
        draw_marker(d, series, "point", x, y_of(f, p->y));
    }
}

static sim_status draw_panel(const drawing *d, size_t i)
{
    sim_status st = SIM_OK;
    const panel_frame f = {.panel = &d->plot->panels[i],
                           .y = sim_plot_y_of(d->plot, &d->plot->panels[i]),
                           .top = (double)i * panel_height(d) + TITLE};

    (void)fprintf(d->file, "<text class=\"title\" x=\"8\" y=\"%.1f\">", f.top - 13);
    sim_plot_put_short(d->file, f.panel->title, LEGEND_CHARACTERS);
    (void)fputs("</text>\n", d->file);
    draw_y_axis(d, &f.y, f.top);
    SIM_TRY(draw_x_axis(d, f.top));
    for (size_t s = 0; s < d->plot->n_series; s++)
        draw_line(d, &f, s);
    for (size_t s = 0; s < d->plot->n_series; s++)
        draw_points(d, &f, s);
done:
    return st;
}

static void draw_legend(const drawing *d)
{
    const double top = (double)d->plot->n_panels * panel_height(d) + 6;

    for (size_t s = 0; s < d->plot->n_series; s++) {
        const double y = top + (double)s * LEGEND_ROW + 10;
        (void)fprintf(d->file, "<path class=\"line c%zu\"%s d=\"M8 %.1fh28\"/>\n",
                      s % COLORS, dash_of(s), y);
        draw_marker(d, s, "key", 22, y);
        (void)fprintf(d->file, "<text x=\"44\" y=\"%.1f\">", y + 4.5);
        sim_plot_put_short(d->file, d->plot->series[s], LEGEND_CHARACTERS);
        (void)fputs("</text>\n", d->file);
    }
}

static void put_description(const drawing *d)
{
    (void)fputs("<title>", d->file);
    for (size_t i = 0; i < d->plot->n_panels; i++) {
        (void)fputs(i ? ", " : "", d->file);
        sim_text_put_escaped(d->file, d->plot->panels[i].title);
    }
    (void)fputs(" by ", d->file);
    sim_text_put_escaped(d->file, d->plot->x_title);
    (void)fputs("</title>\n", d->file);
}

sim_status sim_plot_svg(const sim_plot *plot, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    drawing d = {.plot = plot};

    SIM_TRY(sim_text_open(&text));
    SIM_TRY(sim_plot_x_create(plot, &d.x));
    d.file = text.file;
    lay_out(&d);
    const bool has_legend = plot->n_series > 1;
    const double height = (double)plot->n_panels * panel_height(&d) +
                          (has_legend ? (double)plot->n_series * LEGEND_ROW + 10 : 0);
    (void)fprintf(d.file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sim-plot\" "
                  "role=\"img\" viewBox=\"0 0 %d %.0f\">\n",
                  WIDTH, height);
    put_description(&d);
    (void)fputs(sim_plot_style, d.file);
    (void)fprintf(d.file, "<rect class=\"back\" width=\"%d\" height=\"%.0f\"/>\n", WIDTH,
                  height);
    for (size_t i = 0; i < plot->n_panels; i++)
        SIM_TRY(draw_panel(&d, i));
    if (has_legend)
        draw_legend(&d);
    (void)fputs("</svg>\n", d.file);
    SIM_TRY(sim_text_finish(&text, "report/plot", out));
done:
    sim_plot_x_destroy(&d.x);
    sim_text_close(&text);
    return st;
}
