/*
 * image.c - the pixels of an image: allocation and EXIF orientation.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

sim_status sim_image_shape(sim_image *image, size_t h, size_t w, size_t c)
{
    sim_status st = SIM_OK;
    size_t need = h * w * c, have = image->pixels ? image->h * image->w * image->c : 0;

    if (need > have || !image->pixels) {
        uint8_t *pixels = NULL;
        SIM_TRY(sim_alloc(&pixels, need, "data/image"));
        sim_free(image->pixels);
        image->pixels = pixels;
    }
    image->h = h;
    image->w = w;
    image->c = c;
done:
    return st;
}

/* Index in the stored image of pixel (y, x) of the upright one, by EXIF orientation. */
static size_t stored_pixel(int orientation, size_t h, size_t w, size_t y, size_t x)
{
    switch (orientation) {
    case 2:
        return y * w + (w - 1 - x);
    case 3:
        return (h - 1 - y) * w + (w - 1 - x);
    case 4:
        return (h - 1 - y) * w + x;
    case 5:
        return x * w + y;
    case 6:
        return (h - 1 - x) * w + y;
    case 7:
        return (h - 1 - x) * w + (w - 1 - y);
    case 8:
        return x * w + (w - 1 - y);
    default:
        return y * w + x;
    }
}

sim_status sim_image_upright(sim_image *image, int orientation)
{
    sim_status st = SIM_OK;
    sim_image upright = {0};
    bool swapped = orientation >= 5;
    size_t h = swapped ? image->w : image->h, w = swapped ? image->h : image->w;

    if (orientation <= 1 || orientation > 8)
        goto done;
    SIM_TRY(sim_image_shape(&upright, h, w, image->c));
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            memcpy(upright.pixels + (y * w + x) * image->c,
                   image->pixels +
                       stored_pixel(orientation, image->h, image->w, y, x) * image->c,
                   image->c);
    sim_free(image->pixels);
    *image = upright;
done:
    return st;
}
