/*
 * decode_png.c - decodes PNG files of any depth and colour type with libpng.
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
    const source *s = png_get_error_ptr(png);
    sim_notes_warn(s->notes, text);
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    source *s = png_get_io_ptr(png);
    if (n > s->n - s->at)
        png_error(png, "the file is truncated");
    memcpy(to, s->bytes + s->at, n);
    s->at += n;
}

/* Requests gray or RGB of 8 or 16 bits, those of 16 in the order of bytes of this machine. */
static void request_samples(png_structp png, png_infop info)
{
    const uint16_t one = 1;

    if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY &&
        png_get_bit_depth(png, info) < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (*(const unsigned char *)&one == 1)
        png_set_swap(png);
    png_set_strip_alpha(png);
    (void)png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* Text, colour profiles and suggested palettes do not change the pixels, but may expand to megabytes
 * each: they are passed over like chunks that libpng does not know. */
static void skip_unused_chunks(png_structp png)
{
    static const png_byte names[] = "tEXt\0zTXt\0iTXt\0iCCP\0sPLT";
    enum { NAME_BYTES = 5 };

    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names,
                                (int)(sizeof names / NAME_BYTES));
}

static sim_status read_image(const char *name, png_structp png, png_infop info,
                             sim_image *out, uint8_t ***list)
{
    sim_status st = SIM_OK;
    png_read_info(png, info);
    size_t w = png_get_image_width(png, info), h = png_get_image_height(png, info);
    SIM_CHECK(w > 0 && h > 0 && w <= SIM_MAX_PIXELS / h, SIM_E_DATA,
              "%s: the image has %zu x %zu pixels, expected 1 to %d", name, w, h,
              SIM_MAX_PIXELS);
    request_samples(png, info);
    const size_t row_bytes = png_get_rowbytes(png, info), c = png_get_channels(png, info);
    const bool is_deep = png_get_bit_depth(png, info) == 16;
    SIM_ASSERT(row_bytes == w * c * (is_deep ? 2 : 1));
    SIM_TRY(sim_image_shape(out, h, w, c, is_deep ? SIM_U16 : SIM_U8));
    SIM_TRY(sim_alloc(list, h, "data/png"));
    for (size_t y = 0; y < h; y++)
        (*list)[y] = (uint8_t *)out->pixels + y * row_bytes;
    png_read_image(png, *list);
    png_read_end(png, info);
done:
    return st;
}

/* EXIF orientation of the chunk eXIf; 0 if there is none. */
static int orientation_of(png_structp png, png_infop info)
{
    png_bytep exif = NULL;
    png_uint_32 n = 0;
    if (!(png_get_eXIf_1(png, info, &n, &exif) & PNG_INFO_eXIf))
        return 0;
    return sim_exif_orientation(exif, n);
}

sim_status sim_decode_png(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    source s = {.bytes = bytes, .n = n, .notes = notes};
    png_infop info = NULL;
    uint8_t **list = NULL;
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);

    SIM_CHECK(png, SIM_E_IO, "%s: out of memory", name);
    info = png_create_info_struct(png);
    SIM_CHECK(info, SIM_E_IO, "%s: out of memory", name);
    if (setjmp(png_jmpbuf(png)))
        SIM_FAIL(SIM_E_DATA, "%s: %s", name, s.text);
    png_set_user_limits(png, SIM_MAX_PIXELS, SIM_MAX_PIXELS);
    png_set_chunk_malloc_max(png, 8 << 20);
    skip_unused_chunks(png);
    png_set_read_fn(png, &s, on_read);
    SIM_TRY(read_image(name, png, info, out, &list));
    SIM_TRY(sim_image_upright(out, orientation_of(png, info)));
done:
    png_destroy_read_struct(&png, &info, NULL);
    sim_free(list);
    return st;
}
