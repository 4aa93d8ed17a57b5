/*
 * tiff_colors.c - gray, RGB or channels from the unscaled samples of a page of a TIFF file.
 *
 * Samples of 1 to 7 bits are scaled to 0 to 255, as in PNG files; those of 9 to 15 bits keep their values.
 */
#include "tiff.h"

#include "simile/memory.h"

#include <string.h>

static size_t count_samples(const sim_image *image)
{
    return image->h * image->w * image->c;
}

/* Scales samples of n < 8 bits to 0 to 255. */
static void scale_bits(unsigned bits, sim_image *image)
{
    const unsigned most = (1u << bits) - 1;
    uint8_t *v = image->pixels;

    for (size_t i = 0; i < count_samples(image); i++)
        v[i] = (uint8_t)((v[i] * 255u + most / 2) / most);
}

static void invert_samples(unsigned bits, sim_image *image)
{
    const unsigned most = (1u << bits) - 1;

    for (size_t i = 0; i < count_samples(image); i++)
        if (image->type == SIM_U8)
            ((uint8_t *)image->pixels)[i] =
                (uint8_t)(most - ((const uint8_t *)image->pixels)[i]);
        else
            ((uint16_t *)image->pixels)[i] =
                (uint16_t)(most - ((const uint16_t *)image->pixels)[i]);
}

/* Whether the entries of a palette have 8 bits, as some programs write them instead of 16. */
static bool is_byte_palette(uint16_t *const palette[3], size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 3; k++)
            if (palette[k][i] > UINT8_MAX)
                return false;
    return true;
}

static sim_status expand_palette(const tiff_file *f, TIFF *t, unsigned bits,
                                 sim_image *image)
{
    sim_status st = SIM_OK;
    uint16_t *palette[3] = {NULL, NULL, NULL};
    sim_image rgb = {0};

    SIM_CHECK(TIFFGetField(t, TIFFTAG_COLORMAP, &palette[0], &palette[1], &palette[2]) &&
                  palette[0] && palette[1] && palette[2],
              SIM_E_DATA, "%s has no palette", f->name);
    const unsigned shift = is_byte_palette(palette, (size_t)1 << bits) ? 0 : 8;
    SIM_TRY(sim_image_shape(&rgb, image->h, image->w, 3, SIM_U8));
    for (size_t i = 0; i < image->h * image->w; i++) {
        const size_t at = (size_t)sim_image_sample(image, i);
        for (size_t k = 0; k < 3; k++)
            ((uint8_t *)rgb.pixels)[3 * i + k] = (uint8_t)(palette[k][at] >> shift);
    }
    sim_free(image->pixels);
    *image = rgb;
done:
    return st;
}

static sim_status convert_cmyk(sim_image *image)
{
    sim_status st = SIM_OK;
    const unsigned most = image->type == SIM_U8 ? UINT8_MAX : UINT16_MAX;
    sim_image rgb = {0};

    SIM_TRY(sim_image_shape(&rgb, image->h, image->w, 3, image->type));
    for (size_t i = 0; i < image->h * image->w; i++)
        for (size_t k = 0; k < 3; k++)
            (void)sim_number_store(
                cmyk_sample((unsigned)sim_image_sample(image, 4 * i + k),
                            (unsigned)sim_image_sample(image, 4 * i + 3), most),
                rgb.type, rgb.pixels, 3 * i + k);
    sim_free(image->pixels);
    *image = rgb;
done:
    return st;
}

sim_status sim_tiff_convert_colors(const tiff_file *f, TIFF *t, const tiff_page *p,
                                   sim_image *image)
{
    sim_status st = SIM_OK;

    if (p->colors == TIFF_PALETTE) {
        SIM_TRY(expand_palette(f, t, p->number.bits, image));
        goto done;
    }
    if (p->colors == TIFF_INVERTED)
        invert_samples(p->number.bits, image);
    if (p->colors == TIFF_CMYK)
        SIM_TRY(convert_cmyk(image));
    if (p->number.bits < 8)
        scale_bits(p->number.bits, image);
done:
    return st;
}
