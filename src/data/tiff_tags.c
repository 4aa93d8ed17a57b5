/*
 * tiff_tags.c - the tags of a page of a TIFF file, checked.
 */
#include "tiff.h"

#include <string.h>

static unsigned tag16(TIFF *t, uint32_t tag, unsigned otherwise)
{
    uint16_t v = 0;
    return TIFFGetField(t, tag, &v) ? v : otherwise;
}

static sim_status read_number(const tiff_file *f, TIFF *t, tiff_page *out)
{
    sim_status st = SIM_OK;
    static const struct {
        unsigned format;
        number_kind kind;
        const char *name;
    } kinds[] = {{SAMPLEFORMAT_UINT, NUMBER_UNSIGNED, "unsigned"},
                 {SAMPLEFORMAT_VOID, NUMBER_UNSIGNED, "unsigned"},
                 {SAMPLEFORMAT_INT, NUMBER_SIGNED, "signed"},
                 {SAMPLEFORMAT_IEEEFP, NUMBER_FLOAT, "float"}};
    const unsigned format = tag16(t, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    const char *name = NULL;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].format == format) {
            out->number.kind = kinds[i].kind;
            name = kinds[i].name;
        }
    out->number.bits = tag16(t, TIFFTAG_BITSPERSAMPLE, 1);
    SIM_CHECK(name, SIM_E_DATA,
              "%s: samples of SampleFormat %u (complex numbers) are not read", f->name,
              format);
    SIM_CHECK(sim_number_type(out->number, &out->type), SIM_E_DATA,
              "%s: %s samples of %u bits are not read", f->name, name, out->number.bits);
done:
    return st;
}

/* Number of samples that are colors, of n; 0: all. */
static size_t count_colors(tiff_colors colors, unsigned photometric)
{
    switch (colors) {
    case TIFF_PALETTE:
    case TIFF_INVERTED:
        return 1;
    case TIFF_CMYK:
        return 4;
    case TIFF_YCBCR:
        return 3;
    default:
        return photometric == PHOTOMETRIC_RGB ? 3 : 0;
    }
}

static sim_status find_colors(const tiff_file *f, TIFF *t, unsigned photometric,
                              tiff_page *out)
{
    sim_status st = SIM_OK;

    switch (photometric) {
    case PHOTOMETRIC_MINISBLACK:
    case PHOTOMETRIC_RGB:
        out->colors = TIFF_CHANNELS;
        break;
    case PHOTOMETRIC_MINISWHITE:
        out->colors = TIFF_INVERTED;
        break;
    case PHOTOMETRIC_PALETTE:
        out->colors = TIFF_PALETTE;
        break;
    case PHOTOMETRIC_SEPARATED: /* other inks are channels */
        out->colors =
            tag16(t, TIFFTAG_INKSET, INKSET_CMYK) == INKSET_CMYK && out->n_samples >= 4
                ? TIFF_CMYK
                : TIFF_CHANNELS;
        break;
    case PHOTOMETRIC_YCBCR:
        out->colors = TIFF_YCBCR;
        break;
    default:
        SIM_FAIL(
            SIM_E_DATA,
            "%s: the color space (PhotometricInterpretation %u) is not read, expected "
            "gray, RGB, a palette, CMYK or YCbCr",
            f->name, photometric);
    }
done:
    return st;
}

/* Numbers the samples that are kept: all but alpha. */
static sim_status choose_channels(const tiff_file *f, TIFF *t, unsigned photometric,
                                  tiff_page *out)
{
    sim_status st = SIM_OK;
    uint16_t n_extra = 0, *extra = NULL;
    const size_t n = out->n_samples, n_colors = count_colors(out->colors, photometric);
    const bool has_tag = TIFFGetField(t, TIFFTAG_EXTRASAMPLES, &n_extra, &extra) != 0;

    SIM_CHECK(
        n_colors <= n && n_extra < n, SIM_E_DATA,
        "%s has %zu samples per pixel, %u of them extra, which do not suit its color "
        "space (PhotometricInterpretation %u)",
        f->name, n, n_extra, photometric);
    for (size_t s = 0; s < n; s++) {
        const unsigned kind = has_tag && s >= n - n_extra ? extra[s - (n - n_extra)]
                                                          : EXTRASAMPLE_UNSPECIFIED;
        const bool is_alpha =
            kind != EXTRASAMPLE_UNSPECIFIED ||
            (!has_tag && photometric == PHOTOMETRIC_RGB && n == 4 && s == 3);
        out->channel_of[s] = is_alpha ? -1 : (int)out->c++;
    }
    /* Colors that are converted have no further channels. */
    if (out->colors != TIFF_CHANNELS)
        for (size_t s = n_colors; s < n; s++)
            out->channel_of[s] = -1;
    if (out->colors != TIFF_CHANNELS)
        out->c = n_colors;
done:
    return st;
}

static sim_status check_colors(const tiff_file *f, const tiff_page *p)
{
    sim_status st = SIM_OK;
    const bool is_usual = p->number.kind == NUMBER_UNSIGNED && p->number.bits <= 16;
    const bool is_byte = is_usual && p->number.bits == 8;

    SIM_CHECK(p->colors == TIFF_CHANNELS || is_usual, SIM_E_DATA,
              "%s: palettes, CMYK, YCbCr and inverted gray are read only of unsigned "
              "samples of "
              "up to 16 bits, not of %u",
              f->name, p->number.bits);
    SIM_CHECK(p->colors != TIFF_YCBCR || (is_byte && p->n_samples == 3), SIM_E_DATA,
              "%s: YCbCr of %zu samples of %u bits is not read, expected 3 of 8", f->name,
              p->n_samples, p->number.bits);
    SIM_CHECK(p->colors != TIFF_CMYK || p->number.bits == 8 || p->number.bits == 16,
              SIM_E_DATA, "%s: CMYK of %u bits is not read, expected 8 or 16", f->name,
              p->number.bits);
done:
    return st;
}

/* JPEG data are converted by libjpeg, and are then RGB. */
static void request_rgb(TIFF *t, tiff_page *p)
{
    if (p->colors == TIFF_YCBCR &&
        tag16(t, TIFFTAG_COMPRESSION, COMPRESSION_NONE) == COMPRESSION_JPEG &&
        !p->is_separate) {
        (void)TIFFSetField(t, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        p->colors = TIFF_CHANNELS;
    }
}

/* libtiff reads strips without a valid offset from anywhere in the file. */
static sim_status check_stored(const tiff_file *f, TIFF *t, const tiff_page *p)
{
    sim_status st = SIM_OK;
    const size_t row = (p->w * p->n_samples * p->number.bits + 7) / 8;

    SIM_CHECK(tag16(t, TIFFTAG_COMPRESSION, COMPRESSION_NONE) != COMPRESSION_NONE ||
                  p->colors == TIFF_YCBCR || row * p->h <= f->n,
              SIM_E_DATA,
              "%s is truncated: the image needs %zu bytes, but the file has %llu",
              f->name, row * p->h, (unsigned long long)f->n);
done:
    return st;
}

sim_status sim_tiff_read_tags(const tiff_file *f, TIFF *t, tiff_page *out)
{
    sim_status st = SIM_OK;
    uint32_t w = 0, h = 0;
    const unsigned photometric = tag16(t, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);

    *out = (tiff_page){
        .n_samples = tag16(t, TIFFTAG_SAMPLESPERPIXEL, 1),
        .is_separate =
            tag16(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE,
        .orientation = (int)tag16(t, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT)};
    (void)TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &w);
    (void)TIFFGetField(t, TIFFTAG_IMAGELENGTH, &h);
    out->w = w;
    out->h = h;
    SIM_CHECK(tag16(t, TIFFTAG_COMPRESSION, COMPRESSION_NONE) != COMPRESSION_OJPEG,
              SIM_E_DATA,
              "%s: JPEG data in the obsolete form (Compression 6) are not read", f->name);
    SIM_TRY(read_number(f, t, out));
    /* Before channels are numbered, so that their number is that in the file. */
    SIM_TRY(sim_image_check_size(f->name, h, w, out->n_samples, out->type));
    SIM_TRY(find_colors(f, t, photometric, out));
    SIM_TRY(choose_channels(f, t, photometric, out));
    SIM_TRY(check_colors(f, out));
    SIM_TRY(check_stored(f, t, out));
    request_rgb(t, out);
done:
    return st;
}
