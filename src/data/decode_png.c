/*
 * decode_png.c - decodes PNG files of any depth and colour type to 8-bit RGB with libpng.
 */
#include "private.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

#include <png.h>

typedef struct {
    const uint8_t *bytes;
    size_t n, at;
    sim_decode_notes *notes;
    char text[200];
} source;

static void on_error(png_structp png, png_const_charp text)
{
    source *s = png_get_error_ptr(png);
    (void)snprintf(s->text, sizeof s->text, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    source *s = png_get_error_ptr(png);
    if (s->notes->warnings++ == 0)
        (void)snprintf(s->notes->first, sizeof s->notes->first, "%s", text);
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    source *s = png_get_io_ptr(png);
    if (n > s->n - s->at)
        png_error(png, "the file is truncated");
    memcpy(to, s->bytes + s->at, n);
    s->at += n;
}

/* Converts 16-bit samples to 8 bits: divided by 257 and rounded. */
static void convert_to_8_bits(const uint8_t *in, size_t samples, uint8_t *out)
{
    for (size_t i = 0; i < samples; i++) {
        unsigned v = (unsigned)(in[2 * i] << 8 | in[2 * i + 1]);
        out[i] = (uint8_t)((v + 128) / 257);
    }
}

/* Requests RGB of 8 or 16 bits. */
static void request_rgb(png_structp png, png_infop info)
{
    png_byte colour = png_get_color_type(png, info);
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (colour == PNG_COLOR_TYPE_GRAY || colour == PNG_COLOR_TYPE_GRAY_ALPHA) {
        if (png_get_bit_depth(png, info) < 8)
            png_set_expand_gray_1_2_4_to_8(png);
        png_set_gray_to_rgb(png);
    }
    png_set_strip_alpha(png);
    (void)png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

static sim_status read_image(const char *name, png_structp png, png_infop info,
                             sim_image *out, uint8_t **rows, uint8_t ***list)
{
    sim_status st = SIM_OK;
    png_read_info(png, info);
    size_t w = png_get_image_width(png, info), h = png_get_image_height(png, info);
    SIM_CHECK(w > 0 && h > 0 && w <= SIM_MAX_PIXELS / h, SIM_E_DATA,
              "%s: the image has %zu x %zu pixels, expected 1 to %d", name, w, h,
              SIM_MAX_PIXELS);
    request_rgb(png, info);
    size_t row_bytes = png_get_rowbytes(png, info);
    bool deep = png_get_bit_depth(png, info) == 16;
    SIM_ASSERT(row_bytes == w * 3 * (deep ? 2 : 1));
    SIM_TRY(sim_image_shape(out, h, w, 3));
    SIM_TRY(sim_alloc(list, h, "data/png"));
    if (deep)
        SIM_TRY(sim_alloc(rows, h * row_bytes, "data/png"));
    for (size_t y = 0; y < h; y++)
        (*list)[y] = deep ? *rows + y * row_bytes : out->pixels + y * row_bytes;
    png_read_image(png, *list);
    png_read_end(png, NULL);
    if (deep)
        convert_to_8_bits(*rows, h * w * 3, out->pixels);
done:
    return st;
}

sim_status sim_decode_png(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    source s = {.bytes = bytes, .n = n, .notes = notes};
    png_infop info = NULL;
    uint8_t *rows = NULL, **list = NULL;
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);

    SIM_CHECK(png, SIM_E_IO, "%s: out of memory", name);
    info = png_create_info_struct(png);
    SIM_CHECK(info, SIM_E_IO, "%s: out of memory", name);
    if (setjmp(png_jmpbuf(png)))
        SIM_FAIL(SIM_E_DATA, "%s: %s", name, s.text);
    png_set_user_limits(png, SIM_MAX_PIXELS, SIM_MAX_PIXELS);
    png_set_chunk_malloc_max(png, 8 << 20);
    png_set_read_fn(png, &s, on_read);
    SIM_TRY(read_image(name, png, info, out, &rows, &list));
done:
    png_destroy_read_struct(&png, &info, NULL);
    sim_free(rows);
    sim_free(list);
    return st;
}
