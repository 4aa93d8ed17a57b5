/*
 * grid.c - a grid of small images as a PNG file.
 */
#include "simile/report.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

#include <png.h>

typedef struct {
    size_t w, h;
    uint8_t *pixels; /* [h][w][3] */
} canvas;

sim_status sim_grid_check(void)
{
    return SIM_OK;
}

static void draw_cell(canvas *picture, const sim_grid *g, const uint8_t *cell, size_t y0,
                      size_t x0)
{
    for (size_t y = 0; y < g->h * g->zoom; y++)
        for (size_t x = 0; x < g->w * g->zoom; x++) {
            const uint8_t *p = cell + (y / g->zoom * g->w + x / g->zoom) * g->c;
            uint8_t *q = picture->pixels + ((y0 + y) * picture->w + x0 + x) * 3;
            for (size_t c = 0; c < 3; c++)
                q[c] = p[g->c == 3 ? c : 0];
        }
}

sim_status sim_grid_encode(const sim_grid *g, uint8_t **png, size_t *n_png, size_t *w,
                           size_t *h)
{
    sim_status st = SIM_OK;
    size_t cell_w = g->w * g->zoom + g->gap, cell_h = g->h * g->zoom + g->gap;
    canvas picture = {.w = g->columns * cell_w + g->gap, .h = g->rows * cell_h + g->gap};
    png_image image;
    png_alloc_size_t n_bytes = 0;
    uint8_t *bytes = NULL;

    SIM_TRY(sim_alloc(&picture.pixels, picture.w * picture.h * 3, "report/grid"));
    memset(picture.pixels, 255, picture.w * picture.h * 3);
    for (size_t i = 0; i < g->rows * g->columns; i++)
        if (g->cells[i])
            draw_cell(&picture, g, g->cells[i], g->gap + i / g->columns * cell_h,
                      g->gap + i % g->columns * cell_w);
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)picture.w;
    image.height = (png_uint_32)picture.h;
    image.format = PNG_FORMAT_RGB;
    n_bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    SIM_TRY(sim_alloc(&bytes, n_bytes, "report/grid"));
    SIM_CHECK(
        png_image_write_to_memory(&image, bytes, &n_bytes, 0, picture.pixels, 0, NULL),
        SIM_E_IO, "a picture of %zu x %zu pixels cannot be encoded: %s", picture.w,
        picture.h, image.message);
    *png = bytes;
    *n_png = n_bytes;
    *w = picture.w;
    *h = picture.h;
    bytes = NULL;
done:
    sim_free(bytes);
    sim_free(picture.pixels);
    return st;
}

sim_status sim_grid_write(const char *path, const sim_grid *g)
{
    sim_status st = SIM_OK;
    uint8_t *png = NULL;
    size_t n_bytes = 0, w = 0, h = 0;

    SIM_TRY(sim_grid_encode(g, &png, &n_bytes, &w, &h));
    const sim_piece piece = {png, n_bytes};
    SIM_TRY(sim_file_replace(path, &piece, 1));
done:
    sim_free(png);
    return st;
}
