/*
 * page.c - an HTML page of texts, tables, plots, charts and pictures.
 */
#include "plot.h"

#include "simile/text.h"

extern const char sim_report_script[]; /* page.js */

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n";

static const char style[] =
    "<style>\n"
    ":root { --text: #1c1c1e; --muted: #5f6368; --back: #ffffff; --line: #d9d9de;\n"
    "  --stripe: #f5f5f7; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --text: #e8e8ea; --muted: #a5a5ab; --back: #17181a; --line: #3a3b3f;\n"
    "    --stripe: #202124; }\n}\n"
    "body { margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--text);\n"
    "  background: var(--back); font: 16px/1.5 system-ui, sans-serif; }\n"
    "h1 { font-size: 1.4rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }\n"
    "h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; overflow-wrap: anywhere; }\n"
    "p { margin: .4rem 0; overflow-wrap: anywhere; }\n"
    ".wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }\n"
    "table { border-collapse: collapse; font-size: .875rem; width: 100%;\n"
    "  font-variant-numeric: tabular-nums; }\n"
    "th, td { padding: .35rem .7rem; text-align: left; white-space: nowrap; }\n"
    "th { white-space: normal; vertical-align: bottom; color: var(--muted); font-weight: "
    "600; border-bottom: 1px solid var(--line); "
    "}\n"
    "td.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }\n"
    "tbody tr:nth-child(even) { background: var(--stripe); }\n"
    ".right { text-align: right; }\n"
    "svg { display: block; width: 100%; max-width: 34rem; height: auto; }\n"
    "summary { cursor: pointer; font-size: 1.1rem; font-weight: 600; margin: 1.8rem 0 "
    ".5rem; }\n"
    "pre { overflow-x: auto; padding: .7rem; border-radius: 6px; font-size: .8rem;\n"
    "  background: var(--stripe); }\n"
    ".charts { display: grid; gap: 1rem 1.5rem;\n"
    "  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }\n"
    "img { max-width: 100%; height: auto; border-radius: 6px; }\n"
    ".chart { touch-action: pan-y; }\n"
    ".sim-plot .line { stroke-width: 1.6; }\n"
    ".sim-plot .mark { stroke: var(--muted); stroke-dasharray: 3 3; }\n"
    ".sim-plot .pointer { stroke: var(--muted); pointer-events: none; }\n"
    ".sim-plot .cell { fill: #0072b2; }\n"
    ".sim-plot .frame { fill: none; stroke: var(--line); }\n"
    "@media (prefers-color-scheme: dark) { .sim-plot .cell { fill: #56a8e0; } }\n"
    "svg.scatter { max-width: 50rem; }\n"
    ".maps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }\n"
    ".sim-plot .dot { fill: currentColor; stroke: none; opacity: .85; }\n"
    ".sim-plot .ring { fill: none; stroke: currentColor; stroke-width: 1.5; }\n"
    ".tip .image { margin: .2rem 0; image-rendering: pixelated; }\n"
    ".tip { position: fixed; padding: .3rem .6rem; border: 1px solid var(--line);\n"
    "  border-radius: 6px; background: var(--back); font-size: .8rem; white-space: pre;\n"
    "  pointer-events: none; font-variant-numeric: tabular-nums; z-index: 1; }\n"
    "@media print { .tip { display: none; } svg, tr, img { break-inside: avoid; } }\n"
    "</style>\n";

static void put_element(FILE *f, const char *name, const char *text)
{
    (void)fprintf(f, "<%s>", name);
    sim_text_put_escaped(f, text);
    (void)fprintf(f, "</%s>\n", name);
}

enum { LONG_CELL = 48 }; /* characters; longer cells are wrapped */

static void put_cell(FILE *f, const char *name, const char *text, bool right)
{
    const char *class = right                              ? " class=\"right\""
                        : sim_text_width(text) > LONG_CELL ? " class=\"long\""
                                                           : "";
    (void)fprintf(f, "<%s%s>", name, class);
    sim_text_put_escaped(f, text);
    (void)fprintf(f, "</%s>", name);
}

static bool has_titles(const sim_report_table *t)
{
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->columns[c].title[0])
            return true;
    return false;
}

static void put_table(FILE *f, const sim_report_table *t)
{
    (void)fputs("<div class=\"wide\"><table>\n", f);
    if (has_titles(t)) {
        (void)fputs("<thead><tr>", f);
        for (size_t c = 0; c < t->n_columns; c++)
            put_cell(f, "th", t->columns[c].title, t->columns[c].right);
        (void)fputs("</tr></thead>\n", f);
    }
    (void)fputs("<tbody>\n", f);
    for (size_t r = 0; r < t->n_rows; r++) {
        (void)fputs("<tr>", f);
        for (size_t c = 0; c < t->n_columns; c++)
            put_cell(f, "td", t->cells[r * t->n_columns + c], t->columns[c].right);
        (void)fputs("</tr>\n", f);
    }
    (void)fputs("</tbody>\n</table></div>\n", f);
}

static void put_code(FILE *f, const sim_page_part *part)
{
    (void)fputs("<details>", f);
    if (part->heading)
        put_element(f, "summary", part->heading);
    (void)fputs("<pre>", f);
    sim_text_put_escaped(f, part->text);
    (void)fputs("</pre></details>\n", f);
}

/* The base64 encoding of RFC 4648. */
static void put_base64(FILE *f, const uint8_t *bytes, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        const unsigned second = i + 1 < n ? bytes[i + 1] : 0,
                       third = i + 2 < n ? bytes[i + 2] : 0,
                       group = (unsigned)bytes[i] << 16 | second << 8 | third;
        (void)fputc(digits[group >> 18], f);
        (void)fputc(digits[group >> 12 & 63], f);
        (void)fputc(i + 1 < n ? digits[group >> 6 & 63] : '=', f);
        (void)fputc(i + 2 < n ? digits[group & 63] : '=', f);
    }
}

static void put_picture(FILE *f, const sim_page_part *part)
{
    const sim_picture *p = part->picture;

    put_element(f, "p", part->text);
    (void)fprintf(f, "<img width=\"%zu\" height=\"%zu\" alt=\"", p->w, p->h);
    sim_text_put_escaped(f, part->text);
    (void)fputs("\" src=\"data:image/png;base64,", f);
    put_base64(f, p->png, p->n_bytes);
    (void)fputs("\">\n", f);
}

static void put_part(FILE *f, const sim_page_part *part)
{
    if (part->heading && part->kind != SIM_PAGE_CODE)
        put_element(f, "h2", part->heading);
    switch (part->kind) {
    case SIM_PAGE_TEXT:
        put_element(f, "p", part->text);
        break;
    case SIM_PAGE_TABLE:
        put_table(f, part->table);
        break;
    case SIM_PAGE_SVG:
        (void)fputs(part->text, f);
        break;
    case SIM_PAGE_CHARTS:
        (void)fprintf(f, "<div class=\"charts\">\n%s</div>\n", part->text);
        break;
    case SIM_PAGE_PICTURE:
        put_picture(f, part);
        break;
    case SIM_PAGE_SCATTER:
        (void)fprintf(
            f,
            "<div class=\"charts maps\">\n%s<img class=\"sprite\" hidden alt=\"\" "
            "src=\"data:image/jpeg;base64,",
            part->text);
        put_base64(f, part->jpeg, part->n_jpeg);
        (void)fputs("\">\n</div>\n", f);
        break;
    case SIM_PAGE_CODE:
        put_code(f, part);
        break;
    }
}

static bool has_charts(const sim_page_part *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (parts[i].kind == SIM_PAGE_CHARTS || parts[i].kind == SIM_PAGE_SCATTER)
            return true;
    return false;
}

static void put_head(FILE *f, const char *title, bool charts, int refresh_s)
{
    (void)fputs(head, f);
    if (refresh_s > 0)
        (void)fprintf(f, "<meta http-equiv=\"refresh\" content=\"%d\">\n", refresh_s);
    put_element(f, "title", title);
    if (charts)
        (void)fputs(sim_plot_style, f);
    (void)fputs(style, f);
    (void)fputs("</head>\n<body>\n", f);
    put_element(f, "h1", title);
}

sim_status sim_page_html(const char *title, const sim_page_part *parts, size_t n_parts,
                         int refresh_s, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    const bool charts = has_charts(parts, n_parts);

    SIM_TRY(sim_text_open(&text));
    put_head(text.file, title, charts, refresh_s);
    for (size_t i = 0; i < n_parts; i++)
        put_part(text.file, &parts[i]);
    if (charts)
        (void)fprintf(text.file, "<script>\n%s</script>\n", sim_report_script);
    (void)fputs("</body>\n</html>\n", text.file);
    SIM_TRY(sim_text_finish(&text, "report/page", out));
done:
    sim_text_close(&text);
    return st;
}
