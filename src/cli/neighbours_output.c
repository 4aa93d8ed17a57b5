/*
 * neighbours_output.c - the result of `simile neighbours`: a table for a person, a list for a program, or a
 * picture.
 */
#include "csv.h"
#include "neighbours.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/report.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

enum {
    MOST_ROWS = 64,
    MOST_PRINTED = 200,
    MOST_NAME = 40,
    MOST_COLUMNS = 40,
    PICTURE_SIDE = 96
};

static const char neighbour_header[] =
    "query,query_name,query_class,rank,similarity,index,name,class";
static const char pair_header[] =
    "first,first_name,first_class,second,second_name,second_class,similarity";

static bool is_picture(const neighbours_arguments *a)
{
    return a->out && sim_text_ends_with(a->out, ".png");
}

/* ---- the file ---- */

static bool is_png(const char *path)
{
    static const char signature[] = "\x89PNG\r\n\x1a\n";
    return sim_file_begins_with(path, signature);
}

sim_status sim_neighbours_check_output(neighbours_arguments *a)
{
    sim_status st = SIM_OK;
    const char *const inputs[] = {a->model, a->data, a->query};

    if (!a->out)
        goto done;
    SIM_CHECK(is_picture(a) || sim_text_ends_with(a->out, ".csv"), SIM_E_USAGE,
              "--out: %s does not end in .png or .csv", a->out);
    if (is_picture(a))
        SIM_TRY(sim_grid_check());
    SIM_CHECK(!is_picture(a) || a->data, SIM_E_USAGE,
              "--out: a picture requires --data, the images of the features");
    const sim_output out = {
        .path = a->out,
        .option = "--out",
        .kind = is_picture(a) ? "a picture" : "a list of neighbours",
        .is_own = is_picture(a) ? is_png(a->out)
                                : sim_file_begins_with(a->out, neighbour_header) ||
                                      sim_file_begins_with(a->out, pair_header),
        .force = a->force,
        .inputs = inputs,
        .n_inputs = 3};
    SIM_TRY(sim_output_check(&out, a->target));
done:
    return st;
}

/* ---- lists ---- */

/* "ID,NAME,CLASS" */
static sim_status put_image(csv_writer *w, const neighbours_set *s, size_t i)
{
    sim_status st = SIM_OK;
    char number[24];
    size_t length = 0;
    const char *name = sim_neighbours_name(s, i, &length),
               *class = sim_neighbours_class(s, i, number);

    if (!s->photo)
        SIM_TRY(sim_csv_format(w, "%zu", sim_neighbours_id(s, i)));
    SIM_TRY(sim_csv_field(w, name, length));
    SIM_TRY(sim_csv_field(w, class, strlen(class)));
done:
    return st;
}

static sim_status write_list(const neighbours_arguments *a, const neighbours_inputs *in,
                             const sim_neighbour *found, size_t k)
{
    sim_status st = SIM_OK;
    csv_writer w;

    SIM_TRY(sim_csv_begin(a->target, &w));
    SIM_TRY(sim_csv_bytes(&w, neighbour_header, sizeof neighbour_header - 1));
    for (size_t i = 0; i < in->queries.n * k; i++) {
        SIM_TRY(sim_csv_bytes(&w, "\n", 1));
        SIM_TRY(put_image(&w, &in->queries, i / k));
        SIM_TRY(sim_csv_format(&w, ",%zu", i % k + 1));
        SIM_TRY(sim_csv_format(&w, ",%.9g,", (double)found[i].similarity));
        SIM_TRY(put_image(&w, &in->bank, found[i].index));
    }
    SIM_TRY(sim_csv_bytes(&w, "\n", 1));
    SIM_TRY(sim_csv_end(&w));
done:
    sim_csv_cancel(&w);
    return st;
}

static sim_status write_pair_list(const neighbours_arguments *a,
                                  const neighbours_inputs *in,
                                  const sim_similar_pair *pairs, size_t n)
{
    sim_status st = SIM_OK;
    csv_writer w;

    SIM_TRY(sim_csv_begin(a->target, &w));
    SIM_TRY(sim_csv_bytes(&w, pair_header, sizeof pair_header - 1));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(sim_csv_bytes(&w, "\n", 1));
        SIM_TRY(put_image(&w, &in->queries, pairs[i].first));
        SIM_TRY(sim_csv_bytes(&w, ",", 1));
        SIM_TRY(put_image(&w, &in->bank, pairs[i].second));
        SIM_TRY(sim_csv_format(&w, ",%.9g", (double)pairs[i].similarity));
    }
    SIM_TRY(sim_csv_bytes(&w, "\n", 1));
    SIM_TRY(sim_csv_end(&w));
done:
    sim_csv_cancel(&w);
    return st;
}

/* ---- pictures ---- */

static sim_status draw_image(const sim_thumbnails *t, const neighbours_set *s, size_t i,
                             uint8_t *out)
{
    return s->photo ? sim_thumbnails_draw_image(t, s->photo, out)
                    : sim_thumbnails_draw(t, s->data, sim_neighbours_id(s, i), out);
}

/* An image of a picture: of the queries or of the bank; set NULL: an empty cell. */
typedef struct {
    const neighbours_set *set;
    size_t i;
} cell_image;

static sim_status draw_grid(const neighbours_arguments *a, const neighbours_inputs *in,
                            const cell_image *images, size_t rows, size_t columns)
{
    sim_status st = SIM_OK;
    sim_thumbnails t = {.plain = NULL};
    uint8_t *pixels = NULL;
    const uint8_t **cells = NULL;

    SIM_TRY(sim_thumbnails_create(&in->preprocessing, PICTURE_SIDE, &t));
    SIM_TRY(sim_alloc(&pixels, rows * columns * t.bytes, "cli/neighbours"));
    SIM_TRY(sim_alloc(&cells, rows * columns, "cli/neighbours"));
    for (size_t i = 0; i < rows * columns; i++) {
        if (!images[i].set)
            continue;
        SIM_TRY(draw_image(&t, images[i].set, images[i].i, pixels + i * t.bytes));
        cells[i] = pixels + i * t.bytes;
    }
    const sim_grid grid = {.rows = rows,
                           .columns = columns,
                           .h = t.h,
                           .w = t.w,
                           .c = 3,
                           .zoom = t.h < 48 ? 2 : 1,
                           .gap = 4,
                           .cells = cells};
    SIM_TRY(sim_grid_write(a->target, &grid));
done:
    sim_thumbnails_destroy(&t);
    sim_free(pixels);
    sim_free(cells);
    return st;
}

/* A row per query: the query, an empty cell, its neighbours. */
static sim_status draw_neighbours(const neighbours_arguments *a,
                                  const neighbours_inputs *in, const sim_neighbour *found,
                                  size_t k)
{
    sim_status st = SIM_OK;
    const size_t rows = in->queries.n < MOST_ROWS ? in->queries.n : MOST_ROWS,
                 shown = k < MOST_COLUMNS ? k : MOST_COLUMNS, columns = shown + 2;
    cell_image *images = NULL;

    SIM_TRY(sim_alloc(&images, rows * columns, "cli/neighbours"));
    for (size_t r = 0; r < rows; r++) {
        images[r * columns] = (cell_image){&in->queries, r};
        for (size_t j = 0; j < shown; j++)
            images[r * columns + 2 + j] = (cell_image){&in->bank, found[r * k + j].index};
    }
    SIM_TRY(draw_grid(a, in, images, rows, columns));
    if (rows < in->queries.n)
        sim_log_warn("%s has the first %zu of %zu queries; a .csv file has all", a->out,
                     rows, in->queries.n);
done:
    sim_free(images);
    return st;
}

/* Several pairs per row, with an empty cell between them. */
static sim_status draw_pairs(const neighbours_arguments *a, const neighbours_inputs *in,
                             const sim_similar_pair *pairs, size_t n)
{
    enum { ACROSS = 4, CELLS = 3 };
    sim_status st = SIM_OK;
    const size_t shown = n < (size_t)MOST_ROWS * ACROSS ? n : (size_t)MOST_ROWS * ACROSS,
                 rows = (shown + ACROSS - 1) / ACROSS, columns = ACROSS * CELLS - 1;
    cell_image *images = NULL;

    SIM_CHECK(n > 0, SIM_E_DATA, "there are no such pairs to draw in %s", a->out);
    SIM_TRY(sim_alloc(&images, rows * columns, "cli/neighbours"));
    for (size_t i = 0; i < shown; i++) {
        cell_image *first = images + i / ACROSS * columns + i % ACROSS * CELLS;
        first[0] = (cell_image){&in->queries, pairs[i].first};
        first[1] = (cell_image){&in->bank, pairs[i].second};
    }
    SIM_TRY(draw_grid(a, in, images, rows, columns));
    if (shown < n)
        sim_log_warn("%s has the first %zu of %zu pairs; a .csv file has all", a->out,
                     shown, n);
done:
    sim_free(images);
    return st;
}

/* ---- tables ---- */

/* "17 NAME CLASS", of a long name the end. */
static sim_status format_image(const neighbours_set *s, size_t i, char **out)
{
    char number[24], id[24] = "";
    size_t length = 0;
    const char *name = sim_neighbours_name(s, i, &length),
               *class = sim_neighbours_class(s, i, number);
    const size_t skipped = length > MOST_NAME ? length - MOST_NAME : 0;

    if (!s->photo)
        (void)snprintf(id, sizeof id, "%zu", sim_neighbours_id(s, i));
    return sim_text_format("cli/neighbours", out, "%s%s%s%.*s%s%s", id,
                           length > 0 && *id ? " " : "", skipped ? "..." : "",
                           (int)(length - skipped), name + skipped, *class ? ", " : "",
                           class);
}

static sim_status print_table(const sim_report_column *columns, size_t n_columns,
                              char **cells, size_t n_rows)
{
    sim_status st = SIM_OK;
    const sim_report_table table = {.n_columns = n_columns,
                                    .n_rows = n_rows,
                                    .columns = columns,
                                    .cells = (const char *const *)cells};
    char *text = NULL;

    SIM_TRY(sim_table_text(&table, &text));
    SIM_TRY(sim_cli_print(NULL, text));
done:
    sim_free(text);
    return st;
}

static void free_cells(char **cells, size_t n)
{
    for (size_t i = 0; cells && i < n; i++)
        sim_free(cells[i]);
    sim_free(cells);
}

static void log_left_out(size_t shown, size_t n, const char *what)
{
    if (shown < n)
        sim_log("the first %zu of %zu %s; --out FILE.csv writes all", shown, n, what);
}

static sim_status print_neighbours(const neighbours_inputs *in,
                                   const sim_neighbour *found, size_t k)
{
    static const sim_report_column columns[] = {
        {"query", false}, {"rank", true}, {"similarity", true}, {"image", false}};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    sim_status st = SIM_OK;
    const size_t n = in->queries.n * k, shown = n < MOST_PRINTED ? n : MOST_PRINTED;
    char **cells = NULL;

    SIM_TRY(sim_alloc(&cells, shown * COLUMNS, "cli/neighbours"));
    for (size_t i = 0; i < shown; i++) {
        char **row = cells + i * COLUMNS;
        if (i % k == 0)
            SIM_TRY(format_image(&in->queries, i / k, &row[0]));
        else
            SIM_TRY(sim_text_copy("", "cli/neighbours", &row[0]));
        SIM_TRY(sim_text_format("cli/neighbours", &row[1], "%zu", i % k + 1));
        SIM_TRY(sim_text_format("cli/neighbours", &row[2], "%.4f",
                                (double)found[i].similarity));
        SIM_TRY(format_image(&in->bank, found[i].index, &row[3]));
    }
    SIM_TRY(print_table(columns, COLUMNS, cells, shown));
    log_left_out(shown, n, "neighbours");
done:
    free_cells(cells, shown * COLUMNS);
    return st;
}

static sim_status print_pairs(const neighbours_inputs *in, const sim_similar_pair *pairs,
                              size_t n)
{
    static const sim_report_column columns[] = {
        {"similarity", true}, {"first", false}, {"second", false}};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    sim_status st = SIM_OK;
    const size_t shown = n < MOST_PRINTED ? n : MOST_PRINTED;
    char **cells = NULL;

    SIM_TRY(sim_alloc(&cells, shown * COLUMNS, "cli/neighbours"));
    for (size_t i = 0; i < shown; i++) {
        char **row = cells + i * COLUMNS;
        SIM_TRY(sim_text_format("cli/neighbours", &row[0], "%.4f",
                                (double)pairs[i].similarity));
        SIM_TRY(format_image(&in->queries, pairs[i].first, &row[1]));
        SIM_TRY(format_image(&in->bank, pairs[i].second, &row[2]));
    }
    if (shown > 0)
        SIM_TRY(print_table(columns, COLUMNS, cells, shown));
    log_left_out(shown, n, "pairs");
done:
    free_cells(cells, shown * COLUMNS);
    return st;
}

/* ---- */

sim_status sim_neighbours_write(const neighbours_arguments *a,
                                const neighbours_inputs *in, const sim_neighbour *found,
                                size_t k)
{
    sim_status st = SIM_OK;

    SIM_TRY(!a->out         ? print_neighbours(in, found, k)
            : is_picture(a) ? draw_neighbours(a, in, found, k)
                            : write_list(a, in, found, k));
    if (a->out)
        sim_log("%s: %zu neighbours of each of %zu images", a->out, k, in->queries.n);
done:
    return st;
}

sim_status sim_neighbours_write_pairs(const neighbours_arguments *a,
                                      const neighbours_inputs *in,
                                      const sim_similar_pair *pairs, size_t n)
{
    sim_status st = SIM_OK;

    SIM_TRY(!a->out         ? print_pairs(in, pairs, n)
            : is_picture(a) ? draw_pairs(a, in, pairs, n)
                            : write_pair_list(a, in, pairs, n));
    sim_log("%s%s%zu pairs of images with a similarity of at least %g",
            a->out ? a->out : "", a->out ? ": " : "", n, a->threshold);
done:
    return st;
}
