/*
 * decode_jpeg.c - decodes untrusted JPEG files with libjpeg-turbo.
 *
 * Sizes are checked before memory is allocated, and the number of scans is limited.  An
 * image whose data end early is an error, because libjpeg would fill the rest with gray.
 * Only the end marker may be missing.
 */
#include "private.h"

#include "simile/memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

enum { MAX_SCANS = 100 };

typedef struct {
    struct jpeg_error_mgr base; /* must be first: libjpeg passes a pointer to it */
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    sim_decode_notes *notes;
    bool truncated; /* pixels are missing */
    bool no_end;    /* the end marker is missing, and possibly more */
} error_state;

static void on_error(j_common_ptr c)
{
    error_state *e = (error_state *)(void *)c->err;
    c->err->format_message(c, e->text);
    longjmp(e->out, 1);
}

static void on_message(j_common_ptr c, int level)
{
    error_state *e = (error_state *)(void *)c->err;
    char text[JMSG_LENGTH_MAX];
    if (level >= 0)
        return;
    c->err->format_message(c, text);
    sim_notes_warn(e->notes, text);
    if (strstr(text, "premature end of data segment"))
        e->truncated = true;
    else if (strstr(text, "Premature end of JPEG file"))
        e->no_end = true;
}

static void on_scan(j_common_ptr c)
{
    const struct jpeg_decompress_struct *d =
        (const struct jpeg_decompress_struct *)(void *)c;
    if (c->is_decompressor && d->input_scan_number > MAX_SCANS) {
        error_state *e = (error_state *)(void *)c->err;
        (void)snprintf(e->text, sizeof e->text, "more than %d scans", MAX_SCANS);
        longjmp(e->out, 1);
    }
}

static int find_orientation(const struct jpeg_decompress_struct *d)
{
    for (jpeg_saved_marker_ptr m = d->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length >= 6 &&
            memcmp(m->data, "Exif\0\0", 6) == 0) {
            int o = sim_exif_orientation(m->data, m->data_length);
            if (o != 1)
                return o;
        }
    return 1;
}

/* Converts a row of CMYK to RGB.  Adobe stores inverted values. */
static void cmyk_to_rgb(const uint8_t *in, size_t w, bool inverted, uint8_t *out)
{
    for (size_t x = 0; x < w; x++)
        for (size_t c = 0; c < 3; c++) {
            unsigned ink = inverted ? in[4 * x + c] : 255u - in[4 * x + c];
            unsigned key = inverted ? in[4 * x + 3] : 255u - in[4 * x + 3];
            out[3 * x + c] = (uint8_t)((ink * key + 127) / 255);
        }
}

static void read_rows(struct jpeg_decompress_struct *d, sim_image *out, uint8_t *cmyk)
{
    const size_t w = out->w;
    while (d->output_scanline < d->output_height) {
        uint8_t *row = (uint8_t *)out->pixels + (size_t)d->output_scanline * w * out->c;
        uint8_t *to = cmyk ? cmyk : row;
        (void)jpeg_read_scanlines(d, &to, 1);
        if (cmyk)
            cmyk_to_rgb(cmyk, w, d->saw_Adobe_marker, row);
    }
}

sim_status sim_decode_jpeg(const char *name, const uint8_t *bytes, size_t n,
                           sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    struct jpeg_decompress_struct d;
    struct jpeg_progress_mgr progress = {.progress_monitor = on_scan};
    error_state e = {.notes = notes};
    uint8_t *volatile cmyk = NULL; /* survives longjmp */
    uint8_t *buffer = NULL;

    memset(&d, 0, sizeof d);
    d.err = jpeg_std_error(&e.base);
    e.base.error_exit = on_error;
    e.base.emit_message = on_message;
    if (setjmp(e.out))
        SIM_FAIL(SIM_E_DATA, "%s: %s", name, e.text);
    jpeg_create_decompress(&d);
    d.progress = &progress;
    jpeg_save_markers(&d, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&d, bytes, (unsigned long)n);
    (void)jpeg_read_header(&d, TRUE);
    size_t pixels = (size_t)d.image_width * d.image_height;
    SIM_CHECK(pixels > 0 && pixels <= SIM_MAX_PIXELS, SIM_E_DATA,
              "%s: the image has %u x %u pixels, expected 1 to %d", name, d.image_width,
              d.image_height, SIM_MAX_PIXELS);
    bool four = d.jpeg_color_space == JCS_CMYK || d.jpeg_color_space == JCS_YCCK;
    const bool gray = d.jpeg_color_space == JCS_GRAYSCALE;
    d.out_color_space = four ? JCS_CMYK : gray ? JCS_GRAYSCALE : JCS_RGB;
    SIM_TRY(sim_image_shape(out, d.image_height, d.image_width, gray ? 1 : 3, SIM_U8));
    if (four) {
        SIM_TRY(sim_alloc(&buffer, 4 * out->w, "data/jpeg"));
        cmyk = buffer;
    }
    int orientation = find_orientation(&d); /* jpeg_finish_decompress frees the markers */
    (void)jpeg_start_decompress(&d);
    read_rows(&d, out, cmyk);
    /* libjpeg warns of missing pixels only in a single Huffman scan.  Of several scans or
     * arithmetic coding, a missing end marker may be the only sign. */
    bool may_hide = d.arith_code || jpeg_has_multiple_scans(&d);
    (void)jpeg_finish_decompress(&d);
    SIM_CHECK(!e.truncated && !(e.no_end && may_hide), SIM_E_DATA,
              "%s is truncated: the image data ends early", name);
    SIM_TRY(sim_image_upright(out, orientation));
done:
    sim_free(cmyk);
    jpeg_destroy_decompress(&d);
    return st;
}

sim_status sim_image_encode_jpeg(const sim_image *image, int quality, uint8_t **bytes,
                                 size_t *n)
{
    sim_status st = SIM_OK;
    struct jpeg_compress_struct c;
    sim_decode_notes notes = {0};
    error_state e = {.notes = &notes};
    unsigned char *buffer = NULL;
    unsigned long size = 0;

    memset(&c, 0, sizeof c);
    c.err = jpeg_std_error(&e.base);
    e.base.error_exit = on_error;
    e.base.emit_message = on_message;
    if (setjmp(e.out))
        SIM_FAIL(SIM_E_DATA, "cannot encode an image as JPEG: %s", e.text);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &buffer, &size);
    c.image_width = (JDIMENSION)image->w;
    c.image_height = (JDIMENSION)image->h;
    SIM_ASSERT(image->c == 3 && image->type == SIM_U8);
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, quality, TRUE);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = (uint8_t *)image->pixels + (size_t)c.next_scanline * image->w * 3;
        (void)jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    SIM_TRY(sim_alloc(bytes, size, "data/jpeg"));
    memcpy(*bytes, buffer, size);
    *n = size;
done:
    jpeg_destroy_compress(&c);
    free(buffer);
    return st;
}
