/*
 * embed_projector.c - embeddings for TensorBoard's projector: a directory with tensors.tsv, metadata.tsv,
 * sprite.png and projector_config.pbtxt.
 *
 * The sprite has the images row by row in as many columns as rows; TensorBoard accepts sprites of up to
 * 8192 x 8192 pixels, so that of many images the cells are small.
 */
#include "csv.h"
#include "embed.h"

#include "simile/memory.h"
#include "simile/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SPRITE_SIDE = 8192, MOST_CELL = 64, FILES = 4 };

static const char *const names[FILES] = {"tensors.tsv", "metadata.tsv", "sprite.png",
                                         "projector_config.pbtxt"};
static const char own_line[] = "# Written by simile embed\n";

static void path_in(const char *directory, int file, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%.3900s/%s", directory, names[file]);
}

/* ---- tensors and metadata ---- */

static sim_status write_tensors(const embed_content *e, const char *directory)
{
    sim_status st = SIM_OK;
    const size_t n = e->features->dims[0], dim = e->features->dims[1];
    const float *x = e->features->data;
    char path[PATH_MAX];
    csv_writer w = {.file = {.fd = -1}};

    path_in(directory, 0, path);
    SIM_TRY(sim_csv_begin(path, &w));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < dim; j++)
            SIM_TRY(sim_csv_format(&w, "%.9g%c", (double)x[i * dim + j],
                                   j + 1 < dim ? '\t' : '\n'));
    SIM_TRY(sim_csv_end(&w));
done:
    sim_csv_cancel(&w);
    return st;
}

/* A text in which tabs and control characters are spaces. */
static sim_status put_text(csv_writer *w, const char *text, size_t n)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < n; i++) {
        const char c = (unsigned char)text[i] < ' ' ? ' ' : text[i];
        SIM_TRY(sim_csv_bytes(w, &c, 1));
    }
done:
    return st;
}

/* A header is written, and read by TensorBoard, where there is more than one column. */
static sim_status write_metadata(const embed_content *e, const char *directory)
{
    static const char header[] = "id\tname\tclass\n";
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    csv_writer w = {.file = {.fd = -1}};

    path_in(directory, 1, path);
    SIM_TRY(sim_csv_begin(path, &w));
    SIM_TRY(sim_csv_bytes(&w, header, sizeof header - 1));
    for (size_t i = 0; i < e->features->dims[0]; i++) {
        const char *name = e->names ? e->names + i * e->name_width : "",
                   *class = sim_embed_class(e, i);
        SIM_TRY(sim_csv_format(&w, "%zu\t", i));
        SIM_TRY(put_text(&w, name, strnlen(name, e->names ? e->name_width : 0)));
        SIM_TRY(sim_csv_bytes(&w, "\t", 1));
        if (class)
            SIM_TRY(put_text(&w, class, strlen(class)));
        else if (e->labels)
            SIM_TRY(sim_csv_format(&w, "%d", (int)e->labels[i]));
        SIM_TRY(sim_csv_bytes(&w, "\n", 1));
    }
    SIM_TRY(sim_csv_end(&w));
done:
    sim_csv_cancel(&w);
    return st;
}

/* ---- the sprite ---- */

typedef struct {
    size_t columns, cell; /* cell: pixels per side; 0: too many images */
    sim_preprocessing preprocessing;
} sprite_layout;

static sprite_layout lay_out(const embed_content *e)
{
    sprite_layout l = {.columns = (size_t)ceil(sqrt((double)e->features->dims[0]))};

    l.preprocessing = sim_preprocessing_of(0, sim_dataset_about(e->data));
    const size_t h = l.preprocessing.h, w = l.preprocessing.w, side = h > w ? h : w,
                 most = SPRITE_SIDE / l.columns,
                 least = side < MOST_CELL ? side : MOST_CELL;
    l.cell = least < most ? least : most;
    l.preprocessing.h = l.preprocessing.w = l.cell;
    return l;
}

static sim_status write_sprite(const embed_content *e, const sprite_layout *l,
                               const char *directory)
{
    sim_status st = SIM_OK;
    const size_t n = e->features->dims[0], rows = (n + l->columns - 1) / l->columns;
    sim_thumbnails t = {.plain = NULL};
    uint8_t *pixels = NULL;
    const uint8_t **cells = NULL;
    char path[PATH_MAX];

    path_in(directory, 2, path);
    SIM_TRY(sim_thumbnails_create(&l->preprocessing, l->cell, &t));
    SIM_TRY(sim_alloc(&pixels, n * t.bytes, "cli/projector"));
    SIM_TRY(sim_alloc(&cells, rows * l->columns, "cli/projector"));
    for (size_t i = 0; i < n; i++) {
        SIM_TRY(sim_thumbnails_draw(&t, e->data, i, pixels + i * t.bytes));
        cells[i] = pixels + i * t.bytes;
    }
    const sim_grid grid = {.rows = rows,
                           .columns = l->columns,
                           .h = t.h,
                           .w = t.w,
                           .c = 3,
                           .zoom = 1,
                           .cells = cells};
    SIM_TRY(sim_grid_write(path, &grid));
done:
    sim_thumbnails_destroy(&t);
    sim_free(pixels);
    sim_free(cells);
    return st;
}

/* ---- the directory ---- */

static sim_status write_config(const sprite_layout *l, const char *directory)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], sprite[160] = "", *text = NULL;

    path_in(directory, 3, path);
    if (l->cell > 0)
        (void)snprintf(sprite, sizeof sprite,
                       "  sprite {\n    image_path: \"%s\"\n    single_image_dim: %zu\n"
                       "    single_image_dim: %zu\n  }\n",
                       names[2], l->cell, l->cell);
    SIM_TRY(sim_text_format(
        "cli/projector", &text,
        "%sembeddings {\n  tensor_name: \"features\"\n  tensor_path: \"%s\"\n"
        "  metadata_path: \"%s\"\n%s}\n",
        own_line, names[0], names[1], sprite));
    const sim_piece piece = {text, strlen(text)};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_free(text);
    return st;
}

static sim_status write_projector(const embed_content *e, const char *directory)
{
    sim_status st = SIM_OK;
    const sprite_layout l = lay_out(e);
    char path[PATH_MAX];

    SIM_TRY(sim_directory_create(directory));
    SIM_TRY(write_tensors(e, directory));
    SIM_TRY(write_metadata(e, directory));
    path_in(directory, 2, path);
    SIM_TRY(l.cell > 0 ? write_sprite(e, &l, directory) : sim_file_remove(path));
    SIM_TRY(write_config(&l, directory));
done:
    return st;
}

static sim_status check_projector(sim_output out, char target[PATH_MAX])
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], unused[PATH_MAX];

    SIM_TRY(sim_grid_check());
    SIM_TRY(sim_path_follow(out.path, target));
    SIM_CHECK(!sim_path_exists(target) || sim_path_is_directory(target), SIM_E_CREATE,
              "%s: %s exists and is not a directory", out.option, target);
    path_in(target, 3, path);
    out.is_own = sim_file_begins_with(path, own_line);
    out.path = path;
    out.kind = "a file for TensorBoard's projector";
    for (int i = 0; sim_path_exists(target) && i < FILES; i++) {
        path_in(target, i, path);
        SIM_TRY(sim_output_check(&out, unused));
    }
done:
    return st;
}

const embed_format sim_embed_projector = {
    .name = "projector",
    .summary = "a directory for TensorBoard's projector: tensors, metadata, images",
    .check = check_projector,
    .write = write_projector};
