/*
 * decode_bmp.c - decodes BMP files: palettes of 1, 4 and 8 bits, plain or run-length encoded, and
 * 16, 24 and 32 bits per pixel with any masks.
 *
 * Every read is checked against the size of the file.  Alpha is dropped.  Pixels that run lengths skip have
 * entry 0 of the palette.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

typedef enum {
    BMP_RGB,
    BMP_RLE8,
    BMP_RLE4,
    BMP_BITFIELDS,
    BMP_ALPHA_BITFIELDS = 6
} coding;

enum { FILE_HEADER = 14, CORE_HEADER = 12, INFO_HEADER = 40, MAX_PALETTE = 256 };

typedef struct {
    const char *name;
    const uint8_t *bytes;
    size_t n;
    size_t header_bytes, pixels_at;
    size_t h, w;
    bool top_down;
    unsigned bits; /* per pixel */
    unsigned coding;
    uint32_t mask[3]; /* of red, green and blue; 16 and 32 bits */
    uint8_t palette[MAX_PALETTE][3];
    size_t n_colors;
} bmp_file;

static uint32_t read16(const uint8_t *p)
{
    return (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t read32(const uint8_t *p)
{
    return read16(p) | read16(p + 2) << 16;
}

/* ---- headers ---- */

static bool is_known_header(size_t n)
{
    static const size_t known[] = {CORE_HEADER, INFO_HEADER, 52, 56, 108, 124};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (n == known[i])
            return true;
    return false;
}

/* Size and depth; rows are stored upwards unless the height is negative. */
static sim_status read_size(bmp_file *f)
{
    sim_status st = SIM_OK;
    const uint8_t *p = f->bytes + FILE_HEADER;
    const bool is_core = f->header_bytes == CORE_HEADER;
    int64_t w = is_core ? (int64_t)read16(p + 4) : (int32_t)read32(p + 4),
            h = is_core ? (int64_t)read16(p + 6) : (int32_t)read32(p + 8);

    f->top_down = h < 0;
    h = h < 0 ? -h : h;
    SIM_CHECK(w > 0, SIM_E_DATA, "%s: the image has %lld x %lld pixels", f->name,
              (long long)w, (long long)h);
    f->h = (size_t)h;
    f->w = (size_t)w;
    SIM_TRY(sim_image_check_size(f->name, f->h, f->w, 3, SIM_U8));
    f->bits = read16(p + (is_core ? 10 : 14));
    f->coding = is_core ? BMP_RGB : read32(p + 16);
done:
    return st;
}

static sim_status check_coding(const bmp_file *f)
{
    sim_status st = SIM_OK;
    static const struct {
        unsigned coding, bits;
    } known[] = {{BMP_RGB, 1},
                 {BMP_RGB, 4},
                 {BMP_RGB, 8},
                 {BMP_RGB, 16},
                 {BMP_RGB, 24},
                 {BMP_RGB, 32},
                 {BMP_RLE8, 8},
                 {BMP_RLE4, 4},
                 {BMP_BITFIELDS, 16},
                 {BMP_BITFIELDS, 32},
                 {BMP_ALPHA_BITFIELDS, 16},
                 {BMP_ALPHA_BITFIELDS, 32}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].coding == f->coding && known[i].bits == f->bits)
            goto done;
    SIM_FAIL(SIM_E_DATA,
             "%s: BMP files of %u bits per pixel with compression %u are not read",
             f->name, f->bits, f->coding);
done:
    return st;
}

/* The masks follow a header of 40 bytes, and are a part of longer ones. */
static sim_status read_masks(bmp_file *f)
{
    sim_status st = SIM_OK;
    enum { MASKS_AT = FILE_HEADER + INFO_HEADER, MASKS_BYTES = 12 };
    static const uint32_t of_16[] = {0x7c00, 0x03e0, 0x001f},
                          of_32[] = {0xff0000, 0x00ff00, 0x0000ff};

    memcpy(f->mask, f->bits == 16 ? of_16 : of_32, sizeof f->mask);
    if (f->coding != BMP_BITFIELDS && f->coding != BMP_ALPHA_BITFIELDS)
        goto done;
    SIM_CHECK(f->n >= MASKS_AT + MASKS_BYTES, SIM_E_DATA, "%s is truncated", f->name);
    for (size_t k = 0; k < 3; k++) {
        f->mask[k] = read32(f->bytes + MASKS_AT + 4 * k);
        const uint32_t low = f->mask[k] & -f->mask[k];
        SIM_CHECK(f->mask[k] && !((f->mask[k] / low + 1) & (f->mask[k] / low)),
                  SIM_E_DATA, "%s: the mask %#x of a color is not consecutive bits",
                  f->name, f->mask[k]);
    }
done:
    return st;
}

static sim_status read_palette(bmp_file *f)
{
    sim_status st = SIM_OK;
    const bool is_core = f->header_bytes == CORE_HEADER;
    const size_t entry = is_core ? 3 : 4, most = f->bits <= 8 ? (size_t)1 << f->bits : 0;
    const uint8_t *p = f->bytes + FILE_HEADER + f->header_bytes;
    const size_t used = is_core ? 0 : read32(f->bytes + FILE_HEADER + 32);

    f->n_colors = used && used < most ? used : most;
    SIM_CHECK(f->n >= FILE_HEADER + f->header_bytes + f->n_colors * entry, SIM_E_DATA,
              "%s is truncated: its palette ends early", f->name);
    for (size_t i = 0; i < f->n_colors; i++)
        for (size_t k = 0; k < 3; k++)
            f->palette[i][k] = p[i * entry + 2 - k];
done:
    return st;
}

static sim_status read_headers(bmp_file *f)
{
    sim_status st = SIM_OK;

    SIM_CHECK(f->n >= FILE_HEADER + CORE_HEADER, SIM_E_DATA, "%s is truncated", f->name);
    f->pixels_at = read32(f->bytes + 10);
    f->header_bytes = read32(f->bytes + FILE_HEADER);
    SIM_CHECK(is_known_header(f->header_bytes), SIM_E_DATA,
              "%s: BMP files with a header of %zu bytes are not read", f->name,
              f->header_bytes);
    SIM_CHECK(f->n >= FILE_HEADER + f->header_bytes && f->pixels_at < f->n, SIM_E_DATA,
              "%s is truncated", f->name);
    SIM_TRY(read_size(f));
    SIM_TRY(check_coding(f));
    SIM_TRY(read_masks(f));
    SIM_TRY(read_palette(f));
done:
    return st;
}

/* ---- rows ---- */

/* A color of a pixel, scaled to 0 to 255. */
static uint8_t masked(uint32_t pixel, uint32_t mask)
{
    const int shift = __builtin_ctz(mask);
    const uint32_t most = mask >> shift, v = (pixel & mask) >> shift;

    SIM_ASSERT(most > 0);
    return (uint8_t)(((uint64_t)v * 255 + most / 2) / most);
}

/* An index outside of the palette is an error. */
static bool put_index(const bmp_file *f, unsigned index, uint8_t *rgb)
{
    if (index < f->n_colors)
        memcpy(rgb, f->palette[index], 3);
    return index < f->n_colors;
}

static bool put_pixel(const bmp_file *f, const uint8_t *row, size_t x, uint8_t *rgb)
{
    switch (f->bits) {
    case 24:
        for (size_t k = 0; k < 3; k++)
            rgb[k] = row[3 * x + 2 - k];
        return true;
    case 16:
    case 32: {
        const uint32_t pixel = f->bits == 16 ? read16(row + 2 * x) : read32(row + 4 * x);
        for (size_t k = 0; k < 3; k++)
            rgb[k] = masked(pixel, f->mask[k]);
        return true;
    }
    default: {
        const size_t at = x * f->bits;
        const unsigned shift = 8 - f->bits - (unsigned)(at % 8);
        return put_index(f, row[at / 8] >> shift & ((1u << f->bits) - 1), rgb);
    }
    }
}

static uint8_t *pixel_at(const bmp_file *f, sim_image *out, size_t row, size_t x)
{
    const size_t y = f->top_down ? row : f->h - 1 - row;
    return (uint8_t *)out->pixels + (y * f->w + x) * 3;
}

static sim_status read_rows(const bmp_file *f, sim_image *out)
{
    sim_status st = SIM_OK;
    const size_t row_bytes = (f->w * f->bits + 31) / 32 * 4;
    bool ok = true;

    SIM_CHECK(row_bytes * f->h <= f->n - f->pixels_at, SIM_E_DATA,
              "%s is truncated: the image data ends early", f->name);
    for (size_t y = 0; y < f->h; y++)
        for (size_t x = 0; x < f->w; x++)
            ok &= put_pixel(f, f->bytes + f->pixels_at + y * row_bytes, x,
                            pixel_at(f, out, y, x));
    SIM_CHECK(ok, SIM_E_DATA, "%s has pixels outside of its palette of %zu colors",
              f->name, f->n_colors);
done:
    return st;
}

/* ---- run lengths ---- */

typedef struct {
    const uint8_t *p, *end;
    size_t y, x;
} runs;

/* Index i of a run: of RLE4 alternately the upper and lower half of a byte. */
static unsigned run_index(const bmp_file *f, const uint8_t *p, size_t i, bool is_absolute)
{
    if (f->coding == BMP_RLE8)
        return is_absolute ? p[i] : p[0];
    return ((unsigned)p[is_absolute ? i / 2 : 0] >> (i % 2 ? 0 : 4)) & 15u;
}

static bool put_run(const bmp_file *f, runs *r, const uint8_t *p, size_t n,
                    bool is_absolute, sim_image *out)
{
    bool ok = n <= f->w - r->x && r->y < f->h;

    for (size_t i = 0; ok && i < n; i++)
        ok =
            put_index(f, run_index(f, p, i, is_absolute), pixel_at(f, out, r->y, r->x++));
    return ok;
}

/* Pixels as they are, padded to 16 bits. */
static bool put_absolute(const bmp_file *f, runs *r, size_t n, sim_image *out)
{
    const size_t bytes = f->coding == BMP_RLE8 ? n : (n + 1) / 2,
                 padded = bytes + bytes % 2;

    if ((size_t)(r->end - r->p) < bytes || !put_run(f, r, r->p, n, true, out))
        return false;
    r->p += padded < (size_t)(r->end - r->p) ? padded : (size_t)(r->end - r->p);
    return true;
}

/* One command; *more is false at the end of the image. */
static bool run_command(const bmp_file *f, runs *r, sim_image *out, bool *more)
{
    enum { END_OF_ROW, END, SKIP };
    if (r->end - r->p < 2)
        return false;
    const unsigned count = r->p[0], what = r->p[1];
    r->p += 2;
    if (count > 0)
        return put_run(f, r, r->p - 1, count, false, out);
    switch (what) {
    case END_OF_ROW:
        r->x = 0;
        r->y++;
        return true;
    case END:
        *more = false;
        return true;
    case SKIP:
        if (r->end - r->p < 2 || r->p[0] > f->w - r->x || r->p[1] >= f->h - r->y)
            return false;
        r->x += r->p[0];
        r->y += r->p[1];
        r->p += 2;
        return true;
    default:
        return put_absolute(f, r, what, out);
    }
}

/* The end may be missing after the last row. */
static sim_status read_runs(const bmp_file *f, sim_image *out)
{
    sim_status st = SIM_OK;
    runs r = {.p = f->bytes + f->pixels_at, .end = f->bytes + f->n};
    bool more = true;

    for (size_t i = 0; i < f->h * f->w; i++)
        (void)put_index(f, 0, (uint8_t *)out->pixels + 3 * i);
    while (more && r.y < f->h && !(r.y + 1 == f->h && r.x == f->w))
        SIM_CHECK(run_command(f, &r, out, &more), SIM_E_DATA,
                  "%s: its run lengths are corrupted or end early, in row %zu", f->name,
                  r.y);
done:
    return st;
}

sim_status sim_decode_bmp(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    bmp_file f = {.name = name, .bytes = bytes, .n = n};

    (void)notes;
    SIM_TRY(read_headers(&f));
    SIM_TRY(sim_image_shape(out, f.h, f.w, 3, SIM_U8));
    SIM_TRY(f.coding == BMP_RLE8 || f.coding == BMP_RLE4 ? read_runs(&f, out)
                                                         : read_rows(&f, out));
done:
    return st;
}
