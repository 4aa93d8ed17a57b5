/*
 * tiff_samples.c - reads the strips or tiles of a page of a TIFF file.
 */
#include "tiff.h"

#include "simile/memory.h"

#include <string.h>

enum { MAX_BLOCK_BYTES = SIM_MAX_IMAGE_BYTES };

/* A strip or tile: decoded bytes of rows of whole pixels, or of one sample of each. */
typedef struct {
    const uint8_t *bytes;
    size_t row_bytes;
    size_t y, x, h, w;       /* the part of it that is in the image */
    size_t first, n_samples; /* samples of a pixel that it has */
} block;

/* Whether the samples of a row can be copied. */
static bool is_plain(const tiff_page *p, const block *b)
{
    const number_kind kind = p->type == SIM_F32 ? NUMBER_FLOAT : NUMBER_UNSIGNED;

    return p->number.kind == kind && p->number.bits == 8 * sim_type_bytes(p->type) &&
           b->n_samples == p->c && p->c == p->n_samples;
}

static bool store_pixel(const tiff_page *p, const block *b, const uint8_t *row, size_t x,
                        size_t pixel, sim_image *out)
{
    bool ok = true;
    for (size_t s = 0; s < b->n_samples; s++) {
        const int channel = p->channel_of[b->first + s];
        if (channel >= 0)
            ok &= sim_number_store(sim_number_at(p->number, row, x * b->n_samples + s),
                                   p->type, out->pixels, pixel * p->c + (size_t)channel);
    }
    return ok;
}

static sim_status store_block(const tiff_file *f, const tiff_page *p, const block *b,
                              sim_image *out)
{
    sim_status st = SIM_OK;
    const size_t pixel_bytes = p->c * sim_type_bytes(p->type);
    bool ok = true;

    SIM_ASSERT(b->bytes);
    for (size_t y = 0; y < b->h; y++) {
        const uint8_t *row = b->bytes + y * b->row_bytes;
        const size_t pixel = (b->y + y) * p->w + b->x;
        if (is_plain(p, b))
            memcpy((uint8_t *)out->pixels + pixel * pixel_bytes, row, b->w * pixel_bytes);
        else
            for (size_t x = 0; x < b->w; x++)
                ok &= store_pixel(p, b, row, x, pixel + x, out);
    }
    SIM_CHECK(ok, SIM_E_DATA, "%s has values that float32 cannot represent", f->name);
done:
    return st;
}

/* Bytes of a row of samples, which libtiff must agree with. */
static size_t packed_bytes(const tiff_page *p, size_t w, size_t n_samples)
{
    return (w * n_samples * p->number.bits + 7) / 8;
}

static sim_status alloc_block(const tiff_file *f, tmsize_t n, uint8_t **out)
{
    sim_status st = SIM_OK;

    TIFF_CHECK(n > 0, f);
    SIM_CHECK(n <= MAX_BLOCK_BYTES, SIM_E_DATA,
              "%s: its strips or tiles have %lld bytes, expected at most %d", f->name,
              (long long)n, MAX_BLOCK_BYTES);
    SIM_TRY(sim_alloc(out, (size_t)n, "data/tiff"));
done:
    return st;
}

/* ---- strips ---- */

static sim_status read_strips(const tiff_file *f, TIFF *t, const tiff_page *p,
                              sim_image *out)
{
    sim_status st = SIM_OK;
    const size_t n_samples = p->is_separate ? 1 : p->n_samples;
    const size_t row_bytes = packed_bytes(p, p->w, n_samples);
    uint32_t rows = 0;
    uint8_t *bytes = NULL;

    (void)TIFFGetFieldDefaulted(t, TIFFTAG_ROWSPERSTRIP, &rows);
    SIM_CHECK(rows > 0 && TIFFScanlineSize(t) == (tmsize_t)row_bytes, SIM_E_DATA,
              "%s: rows of %lld bytes, expected %zu", f->name,
              (long long)TIFFScanlineSize(t), row_bytes);
    SIM_TRY(alloc_block(f, TIFFStripSize(t), &bytes));
    for (size_t s = 0; s < p->n_samples; s += n_samples)
        for (size_t y = 0; y < p->h; y += rows) {
            const size_t h = p->h - y < rows ? p->h - y : rows;
            const tmsize_t need = (tmsize_t)(h * row_bytes);
            const tmsize_t got = TIFFReadEncodedStrip(
                t, TIFFComputeStrip(t, (uint32_t)y, (uint16_t)s), bytes, need);
            TIFF_CHECK(got >= 0, f);
            SIM_CHECK(got == need, SIM_E_DATA, "%s is truncated: a strip ends early",
                      f->name);
            SIM_TRY(store_block(f, p,
                                &(block){.bytes = bytes,
                                         .row_bytes = row_bytes,
                                         .y = y,
                                         .h = h,
                                         .w = p->w,
                                         .first = s,
                                         .n_samples = n_samples},
                                out));
        }
done:
    sim_free(bytes);
    return st;
}

/* ---- tiles ---- */

typedef struct {
    size_t h, w, n_samples, row_bytes;
    tmsize_t n_bytes;
    uint8_t *bytes;
} tile;

static sim_status read_tile(const tiff_file *f, TIFF *t, const tiff_page *p,
                            const tile *k, size_t y, size_t x, size_t s, sim_image *out)
{
    sim_status st = SIM_OK;
    const tmsize_t got = TIFFReadEncodedTile(
        t, TIFFComputeTile(t, (uint32_t)x, (uint32_t)y, 0, (uint16_t)s), k->bytes,
        k->n_bytes);

    TIFF_CHECK(got >= 0, f);
    SIM_CHECK(got == k->n_bytes, SIM_E_DATA, "%s is truncated: a tile ends early",
              f->name);
    SIM_TRY(store_block(f, p,
                        &(block){.bytes = k->bytes,
                                 .row_bytes = k->row_bytes,
                                 .y = y,
                                 .x = x,
                                 .h = p->h - y < k->h ? p->h - y : k->h,
                                 .w = p->w - x < k->w ? p->w - x : k->w,
                                 .first = s,
                                 .n_samples = k->n_samples},
                        out));
done:
    return st;
}

static sim_status read_tiles(const tiff_file *f, TIFF *t, const tiff_page *p,
                             sim_image *out)
{
    sim_status st = SIM_OK;
    uint32_t w = 0, h = 0;
    tile k = {.n_samples = p->is_separate ? 1 : p->n_samples, .n_bytes = TIFFTileSize(t)};

    (void)TIFFGetField(t, TIFFTAG_TILEWIDTH, &w);
    (void)TIFFGetField(t, TIFFTAG_TILELENGTH, &h);
    k.h = h;
    k.w = w;
    SIM_CHECK(w > 0 && h > 0 && w <= SIM_MAX_PIXELS / h, SIM_E_DATA,
              "%s: tiles of %zu x %zu pixels, expected 1 to %d", f->name, k.w, k.h,
              SIM_MAX_PIXELS);
    k.row_bytes = packed_bytes(p, k.w, k.n_samples);
    SIM_CHECK(k.n_bytes == (tmsize_t)(k.row_bytes * k.h), SIM_E_DATA,
              "%s: tiles of %lld bytes, expected %zu", f->name, (long long)k.n_bytes,
              k.row_bytes * k.h);
    SIM_TRY(alloc_block(f, k.n_bytes, &k.bytes));
    for (size_t s = 0; s < p->n_samples; s += k.n_samples)
        for (size_t y = 0; y < p->h; y += k.h)
            for (size_t x = 0; x < p->w; x += k.w)
                SIM_TRY(read_tile(f, t, p, &k, y, x, s, out));
done:
    sim_free(k.bytes);
    return st;
}

/* ---- YCbCr that libjpeg does not convert ---- */

static sim_status read_rgba(const tiff_file *f, TIFF *t, const tiff_page *p,
                            sim_image *out)
{
    sim_status st = SIM_OK;
    char text[1024] = "";
    TIFFRGBAImage image;
    uint32_t *raster = NULL;
    bool begun = false;

    SIM_TRY(sim_alloc(&raster, p->h * p->w, "data/tiff"));
    begun = TIFFRGBAImageBegin(&image, t, 1, text) == 1;
    SIM_CHECK(begun, SIM_E_DATA, "%s: %.200s", f->name, text);
    image.req_orientation = image.orientation; /* as stored */
    TIFF_CHECK(TIFFRGBAImageGet(&image, raster, (uint32_t)p->w, (uint32_t)p->h), f);
    uint8_t *to = out->pixels;
    for (size_t i = 0; i < p->h * p->w; i++) {
        to[3 * i] = (uint8_t)TIFFGetR(raster[i]);
        to[3 * i + 1] = (uint8_t)TIFFGetG(raster[i]);
        to[3 * i + 2] = (uint8_t)TIFFGetB(raster[i]);
    }
done:
    if (begun)
        TIFFRGBAImageEnd(&image);
    sim_free(raster);
    return st;
}

sim_status sim_tiff_read_samples(const tiff_file *f, TIFF *t, const tiff_page *p,
                                 sim_image *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_image_shape(out, p->h, p->w, p->c, p->type));
    if (p->colors == TIFF_YCBCR)
        SIM_TRY(read_rgba(f, t, p, out));
    else if (TIFFIsTiled(t))
        SIM_TRY(read_tiles(f, t, p, out));
    else
        SIM_TRY(read_strips(f, t, p, out));
done:
    return st;
}
