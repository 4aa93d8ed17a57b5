/*
 * decode_gif.c - decodes GIF files with giflib: the first frame on its canvas, as RGB.
 *
 * Transparent pixels have the color of their entry of the palette.  Where the frame does not cover the
 * canvas, it has the transparent color, or without one the background color.  Further frames are not
 * read.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

#include <gif_lib.h>

typedef struct {
    const char *name;
    const uint8_t *bytes;
    size_t n, at;
    GifFileType *gif;
    int transparent; /* index in the palette; NO_TRANSPARENT_COLOR: none */
} gif_file;

static int read_bytes(GifFileType *gif, GifByteType *to, int n)
{
    gif_file *f = gif->UserData;
    const size_t left = f->n - f->at, got = (size_t)n < left ? (size_t)n : left;

    memcpy(to, f->bytes + f->at, got);
    f->at += got;
    return (int)got;
}

/* The reason of the last error of giflib. */
static const char *reason(int code)
{
    const char *text = GifErrorString(code);
    return text ? text : "corrupted";
}

static sim_status read_extension(gif_file *f)
{
    sim_status st = SIM_OK;
    GraphicsControlBlock control;
    GifByteType *data = NULL;
    int code = 0;

    SIM_CHECK(DGifGetExtension(f->gif, &code, &data) == GIF_OK, SIM_E_DATA, "%s: %s",
              f->name, reason(f->gif->Error));
    if (code == GRAPHICS_EXT_FUNC_CODE && data &&
        DGifExtensionToGCB(data[0], data + 1, &control) == GIF_OK)
        f->transparent = control.TransparentColor;
    while (data)
        SIM_CHECK(DGifGetExtensionNext(f->gif, &data) == GIF_OK, SIM_E_DATA, "%s: %s",
                  f->name, reason(f->gif->Error));
done:
    return st;
}

/* Reads up to the description of the next frame; *found is false at the end of the file. */
static sim_status seek_frame(gif_file *f, bool *found)
{
    sim_status st = SIM_OK;
    GifRecordType record = UNDEFINED_RECORD_TYPE;

    while (record != IMAGE_DESC_RECORD_TYPE && record != TERMINATE_RECORD_TYPE) {
        SIM_CHECK(DGifGetRecordType(f->gif, &record) == GIF_OK, SIM_E_DATA, "%s: %s",
                  f->name, reason(f->gif->Error));
        if (record == EXTENSION_RECORD_TYPE)
            SIM_TRY(read_extension(f));
    }
    *found = record == IMAGE_DESC_RECORD_TYPE;
done:
    return st;
}

/* Row i of an interlaced frame of h rows, in the order of the file. */
static size_t interlaced_row(size_t i, size_t h)
{
    static const size_t first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};

    for (size_t pass = 0; pass < 4; pass++) {
        const size_t n =
            h > first[pass] ? (h - first[pass] + step[pass] - 1) / step[pass] : 0;
        if (i < n)
            return first[pass] + i * step[pass];
        i -= n;
    }
    return 0;
}

/* An index outside of the palette is black. */
static void expand(const ColorMapObject *palette, int index, uint8_t rgb[3])
{
    const bool known = palette && index >= 0 && index < palette->ColorCount;
    const GifColorType color = known ? palette->Colors[index] : (GifColorType){0, 0, 0};

    rgb[0] = color.Red;
    rgb[1] = color.Green;
    rgb[2] = color.Blue;
}

static void fill_canvas(const gif_file *f, sim_image *out)
{
    const GifFileType *g = f->gif;
    const ColorMapObject *local = g->Image.ColorMap;
    uint8_t rgb[3];

    if (f->transparent != NO_TRANSPARENT_COLOR)
        expand(local ? local : g->SColorMap, f->transparent, rgb);
    else
        expand(g->SColorMap, g->SBackGroundColor, rgb);
    for (size_t i = 0; i < out->h * out->w; i++)
        memcpy((uint8_t *)out->pixels + 3 * i, rgb, sizeof rgb);
}

/* Reads the rows of the frame to their place on the canvas. */
static sim_status read_rows(const gif_file *f, const ColorMapObject *palette,
                            sim_image *out)
{
    sim_status st = SIM_OK;
    const GifImageDesc *frame = &f->gif->Image;
    const size_t w = (size_t)frame->Width, h = (size_t)frame->Height;
    GifPixelType *row = NULL;

    SIM_TRY(sim_alloc(&row, w, "data/gif"));
    for (size_t i = 0; i < h; i++) {
        SIM_CHECK(DGifGetLine(f->gif, row, (int)w) == GIF_OK, SIM_E_DATA,
                  "%s: the image data ends early: %s", f->name, reason(f->gif->Error));
        const size_t y =
            (size_t)frame->Top + (frame->Interlace ? interlaced_row(i, h) : i);
        uint8_t *to = (uint8_t *)out->pixels + (y * out->w + (size_t)frame->Left) * 3;
        for (size_t x = 0; x < w; x++)
            expand(palette, row[x], to + 3 * x);
    }
done:
    sim_free(row);
    return st;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* A frame that exceeds the canvas extends it. */
static sim_status read_frame(const gif_file *f, sim_image *out)
{
    sim_status st = SIM_OK;
    const GifFileType *g = f->gif;

    SIM_CHECK(DGifGetImageDesc(f->gif) == GIF_OK, SIM_E_DATA, "%s: %s", f->name,
              reason(g->Error));
    const ColorMapObject *palette = g->Image.ColorMap ? g->Image.ColorMap : g->SColorMap;
    const size_t h = larger((size_t)g->SHeight,
                            (size_t)g->Image.Top + (size_t)g->Image.Height),
                 w = larger((size_t)g->SWidth,
                            (size_t)g->Image.Left + (size_t)g->Image.Width);
    SIM_CHECK(palette, SIM_E_DATA, "%s has no palette", f->name);
    SIM_CHECK(g->Image.Width > 0 && g->Image.Height > 0, SIM_E_DATA,
              "%s: the frame has %d x %d pixels", f->name, g->Image.Width,
              g->Image.Height);
    SIM_TRY(sim_image_check_size(f->name, h, w, 3, SIM_U8));
    SIM_TRY(sim_image_shape(out, h, w, 3, SIM_U8));
    fill_canvas(f, out);
    SIM_TRY(read_rows(f, palette, out));
done:
    return st;
}

/* A missing end of the file is ignored. */
static bool has_more_frames(gif_file *f)
{
    bool found = false;
    const bool failed = seek_frame(f, &found) != SIM_OK;
    sim_error_clear();
    return !failed && found;
}

sim_status sim_decode_gif(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    gif_file f = {
        .name = name, .bytes = bytes, .n = n, .transparent = NO_TRANSPARENT_COLOR};
    int code = 0;
    bool found = false;

    f.gif = DGifOpen(&f, read_bytes, &code);
    SIM_CHECK(f.gif, SIM_E_DATA, "%s: %s", name, reason(code));
    SIM_TRY(seek_frame(&f, &found));
    SIM_CHECK(found, SIM_E_DATA, "%s contains no image", name);
    SIM_TRY(read_frame(&f, out));
    notes->has_more = has_more_frames(&f);
done:
    if (f.gif)
        (void)DGifCloseFile(f.gif, &code);
    return st;
}
